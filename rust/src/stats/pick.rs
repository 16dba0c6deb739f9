//! The later passes: the exact values of a phase's percentiles and of the ends of their intervals.

use super::gaps::{self, GAPS, Gap, ICL, ITL};
use super::histogram::Histogram;
use super::interval::{clustered_ranks, interval_ranks};
use super::metric::{METRICS, Tokens};
use super::scan::{Parts, Source, scan};
use super::select::{self, Selection};
use super::split::Split;
use super::tally::Tally;
use crate::record::{Failure, LogError, RowView};
use crate::series::nearest_rank;

/// Percentiles that are looked up whatever was asked for: the trust section states them.
pub(super) const ALWAYS: [f64; 2] = [50.0, 99.0];
/// Shares of the streams whose tokens per chunk must be known for the phase to have an ITL.
const KNOWN_SHARE: f64 = 0.99;

/// One series of a phase with the values looked for in it.
#[derive(Clone, Debug)]
pub(super) struct Series {
    pub name: &'static str,
    pub histogram: Histogram,
    /// Streams that its values were pooled from; `None` for one value a request.
    pub clusters: Option<u64>,
    selection: Selection,
}

impl Series {
    fn new(name: &'static str, histogram: Histogram, clusters: Option<u64>, percentiles: &[f64]) -> Self {
        let mut series = Self { name, histogram, clusters, selection: Selection::default() };
        let n = series.histogram.count();
        let wanted = percentiles.iter().chain(&ALWAYS).flat_map(|&percent| {
            let (lower, upper) = series.bounds(percent);
            [Some(nearest_rank(percent, n)), lower, upper].into_iter().flatten()
        });
        let ranks: Vec<u64> = wanted.collect();
        series.selection = Selection::new(&series.histogram, ranks);
        series
    }

    fn bounds(&self, percent: f64) -> (Option<u64>, Option<u64>) {
        let n = self.histogram.count();
        self.clusters.map_or_else(|| interval_ranks(percent, n), |clusters| clustered_ranks(percent, n, clusters))
    }

    /// The percentile's value.
    pub fn percentile(&self, percent: f64) -> Option<u64> {
        self.selection.value(nearest_rank(percent, self.histogram.count()))
    }

    /// The ends of its 95 % confidence interval.
    pub fn interval(&self, percent: f64) -> (Option<u64>, Option<u64>) {
        let (lower, upper) = self.bounds(percent);
        let value = |rank: Option<u64>| rank.and_then(|rank| self.selection.value(rank));
        (value(lower), value(upper))
    }

    /// Whether the sample is large enough for the percentile: a rank beyond it bounds it from above.
    pub fn supports(&self, percent: f64) -> bool {
        let n = self.histogram.count();
        percent >= 100.0 || matches!(interval_ranks(percent, n), (Some(_), Some(_)))
    }
}

/// What is looked for in a phase and in each of its nodes, from their tallies, whose histograms move here.
pub(super) fn of(tallies: &mut Split<Tally>, percentiles: &[f64]) -> Split<PhasePick> {
    // Whoever counts the phase's tokens counts each node's: else they could not be compared.
    let tokens = tallies.whole.token_source();
    let pick = |tally: &mut Tally| PhasePick::new(tally, tokens, percentiles);
    Split { whole: pick(&mut tallies.whole), nodes: tallies.nodes.iter_mut().map(pick).collect() }
}

/// All series of a phase, or of one of its nodes.
#[derive(Clone, Debug)]
pub(super) struct PhasePick {
    pub tokens: Option<Tokens>,
    /// One for each metric of the table, in its order.
    pub metrics: Vec<Series>,
    pub icl: Series,
    /// `None` when too few streams tell their tokens per chunk.
    pub itl: Option<Series>,
    /// Whether ITL is ICL: every chunk held one token.
    itl_is_icl: bool,
}

impl PhasePick {
    fn new(tally: &mut Tally, tokens: Option<Tokens>, percentiles: &[f64]) -> Self {
        let source = tokens.unwrap_or_default() as usize;
        let mut by_source = std::mem::take(&mut tally.metrics);
        let metrics = METRICS.iter().enumerate().map(|(i, metric)| {
            let histogram = std::mem::take(&mut by_source[if metric.by_tokens { source } else { 0 }][i]);
            Series::new(metric.name, histogram, None, percentiles)
        });
        let gaps: [Histogram; GAPS] = std::mem::take(&mut tally.gaps);
        let pooled = |of: &[Gap]| {
            let mut all = Histogram::default();
            of.iter().for_each(|gap| all.merge(&gaps[*gap as usize]));
            all
        };
        let [streams, known] = tally.streams;
        let has_itl = known > 0 && known as f64 >= KNOWN_SHARE * streams as f64;
        let itl_is_icl = ICL.iter().chain(&ITL).all(|g| *g == Gap::Plain || gaps[*g as usize].count() == 0);
        let [icl_streams, itl_streams] = tally.pooled;
        Self {
            tokens,
            metrics: metrics.collect(),
            icl: Series::new("icl", pooled(&ICL), Some(icl_streams), percentiles),
            itl: has_itl.then(|| Series::new("itl", pooled(&ITL), Some(itl_streams), percentiles)),
            itl_is_icl,
        }
    }

    fn series_mut(&mut self) -> impl Iterator<Item = &mut Series> {
        self.metrics.iter_mut().chain([&mut self.icl]).chain(&mut self.itl)
    }

    /// The selections that still look for values. An ITL that is the ICL finds its own there.
    fn open_mut(&mut self) -> impl Iterator<Item = &mut Selection> {
        let same = self.itl_is_icl;
        let open =
            self.series_mut().filter(move |series| series.selection.is_open() && !(same && series.name == "itl"));
        open.map(|series| &mut series.selection)
    }

    fn absorb(&mut self, part: Part) {
        part.metrics.into_iter().for_each(|(i, found)| self.metrics[i].selection.absorb(found));
        self.icl.selection.absorb(part.icl);
        if let Some(itl) = &mut self.itl {
            itl.selection.absorb(part.itl);
        }
    }

    fn see(&self, part: &mut Part, view: &RowView<'_>, parts: Parts<'_>) {
        let row = &view.row;
        let tokens = self.tokens.and_then(|source| source.of(row));
        for (i, selection) in &mut part.metrics {
            let metric = &METRICS[*i];
            if metric.over.holds(row)
                && let Some(ns) = (metric.value)(row, tokens)
            {
                selection.see(ns, 1);
            }
        }
        if !part.icl.is_open() && !part.itl.is_open() {
            return;
        }
        let Some(parts) = parts.filter(|_| row.failure == Failure::None && row.streamed && row.chunks > 0) else {
            return;
        };
        gaps::each(gaps::known(row, &parts), &parts, |gap, ns, times| {
            if gap != Gap::Token {
                part.icl.see(ns, times);
            }
            if matches!(gap, Gap::Plain | Gap::Token) {
                part.itl.see(ns, times);
            }
        });
    }
}

/// One thread's part of a pass over one phase.
#[derive(Clone, Debug, Default)]
struct Part {
    metrics: Vec<(usize, Selection)>,
    icl: Selection,
    itl: Selection,
}

impl Part {
    fn begin(pick: &PhasePick) -> Self {
        let open = pick.metrics.iter().enumerate().filter(|(_, series)| series.selection.is_open());
        let itl = pick.itl.as_ref().filter(|_| !pick.itl_is_icl);
        Self {
            metrics: open.map(|(i, series)| (i, series.selection.begin())).collect(),
            icl: pick.icl.selection.begin(),
            itl: itl.map_or_else(Selection::default, |series| series.selection.begin()),
        }
    }
}

/// Look up every value that the picks still need, in as many passes as that takes (mostly one).
pub(super) fn find(source: &Source, picks: &mut [Option<Split<PhasePick>>]) -> Result<(), LogError> {
    while each(picks).any(|pick| pick.open_mut().next().is_some()) {
        select::plan(each(picks).flat_map(PhasePick::open_mut), source.threads);
        let known: &[Option<Split<PhasePick>>] = picks;
        let make = || known.iter().map(|pick| pick.as_ref().map(|pick| pick.map(Part::begin))).collect::<Vec<_>>();
        let (parts, _) = scan(source, make, |parts, view, reads| {
            let phase = usize::from(view.row.phase);
            if let (Some(Some(pick)), Some(Some(part))) = (known.get(phase), parts.get_mut(phase)) {
                pick.of_both(part, view.row.node).for_each(|(pick, part)| pick.see(part, view, reads));
            }
        })?;
        for all in parts {
            for (pick, part) in picks.iter_mut().zip(all) {
                if let (Some(pick), Some(part)) = (pick, part) {
                    pick.zip(part).for_each(|(pick, part)| pick.absorb(part));
                }
            }
        }
        each(picks).flat_map(PhasePick::open_mut).for_each(Selection::settle);
    }
    for pick in each(picks).filter(|pick| pick.itl_is_icl) {
        if let Some(itl) = &mut pick.itl {
            itl.selection = pick.icl.selection.clone();
        }
    }
    Ok(())
}

/// All picks of all phases.
fn each(picks: &mut [Option<Split<PhasePick>>]) -> impl Iterator<Item = &mut PhasePick> {
    picks.iter_mut().flatten().flat_map(Split::each_mut)
}
