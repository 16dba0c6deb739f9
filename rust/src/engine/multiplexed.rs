//! HTTP/2: requests side by side on shared connections, a new one when all streams of the others are taken.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::Rc;
use std::time::Duration;

use tokio::sync::Notify;

use super::flight::guarded;
use super::reception::{Aids, Reception};
use super::worker::Worker;
use crate::clock::now_ns;
use crate::http::{Connector, Fault, H2Connection, H2Part, Limits, Sink};
use crate::record::Stamps;

/// While a server allows no streams, requests look again after this long: nobody is told of new settings.
const SHUT_WAIT: Duration = Duration::from_millis(10);

/// What a request was waiting for that never got a stream.
const SHUT: &str = "the server allows no HTTP/2 streams (its SETTINGS_MAX_CONCURRENT_STREAMS is 0)";

/// A connection that several requests share.
pub(super) struct Shared {
    connection: H2Connection,
    /// Whether a request has been made on it before.
    pub(super) used: Cell<bool>,
}

impl Deref for Shared {
    type Target = H2Connection;

    fn deref(&self) -> &H2Connection {
        &self.connection
    }
}

/// A worker's HTTP/2 connections to one node, and decoders that wait for their next request.
#[derive(Default)]
pub(super) struct Multiplexed {
    connections: RefCell<Vec<Rc<Shared>>>,
    receptions: RefCell<Vec<Reception>>,
    /// Somebody opens a connection just now.
    connecting: Cell<bool>,
    /// Why that failed, if it did.
    failed: RefCell<Option<Fault>>,
    connected: Notify,
}

/// Held by whoever opens a connection, which may be given up at any moment.
struct Connecting<'a>(&'a Multiplexed);

impl Drop for Connecting<'_> {
    fn drop(&mut self) {
        self.0.connecting.set(false);
        self.0.connected.notify_waiters();
    }
}

impl Multiplexed {
    /// The first connection on which another stream may be opened.
    pub(super) fn with_room(&self) -> Option<Rc<Shared>> {
        let mut connections = self.connections.borrow_mut();
        connections.retain(|c| c.is_open());
        connections.iter().find(|c| c.has_room()).cloned()
    }

    /// Open one more connection; where somebody else does so already, wait for that one: it may have room for both. Where
    /// the server allows no streams for now, wait a little instead: it would say the same again.
    pub(super) async fn connect(&self, connector: &Connector) -> Result<(), Fault> {
        if self.is_shut() {
            tokio::time::sleep(SHUT_WAIT).await;
            return Ok(());
        }
        if self.connecting.replace(true) {
            self.connected.notified().await;
            return self.failed.borrow().clone().map_or(Ok(()), Err);
        }
        let _connecting = Connecting(self);
        self.failed.take();
        let connected = connector.connect_http2(Limits::default()).await;
        let connection = connected.inspect_err(|fault| *self.failed.borrow_mut() = Some(fault.clone()))?;
        self.connections.borrow_mut().push(Rc::new(Shared { connection, used: Cell::new(false) }));
        Ok(())
    }

    /// Whether the server allows no streams on a connection, which is then left to itself until it does.
    fn is_shut(&self) -> bool {
        self.connections.borrow().iter().any(|c| c.allows_none())
    }

    /// Why there is no room, in words for a request that has waited for it in vain; empty where nobody knows.
    pub(super) fn why_no_room(&self) -> &'static str {
        if self.is_shut() { SHUT } else { "" }
    }

    /// Have a connection before the clock starts.
    pub(super) async fn connect_ahead(&self, worker: &Worker, connector: &Connector) {
        if self.with_room().is_none() {
            let flight = worker.flights.enter();
            // A failure shows again with the first request, which has a row for it.
            let _ = guarded(&flight, self.connect(connector)).await;
            worker.flights.leave(&flight);
        }
    }

    /// A decoder that was used before.
    pub(super) fn take_reception(&self) -> Option<Reception> {
        self.receptions.borrow_mut().pop()
    }

    /// Keep a decoder for the next request.
    pub(super) fn keep_reception(&self, reception: Reception) {
        self.receptions.borrow_mut().push(reception);
    }
}

/// Make one request on `connection`, every frame stamped with the read that brought it.
pub(super) async fn exchange(
    connection: &Shared,
    request: http::Request<()>,
    body: Vec<u8>,
    reception: &mut Reception,
    aids: &Aids<'_>,
    stamps: &mut Stamps,
) -> Result<(), Fault> {
    stamps.sent = now_ns();
    let ended = connection
        .exchange(request, body, &mut |part, now| {
            let bytes = match part {
                // How long a head was is not known after HPACK; it counts as something that came.
                H2Part::Head(_) => 1,
                H2Part::Data(data) => data.len(),
            };
            // A read of other streams' frames may lie before this request's own write.
            let now = now.max(stamps.sent);
            reception.heard(bytes, now, aids, stamps);
            let decoded = match part {
                H2Part::Head(head) => reception.answer.head(&head),
                H2Part::Data(data) => reception.answer.data(data),
            };
            reception.stamp(now, aids, stamps);
            stamps.done = now;
            decoded
        })
        .await;
    if ended.is_err() {
        stamps.done = now_ns();
    }
    ended
}
