//! From a name to a TCP connection: its addresses, tried one after the other, and what went wrong in words.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Fault;
use crate::record::{Detail, Failure};

/// The addresses of a name, in the resolver's order; of an address, itself without asking anyone.
pub(super) async fn resolve(name: &str, port: u16) -> Result<VecDeque<SocketAddr>, Fault> {
    if let Ok(ip) = name.parse::<IpAddr>() {
        return Ok(VecDeque::from([SocketAddr::new(ip, port)]));
    }
    let unknown = |why: String| Fault::new(Failure::Connect, Detail::Resolve, format!("{name}: {why}"));
    let found = tokio::net::lookup_host((name, port)).await.map_err(|e| match os_detail(&e) {
        Detail::Exhausted => Fault::new(Failure::Connect, Detail::Exhausted, e.to_string()),
        _ => unknown(e.to_string()),
    })?;
    let found: VecDeque<SocketAddr> = found.collect();
    if found.is_empty() { Err(unknown("it has no address".into())) } else { Ok(found) }
}

/// Connect to the first address that answers, and move it to the front for the next time.
///
/// Each address gets its share of the time left, so that one which swallows packets leaves some for the others.
pub(super) async fn first_of(addresses: &mut VecDeque<SocketAddr>, deadline: Instant) -> Result<TcpStream, Fault> {
    let mut last = None;
    for i in 0..addresses.len() {
        let now = Instant::now();
        let remaining = u32::try_from(addresses.len() - i).unwrap_or(u32::MAX);
        let share = now + deadline.saturating_duration_since(now) / remaining;
        let address = addresses[i];
        match timeout_at(share, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                // A request is one write: waiting to fill a segment could only delay it.
                stream.set_nodelay(true).map_err(|e| connect_fault(&e, &address.to_string()))?;
                addresses.rotate_left(i);
                return Ok(stream);
            }
            Ok(Err(e)) => last = Some(connect_fault(&e, &address.to_string())),
            Err(_) => {
                let text = format!("{address} did not answer");
                last = Some(Fault::new(Failure::Connect, Detail::ConnectTimeout, text));
            }
        }
        if last.as_ref().is_some_and(|fault| fault.detail == Detail::Exhausted) {
            break;
        }
    }
    Err(last.unwrap_or_else(|| Fault::new(Failure::Connect, Detail::Resolve, "no address to connect to")))
}

/// The fault of an attempt to connect to `place`.
pub(super) fn connect_fault(error: &io::Error, place: &str) -> Fault {
    Fault::new(Failure::Connect, os_detail(error), format!("{place}: {error}"))
}

fn os_detail(error: &io::Error) -> Detail {
    // No port, descriptor or buffer left on this side: the load is too much for the client, not for the server.
    if let Some(libc::EADDRNOTAVAIL | libc::EMFILE | libc::ENFILE | libc::ENOBUFS) = error.raw_os_error() {
        return Detail::Exhausted;
    }
    match error.kind() {
        // A socket's file that isn't there is a server that doesn't listen.
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Detail::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe => Detail::Reset,
        io::ErrorKind::TimedOut => Detail::ConnectTimeout,
        io::ErrorKind::UnexpectedEof => Detail::EarlyEnd,
        _ => Detail::Io,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_are_tried_in_turn_and_the_good_one_comes_first_after() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let good = listener.local_addr().unwrap();
            let dead = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), good.port());
            let dead6 = SocketAddr::new(IpAddr::V6(Ipv6Addr::LOCALHOST), good.port());
            let mut addresses = VecDeque::from([dead, dead6, good]);
            let stream = first_of(&mut addresses, Instant::now() + Duration::from_secs(30)).await.unwrap();
            assert_eq!(stream.peer_addr().unwrap(), good);
            assert_eq!(addresses, [good, dead, dead6]);
        });
    }

    #[test]
    fn exhaustion_of_the_client_is_told_from_a_refusal() {
        for code in [libc::EADDRNOTAVAIL, libc::EMFILE, libc::ENFILE, libc::ENOBUFS] {
            assert_eq!(os_detail(&io::Error::from_raw_os_error(code)), Detail::Exhausted);
        }
        assert_eq!(os_detail(&io::Error::from_raw_os_error(libc::ECONNREFUSED)), Detail::Refused);
        assert_eq!(os_detail(&io::Error::from_raw_os_error(libc::ETIMEDOUT)), Detail::ConnectTimeout);
        assert_eq!(os_detail(&io::Error::from_raw_os_error(libc::EHOSTUNREACH)), Detail::Io);
    }
}
