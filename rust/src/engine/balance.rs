//! Which of a run's nodes a request goes to, where no policy decides that.

/// How the requests of a phase are spread over the run's nodes; shared by all workers.
#[derive(Debug)]
pub(super) struct Balance;

impl Balance {
    /// The node of the request with this index in the phase's plan, of this sample.
    #[inline]
    pub(super) fn choose(&self, _index: u64, _sample: u64) -> u16 {
        0
    }
}
