//! Why a phase stops issuing.

/// Why a phase stopped issuing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum StopReason {
    /// All its requests were issued.
    Requests = 1,
    /// Its duration was over.
    Duration = 2,
    /// The schedule came to its end.
    Plan = 3,
    /// Somebody asked it to.
    Stopped = 4,
    /// The first answers said that the rest would fail too.
    Early = 5,
    /// The disk could not follow.
    Disk = 6,
}

impl StopReason {
    /// The word in the log and in results.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Duration => "duration",
            Self::Plan => "plan",
            Self::Stopped => "stopped",
            Self::Early => "early",
            Self::Disk => "disk",
        }
    }

    /// The reason of a number that was stored; `None` before there is one.
    pub(super) fn from_code(code: u32) -> Option<Self> {
        [Self::Requests, Self::Duration, Self::Plan, Self::Stopped, Self::Early, Self::Disk]
            .into_iter()
            .find(|r| *r as u32 == code)
    }
}
