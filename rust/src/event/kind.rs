//! The types of events: their codes in a record, and the topics that name them to a subscriber.

/// What happened. The code stands in every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum EventType {
    /// The session has begun: the first event of all.
    SessionStarted = 0,
    /// A performance phase begins to count.
    StartPerformanceTracking = 1,
    /// A performance phase has drained.
    StopPerformanceTracking = 2,
    /// Nothing more will be issued.
    StopLoadgen = 3,
    /// The session is over: the last event of all.
    SessionEnded = 4,
    /// A request was taken from the plan.
    SampleIssued = 16,
    /// Its first chunk that carries tokens came.
    RecvFirst = 17,
    /// A further one came.
    RecvNonFirst = 18,
    /// It ended, well or not.
    SampleComplete = 19,
    /// An error of no other kind.
    ErrorGeneric = 32,
    /// An error of the load generator itself.
    ErrorLoadgen = 33,
    /// An error of the session.
    ErrorSession = 34,
    /// A request failed.
    ErrorClient = 35,
}

/// How many types there are.
pub const TYPES: usize = 13;

/// Bytes of a topic on the wire: the longest one's length, and what the others are padded to.
pub const TOPIC_BYTES: usize = longest_topic();

impl EventType {
    /// Every type in the order of a flush: errors first, so that no COMPLETE leaves before its ERROR, and what the
    /// session says last, because it speaks of all that was before.
    pub const ALL: [Self; TYPES] = [
        Self::ErrorGeneric,
        Self::ErrorLoadgen,
        Self::ErrorSession,
        Self::ErrorClient,
        Self::SampleIssued,
        Self::RecvFirst,
        Self::RecvNonFirst,
        Self::SampleComplete,
        Self::SessionStarted,
        Self::StartPerformanceTracking,
        Self::StopPerformanceTracking,
        Self::StopLoadgen,
        Self::SessionEnded,
    ];

    /// Its name to a subscriber.
    pub const fn topic(self) -> &'static str {
        match self {
            Self::SessionStarted => "session.started",
            Self::StartPerformanceTracking => "session.start_performance_tracking",
            Self::StopPerformanceTracking => "session.stop_performance_tracking",
            Self::StopLoadgen => "session.stop_loadgen",
            Self::SessionEnded => "session.ended",
            Self::SampleIssued => "sample.issued",
            Self::RecvFirst => "sample.recv_first",
            Self::RecvNonFirst => "sample.recv_non_first",
            Self::SampleComplete => "sample.complete",
            Self::ErrorGeneric => "error.generic",
            Self::ErrorLoadgen => "error.loadgen",
            Self::ErrorSession => "error.session",
            Self::ErrorClient => "error.client",
        }
    }

    /// Its number in a record.
    #[inline]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The type with this number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The type with this topic.
    pub fn from_topic(topic: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.topic() == topic)
    }

    /// Its place in [`EventType::ALL`].
    #[inline]
    pub(super) const fn place(self) -> usize {
        match self {
            Self::ErrorGeneric => 0,
            Self::ErrorLoadgen => 1,
            Self::ErrorSession => 2,
            Self::ErrorClient => 3,
            Self::SampleIssued => 4,
            Self::RecvFirst => 5,
            Self::RecvNonFirst => 6,
            Self::SampleComplete => 7,
            Self::SessionStarted => 8,
            Self::StartPerformanceTracking => 9,
            Self::StopPerformanceTracking => 10,
            Self::StopLoadgen => 11,
            Self::SessionEnded => 12,
        }
    }

    /// Whether it speaks of the session; such an event leaves at once, after all that is buffered.
    #[inline]
    pub const fn is_session(self) -> bool {
        self.code() < 16
    }

    /// Whether a subscription to `filter` asks for it: its topic, or a category such as `sample.`.
    pub fn is_asked_for_by(self, filter: &str) -> bool {
        self.topic() == filter || filter.ends_with('.') && self.topic().starts_with(filter)
    }
}

const fn longest_topic() -> usize {
    let (mut longest, mut i) = (0, 0);
    while i < TYPES {
        let length = EventType::ALL[i].topic().len();
        if length > longest {
            longest = length;
        }
        i += 1;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_topics_and_places_each_name_one_type() {
        assert_eq!(TOPIC_BYTES, 34);
        for (place, kind) in EventType::ALL.into_iter().enumerate() {
            assert_eq!(kind.place(), place);
            assert_eq!(EventType::from_code(kind.code()), Some(kind));
            assert_eq!(EventType::from_topic(kind.topic()), Some(kind));
            assert_eq!(kind.is_session(), kind.topic().starts_with("session."));
        }
        assert_eq!(EventType::from_code(5), None);
    }

    #[test]
    fn a_filter_is_a_topic_or_a_category() {
        let asked = |filter| EventType::ALL.into_iter().filter(|kind| kind.is_asked_for_by(filter)).count();
        assert_eq!([asked("sample.issued"), asked("sample."), asked("error."), asked("session.")], [1, 4, 4, 5]);
        assert_eq!([asked("sample"), asked("sample.iss"), asked("")], [0, 0, 0]);
    }
}
