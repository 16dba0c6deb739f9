//! All of a segment at one moment, as the process that writes it and any that reads it see it.

use serde::Serialize;

use super::bins::Bins;
use super::directory::{Entry, Kind, Spec};
use super::error::SeriesError;
use super::header::{Head, Identity, State};
use super::orders::SeqOrders;
use super::seqlock;
use super::shard::{self, ATTEMPTS, Merged, Patience};
use crate::clock::now_ns;
use crate::sync::AtomicU64;

/// What a snapshot is to hold of each series.
#[derive(Clone, Debug)]
pub struct Detail {
    /// Percentiles, 0 to 100, ascending.
    pub percentiles: Vec<f64>,
    /// Bins of its histogram, at most.
    pub bins: usize,
    /// Only entries of this phase, and those of the whole run; `None`: all.
    pub phase: Option<u16>,
}

impl Default for Detail {
    fn default() -> Self {
        Self { percentiles: vec![50.0, 75.0, 90.0, 95.0, 99.0, 99.9], bins: 30, phase: None }
    }
}

/// All counters and series at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// The run.
    pub id: String,
    /// How it stands. When it has ended, the numbers are final.
    pub state: State,
    /// Whether its process still runs. `false` with a state that isn't a last one: it was killed.
    pub alive: bool,
    /// Its process.
    pub pid: u64,
    /// When the snapshot was taken, monotonic.
    pub mono_ns: u64,
    /// The same moment as unix time.
    pub wall_ns: u64,
    /// The run's start, monotonic.
    pub start_ns: u64,
    /// The phase that runs, or ran last.
    pub phase: Option<u16>,
    /// When it began, monotonic.
    pub phase_ns: Option<u64>,
    /// Counters, in the order in which they were registered.
    pub counters: Vec<CounterStat>,
    /// Series, likewise.
    pub series: Vec<SeriesStat>,
}

/// A counter at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct CounterStat {
    pub name: String,
    pub unit: String,
    pub help: String,
    pub phase: Option<u16>,
    pub value: u64,
}

/// A series at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs)]
pub struct SeriesStat {
    pub name: String,
    pub unit: String,
    pub help: String,
    pub phase: Option<u16>,
    /// Its bounds.
    pub low: u64,
    pub high: u64,
    /// Exact: how many values, their sum, the least and greatest, their mean and sample standard deviation.
    pub count: u64,
    pub total: u128,
    pub min: Option<u64>,
    pub max: Option<u64>,
    pub mean: Option<f64>,
    pub std: Option<f64>,
    /// Values outside the bounds.
    pub below: u64,
    pub above: u64,
    /// Shards that a killed writer left in the middle of a change.
    pub torn: u32,
    /// The percentiles asked for and their values, to three digits; empty when there is none.
    pub percentiles: Vec<(f64, u64)>,
    /// To look at.
    pub histogram: Bins,
}

/// One entry and its cells, wherever they are mapped.
pub(super) struct View<'a> {
    pub(super) spec: &'a Spec,
    pub(super) entry: Entry<'a>,
    pub(super) cells: &'a [AtomicU64],
}

impl View<'_> {
    /// Copy the cells, and which phase they are of. `None` when the entry stays in the middle of being given to another.
    fn copy<T>(
        &self,
        patience: &mut Patience,
        mut copy: impl FnMut(&[AtomicU64], &mut Patience) -> T,
    ) -> Option<(Option<u16>, T)> {
        loop {
            let found = seqlock::read(self.entry.generation(), &SeqOrders::SOUND, ATTEMPTS, || {
                (self.entry.phase(), copy(self.cells, patience))
            });
            if found.is_some() || !patience.wait() {
                return found;
            }
        }
    }
}

/// Take a snapshot of `views`.
pub(super) fn take<'a>(
    head: Head<'_>,
    identity: &Identity,
    alive: bool,
    views: impl Iterator<Item = View<'a>>,
    detail: &Detail,
) -> Snapshot {
    // Before the values: what a run recorded before its last state is then in them.
    let state = head.state().unwrap_or(State::Live);
    let mono_ns = now_ns();
    let (mut counters, mut series, mut patience) = (Vec::new(), Vec::new(), Patience::with(alive));
    for view in views.filter(|view| wanted(view.entry.phase(), detail.phase)) {
        match view.spec.kind {
            Kind::Counter => {
                let found = view.copy(&mut patience, |cells, _| shard::count(cells));
                counters.extend(found.map(|found| counter(view.spec, found)));
            }
            Kind::Series(bounds) => {
                let found = view.copy(&mut patience, |cells, patience| Merged::of(cells, &bounds, patience));
                series.extend(found.map(|(phase, merged)| stat(view.spec, phase, &merged, detail)));
            }
        }
    }
    let phase = head.phase();
    Snapshot {
        id: identity.id.clone(),
        state,
        alive,
        pid: identity.owner.pid,
        mono_ns,
        wall_ns: identity.anchor.wall_ns(mono_ns),
        start_ns: identity.anchor.mono_ns,
        phase: phase.map(|p| p.0),
        phase_ns: phase.map(|p| p.1),
        counters,
        series,
    }
}

/// All of one series: of `phase`, or the newest of that name.
pub(super) fn merged<'a>(
    alive: bool,
    views: impl Iterator<Item = View<'a>>,
    name: &str,
    phase: Option<u16>,
) -> Result<Merged, SeriesError> {
    let (mut found, mut patience) = (None, Patience::with(alive));
    for view in views.filter(|view| view.spec.name == name) {
        if let Kind::Series(bounds) = view.spec.kind
            && let Some((of, merged)) = view.copy(&mut patience, |cells, patience| Merged::of(cells, &bounds, patience))
            && (phase.is_none() || of == phase)
            && found.as_ref().is_none_or(|(newest, _)| of >= *newest)
        {
            found = Some((of, merged));
        }
    }
    let unknown = || SeriesError::Unknown { name: name.to_owned(), phase };
    found.map(|(_, merged)| merged).ok_or_else(unknown)
}

fn wanted(phase: Option<u16>, only: Option<u16>) -> bool {
    only.is_none() || phase.is_none() || phase == only
}

fn counter(spec: &Spec, (phase, value): (Option<u16>, u64)) -> CounterStat {
    CounterStat { name: spec.name.clone(), unit: spec.unit.clone(), help: spec.help.clone(), phase, value }
}

fn stat(spec: &Spec, phase: Option<u16>, merged: &Merged, detail: &Detail) -> SeriesStat {
    let stats = &merged.stats;
    let quantiles: Vec<f64> = detail.percentiles.iter().map(|p| p / 100.0).collect();
    SeriesStat {
        name: spec.name.clone(),
        unit: spec.unit.clone(),
        help: spec.help.clone(),
        phase,
        low: merged.bounds.low(),
        high: merged.bounds.high(),
        count: stats.count,
        total: stats.total,
        min: stats.min(),
        max: stats.max(),
        mean: stats.mean(),
        std: stats.deviation(),
        below: stats.below,
        above: stats.above,
        torn: merged.torn,
        percentiles: detail.percentiles.iter().copied().zip(merged.quantiles(&quantiles)).collect(),
        histogram: Bins::of(merged, detail.bins),
    }
}
