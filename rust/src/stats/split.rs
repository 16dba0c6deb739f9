//! A phase as a whole and each of its nodes by itself: the same figures, derived in the same way from their own rows.

/// One of something for all rows of a phase, and one for the rows of each of its nodes. A phase with a single node is
/// only a whole.
#[derive(Clone, Debug, Default)]
pub(super) struct Split<T> {
    pub whole: T,
    pub nodes: Vec<T>,
}

impl<T> Split<T> {
    /// For a phase with so many nodes.
    pub fn new(nodes: u16, make: impl Fn() -> T) -> Self {
        let nodes = if nodes > 1 { nodes } else { 0 };
        Self { whole: make(), nodes: (0..nodes).map(|_| make()).collect() }
    }

    /// Those that a row of `node` belongs to. A row of none, or of one that the phase doesn't know of, is the whole's alone.
    #[inline]
    pub fn of(&mut self, node: Option<u16>) -> impl Iterator<Item = &mut T> {
        let own = node.and_then(|node| self.nodes.get_mut(usize::from(node)));
        [&mut self.whole].into_iter().chain(own)
    }

    /// The same with what another splits in the same way.
    pub fn of_both<'a, U>(
        &'a self,
        other: &'a mut Split<U>,
        node: Option<u16>,
    ) -> impl Iterator<Item = (&'a T, &'a mut U)> {
        let own = node.map(usize::from).and_then(|node| self.nodes.get(node).zip(other.nodes.get_mut(node)));
        [(&self.whole, &mut other.whole)].into_iter().chain(own)
    }

    /// All of them, the whole first.
    pub fn each_mut(&mut self) -> impl Iterator<Item = &mut T> {
        [&mut self.whole].into_iter().chain(&mut self.nodes)
    }

    /// Each of them made into something else.
    pub fn map<U>(&self, of: impl Fn(&T) -> U) -> Split<U> {
        Split { whole: of(&self.whole), nodes: self.nodes.iter().map(of).collect() }
    }

    /// All of them with those of another split of the same phase.
    pub fn zip<U>(&mut self, other: Split<U>) -> impl Iterator<Item = (&mut T, U)> {
        [(&mut self.whole, other.whole)].into_iter().chain(self.nodes.iter_mut().zip(other.nodes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_counts_for_the_whole_and_for_its_node() {
        let mut counts: Split<u64> = Split::new(3, || 0);
        for node in [Some(0), Some(2), Some(2), Some(7), None] {
            counts.of(node).for_each(|count| *count += 1);
        }
        assert_eq!((counts.whole, &counts.nodes[..]), (5, &[1, 0, 2][..]), "7 is none of the phase's");
        counts.zip(Split { whole: 10, nodes: vec![1, 1, 1] }).for_each(|(mine, theirs)| *mine += theirs);
        assert_eq!((counts.whole, &counts.nodes[..]), (15, &[2, 1, 3][..]));
        assert_eq!(counts.each_mut().count(), 4);
    }

    #[test]
    fn a_single_node_is_the_whole() {
        for nodes in [0, 1] {
            assert!(Split::new(nodes, || 0).nodes.is_empty());
        }
    }
}
