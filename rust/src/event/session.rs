//! The events of a whole run: an emitter for each source, and what the session itself says, in its order.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;

use super::batch::BatchLimits;
use super::emitter::{Emitter, Outlets, SessionData};
use super::frame::SESSION_SOURCE;
use super::kind::EventType;
use super::queue::{EventQueue, event_queue};
use crate::clock::now_ns;
use crate::record::{LogError, LogWriter};
use crate::sync::Arc;

/// A worker's batch leaves with its bytes or its age, before it has so many events: where they come fast enough to fill one
/// within that age, what a frame costs is shared by as many as fit.
const SEND_THRESHOLD: u32 = 10_000;

/// What is asked of a run's events.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// Keep them in `events.log`.
    pub log: bool,
    /// Have them ready for a publisher.
    pub publish: bool,
    /// An event for every chunk, not only for a request's first.
    pub chunks: bool,
    /// A flush comes with so many events of a source; 1 means no batching.
    pub send_threshold: u32,
    /// Or when the oldest one is so many seconds old.
    pub max_age_s: f64,
    /// Or with so many bytes.
    pub max_bytes: usize,
}

impl Default for EventsConfig {
    fn default() -> Self {
        let BatchLimits { max_age_ns, max_bytes, .. } = BatchLimits::default();
        let max_age_s = max_age_ns as f64 / 1e9;
        Self { log: false, publish: false, chunks: false, send_threshold: SEND_THRESHOLD, max_age_s, max_bytes }
    }
}

/// Why a run's events can't be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EventsError {
    /// Their log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The descriptor that wakes the publisher.
    #[error("no descriptor for the events' publisher: {0}")]
    Descriptor(#[from] io::Error),
}

/// The events of a run, as whoever controls it sees them.
pub struct RunEvents {
    queue: Option<Arc<EventQueue>>,
    logs: bool,
    session: Mutex<Session>,
}

struct Session {
    id: String,
    emitter: Emitter,
    /// The performance phase that counts now, and its name.
    tracked: Option<(u16, String)>,
    ended: bool,
}

impl RunEvents {
    /// Say that the session `id` has begun, and make an emitter for each of `sources`.
    ///
    /// # Errors
    /// [`EventsError`].
    pub fn start(
        config: &EventsConfig,
        log: &LogWriter,
        id: &str,
        sources: &[u16],
    ) -> Result<(Self, Vec<Emitter>), EventsError> {
        if config.log {
            log.keep_events()?;
        }
        let (senders, queue) = if config.publish {
            let (senders, queue) = event_queue(sources)?;
            (senders, Some(Arc::new(queue)))
        } else {
            (Vec::new(), None)
        };
        let limits = BatchLimits {
            send_threshold: config.send_threshold,
            max_age_ns: (config.max_age_s * 1e9) as u64,
            max_bytes: config.max_bytes,
        };
        let mut senders = senders.into_iter();
        let mut emitter = |source: u16| {
            let shard = config.log.then(|| log.event_shard(source));
            Emitter::new(source, limits, config.chunks, Outlets { log: shard, publisher: senders.next() })
        };
        let emitters = sources.iter().map(|&source| emitter(source)).collect();
        // The queue gives the session's sender last.
        let mut session = Session { id: id.to_owned(), emitter: emitter(SESSION_SOURCE), tracked: None, ended: false };
        session.tell(EventType::SessionStarted, SessionData::None);
        Ok((Self { queue, logs: config.log, session: Mutex::new(session) }, emitters))
    }

    /// The finished frames, for a publisher.
    pub fn queue(&self) -> Option<Arc<EventQueue>> {
        self.queue.clone()
    }

    /// A performance phase begins to count. `barrier` sends on its way whatever the sources have buffered.
    pub fn start_tracking(&self, phase: u16, name: &str, barrier: impl FnOnce()) {
        let mut session = self.session();
        // Its moment comes first: whatever has an earlier stamp is buffered by then, and leaves with the barrier.
        let ns = now_ns();
        barrier();
        session.tell_at(ns, EventType::StartPerformanceTracking, SessionData::Phase(phase, name));
        session.tracked = Some((phase, name.to_owned()));
    }

    /// The performance phase that counted, if this is it, has drained. `barrier`: see [`RunEvents::start_tracking`].
    pub fn stop_tracking(&self, phase: u16, barrier: impl FnOnce()) {
        let mut session = self.session();
        if session.tracked.as_ref().is_some_and(|(tracked, _)| *tracked == phase) {
            let ns = now_ns();
            barrier();
            session.stop_tracking(ns);
        }
    }

    /// The session is over, and all sources have flushed. The first call counts.
    pub fn end(&self, status: &str) {
        let mut session = self.session();
        if !std::mem::replace(&mut session.ended, true) {
            session.tell(EventType::StopLoadgen, SessionData::None);
            session.stop_tracking(now_ns());
            session.tell(EventType::SessionEnded, SessionData::Status(status));
        }
    }

    /// What became of the events so far, for the log's last document: `null` where they were not asked for.
    ///
    /// # Errors
    /// [`LogError::Thread`] when the log writer's thread is gone.
    pub fn account(&self, log: &LogWriter) -> Result<Value, LogError> {
        let counts = log.count_events()?;
        Ok(json!({
            "logged": self.logs.then_some(counts.logged),
            "missing": self.logs.then_some(counts.missing),
            "error": counts.error,
            "dropped": self.queue.as_ref().map(|queue| queue.dropped()),
        }))
    }

    fn session(&self) -> MutexGuard<'_, Session> {
        // A poisoned lock means that a caller panicked between two events; the next one is still worth telling.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Session {
    fn stop_tracking(&mut self, ns: u64) {
        if let Some((phase, name)) = self.tracked.take() {
            self.tell_at(ns, EventType::StopPerformanceTracking, SessionData::Phase(phase, &name));
        }
    }

    fn tell(&mut self, kind: EventType, data: SessionData<'_>) {
        self.tell_at(now_ns(), kind, data);
    }

    fn tell_at(&mut self, ns: u64, kind: EventType, data: SessionData<'_>) {
        self.emitter.session(kind, ns, &self.id, data);
    }
}
