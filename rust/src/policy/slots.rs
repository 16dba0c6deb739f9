//! Slots for what is under way, and orders of them: nothing is allocated once there are as many as are ever in use.

use std::ops::{Index, IndexMut};

/// No slot.
pub(super) const NONE: u32 = u32::MAX;

/// Values in numbered slots; a freed slot is used again.
#[derive(Clone, Debug)]
pub(super) struct Slots<T> {
    values: Vec<T>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), free: Vec::new() }
    }

    /// Put a value into a free slot and return its number.
    pub(super) fn put(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(slot) => {
                self.values[slot as usize] = value;
                slot
            }
            None => {
                self.values.push(value);
                (self.values.len() - 1) as u32
            }
        }
    }

    /// Free a slot. Its value stays readable until the slot is used again.
    pub(super) fn free(&mut self, slot: u32) {
        self.free.push(slot);
    }

    /// How many are in use.
    pub(super) fn used(&self) -> u32 {
        (self.values.len() - self.free.len()) as u32
    }
}

impl<T> Index<u32> for Slots<T> {
    type Output = T;

    #[inline]
    fn index(&self, slot: u32) -> &T {
        &self.values[slot as usize]
    }
}

impl<T> IndexMut<u32> for Slots<T> {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.values[slot as usize]
    }
}

/// Slots in the order in which they were put in. Where the delay is the same for all, this is the order of their due times,
/// and no heap is needed: in, out and the first are constant in time, and nothing stale is left behind.
#[derive(Clone, Debug)]
pub(super) struct Order {
    /// By slot: who stands before it and after it; itself where it isn't in.
    links: Vec<[u32; 2]>,
    first: u32,
    last: u32,
}

impl Order {
    pub(super) fn new() -> Self {
        Self { links: Vec::new(), first: NONE, last: NONE }
    }

    /// Put a slot at the end; one that is in is moved there.
    pub(super) fn put_last(&mut self, slot: u32) {
        self.put_before(slot, None);
    }

    /// Put a slot before another one that is in, or at the end; one that is in is moved there.
    pub(super) fn put_before(&mut self, slot: u32, other: Option<u32>) {
        self.take(slot);
        while self.links.len() <= slot as usize {
            let own = self.links.len() as u32;
            self.links.push([own, own]);
        }
        let before = other.map_or(self.last, |other| self.links[other as usize][0]);
        self.links[slot as usize] = [before, other.unwrap_or(NONE)];
        match before {
            NONE => self.first = slot,
            before => self.links[before as usize][1] = slot,
        }
        match other {
            None => self.last = slot,
            Some(other) => self.links[other as usize][0] = slot,
        }
    }

    /// Take a slot out; one that isn't in is left alone.
    pub(super) fn take(&mut self, slot: u32) {
        let Some(&[before, after]) = self.links.get(slot as usize) else { return };
        if before == slot {
            return;
        }
        match before {
            NONE => self.first = after,
            before => self.links[before as usize][1] = after,
        }
        match after {
            NONE => self.last = before,
            after => self.links[after as usize][0] = before,
        }
        self.links[slot as usize] = [slot, slot];
    }

    /// The first slot.
    pub(super) fn first(&self) -> Option<u32> {
        (self.first != NONE).then_some(self.first)
    }

    /// The last slot.
    pub(super) fn last(&self) -> Option<u32> {
        (self.last != NONE).then_some(self.last)
    }

    /// The slot after one that is in.
    pub(super) fn after(&self, slot: u32) -> Option<u32> {
        let after = self.links[slot as usize][1];
        (after != NONE).then_some(after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(order: &Order) -> Vec<u32> {
        std::iter::successors(order.first(), |&slot| order.after(slot)).collect()
    }

    #[test]
    fn an_order_keeps_the_order_of_coming_whoever_leaves() {
        let mut order = Order::new();
        [4, 0, 2, 7, 1].iter().for_each(|&slot| order.put_last(slot));
        [4, 2, 1, 3, 9, 2].iter().for_each(|&slot| order.take(slot));
        assert_eq!(listed(&order), [0, 7]);
        order.put_last(0);
        order.put_last(4);
        assert_eq!(listed(&order), [7, 0, 4]);
        order.put_before(4, Some(7));
        order.put_before(9, Some(0));
        assert_eq!((listed(&order), order.last()), (vec![4, 7, 9, 0], Some(0)));
        order.take(9);
        [0, 7, 4].iter().for_each(|&slot| order.take(slot));
        assert_eq!((listed(&order), order.last), (vec![], NONE));
    }

    #[test]
    fn a_freed_slot_is_used_again() {
        let mut slots = Slots::new();
        let (a, b) = (slots.put('a'), slots.put('b'));
        slots.free(a);
        assert_eq!((slots.used(), slots.put('c'), slots[a], slots[b]), (1, a, 'c', 'b'));
    }
}
