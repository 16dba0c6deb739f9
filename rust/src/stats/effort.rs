//! What a phase cost the client and what held it back: the ticks of the log, summed.

use serde_json::Value;

/// A stretch between ticks in which some worker used this share of its core counts as hot.
pub(super) const HOT_SHARE: f64 = 0.9;
/// Shorter stretches are not judged: workers state their CPU time every 25 ms only.
const JUDGED_NS: u64 = 200_000_000;
/// An absence of a worker's loop that is worth a note.
pub(super) const STALL_NS: u64 = 10_000_000;
/// `steal_ticks` are counted in these (USER_HZ of proc(5), 100 on every Linux).
const STEAL_TICK_NS: f64 = 1e7;

/// Sums over the stretches between a phase's ticks.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Effort {
    /// Nanoseconds covered.
    pub wall_ns: u64,
    /// CPU time of the process.
    pub cpu_ns: u64,
    /// CPU time of each worker.
    pub worker_cpu_ns: Vec<u64>,
    /// Stretches covered.
    pub stretches: u64,
    /// Nanoseconds of the stretches in which a worker was hot.
    pub hot_ns: u64,
    /// Sum of each stretch's longest absence of a worker's loop: it was absent for at least this long.
    pub absent_ns: u64,
    /// Longest absence of a worker's loop.
    pub stall_ns: u64,
    /// CPU time that others got instead of this machine; `None` where the system doesn't tell.
    pub steal_ns: Option<f64>,
    /// Time that a CPU limit held the container back; `None` where there is no limit.
    pub throttled_ns: Option<u64>,
}

impl Effort {
    /// Add the stretch between two ticks. Counters of a tick are running totals but for `loop_stall_ns`.
    pub fn add(&mut self, before: &Value, after: &Value) {
        let Some(wall_ns) = grown(before, after, "ns").filter(|ns| *ns > 0) else { return };
        self.stretches += 1;
        self.wall_ns += wall_ns;
        self.cpu_ns += grown(before, after, "cpu_ns").unwrap_or(0);
        let (was, is) = (numbers(before, "worker_cpu_ns"), numbers(after, "worker_cpu_ns"));
        self.worker_cpu_ns.resize(self.worker_cpu_ns.len().max(is.len()), 0);
        let mut hottest = 0;
        for (sum, (was, is)) in self.worker_cpu_ns.iter_mut().zip(was.into_iter().zip(is)) {
            let used = is.saturating_sub(was);
            *sum += used;
            hottest = hottest.max(used);
        }
        if wall_ns >= JUDGED_NS && hottest as f64 >= HOT_SHARE * wall_ns as f64 {
            self.hot_ns += wall_ns;
        }
        let stall = numbers(after, "loop_stall_ns").into_iter().max().unwrap_or(0);
        self.stall_ns = self.stall_ns.max(stall);
        self.absent_ns += stall;
        if let Some(ticks) = grown(before, after, "steal_ticks") {
            self.steal_ns = Some(self.steal_ns.unwrap_or(0.0) + ticks as f64 * STEAL_TICK_NS);
        }
        if let Some(ns) = grown(before, after, "throttled_ns") {
            self.throttled_ns = Some(self.throttled_ns.unwrap_or(0) + ns);
        }
    }

    /// Share of one core that the busiest worker used; `None` without ticks.
    pub fn worker_share(&self) -> Option<f64> {
        let busiest = self.worker_cpu_ns.iter().max()?;
        (self.wall_ns > 0).then(|| *busiest as f64 / self.wall_ns as f64)
    }

    /// Share of the time in which some worker was hot.
    pub fn hot_share(&self) -> Option<f64> {
        (self.wall_ns > 0).then(|| self.hot_ns as f64 / self.wall_ns as f64)
    }

    /// Share of the time for which some worker's loop was absent, at the least.
    pub fn absent_share(&self) -> Option<f64> {
        (self.wall_ns > 0).then(|| self.absent_ns as f64 / self.wall_ns as f64)
    }

    /// Cores that the whole process used; `None` without ticks.
    pub fn cores(&self) -> Option<f64> {
        (self.wall_ns > 0).then(|| self.cpu_ns as f64 / self.wall_ns as f64)
    }

    /// Cores that others got instead of this machine.
    pub fn steal(&self) -> Option<f64> {
        self.steal_ns.filter(|_| self.wall_ns > 0).map(|ns| ns / self.wall_ns as f64)
    }

    /// Share of the time that the container was held back.
    pub fn throttled(&self) -> Option<f64> {
        self.throttled_ns.filter(|_| self.wall_ns > 0).map(|ns| ns as f64 / self.wall_ns as f64)
    }
}

fn grown(before: &Value, after: &Value, name: &str) -> Option<u64> {
    Some(after.get(name)?.as_u64()?.saturating_sub(before.get(name)?.as_u64()?))
}

fn numbers(tick: &Value, name: &str) -> Vec<u64> {
    let list = tick.get(name).and_then(Value::as_array);
    list.map(|all| all.iter().map(|n| n.as_u64().unwrap_or(0)).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn stretches_between_ticks_add_up() {
        let tick = |s: u64, cpu: [u64; 2], stall: u64| {
            json!({
                "ns": s * 1_000_000_000, "cpu_ns": cpu[0] + cpu[1] + 5, "worker_cpu_ns": cpu,
                "loop_stall_ns": [0, stall], "steal_ticks": s * 3, "throttled_ns": null,
            })
        };
        let ticks = [
            tick(10, [0, 0], 99_000_000),
            tick(11, [950_000_000, 100_000_000], 2_000_000),
            tick(12, [1_000_000_000, 200_000_000], 30_000_000),
        ];
        let mut effort = Effort::default();
        ticks.windows(2).for_each(|pair| effort.add(&pair[0], &pair[1]));
        assert_eq!((effort.stretches, effort.hot_ns, effort.absent_ns), (2, 1_000_000_000, 32_000_000));
        assert_eq!(effort.stall_ns, 30_000_000);
        assert_eq!(effort.worker_share(), Some(0.5));
        assert_eq!(effort.cores(), Some(0.6));
        assert_eq!(effort.steal(), Some(0.03));
        assert_eq!(effort.throttled(), None);
    }

    #[test]
    fn without_ticks_nothing_is_known() {
        let effort = Effort::default();
        assert_eq!((effort.worker_share(), effort.cores(), effort.steal()), (None, None, None));
    }
}
