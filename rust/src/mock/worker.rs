//! A serving thread: its event loop, its connections, its timers.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Receiver;

use socket2::Socket;

use super::answer::End;
use super::conn::{Conn, Flow, State, reset_on_close};
use super::draw::Draws;
use super::faults::Chosen;
use super::gate::Ticket;
use super::shared::{Message, Shared, lock};
use super::truth::Row;
use super::wake::Wake;
use crate::clock::now_ns;
use crate::sync::{Arc, Ordering};

/// One thread.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) thread: usize,
    poller: super::poller::Poller,
    listener: Option<Socket>,
    next_thread: usize,
    inbox: Receiver<Message>,
    bell: UnixStream,
    conns: Vec<Slot>,
    free: Vec<u32>,
    timers: BinaryHeap<Reverse<(u64, u64)>>,
    wake: Wake,
    /// Connections of this thread that have been given a slot and don't know yet.
    given: VecDeque<u64>,
    scratch: Box<[u8]>,
    out: Vec<u8>,
    stopping: bool,
}

/// A place for a connection; its generation tells late messages and timers from timely ones.
struct Slot {
    generation: u32,
    conn: Option<Box<Conn>>,
}

const LISTENER: u64 = u64::MAX;
const BELL: u64 = u64::MAX - 1;
/// How long a closed connection's other end is waited for.
const LINGER_NS: u64 = 2_000_000_000;

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        thread: usize,
        listener: Option<Socket>,
        inbox: Receiver<Message>,
        bell: UnixStream,
    ) -> io::Result<Self> {
        let poller = super::poller::Poller::new()?;
        poller.add(bell.as_raw_fd(), BELL, false)?;
        if let Some(listener) = &listener {
            poller.add(listener.as_raw_fd(), LISTENER, false)?;
        }
        Ok(Self {
            shared,
            thread,
            poller,
            listener,
            next_thread: 0,
            inbox,
            bell,
            conns: Vec::new(),
            free: Vec::new(),
            timers: BinaryHeap::new(),
            wake: Wake::default(),
            given: VecDeque::new(),
            scratch: vec![0; 64 * 1024].into_boxed_slice(),
            out: Vec::with_capacity(64 * 1024),
            stopping: false,
        })
    }

    /// Serve until told to stop.
    pub(super) fn run(mut self) -> io::Result<()> {
        while !self.stopping {
            let timeout = self.timeout();
            let ready = self.poller.wait(timeout)?;
            for i in 0..ready {
                let ready = self.poller.get(i);
                match ready.key {
                    LISTENER => self.accept(),
                    BELL => self.messages(),
                    key => self.with(key, |worker, conn| worker.on_ready(conn, ready.read, ready.write)),
                }
            }
            self.fire();
            self.hand_on();
        }
        Ok(())
    }

    /// How long to wait for sockets: not at all while somebody has a slot and doesn't know.
    fn timeout(&mut self) -> Option<u64> {
        if !self.given.is_empty() {
            return Some(0);
        }
        let due = self.timers.peek().map(|Reverse((due, _))| *due);
        due.map(|due| self.wake.timeout(due, now_ns()))
    }

    /// Fire the timers that are due.
    fn fire(&mut self) {
        while let Some(Reverse((due, key))) = self.timers.peek().copied() {
            if due > now_ns() {
                return;
            }
            self.timers.pop();
            if key == LISTENER {
                self.resume_accepting();
                continue;
            }
            self.with(key, |worker, conn| {
                if conn.alarm != Some(due) {
                    return true;
                }
                conn.alarm = None;
                // What lingered until its alarm has had its time.
                !matches!(conn.state, State::Lingering) && worker.pump(conn)
            });
        }
    }

    /// Do something with a connection, if it is still there; it is dropped when `act` says so by `false`.
    fn with(&mut self, key: u64, act: impl FnOnce(&mut Self, &mut Conn) -> bool) {
        let place = (key & 0xffff_ffff) as usize;
        let Some(slot) = self.conns.get_mut(place).filter(|slot| u64::from(slot.generation) == key >> 32) else {
            return;
        };
        let Some(mut conn) = slot.conn.take() else { return };
        if act(self, &mut conn) {
            self.rewatch(&mut conn);
            self.conns[place].conn = Some(conn);
            return;
        }
        self.close(*conn);
        self.conns[place].generation = self.conns[place].generation.wrapping_add(1);
        self.free.push(place as u32);
    }

    // ------------------------------------------------------------------ connections

    fn accept(&mut self) {
        for _ in 0..64 {
            let Some(listener) = &self.listener else { return };
            match listener.accept() {
                Ok((socket, _)) => {
                    let to = self.next_thread;
                    self.next_thread = (to + 1) % self.shared.inboxes.len();
                    if to == self.thread {
                        self.adopt(socket);
                    } else {
                        self.shared.inboxes[to].tell(Message::Serve(socket));
                    }
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => return self.pause_accepting(),
                    Some(libc::ECONNABORTED | libc::EINTR) => {}
                    _ => return,
                },
            }
        }
    }

    /// No descriptor is left: look again in a while, instead of being told in vain without end.
    fn pause_accepting(&mut self) {
        if let Some(listener) = &self.listener
            && self.poller.change(listener.as_raw_fd(), LISTENER, false, false).is_ok()
        {
            self.timers.push(Reverse((now_ns() + 50_000_000, LISTENER)));
        }
    }

    fn resume_accepting(&mut self) {
        if let Some(listener) = &self.listener
            && self.poller.change(listener.as_raw_fd(), LISTENER, true, false).is_err()
        {
            self.stopping = true;
        }
    }

    /// Whether a fault's rule ends the connection that was just accepted, and by a reset.
    fn ends_at_once(&self) -> Option<bool> {
        let config = &self.shared.config;
        if config.faults.is_empty() {
            return None;
        }
        // Relaxed: the number only has to be unique; nothing else is published with it.
        let index = self.shared.accepted.fetch_add(1, Ordering::Relaxed);
        Chosen::of_connection(&config.faults, Draws::new(config.seed, index), index)
    }

    fn adopt(&mut self, socket: Socket) {
        if let Some(reset) = self.ends_at_once() {
            lock(&self.shared.shards[self.thread]).connections += 1;
            if reset {
                reset_on_close(&socket);
            }
            return;
        }
        // Each failure here is a connection that is gone already; dropping the socket closes it.
        if socket.set_nonblocking(true).is_err() {
            return;
        }
        if self.shared.config.unix.is_none() && socket.set_tcp_nodelay(true).is_err() {
            return;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.conns.push(Slot { generation: 0, conn: None });
            (self.conns.len() - 1) as u32
        });
        let key = u64::from(self.conns[place as usize].generation) << 32 | u64::from(place);
        if self.poller.add(socket.as_raw_fd(), key, false).is_err() {
            self.free.push(place);
            return;
        }
        self.conns[place as usize].conn = Some(Box::new(Conn::new(socket, key)));
        lock(&self.shared.shards[self.thread]).connections += 1;
    }

    fn messages(&mut self) {
        let mut rings = [0u8; 64];
        while matches!((&self.bell).read(&mut rings), Ok(n) if n == rings.len()) {}
        while let Ok(message) = self.inbox.try_recv() {
            match message {
                Message::Serve(socket) => self.adopt(socket),
                Message::Slot(key) => self.slot(key),
                Message::Stop => self.stopping = true,
            }
        }
    }

    /// Tell those of this thread that have been given a slot. A chain of answers that are done at once gives the next one
    /// each: the sockets have their turn in between.
    fn hand_on(&mut self) {
        for _ in 0..self.given.len() {
            let Some(key) = self.given.pop_front() else { return };
            self.slot(key);
        }
    }

    /// A slot is free for the connection of this key; if that has gone meanwhile, for the next one.
    fn slot(&mut self, key: u64) {
        let mut taken = false;
        self.with(key, |worker, conn| {
            taken = matches!(conn.state, State::Queued(_));
            if let State::Queued(waiting) = std::mem::replace(&mut conn.state, State::Idle) {
                let (job, row) = *waiting;
                worker.begin(conn, job, row, now_ns());
            }
            worker.pump(conn)
        });
        if !taken {
            self.leave_gate();
        }
    }

    /// Give a slot back; whoever has it next is told by its thread's loop, so that a chain of answers that are done at
    /// once doesn't become a recursion.
    fn leave_gate(&mut self) {
        let next = lock(&self.shared.gate).leave();
        match next {
            Some(ticket) if ticket.thread == self.thread => self.given.push_back(ticket.key),
            Some(ticket) => self.shared.inboxes[ticket.thread].tell(Message::Slot(ticket.key)),
            None => {}
        }
    }

    /// Watch for what the connection waits for now.
    fn rewatch(&self, conn: &mut Conn) {
        let (read, write) = (!conn.is_ahead(), !conn.output.is_empty());
        if (read, write) != (conn.watch_read, conn.watch_write) {
            (conn.watch_read, conn.watch_write) = (read, write);
            // It fails only for a descriptor that is not watched, and ours is from `adopt` to `close`.
            let changed = self.poller.change(conn.socket.as_raw_fd(), conn.key, read, write);
            debug_assert!(changed.is_ok(), "{changed:?}");
        }
    }

    /// A connection ends: what it was about is settled. Dropping the socket closes it.
    fn close(&mut self, conn: Conn) {
        match conn.state {
            State::Idle | State::Lingering => {}
            State::Queued(waiting) => {
                let ticket = Ticket { thread: self.thread, key: conn.key };
                // If it is not in the queue any more its slot is on the way, and `slot` will hand it on.
                lock(&self.shared.gate).give_up(ticket);
                self.settle(waiting.1, true);
            }
            State::Answering(_, row) => {
                if let Some(row) = row {
                    self.settle(*row, true);
                }
            }
        }
        if conn.has_slot {
            self.leave_gate();
        }
    }

    fn settle(&self, mut row: Row, disconnected: bool) {
        row.done = now_ns();
        row.disconnected = disconnected;
        lock(&self.shared.shards[self.thread]).finish(row);
    }

    // ------------------------------------------------------------------ requests

    /// The poller says that a socket can be read or written. `false` ends the connection.
    fn on_ready(&mut self, conn: &mut Conn, read: bool, write: bool) -> bool {
        if write && !conn.output.is_empty() && !self.pump(conn) {
            return false;
        }
        if read {
            if !conn.read(&mut self.scratch) {
                return false;
            }
            if matches!(conn.state, State::Idle) {
                return self.take_requests(conn);
            }
        }
        true
    }

    // ------------------------------------------------------------------ answers

    /// Go on with whatever the connection is about. `false` ends it.
    fn pump(&mut self, conn: &mut Conn) -> bool {
        self.write_due(conn) && self.take_requests(conn)
    }

    /// Write what is due; set the alarm for what is not yet. `false` ends the connection.
    pub(super) fn write_due(&mut self, conn: &mut Conn) -> bool {
        match self.push(conn, &[], None) {
            Flow::Written => {}
            Flow::Blocked => return true,
            Flow::Gone => return false,
        }
        loop {
            let State::Answering(answer, row) = &mut conn.state else { return true };
            let Some(due) = answer.next_due() else { return self.answered(conn) };
            let now = now_ns();
            if due > now {
                self.set_alarm(conn, due);
                return true;
            }
            let mut out = std::mem::take(&mut self.out);
            out.clear();
            let fill = answer.fill(now, &mut out);
            let at = now_ns();
            let late = row.as_mut().and_then(|row| row.stamp(fill, out.len(), at));
            let flow = self.push(conn, &out, late);
            self.out = out;
            match flow {
                Flow::Written => {}
                Flow::Blocked => return true,
                Flow::Gone => return false,
            }
        }
    }

    /// Hand bytes to the kernel: `new` ones, or without any those that were kept. The lock is held meanwhile, so that
    /// whoever has seen the end of an answer finds its row in the truth.
    fn push(&self, conn: &mut Conn, new: &[u8], late: Option<u64>) -> Flow {
        if new.is_empty() && conn.output.is_empty() {
            return Flow::Written;
        }
        let mut shard = lock(&self.shared.shards[self.thread]);
        if let Some(late) = late {
            shard.chunk_late.record(late);
        }
        let flow = if new.is_empty() { conn.flush() } else { conn.write(new) };
        if flow == Flow::Written
            && let Some(mut row) = conn.finished_row()
        {
            row.done = now_ns();
            shard.finish(*row);
        }
        flow
    }

    fn set_alarm(&mut self, conn: &mut Conn, due: u64) {
        if conn.alarm != Some(due) {
            conn.alarm = Some(due);
            self.timers.push(Reverse((due, conn.key)));
        }
    }

    /// The last byte is with the kernel. `false` ends the connection.
    fn answered(&mut self, conn: &mut Conn) -> bool {
        let State::Answering(answer, _) = &conn.state else { return true };
        let end = answer.end;
        if end == End::Hold {
            return true;
        }
        // An answer without a single byte was never pushed.
        if let Some(row) = conn.finished_row() {
            self.settle(*row, false);
        }
        if std::mem::take(&mut conn.has_slot) {
            self.leave_gate();
        }
        conn.state = State::Idle;
        conn.served += 1;
        match end {
            End::KeepAlive | End::Hold => true,
            End::Reset => {
                reset_on_close(&conn.socket);
                false
            }
            End::Close => self.linger(conn),
        }
    }

    /// Say that nothing more comes, and wait for the client's end: closing with unread bytes would reset the
    /// connection and could destroy the answer on its way.
    fn linger(&mut self, conn: &mut Conn) -> bool {
        if conn.socket.shutdown(std::net::Shutdown::Write).is_err() {
            return false;
        }
        self.set_alarm(conn, now_ns() + LINGER_NS);
        conn.state = State::Lingering;
        true
    }
}
