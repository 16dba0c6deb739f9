//! Finished frames on their way to the publisher: a bounded ring for each source, drained in an order that keeps the
//! session's events behind everything that happened before them.

use std::io;
use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};

use super::frame::SESSION_SOURCE;
use super::ring::{Consumer, Producer, Proven, ring};
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

/// A source's end: puts finished frames in, and never waits.
pub struct FrameSender {
    ring: Producer<Vec<u8>>,
    lane: Arc<Lane>,
    bell: Arc<Bell>,
    /// Bytes put in so far.
    sent: u64,
}

struct FrameReceiver {
    source: u16,
    ring: Consumer<Vec<u8>>,
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
    /// Frames of the session that wait, and how far each worker's ring must be emptied before they go.
    barrier: Option<Barrier>,
}

struct Barrier {
    session: u64,
    workers: Vec<u64>,
}

/// A queue for these sources and the session: each one's sender in order, the session's last, and the queue.
///
/// # Errors
/// The system has no descriptor left.
pub fn event_queue(sources: &[u16]) -> io::Result<(Vec<FrameSender>, EventQueue)> {
    let bell = Arc::new(Bell::new()?);
    let lane = |&source: &u16| {
        let (producer, consumer) = ring::<Vec<u8>, Proven>(MOST_FRAMES);
        let lane = Arc::new(Lane::default());
        let sender = FrameSender { ring: producer, lane: Arc::clone(&lane), bell: Arc::clone(&bell), sent: 0 };
        (sender, FrameReceiver { source, ring: consumer, lane })
    };
    let (mut senders, workers): (Vec<_>, Vec<_>) = sources.iter().map(lane).unzip();
    let (sender, session) = lane(&SESSION_SOURCE);
    senders.push(sender);
    let lanes = Mutex::new(Lanes { workers, session, turn: 0, barrier: None });
    Ok((senders, EventQueue { bell, lanes }))
}

impl FrameSender {
    /// Put a frame of `records` records in. One that finds no room is counted, and gone.
    pub fn send(&mut self, frame: Vec<u8>, records: u32) {
        let size = frame.len() as u64;
        // Relaxed: a bound on memory; pairs with the store in `FrameReceiver::take`.
        let waiting = self.sent - self.lane.taken.load(Ordering::Relaxed);
        if waiting + size > MOST_BYTES || self.ring.push(frame).is_err() {
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
    fn take(&mut self) -> Option<Vec<u8>> {
        let frame = self.ring.pop()?;
        // Relaxed: pairs with the load in `FrameSender::send`; one taker at a time, so a load and a store will do.
        let taken = self.lane.taken.load(Ordering::Relaxed) + frame.len() as u64;
        self.lane.taken.store(taken, Ordering::Relaxed);
        Some(frame)
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
        if self.barrier.is_none() {
            let session = self.session.ring.reach();
            if session > self.session.ring.at() {
                // A worker flushes before the session's frame is put in: having seen the one, we see the others.
                let workers = self.workers.iter_mut().map(|from| from.ring.reach()).collect();
                self.barrier = Some(Barrier { session, workers });
            }
        }
        if let Some(frame) = self.next_of_workers() {
            return Some(frame);
        }
        let frame = self.barrier.is_some().then(|| self.session.take()).flatten();
        self.barrier.take_if(|barrier| self.session.ring.at() >= barrier.session);
        frame
    }

    /// One frame, from each worker in turn, and none from beyond a barrier.
    fn next_of_workers(&mut self) -> Option<Vec<u8>> {
        for _ in 0..self.workers.len() {
            let turn = self.turn;
            self.turn = (turn + 1) % self.workers.len();
            let from = &mut self.workers[turn];
            if self.barrier.as_ref().is_some_and(|barrier| from.ring.at() >= barrier.workers[turn]) {
                continue;
            }
            if let Some(frame) = from.take() {
                return Some(frame);
            }
        }
        None
    }

    fn holds_more(&mut self) -> bool {
        !self.session.is_empty() || self.workers.iter_mut().any(|from| !from.is_empty())
    }
}
