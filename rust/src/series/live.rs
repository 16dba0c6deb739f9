//! What a run counts of its phases as they go: for each phase a set of entries of the run's segment, one shard a worker.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::counted::{self, LiveCopy, LiveShard, spec, specs};
use super::directory::{Kind, Spec, bytes_of};
use super::error::SeriesError;
use super::header::State;
use super::place;
use super::segment::{Registered, Segment};
use super::shard::Counter;
use crate::sync::{Arc, AtomicU64, Ordering};

/// Beyond so many bytes, sets, or entries of them, phases that are over give theirs to new ones. Two sets there are in any
/// case, and enough entries are left for whoever registers more.
const ROOM: usize = 32 << 20;
const SETS: usize = 10;
const MOST_ENTRIES: usize = 220;

/// The live metrics of a run: its segment, and the entries of its phases.
#[derive(Debug)]
pub struct Live {
    segment: Arc<Segment>,
    workers: usize,
    nodes: usize,
    turns: Vec<Arc<LoopTurns>>,
    sets: Mutex<Vec<Set>>,
}

/// The entries of one phase.
#[derive(Debug)]
struct Set {
    phase: u16,
    warmup: bool,
    /// Whether all its requests have ended, so that nobody writes it any more.
    over: bool,
    entries: Vec<Registered>,
}

/// What a run that could not share its metrics is called.
const NAMELESS: &str = "run";

impl Live {
    /// Make the segment of run `id`, over so many `nodes`, in the first of `directories` that will do, in private memory if none
    /// does, after removing what dead runs left there.
    pub fn start(id: &str, workers: u16, nodes: usize, directories: &[PathBuf]) -> Result<Self, SeriesError> {
        place::clean(directories);
        let workers = usize::from(workers);
        let segment = Segment::create(&file_name(id), directories, bytes_of(&specs(0, workers, nodes)))?;
        let whole = |name: &str, help: &str| spec(name, "ns", help, Kind::Counter, None, workers);
        let entries = segment.register(&[
            whole("worker_cpu", "CPU time of the workers' threads."),
            whole("loop_stalled", "Time in which a worker's loop should have turned and did not."),
        ])?;
        let turns = entries[0].counters().into_iter().zip(entries[1].counters());
        let turns = turns.map(|(cpu, stalled)| Arc::new(LoopTurns { cpu, stalled, longest: AtomicU64::new(0) }));
        Ok(Self { segment: Arc::new(segment), workers, nodes, turns: turns.collect(), sets: Mutex::default() })
    }

    /// The segment.
    pub fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// What each worker tells of its loop.
    pub fn turns(&self) -> &[Arc<LoopTurns>] {
        &self.turns
    }

    /// A phase begins: a shard for each worker, all at 0. Its entries are new while there is room; then those of a phase
    /// that is over, the oldest warm-up's first, go to it.
    pub fn begin(&self, phase: u16, warmup: bool) -> Result<Vec<LiveShard>, SeriesError> {
        let mut sets = self.sets();
        let specs = specs(phase, self.workers, self.nodes);
        let kept = (ROOM / bytes_of(&specs)).min(MOST_ENTRIES / specs.len()).clamp(2, SETS);
        let spare = (sets.len() >= kept).then(|| spare(&sets)).flatten();
        let entries = match spare {
            Some(at) => {
                let entries = sets.remove(at).entries;
                self.segment.reuse(&entries, phase);
                entries
            }
            None => self.register(&specs)?,
        };
        let shards = LiveShard::all(&entries);
        sets.push(Set { phase, warmup, over: false, entries });
        self.segment.begin(phase);
        Ok(shards)
    }

    /// A watched run must not fail for want of a place to watch: a set that the segment won't take is kept apart.
    fn register(&self, specs: &[Spec]) -> Result<Vec<Registered>, SeriesError> {
        self.segment.register(specs).or_else(|error| {
            self.segment.note(format!("{error}; no other process can look at the phase that begins"));
            Segment::private(NAMELESS)?.register(specs)
        })
    }

    /// All requests of a phase have ended, on every worker.
    pub fn over(&self, phase: u16) {
        self.sets().iter_mut().filter(|set| set.phase == phase).for_each(|set| set.over = true);
    }

    /// Requests that were issued and have not ended, of all phases.
    pub fn in_flight(&self) -> u64 {
        self.sets().iter().map(|set| counted::in_flight(&set.entries)).sum()
    }

    /// The newest phase at this moment.
    pub fn copy(&self) -> LiveCopy {
        self.sets().last().map(|set| LiveCopy::of(&set.entries)).unwrap_or_default()
    }

    /// The run has ended: whoever looks from now on sees all it recorded, and nobody new can attach. Again and again does
    /// no harm.
    pub fn finish(&self, complete: bool) {
        let state = if complete { State::Complete } else { State::Interrupted };
        // Refused when it has ended already: the first word stands.
        let _ = self.segment.advance(state);
        self.segment.remove();
    }

    fn sets(&self) -> MutexGuard<'_, Vec<Set>> {
        // A poisoned lock means a panic between two steps of beginning a phase; what is there is whole all the same.
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which set may go to another phase: that of the oldest warm-up that is over, else of the oldest phase that is.
fn spare(sets: &[Set]) -> Option<usize> {
    let warmup = sets.iter().position(|set| set.over && set.warmup);
    warmup.or_else(|| sets.iter().position(|set| set.over))
}

/// A run's id as a file's name may have it.
fn file_name(id: &str) -> String {
    let fine = |c: char| if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') { c } else { '-' };
    let name: String = id.trim_start_matches('.').chars().map(fine).take(64).collect();
    if name.is_empty() { NAMELESS.to_owned() } else { name }
}

/// What one worker tells of its loop, over all phases.
#[derive(Debug)]
pub struct LoopTurns {
    cpu: Counter,
    stalled: Counter,
    longest: AtomicU64,
}

impl LoopTurns {
    /// This worker's thread has used so much CPU, and its loop was once this long without a turn.
    pub fn loop_turn(&self, cpu_ns: u64, stall_ns: u64) {
        self.cpu.set(cpu_ns);
        self.stalled.add(stall_ns);
        // Relaxed, read-modify-write: the ticker swaps it to 0 from its own thread.
        self.longest.fetch_max(stall_ns, Ordering::Relaxed);
    }

    /// CPU time of the worker's thread, as of its last turn.
    pub fn cpu_ns(&self) -> u64 {
        self.cpu.get()
    }

    /// The longest stall since this was last asked.
    pub fn take_stall_ns(&self) -> u64 {
        // Relaxed: pairs with the fetch_max in `loop_turn`.
        self.longest.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{Failure, Row, Stamps};
    use crate::series::{Detail, Reader};

    fn live(workers: u16) -> (tempfile::TempDir, Live) {
        let outer = tempfile::tempdir().unwrap();
        let live = Live::start("a/run", workers, 1, &[outer.path().join("loadgen")]).unwrap();
        (outer, live)
    }

    fn row(failure: Failure) -> Row {
        let stamps = Stamps {
            planned: 1_000_000,
            sent: 3_000_000,
            first_token: 7_000_000,
            done: 9_000_000,
            ..Stamps::default()
        };
        Row { failure, stamps, tokens_out: Some(5), connect_ns: 2_000, ..Row::default() }
    }

    #[test]
    fn a_first_token_counts_from_sent_and_from_planned_as_it_comes() {
        let (_outer, live) = live(1);
        let shards = live.begin(0, false).unwrap();
        let mut reader = Reader::attach(live.segment().path().unwrap()).unwrap();
        let mut counts = || {
            let seen = reader.snapshot(&Detail::default()).unwrap();
            ["ttft", "response_ttft"].map(|name| seen.series.iter().find(|s| s.name == name).unwrap().count)
        };
        let ended = row(Failure::None);
        shards[0].first(&ended.stamps, 1);
        assert_eq!(counts(), [1, 1]);
        shards[0].done(&ended);
        assert_eq!(counts(), [1, 1]);
    }

    #[test]
    fn the_first_phase_takes_the_memory_that_was_reserved_for_it() {
        for workers in [1, 3] {
            let (_outer, live) = live(workers);
            let file = |live: &Live| std::fs::metadata(live.segment().path().unwrap()).unwrap().len();
            let made = file(&live);
            live.begin(0, false).unwrap();
            let page = crate::series::region::page_bytes() as u64;
            assert!(file(&live) <= made + page, "{workers} workers: {} bytes more", file(&live) - made);
        }
    }

    #[test]
    fn what_workers_count_is_the_phases_and_seen_by_others() {
        let (_outer, live) = live(2);
        let shards = live.begin(0, false).unwrap();
        assert_eq!(shards.len(), 2);
        (0..3).for_each(|_| shards[0].issued(300));
        shards[1].issued(5_000);
        shards[0].first(&row(Failure::None).stamps, 1);
        shards[0].gap(1_000_000, 2);
        shards[0].done(&row(Failure::None));
        shards[1].done(&row(Failure::Http));
        shards[0].done(&row(Failure::Cancelled));
        shards[1].reconnected();
        let copy = live.copy();
        assert_eq!((copy.issued, copy.ok, copy.failed, copy.cancelled, copy.in_flight()), (4, 1, 1, 1, 1));
        assert_eq!((copy.tokens, copy.chunks, copy.reconnects, live.in_flight()), (15, 3, 1, 1));
        assert_eq!(copy.send_late.stats.min(), Some(300));

        let mut reader = Reader::attach(live.segment().path().unwrap()).unwrap();
        assert_eq!(reader.id(), "a-run");
        let seen = reader.snapshot(&Detail::default()).unwrap();
        let max = |name: &str| seen.series.iter().find(|s| s.name == name).unwrap().max;
        assert_eq!(max("latency"), Some(6_000_000));
        assert_eq!(max("response_latency"), Some(8_000_000));
        assert_eq!(max("response_ttft"), Some(6_000_000));
        assert_eq!(max("failed_latency"), Some(6_000_000));
        assert_eq!(max("connect"), Some(2_000));
        let count = |name: &str| seen.counters.iter().find(|c| c.name == name).unwrap().value;
        assert_eq!((count("ok"), count("failed_http"), count("failed_body"), count("failed_connect")), (1, 1, 0, 0));
    }

    #[test]
    fn each_of_several_nodes_is_counted_by_itself_over_all_workers() {
        let outer = tempfile::tempdir().unwrap();
        let counted = |nodes: usize| {
            let live = Live::start("run", 2, nodes, &[outer.path().join("loadgen")]).unwrap();
            let shards = live.begin(0, false).unwrap();
            [0, 1, 1, 99].into_iter().for_each(|node| shards[0].node_issued(node));
            shards[1].node_issued(1);
            let ends = [(0, Failure::None), (1, Failure::Http), (1, Failure::Cancelled), (99, Failure::None)];
            ends.into_iter().for_each(|(node, failure)| shards[1].node_ended(node, failure));
            let seen = live.segment().snapshot(&Detail::default());
            let of_nodes = seen.counters.into_iter().filter(|c| c.name.starts_with("node_"));
            of_nodes.map(|c| (c.name, c.value)).collect::<Vec<_>>()
        };
        let told = [
            ("node_0_ended", 1),
            ("node_0_failed", 0),
            ("node_0_issued", 1),
            ("node_1_ended", 2),
            ("node_1_failed", 1),
            ("node_1_issued", 3),
        ];
        assert_eq!(counted(2), told.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(counted(16).len(), 48);
        assert!(counted(1).is_empty() && counted(17).is_empty(), "one is the whole, and too many have no room");
    }

    #[test]
    fn nodes_take_room_from_phases_that_are_over_and_not_from_who_registers_more() {
        let outer = tempfile::tempdir().unwrap();
        let live = Live::start("run", 1, 16, &[outer.path().join("loadgen")]).unwrap();
        for phase in 0..9 {
            live.begin(phase, false).unwrap();
            live.over(phase);
        }
        let seen = live.segment().snapshot(&Detail::default());
        let phases: Vec<_> = seen.counters.iter().filter(|c| c.name == "ok").map(|c| c.phase.unwrap()).collect();
        assert_eq!(phases.len(), 3, "{phases:?}");
        assert!(phases.contains(&8) && live.segment().notes().is_empty());
        let more: Vec<_> = (0..30).map(|n| spec(&format!("own_{n}"), "1", "", Kind::Counter, None, 1)).collect();
        assert!(live.segment().register(&more).is_ok());
    }

    #[test]
    fn a_request_counts_in_the_phase_that_it_is_of() {
        let (_outer, live) = live(1);
        let warmup = live.begin(0, true).unwrap();
        warmup[0].issued(0);
        let performance = live.begin(1, false).unwrap();
        performance[0].issued(0);
        warmup[0].done(&row(Failure::None));
        assert_eq!((live.copy().ok, live.copy().issued, live.in_flight()), (0, 1, 1));
        let seen = live.segment().snapshot(&Detail { phase: Some(0), ..Detail::default() });
        assert_eq!(seen.counters.iter().find(|c| c.name == "ok").unwrap().value, 1);
    }

    #[test]
    fn more_phases_than_there_is_room_for_take_the_place_of_the_oldest_warm_up_that_is_over() {
        let (_outer, live) = live(1);
        let phases = |live: &Live| {
            let seen = live.segment().snapshot(&Detail::default());
            let ok = seen.counters.iter().filter(|c| c.name == "ok");
            ok.map(|c| (c.phase.unwrap(), c.value)).collect::<Vec<_>>()
        };
        for phase in 0..SETS as u16 {
            live.begin(phase, phase == 1).unwrap()[0].done(&row(Failure::None));
        }
        live.over(0);
        live.over(1);
        live.begin(100, false).unwrap();
        live.begin(101, false).unwrap();
        live.begin(102, false).unwrap();
        let seen = phases(&live);
        assert_eq!((seen[0], seen[1], seen[2]), ((101, 0), (100, 0), (2, 1)), "the warm-up's first, then the oldest");
        assert_eq!((seen.len(), seen[SETS]), (SETS + 1, (102, 0)), "none over: a set of its own");
    }

    #[test]
    fn a_set_that_the_segment_refuses_is_kept_apart_and_said() {
        let (_outer, live) = live(1);
        live.segment().register(&[spec("ttft", "ns", "", Kind::Counter, Some(0), 1)]).unwrap();
        live.begin(0, false).unwrap()[0].issued(1);
        assert_eq!(live.copy().issued, 1);
        assert!(live.segment().notes()[0].contains("ttft is registered already"), "{:?}", live.segment().notes());
    }

    #[test]
    fn the_first_word_on_how_a_run_ended_stands() {
        let (_outer, live) = live(1);
        let path = live.segment().path().unwrap().to_path_buf();
        live.finish(false);
        live.finish(true);
        assert_eq!((live.segment().state(), path.exists()), (State::Interrupted, false));
    }

    #[test]
    fn a_stall_is_told_once_and_cpu_as_it_stands() {
        let (_outer, live) = live(1);
        let turns = &live.turns()[0];
        turns.loop_turn(100, 7);
        turns.loop_turn(250, 3);
        assert_eq!((turns.cpu_ns(), turns.take_stall_ns(), turns.take_stall_ns()), (250, 7, 0));
        let seen = live.segment().snapshot(&Detail::default());
        let values: Vec<_> = seen.counters.iter().map(|c| (c.name.as_str(), c.value)).collect();
        assert_eq!(values, [("worker_cpu", 250), ("loop_stalled", 10)]);
    }
}
