//! A request's way to its node: a connection of its own, or one that many share.

use std::rc::Rc;
use std::time::Duration;

use super::Request;
use crate::clock::now_ns;
use crate::engine::finish::Close;
use crate::engine::flight::guarded;
use crate::http::{Fault, Stream};
use crate::record::Detail;

/// With no local port or descriptor left, a request waits this long and asks again, until its time-out.
const EXHAUSTED_WAIT: Duration = Duration::from_millis(20);

impl Request {
    /// Have a connection with room for it among those that its node's requests share.
    pub(super) async fn connect_multiplexed(&mut self) -> Result<(), Close> {
        let started = now_ns();
        let worker = Rc::clone(&self.worker);
        let connect = patiently(|| worker.multiplexed(self.ticket.node).connect(&self.node().connector));
        let connected = guarded(&self.flight, Box::pin(connect)).await;
        self.connect_ns += now_ns().saturating_sub(started);
        match connected {
            Ok(connected) => connected.map_err(Close::of),
            Err(verdict) => {
                let text = worker.multiplexed(self.ticket.node).why_no_room().into();
                Err(Close { text, ..Close::by(verdict) })
            }
        }
    }

    /// Open a connection of its own.
    pub(super) async fn connect(&mut self) -> Result<Stream, Close> {
        let started = now_ns();
        let connect = patiently(|| self.node().connector.connect());
        let connected = guarded(&self.flight, Box::pin(connect)).await;
        self.connect_ns += now_ns().saturating_sub(started);
        match connected {
            Ok(connected) => connected.map_err(Close::of),
            Err(verdict) => Err(Close::by(verdict)),
        }
    }
}

/// Connect, again and again while ports or descriptors have run out: that is this machine's shortage, not the server's
/// failure, and pushes back.
async fn patiently<T, F: Future<Output = Result<T, Fault>>>(connect: impl Fn() -> F) -> Result<T, Fault> {
    loop {
        match connect().await {
            Err(fault) if fault.detail == Detail::Exhausted => tokio::time::sleep(EXHAUSTED_WAIT).await,
            connected => return connected,
        }
    }
}
