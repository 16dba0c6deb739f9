//! Finished frames on their way to the publisher: a bounded ring for each source, drained in an order that keeps the
//! session's events behind everything that happened before them.

use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use super::frame::SESSION_SOURCE;
use super::ring::{Consumer, Gauge, Producer, Proven, ring};
use crate::bell::Bell;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Frames that a source may have waiting.
const MOST_FRAMES: usize = 1 << 14;
/// Bytes of frames that a source may have waiting.
const MOST_BYTES: u64 = 32 << 20;

/// What the two ends of one source's ring tell each other beside the frames.
#[derive(Debug, Default)]
struct Lane {
    /// Records of frames that found no room.
    dropped: AtomicU64,
    /// Bytes taken out so far.
    taken: AtomicU64,
}

/// A frame under way.
struct Parcel {
    frame: Vec<u8>,
    /// With a frame of the session: how much each worker had put in before. Those go first, and what comes later after.
    after: Vec<u64>,
}

/// A source's end: puts finished frames in, and never waits.
pub struct FrameSender {
    ring: Producer<Parcel>,
    lane: Arc<Lane>,
    bell: Arc<Bell>,
    /// Bytes put in so far.
    sent: u64,
    /// Of the session's sender: the workers' rings.
    workers: Vec<Gauge<Parcel>>,
}

struct FrameReceiver {
    source: u16,
    ring: Consumer<Parcel>,
    lane: Arc<Lane>,
}

/// The publisher's end.
pub struct EventQueue {
    bell: Arc<Bell>,
    lanes: Mutex<Lanes>,
}

struct Lanes {
    workers: Vec<FrameReceiver>,
    session: FrameReceiver,
    /// The worker whose turn it is.
    turn: usize,
    /// The session's next frame, until what was before it has gone.
    waiting: Option<Parcel>,
    /// How far the workers' rings may be emptied while none waits: how full they were before the session's was looked
    /// into and found empty. Whatever it says later, these were before it.
    free: Vec<u64>,
}

/// A queue for these sources and the session: each one's sender in order, the session's last, and the queue.
///
/// # Errors
/// The system has no descriptor left.
pub fn event_queue(sources: &[u16]) -> io::Result<(Vec<FrameSender>, EventQueue)> {
    let bell = Arc::new(Bell::new()?);
    let lane = |&source: &u16| {
        let (ring, consumer) = ring::<Parcel, Proven>(MOST_FRAMES);
        let lane = Arc::new(Lane::default());
        let sender = FrameSender { ring, lane: Arc::clone(&lane), bell: Arc::clone(&bell), sent: 0, workers: vec![] };
        (sender, FrameReceiver { source, ring: consumer, lane })
    };
    let (mut senders, workers): (Vec<_>, Vec<_>) = sources.iter().map(lane).unzip();
    let (mut sender, session) = lane(&SESSION_SOURCE);
    sender.workers = workers.iter().map(|from| from.ring.gauge()).collect();
    senders.push(sender);
    let free = vec![0; workers.len()];
    let lanes = Mutex::new(Lanes { workers, session, turn: 0, waiting: None, free });
    Ok((senders, EventQueue { bell, lanes }))
}

impl FrameSender {
    /// Put a frame of `records` records in. One that finds no room is counted, and gone.
    pub fn send(&mut self, frame: Vec<u8>, records: u32) {
        let size = frame.len() as u64;
        // Relaxed: a bound on memory; pairs with the store in `FrameReceiver::take`.
        let waiting = self.sent - self.lane.taken.load(Ordering::Relaxed);
        let after = self.workers.iter().map(Gauge::reach).collect();
        if waiting + size > MOST_BYTES || self.ring.push(Parcel { frame, after }).is_err() {
            // Relaxed: a counter of its own; pairs with the load in `EventQueue::dropped_by_source`.
            self.lane.dropped.fetch_add(u64::from(records), Ordering::Relaxed);
            return;
        }
        self.sent += size;
    }

    /// Wake the publisher: after the last frame of a flush.
    pub fn wake(&self) {
        self.bell.ring();
    }
}

impl FrameReceiver {
    fn take(&mut self) -> Option<Parcel> {
        let parcel = self.ring.pop()?;
        // Relaxed: pairs with the load in `FrameSender::send`; one taker at a time, so a load and a store will do.
        let taken = self.lane.taken.load(Ordering::Relaxed) + parcel.frame.len() as u64;
        self.lane.taken.store(taken, Ordering::Relaxed);
        Some(parcel)
    }

    fn is_empty(&mut self) -> bool {
        self.ring.reach() == self.ring.at()
    }
}

impl EventQueue {
    /// A descriptor that is readable while frames wait.
    pub fn fileno(&self) -> RawFd {
        self.bell.fd()
    }

    /// Take up to `limit` frames. Those of the session come after everything that had left its workers before them.
    pub fn take(&self, limit: usize) -> Vec<Vec<u8>> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        self.bell.hush();
        let mut frames = Vec::new();
        while frames.len() < limit
            && let Some(frame) = lanes.next()
        {
            frames.push(frame);
        }
        if frames.len() == limit && lanes.holds_more() {
            self.bell.ring();
        }
        frames
    }

    /// Records that found no room so far, over all sources.
    pub fn dropped(&self) -> u64 {
        self.dropped_by_source().into_iter().map(|(_, records)| records).sum()
    }

    /// The same for each source that lost any.
    pub fn dropped_by_source(&self) -> Vec<(u16, u64)> {
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let all = lanes.workers.iter().chain([&lanes.session]);
        // Relaxed: pairs with the fetch_add in `FrameSender::send`.
        let counts = all.map(|from| (from.source, from.lane.dropped.load(Ordering::Relaxed)));
        counts.filter(|&(_, records)| records > 0).collect()
    }
}

impl Lanes {
    fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(frame) = self.next_of_workers() {
                return Some(frame);
            }
            if let Some(parcel) = self.waiting.take() {
                return Some(parcel.frame);
            }
            // In this order: a worker's frame that follows from a word of the session is put in after it, so whoever
            // sees that frame here finds that word there.
            let full: Vec<u64> = self.workers.iter_mut().map(|from| from.ring.reach()).collect();
            self.waiting = self.session.take();
            if self.waiting.is_none() {
                if full == self.free {
                    return None;
                }
                self.free = full;
            }
        }
    }

    /// One frame, from each worker in turn, as far as they may be emptied.
    fn next_of_workers(&mut self) -> Option<Vec<u8>> {
        let until = self.waiting.as_ref().map_or(&self.free, |parcel| &parcel.after);
        for _ in 0..self.workers.len() {
            let turn = self.turn;
            self.turn = (turn + 1) % self.workers.len();
            let from = &mut self.workers[turn];
            if from.ring.at() < until[turn]
                && let Some(parcel) = from.take()
            {
                return Some(parcel.frame);
            }
        }
        None
    }

    fn holds_more(&mut self) -> bool {
        self.waiting.is_some() || !self.session.is_empty() || self.workers.iter_mut().any(|from| !from.is_empty())
    }
}
