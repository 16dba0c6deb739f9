//! Answers that come in piece by piece: one task of a worker reads them all, so that an event costs a read, and no turn of
//! its request's own task.

use std::cell::RefCell;
use std::io;
use std::ops::Range;
use std::rc::Rc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};

use tokio::task::coop::unconstrained;
use tokio::task::yield_now;

use super::connection::{Broken, Connection, Ended, READ_BYTES};
use super::flight::Flight;
use super::prefetch::prefetch;
use super::request::Request;
use super::worker::Worker;
use crate::clock::now_ns;

/// So many sockets are read in a turn, if they don't fill the worker's buffer before; between two turns the runtime looks at
/// its sockets and runs other tasks. Neither the next arrival nor the sweep waits for all streams, nor for one that never pauses.
const GROUP: usize = 32;

/// The answers of one worker that have begun and aren't over.
#[derive(Default)]
pub(super) struct Streams {
    /// Each at its place, which is what its socket's waker knows of it.
    places: RefCell<Vec<Option<Box<Streaming>>>>,
    free: RefCell<Vec<u32>>,
    /// What was read and not looked at yet; empty between two turns.
    pieces: RefCell<Vec<Piece>>,
}

/// A request whose answer has begun, and the connection it comes over.
pub(super) struct Streaming {
    request: Request,
    connection: Box<Connection>,
    /// How it ended, once it has.
    ended: Option<Result<Ended, Broken>>,
}

/// What the sockets brought that are read before any of it is looked at.
struct Turn<'a> {
    buffer: &'a mut [u8],
    /// How much of it is taken.
    filled: usize,
    pieces: &'a mut Vec<Piece>,
}

/// One read of a socket.
#[derive(Debug)]
struct Piece {
    /// Whose, by its place.
    at: u32,
    /// When.
    now: u64,
    /// What it brought, within the worker's buffer.
    read: io::Result<Range<usize>>,
}

impl Streaming {
    /// `request` is being answered over `connection`.
    pub(super) fn new(request: Request, connection: Box<Connection>) -> Box<Self> {
        Box::new(Self { request, connection, ended: None })
    }

    /// Both again.
    pub(super) fn part(self: Box<Self>) -> (Request, Box<Connection>) {
        (self.request, self.connection)
    }

    /// A read brought this.
    fn hear(&mut self, read: io::Result<&[u8]>, now: u64) {
        match &mut self.ended {
            // What follows an answer's end belongs to nobody: such a connection serves no other request.
            Some(Ok(ended)) => *ended = Ended::Closing,
            Some(Err(_)) => {}
            None => self.look(read, now),
        }
    }

    fn look(&mut self, read: io::Result<&[u8]>, now: u64) {
        self.ended = self.request.hear(&mut self.connection, read, now);
        if self.ended.is_some() {
            self.request.wake();
        }
    }
}

impl Streams {
    /// Have an answer read to its end, or until the sweep ends its `flight`; `buffer` is what is read into.
    pub(super) async fn read_on(
        &self,
        flight: &Flight,
        streaming: Box<Streaming>,
        buffer: &RefCell<Box<[u8]>>,
    ) -> (Box<Streaming>, Result<Ended, Broken>) {
        let place = self.enter(streaming);
        // What came since its task looked last; and its socket learns whom to wake from now on.
        self.read(&[place.at], &mut buffer.borrow_mut());
        std::future::poll_fn(|cx| {
            let over = place.over(flight);
            if over.is_none() {
                flight.wake_by(cx.waker());
            }
            over.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }

    fn enter(&self, streaming: Box<Streaming>) -> Place<'_> {
        let mut places = self.places.borrow_mut();
        let at = self.free.borrow_mut().pop().unwrap_or_else(|| {
            places.push(None);
            places.len() as u32 - 1
        });
        places[at as usize] = Some(streaming);
        Place { streams: self, at }
    }

    /// Take what the sockets of these places have: how many of them had their turn. Where that was too short for one, it is
    /// ready again.
    ///
    /// All are read before any of it is looked at: each gets its stamp sooner, and while the kernel copies, the memory comes
    /// back that it takes to look at it. Of hundreds of streams, each one's has left the caches since its last event.
    fn read(&self, ready: &[u32], buffer: &mut [u8]) -> usize {
        // Whoever is told of a read wakes tasks at most, and never enters or leaves a place: hence the borrow.
        let mut places = self.places.borrow_mut();
        let mut pieces = self.pieces.borrow_mut();
        let group = &ready[..ready.len().min(GROUP)];
        let turns = read_sockets(&mut places, group, Turn { buffer, filled: 0, pieces: &mut pieces });
        for Piece { at, now, read } in pieces.drain(..) {
            if let Some(streaming) = places[at as usize].as_deref_mut() {
                streaming.hear(read.map(|range| &buffer[range]), now);
            }
        }
        turns
    }
}

/// Read the sockets of these places until they have no more or the turn is over: how many of them had theirs.
fn read_sockets(places: &mut [Option<Box<Streaming>>], group: &[u32], mut turn: Turn<'_>) -> usize {
    for (n, &at) in group.iter().enumerate() {
        if let Some(next) = group.get(n + 1).and_then(|next| places.get(*next as usize)?.as_deref()) {
            prefetch(next);
        }
        let Some(streaming) = open(places, at) else { continue };
        prefetch(&*streaming.connection);
        let waker = waker(at);
        let mut cx = Context::from_waker(&waker);
        let before = turn.filled;
        if !turn.read(at, |window| streaming.connection.poll_read(&mut cx, window)) {
            if turn.filled == before {
                return n;
            }
            // It may have more, and its socket tells of none that comes before it was found empty.
            waker.wake();
            return n + 1;
        }
    }
    group.len()
}

impl Turn<'_> {
    /// Read one socket until it has no more. False where the buffer has no room for what it may have.
    #[inline]
    fn read(&mut self, at: u32, mut poll: impl FnMut(&mut [u8]) -> Poll<io::Result<usize>>) -> bool {
        while let Some(window) = self.buffer.get_mut(self.filled..self.filled + READ_BYTES) {
            let Poll::Ready(read) = poll(window) else { return true };
            let read = read.map(|bytes| self.filled..self.filled + bytes);
            let more = read.as_ref().is_ok_and(|range| !range.is_empty());
            self.filled = read.as_ref().map_or(self.filled, |range| range.end);
            self.pieces.push(Piece { at, now: now_ns(), read });
            if !more {
                return true;
            }
        }
        false
    }
}

/// The answer at a place, unless it has ended or left it: a wake-up may come late.
fn open(places: &mut [Option<Box<Streaming>>], at: u32) -> Option<&mut Streaming> {
    places.get_mut(at as usize)?.as_deref_mut().filter(|streaming| streaming.ended.is_none())
}

/// Read whatever has something to read, for as long as the worker lives.
pub(super) async fn read_forever(worker: Rc<Worker>) {
    in_turns(|ready| worker.streams.read(ready, &mut worker.buffer.borrow_mut())).await
}

/// Have `read` read the places that are ready, again and again; it says how many of them had their turn, the first ones.
async fn in_turns(mut read: impl FnMut(&[u32]) -> usize) {
    // A turn is bounded by itself; the runtime's own bound would make places wait that have been woken.
    unconstrained(async {
        let mut ready = Vec::new();
        loop {
            take_ready(&mut ready).await;
            let turns = read(&ready);
            ready.drain(..turns);
            if !ready.is_empty() || is_any_ready() {
                yield_now().await;
            }
        }
    })
    .await
}

/// A place that is taken, until this is dropped.
struct Place<'a> {
    streams: &'a Streams,
    at: u32,
}

impl Place<'_> {
    /// The answer and how it ended, if it has or the sweep has ended `flight`.
    fn over(&self, flight: &Flight) -> Option<(Box<Streaming>, Result<Ended, Broken>)> {
        let place = &mut self.streams.places.borrow_mut()[self.at as usize];
        let ended = match place.as_mut()?.ended.take() {
            Some(ended) => ended,
            None => Err(Broken::Verdict(flight.verdict()?)),
        };
        place.take().map(|streaming| (streaming, ended))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.streams.places.borrow_mut()[self.at as usize] = None;
        self.streams.free.borrow_mut().push(self.at);
    }
}

/// The places on this thread whose sockets have woken, and the task that reads them.
#[derive(Default)]
struct Ready {
    places: RefCell<Vec<u32>>,
    reader: RefCell<Option<Waker>>,
}

thread_local! {
    // A waker may be sent to any thread, so it can't hold what belongs to this one. It holds a number and finds the rest here:
    // to clone and drop it, as every event does, costs nothing. A socket's waker is called on its worker's thread.
    static READY: Ready = Ready::default();
}

/// What the socket of this place wakes.
fn waker(at: u32) -> Waker {
    // SAFETY: the functions of the table never follow the pointer, which is the place's number, and may be called anywhere.
    unsafe { Waker::new(std::ptr::without_provenance(at as usize), &TABLE) }
}

static TABLE: RawWakerVTable = RawWakerVTable::new(|at| RawWaker::new(at, &TABLE), wake, wake, |_| ());

fn wake(at: *const ()) {
    // While a thread ends its lists may be gone before its sockets: then nobody reads any more.
    let _ = READY.try_with(|ready| {
        ready.places.borrow_mut().push(at.addr() as u32);
        if let Some(reader) = ready.reader.borrow_mut().take() {
            reader.wake();
        }
    });
}

/// Whether a place has become ready and nobody has taken it.
fn is_any_ready() -> bool {
    READY.with(|ready| !ready.places.borrow().is_empty())
}

/// Wait until at least one place is ready, and add all that are to `into`.
async fn take_ready(into: &mut Vec<u32>) {
    std::future::poll_fn(|cx| {
        READY.with(|ready| {
            into.append(&mut ready.places.borrow_mut());
            if !into.is_empty() {
                return Poll::Ready(());
            }
            *ready.reader.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
    })
    .await
}

#[cfg(test)]
mod tests;
