//! The request bodies of a phase: rendered once from the dataset, held in one buffer, cut open where the engine adds to them.

use std::num::NonZeroU32;

use thiserror::Error;

use crate::endpoint::Api;
use crate::sync::Arc;

/// Why bodies were refused.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodiesError {
    /// There is nothing to send.
    #[error("a phase needs at least one request body")]
    Empty,
    /// A body is not a JSON object with something in it.
    #[error("body {index} is not a JSON object with at least one key")]
    NotAnObject {
        /// Which one.
        index: usize,
    },
    /// The holes do not fit the bodies.
    #[error("body {index} has its hole at {hole}, outside of its {len} bytes")]
    Hole {
        /// Which one.
        index: usize,
        /// The offset given.
        hole: u32,
        /// The body's length.
        len: usize,
    },
    /// More than 2³² − 1.
    #[error("{bodies} bodies; a phase takes at most 4,294,967,295")]
    TooMany {
        /// How many.
        bodies: usize,
    },
    /// One API has more of them than another.
    #[error("{others} bodies in the API {api:?}, and {bodies} in the phase's own: each sample needs one in each")]
    Differ {
        /// The other API.
        api: Api,
        /// Bodies in the phase's own.
        bodies: u32,
        /// Bodies in the other.
        others: u32,
    },
    /// As many holes as bodies, or none.
    #[error("{holes} holes for {bodies} bodies")]
    Count {
        /// Bodies given.
        bodies: usize,
        /// Holes given.
        holes: usize,
    },
    /// As many sessions as bodies.
    #[error("{sessions} sessions for {bodies} bodies")]
    Sessions {
        /// Bodies given.
        bodies: usize,
        /// Sessions given.
        sessions: usize,
    },
}

/// Request bodies, each a JSON object without the keys that the engine adds (`stream`, `stream_options`).
#[derive(Debug)]
pub struct Bodies {
    count: NonZeroU32,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    holes: Vec<u32>,
    sessions: Vec<u64>,
}

impl Bodies {
    /// Take over `bodies`; `holes[i]` is the byte offset in body `i` at which a marker may be put into the prompt.
    pub fn new<'a>(bodies: impl Iterator<Item = &'a [u8]>, holes: Vec<u32>) -> Result<Self, BodiesError> {
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        for (index, body) in bodies.enumerate() {
            if !Self::is_object(body) {
                return Err(BodiesError::NotAnObject { index });
            }
            bytes.extend_from_slice(body);
            ends.push(bytes.len());
        }
        bytes.shrink_to_fit();
        let count = u32::try_from(ends.len()).map_err(|_| BodiesError::TooMany { bodies: ends.len() })?;
        let count = NonZeroU32::new(count).ok_or(BodiesError::Empty)?;
        let all = Self { count, bytes, ends, holes, sessions: Vec::new() };
        all.check_holes()?;
        Ok(all)
    }

    /// Whether this may be a body: braces with something between them.
    pub(super) fn is_object(body: &[u8]) -> bool {
        body.first() == Some(&b'{') && body.last() == Some(&b'}') && body.len() > 2
    }

    /// The same bodies, each with the session it belongs to: those with the same number go together.
    pub fn with_sessions(self, sessions: Vec<u64>) -> Result<Self, BodiesError> {
        if sessions.len() != self.ends.len() {
            return Err(BodiesError::Sessions { bodies: self.ends.len(), sessions: sessions.len() });
        }
        Ok(Self { sessions, ..self })
    }

    /// The session of each body; empty where they belong to none.
    pub fn sessions(&self) -> &[u64] {
        &self.sessions
    }

    /// How many there are.
    pub fn count(&self) -> NonZeroU32 {
        self.count
    }

    /// Body `i` after its opening brace, cut in two at its hole; the second part is empty where it has none.
    pub fn parts(&self, i: usize) -> (&[u8], &[u8]) {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        let body = &self.bytes[start + 1..self.ends[i]];
        match self.holes.get(i) {
            Some(&hole) => body.split_at(hole as usize - 1),
            None => (body, &[]),
        }
    }

    /// About how many tokens body `i` asks for: a quarter of its bytes, as English text has it.
    pub fn tokens_about(&self, i: usize) -> u32 {
        let (before, after) = self.parts(i);
        u32::try_from((before.len() + after.len()) / 4).unwrap_or(u32::MAX).max(1)
    }

    /// Whether markers can be put into the prompts.
    pub fn has_holes(&self) -> bool {
        !self.holes.is_empty()
    }

    fn check_holes(&self) -> Result<(), BodiesError> {
        if !self.holes.is_empty() && self.holes.len() != self.ends.len() {
            return Err(BodiesError::Count { bodies: self.ends.len(), holes: self.holes.len() });
        }
        let mut start = 0;
        for (index, (&hole, &end)) in self.holes.iter().zip(&self.ends).enumerate() {
            let len = end - start;
            if hole == 0 || hole as usize > len {
                return Err(BodiesError::Hole { index, hole, len });
            }
            start = end;
        }
        Ok(())
    }
}

/// The bodies of a phase in each API that its nodes speak: the same samples, rendered once for each.
#[derive(Clone, Debug)]
pub struct Renderings {
    first: Arc<Bodies>,
    others: Vec<(Api, Arc<Bodies>)>,
}

impl Renderings {
    /// Bodies in the phase's own API, and the same samples in `others`.
    pub fn new(first: Arc<Bodies>, others: Vec<(Api, Arc<Bodies>)>) -> Result<Self, BodiesError> {
        let differs = others.iter().find(|(_, bodies)| bodies.count != first.count);
        if let Some((api, other)) = differs {
            return Err(BodiesError::Differ { api: *api, bodies: first.count.get(), others: other.count.get() });
        }
        Ok(Self { first, others })
    }

    /// Those in the phase's own API.
    pub(super) fn first(&self) -> &Arc<Bodies> {
        &self.first
    }

    /// Those in another.
    pub(super) fn of(&self, api: Api) -> Option<&Arc<Bodies>> {
        self.others.iter().find(|(other, _)| *other == api).map(|(_, bodies)| bodies)
    }
}

impl From<Arc<Bodies>> for Renderings {
    fn from(first: Arc<Bodies>) -> Self {
        Self { first, others: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(all: &[&str], holes: Vec<u32>) -> Result<Bodies, BodiesError> {
        Bodies::new(all.iter().map(|b| b.as_bytes()), holes)
    }

    #[test]
    fn a_body_is_cut_after_its_brace_and_at_its_hole() {
        let b = bodies(&[r#"{"a":"xy"}"#, r#"{"b":"z"}"#], vec![6, 6]).unwrap();
        assert_eq!(b.parts(0), (br#""a":""#.as_slice(), br#"xy"}"#.as_slice()));
        assert_eq!(b.parts(1), (br#""b":""#.as_slice(), br#"z"}"#.as_slice()));
        assert_eq!(bodies(&[r#"{"a":1}"#], vec![]).unwrap().parts(0), (br#""a":1}"#.as_slice(), b"".as_slice()));
    }

    #[test]
    fn what_is_no_body_is_refused_by_index() {
        assert_eq!(bodies(&[], vec![]).unwrap_err(), BodiesError::Empty);
        assert_eq!(bodies(&[r#"{"a":1}"#, "{}"], vec![]).unwrap_err(), BodiesError::NotAnObject { index: 1 });
        assert_eq!(bodies(&["[1]"], vec![]).unwrap_err(), BodiesError::NotAnObject { index: 0 });
        assert_eq!(bodies(&[r#"{"a":1}"#], vec![9]).unwrap_err(), BodiesError::Hole { index: 0, hole: 9, len: 7 });
        assert_eq!(bodies(&[r#"{"a":1}"#], vec![1, 1]).unwrap_err(), BodiesError::Count { bodies: 1, holes: 2 });
        let sessions = bodies(&[r#"{"a":1}"#], vec![]).unwrap().with_sessions(vec![1, 2]);
        assert_eq!(sessions.unwrap_err(), BodiesError::Sessions { bodies: 1, sessions: 2 });
    }

    #[test]
    fn every_api_has_a_body_for_each_sample() {
        let [one, two] =
            [&[r#"{"a":1}"#][..], &[r#"{"a":1}"#, r#"{"b":2}"#]].map(|all| Arc::new(bodies(all, vec![]).unwrap()));
        let error = Renderings::new(Arc::clone(&two), vec![(Api::OllamaChat, one)]).unwrap_err();
        assert_eq!(error, BodiesError::Differ { api: Api::OllamaChat, bodies: 2, others: 1 });
        let both = Renderings::new(Arc::clone(&two), vec![(Api::OllamaChat, Arc::clone(&two))]).unwrap();
        assert!(both.of(Api::OllamaChat).is_some() && both.of(Api::Chat).is_none());
    }
}
