//! Whether the process that writes a segment still lives.

use super::header::Owner;

impl Owner {
    /// This process.
    pub(super) fn this() -> Self {
        let pid = u64::from(std::process::id());
        Self { pid, started: started(pid).unwrap_or(0), namespace: namespace() }
    }

    /// Whether it is certain that it has ended: no process has its pid, or a later one has. Of a process in another
    /// namespace of pids (a container's) nothing is certain.
    pub(super) fn is_dead(&self) -> bool {
        if self.namespace != namespace() {
            return false;
        }
        let Ok(pid) = libc::pid_t::try_from(self.pid) else { return true };
        if pid <= 0 {
            return true;
        }
        // SAFETY: signal 0 is never delivered, only checked.
        let missing =
            unsafe { libc::kill(pid, 0) } != 0 && std::io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
        missing || started(self.pid).is_some_and(|now| self.started != 0 && now != self.started)
    }
}

/// When a process started, in ticks since the machine did. `None` where the system doesn't tell, or it is a zombie: that
/// one has ended, though nobody has asked for its status yet.
fn started(pid: u64) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name, in parentheses, with whatever in it (proc(5)); the start is the 22nd.
    let mut rest = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    if matches!(rest.next()?, "Z" | "X") {
        // A start that no process has.
        return Some(u64::MAX);
    }
    rest.nth(18)?.parse().ok()
}

/// The namespace of pids that this process is in; 0 where there are none.
fn namespace() -> u64 {
    let link = std::fs::read_link("/proc/self/ns/pid").ok();
    let number = link.as_ref().and_then(|l| l.to_str()).and_then(|l| l.split(['[', ']']).nth(1));
    number.and_then(|n| n.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_lives() {
        assert!(!Owner::this().is_dead());
    }

    #[test]
    fn one_that_started_at_another_time_had_the_same_pid_and_is_dead() {
        let this = Owner::this();
        assert!(Owner { started: this.started + 1, ..this }.is_dead());
    }

    #[test]
    fn a_child_is_dead_once_killed_even_before_its_status_is_asked_for() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let owner = Owner { pid: u64::from(child.id()), started: started(child.id().into()).unwrap(), ..Owner::this() };
        assert!(!owner.is_dead());
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !owner.is_dead() {
            assert!(std::time::Instant::now() < deadline, "a killed child is still taken to live");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(owner.is_dead());
    }

    #[test]
    fn nothing_is_certain_of_another_namespace() {
        assert!(!Owner { pid: 1 << 40, namespace: 1, started: 5 }.is_dead());
        assert!(Owner { pid: 1 << 40, ..Owner::this() }.is_dead());
    }
}
