//! Once a second: what the run cost and what held it back, for the report's trust section.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::withheld::{steal_ticks, throttled_ns};
use crate::clock::{now_ns, process_cpu_ns};
use crate::record::LogWriter;
use crate::series::Live;
use crate::sync::Arc;

/// The thread that writes a tick into the log each second.
pub(super) struct Ticker {
    phases: Option<Sender<u16>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(super) fn start(live: Arc<Live>, log: Arc<LogWriter>) -> std::io::Result<Self> {
        let (phases, changes) = channel();
        let thread = std::thread::Builder::new().name("loadgen-tick".into()).spawn(move || {
            let mut phase = 0;
            loop {
                match changes.recv_timeout(Duration::from_secs(1)) {
                    Ok(next) => phase = next,
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                if !tick(&live, &log, phase) {
                    return;
                }
            }
            tick(&live, &log, phase);
        })?;
        Ok(Self { phases: Some(phases), thread: Some(thread) })
    }

    /// From now on ticks belong to this phase.
    pub(super) fn watch(&self, phase: u16) {
        // A ticker that is gone has lost its log; the run's own error says so.
        let _ = self.phases.as_ref().map(|phases| phases.send(phase));
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.phases.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Write one tick; false when the log takes no more.
fn tick(live: &Live, log: &LogWriter, phase: u16) -> bool {
    let turns = live.turns();
    log.meta(&json!({
        "event": "tick",
        "ns": now_ns(),
        "phase": phase,
        "cpu_ns": process_cpu_ns(),
        "worker_cpu_ns": turns.iter().map(|turns| turns.cpu_ns()).collect::<Vec<_>>(),
        "loop_stall_ns": turns.iter().map(|turns| turns.take_stall_ns()).collect::<Vec<_>>(),
        "steal_ticks": steal_ticks(),
        "throttled_ns": throttled_ns(),
        "in_flight": live.in_flight(),
    }))
    .is_ok()
}
