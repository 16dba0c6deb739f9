//! A mock LLM server: exact in time, light on the CPU, faulty on demand, and honest about what it did (`/truth`).
//!
//! It shares nothing with the client's HTTP code: a yardstick must not share the errors of what it measures. A thread
//! owns its connections and runs them as state machines on one event loop, every write on an absolute schedule. A client
//! that ends its side of the connection is taken to have left, as most servers take it.

mod answer;
mod api;
mod config;
mod conn;
mod documents;
mod draft;
mod draw;
pub mod faults;
mod gate;
mod gzip;
mod json;
mod ollama;
mod plan;
mod poller;
mod request;
mod requests;
mod script;
mod serve;
mod shared;
mod stream;
mod tls;
mod truth;
mod voice;
mod wake;
mod worker;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, mpsc};
use std::thread::JoinHandle;

use socket2::{Domain, SockAddr, Socket, Type};
use thiserror::Error;

pub use config::{Config, ConfigError, Flavour, HeadersWhen, Outage, RateLimit, RetryAfter, Secret, Tls, Usage, Words};
pub use draw::{Count, Delay, Dist, Span};
pub use tls::TlsError;

use crate::clock::Anchor;
use crate::sync::{Arc, AtomicU64};
use gate::Gate;
use shared::{Inbox, Message, Shared, lock};
use tls::Front;
use truth::Shard;
use worker::Worker;

/// Why a mock server could not be started.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// A configuration that makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The address cannot be listened on.
    #[error("mock server: cannot listen on {address}: {source}")]
    Listen {
        /// What was asked for.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// TLS cannot be served as configured.
    #[error("mock server: tls: {0}")]
    Tls(#[from] TlsError),
    /// A thread, a socket pair or an event queue could not be had.
    #[error("mock server: cannot start a serving thread: {0}")]
    Thread(#[from] io::Error),
}

/// A running mock server. Dropping it stops it.
pub struct Server {
    url: String,
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<io::Result<()>>>>,
    front: Mutex<Option<Front>>,
    /// Its socket's path, as long as it isn't removed: another server may have its own there afterwards.
    unix: Mutex<Option<PathBuf>>,
}

impl Server {
    /// Listen and serve, on threads of its own.
    pub fn start(config: Config) -> Result<Self, StartError> {
        config.check()?;
        raise_descriptor_limit();
        let Listening { listener, url, front } = listen(&config)?;
        let count = usize::from(config.threads);
        let mut inboxes = Vec::with_capacity(count);
        let mut ends = Vec::with_capacity(count);
        for _ in 0..count {
            let (ours, theirs) = UnixStream::pair()?;
            ours.set_nonblocking(true)?;
            theirs.set_nonblocking(true)?;
            let (sender, receiver) = mpsc::channel();
            inboxes.push(Inbox::new(sender, ours));
            ends.push((receiver, theirs));
        }
        let gate = Gate::new(&config);
        let shared = Arc::new(Shared {
            anchor: Anchor::now(),
            gate_open: gate.is_open(),
            gate: Mutex::new(gate),
            shards: (0..count).map(|_| Mutex::new(Shard::new(config.truth_rows / count))).collect(),
            inboxes,
            arrivals: AtomicU64::new(0),
            config: Arc::new(config),
            accepted: AtomicU64::new(0),
        });
        let unix = Mutex::new(shared.config.unix.clone());
        let server = Self { url, unix, shared, threads: Mutex::new(Vec::new()), front: Mutex::new(front) };
        let mut listener = Some(listener);
        for (thread, (inbox, bell)) in ends.into_iter().enumerate() {
            let shared = Arc::clone(&server.shared);
            let listener = listener.take();
            // The event queue is made on its own thread: the timer slack it sets is the thread's.
            let (ready, started) = mpsc::channel();
            let handle = std::thread::Builder::new().name(format!("mock-{thread}")).spawn(move || {
                let worker = match Worker::new(shared, thread, listener, inbox, bell) {
                    Ok(worker) => worker,
                    Err(error) => {
                        // The starter waits for this; it is there.
                        let _ = ready.send(Err(error));
                        return Ok(());
                    }
                };
                let _ = ready.send(Ok(()));
                worker.run()
            })?;
            lock(&server.threads).push(handle);
            started.recv().map_err(|_| io::Error::other("the thread ended at once"))??;
        }
        Ok(server)
    }

    /// Where to reach it: `http://127.0.0.1:PORT`, or `unix:PATH`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What it did so far, as JSON: the same as `GET /truth`, with `rows` as `GET /truth?rows=1`.
    pub fn truth(&self, rows: bool) -> String {
        self.shared.truth(rows)
    }

    /// Forget what it did so far, except for requests in flight.
    pub fn reset_truth(&self) {
        self.shared.reset();
    }

    /// Close everything and wait for the threads. Doing it twice is as good as once.
    pub fn stop(&self) -> io::Result<()> {
        let mut outcome = lock(&self.front).as_mut().map_or(Ok(()), Front::stop);
        self.shared.inboxes.iter().for_each(|inbox| inbox.tell(Message::Stop));
        let threads = std::mem::take(&mut *lock(&self.threads));
        for thread in threads {
            let ended = thread.join().unwrap_or_else(|_| Err(io::Error::other("a serving thread panicked")));
            outcome = outcome.and(ended);
        }
        if let Some(path) = lock(&self.unix).take() {
            remove_socket(&path)?;
        }
        outcome
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Whoever wants to know how it ended calls `stop`.
        let _ = self.stop();
    }
}

fn remove_socket(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Where connections come in.
struct Listening {
    listener: Socket,
    url: String,
    front: Option<Front>,
}

/// Open the listening socket, and say under which URL it is reached.
fn listen(config: &Config) -> Result<Listening, StartError> {
    if let Some(path) = &config.unix {
        let url = format!("unix:{}", path.display());
        let fail = |source| StartError::Listen { address: url.clone(), source };
        let listener = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(fail)?;
        listener.bind(&SockAddr::unix(path).map_err(fail)?).map_err(fail)?;
        // Before `listen`, so that nobody else was let in meanwhile.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
        open(&listener).map_err(fail)?;
        return Ok(Listening { listener, url, front: None });
    }
    let (outer, address) = listen_on(&config.host, config.port)?;
    let Some(tls) = &config.tls else {
        return Ok(Listening { listener: outer, url: format!("http://{address}"), front: None });
    };
    let (listener, inner) = listen_on("127.0.0.1", 0)?;
    let front = Front::start(tls, outer.into(), inner).map_err(|error| match error {
        tls::StartError::Tls(error) => StartError::Tls(error),
        tls::StartError::Io(error) => StartError::Thread(error),
    })?;
    // A certificate is for the name that was given, if one was.
    let url = match config.host.parse::<IpAddr>() {
        Ok(_) => format!("https://{address}"),
        Err(_) => format!("https://{}:{}", config.host, address.port()),
    };
    Ok(Listening { listener, url, front: Some(front) })
}

/// A listening socket, and the address to reach it.
fn listen_on(host: &str, port: u16) -> Result<(Socket, SocketAddr), StartError> {
    let fail = |source| StartError::Listen { address: format!("{host}:{port}"), source };
    let mut addresses = (host, port).to_socket_addrs().map_err(fail)?;
    let address = addresses.next().ok_or_else(|| fail(io::Error::other("the name has no address")))?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).map_err(fail)?;
    socket.set_reuse_address(true).map_err(fail)?;
    socket.bind(&SockAddr::from(address)).map_err(fail)?;
    open(&socket).map_err(fail)?;
    let bound = socket.local_addr().map_err(fail)?.as_socket().unwrap_or(address);
    Ok((socket, reachable(bound)))
}

fn open(socket: &Socket) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // The kernel cuts it to its own bound.
    socket.listen(16_384)
}

/// `0.0.0.0` and `::` are listened on, not connected to.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        let loopback: IpAddr = if address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    address
}

/// Thousands of streams need thousands of descriptors; the soft limit is often 1,024.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit for both calls. If raising fails the limit stays as it was, and
    // accepting pauses when descriptors run out.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 && limit.rlim_cur < limit.rlim_max {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}
