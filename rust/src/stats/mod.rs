//! Exact statistics, streaming over the run log: every number of a report that follows from the record.
//!
//! A first look takes the log's documents, a first pass over the rows counts and fills histograms, and a second one
//! picks the exact values of the percentiles out of the few buckets that hold them. Nothing is sorted, and memory
//! does not grow with the number of requests.

mod assemble;
mod effort;
mod gaps;
mod histogram;
mod interval;
mod metric;
mod objective;
mod occupancy;
mod options;
mod outline;
mod pick;
mod scan;
mod select;
mod split;
mod summary;
mod tally;
mod timeline;
mod trust;

use std::path::Path;

use assemble::Around;
use objective::Objective;
use outline::{Outline, PhaseOutline};
use pick::PhasePick;
use scan::{Met, Source, scan};
use split::Split;
use tally::Tally;

pub use metric::{METRICS, Metric, Over, POOLED, SLO_METRICS, Tokens};
pub use options::{DEFAULT_PERCENTILES, Objectives, Options, SloFrom, StatsError};
pub use summary::{
    Anchor, Bytes, Counts, FailureDetail, Goodput, Lost, MetricSummary, NodeResult, Phase, Place, Series,
    SteadySummary, Summary, Throughput, TokenSummary,
};
pub use trust::{Lateness, Trust, Verdict};

/// Derive everything a report needs from the `run.log` in `dir`.
///
/// # Errors
/// [`StatsError::Log`] when the log can't be read; the others name an option that makes no sense.
pub fn summarise(dir: &Path, options: &Options) -> Result<Summary, StatsError> {
    options.check()?;
    let outline = Outline::read(dir)?;
    let source = Source::new(dir, options, &outline);
    let (mut tallies, mut met) = count(&source, &outline, options)?;
    met.also(outline.damage.iter().cloned());
    let mut picks: Vec<Option<Split<PhasePick>>> = tallies
        .iter_mut()
        .map(|tallies| tallies.as_mut().map(|tallies| pick::of(tallies, &options.percentiles)))
        .collect();
    pick::find(&source, &mut picks)?;
    let lost = lost(&outline, &met);
    let issued = issued(&outline, &tallies);
    let found = tallies.into_iter().zip(&picks).zip(&issued).enumerate();
    let phases = found.filter_map(|(index, ((tally, pick), issued))| {
        let index = index as u16;
        let phase = outline.phases.get(&index).cloned().unwrap_or_default();
        let around = Around {
            outline: &outline,
            slo: options.objectives(phase.name()).0,
            slo_from: slo_from(options, &phase),
            phase: &phase,
            index,
            options,
            issued: *issued,
            lost_rows: lost.rows,
            lost_blocks: lost.blocks,
            without_reads: met.without_reads,
        };
        Some(assemble::phase(&around, tally?, pick.as_ref()?))
    });
    let phases = phases.collect();
    Ok(run_summary(outline, lost, phases))
}

/// By phase: what its rows come to, and those of each of its nodes.
type Tallies = Vec<Option<Split<Tally>>>;

/// The first pass: a tally for each phase that the log knows of, by index.
fn count(source: &Source, outline: &Outline, options: &Options) -> Result<(Tallies, Met), StatsError> {
    let interval = (options.interval * 1e9) as u64;
    let origin = |index: u16| {
        let known = outline.phases.get(&index).and_then(PhaseOutline::origin_ns);
        known.unwrap_or(outline.header.anchor.mono_ns)
    };
    let objectives = |index: u16| {
        let unknown = PhaseOutline::default();
        let phase = outline.phases.get(&index).unwrap_or(&unknown);
        let from_planned = slo_from(options, phase) == SloFrom::Planned;
        let objective = |(name, limit): (&String, &f64)| {
            let limit_ns = (limit * 1e6).round() as u64;
            metric::index_of(name).map(|metric| Objective { metric, limit_ns, from_planned })
        };
        options.objectives(phase.name()).0.iter().filter_map(objective).collect::<Vec<_>>()
    };
    type Share = Vec<Option<(Split<Tally>, Vec<Objective>)>>;
    let new = |index: u16| {
        let nodes = outline.phases.get(&index).map_or(1, PhaseOutline::nodes);
        (Split::new(nodes, || Tally::new(origin(index), interval)), objectives(index))
    };
    let (shares, met) = scan(source, Share::new, |share: &mut Share, view, parts| {
        let index = usize::from(view.row.phase);
        if index >= share.len() {
            share.resize_with(index + 1, || None);
        }
        let (tallies, slo) = share[index].get_or_insert_with(|| new(view.row.phase));
        let has_text = outline.texts.contains_key(&view.row.id);
        tallies.of(view.row.node).for_each(|tally| tally.see(view, parts, slo, has_text));
    })?;
    let known = outline.phases.keys().next_back().map_or(0, |last| usize::from(*last) + 1);
    let mut tallies: Tallies = Vec::new();
    tallies.resize_with(shares.iter().map(Vec::len).chain([known]).max().unwrap_or(0), || None);
    for index in outline.phases.keys() {
        tallies[usize::from(*index)] = Some(new(*index).0);
    }
    for (index, share) in shares.into_iter().flat_map(|share| share.into_iter().enumerate()) {
        let Some((theirs, _)) = share else { continue };
        match &mut tallies[index] {
            Some(mine) => mine.zip(theirs).for_each(|(tally, theirs)| tally.merge(theirs)),
            empty => *empty = Some(theirs),
        }
    }
    Ok((tallies, met))
}

/// From which moment a phase's objectives are judged.
fn slo_from(options: &Options, phase: &PhaseOutline) -> SloFrom {
    let by_load = if phase.is_open_loop() == Some(true) { SloFrom::Planned } else { SloFrom::Sent };
    options.objectives(phase.name()).1.unwrap_or(by_load)
}

/// What is missing, from damaged places and from what the workers said they had finished.
fn lost(outline: &Outline, met: &Met) -> Lost {
    let finished: u64 = outline
        .counters
        .values()
        .fold(0, |sum, (issued, in_flight)| u64::saturating_add(sum, issued.saturating_sub(*in_flight)));
    let damaged: u64 = met.damage.iter().filter_map(|damage| damage.rows).map(u64::from).sum();
    let tail = met.damage.iter().filter(|damage| damage.tail);
    Lost {
        blocks: met.damage.iter().filter(|damage| !damage.tail).count() as u64 + met.unnamed,
        rows: finished.saturating_sub(met.rows).max(damaged + met.undecoded),
        tail_bytes: tail.map(|damage| damage.length).sum(),
        places: met.damage.iter().map(Place::from).collect(),
    }
}

/// Requests issued in each phase: as its end tells. A phase that was handed over with some in flight has no such end;
/// the next one's first id tells. What the workers' counters leave is that of the phase that was on at a kill.
fn issued(outline: &Outline, tallies: &[Option<Split<Tally>>]) -> Vec<u64> {
    let phase = |index: usize| outline.phases.get(&u16::try_from(index).ok()?);
    let told = |index: usize| phase(index)?.end.as_ref()?.get("counts")?.get("issued")?.as_u64();
    let rows = |index: usize| tallies[index].as_ref().map_or(0, |tallies| tallies.whole.rows);
    let mut issued: Vec<u64> = (0..tallies.len()).map(|i| told(i).unwrap_or_else(|| rows(i))).collect();
    let all: u64 = outline.counters.values().map(|(issued, _)| issued).sum();
    let mut left = all.saturating_sub(issued.iter().sum());
    let workers = outline.counters.len() as u64;
    for index in (0..tallies.len()).filter(|index| told(*index).is_none()) {
        let next = phase(index + 1).and_then(|next| next.first_id);
        let least = next.and_then(|next| phase(index)?.issued_before(next, workers));
        let more = least.map_or(0, |least| least.saturating_sub(issued[index]).min(left));
        issued[index] += more;
        left -= more;
    }
    if let Some(open) = (0..tallies.len()).rev().find(|i| tallies[*i].is_some())
        && told(open).is_none()
    {
        issued[open] += left;
    }
    issued
}

fn run_summary(outline: Outline, lost: Lost, phases: Vec<Phase>) -> Summary {
    let told = |name: &str| Some(outline.run_end.as_ref()?.get(name)?.as_str()?.to_owned());
    let status = told("status").unwrap_or_else(|| "interrupted".to_owned());
    let reason = if outline.run_end.is_some() { told("reason") } else { Some("killed".to_owned()) };
    let events = outline.run_end.as_ref().and_then(|end| end.get("events")).cloned();
    let header = outline.header;
    Summary {
        session: header.session,
        anchor: Anchor { mono_ns: header.anchor.mono_ns, wall_ns: header.anchor.wall_ns },
        format: [header.major, header.minor],
        meta: outline.meta,
        reason: reason.filter(|_| status != "complete"),
        status,
        late_answers: outline.run_end.as_ref().and_then(|end| end.get("late_answers")?.as_u64()),
        log_bytes: outline.bytes,
        lost,
        events,
        percentiles: "exact, nearest-rank",
        phases,
    }
}
