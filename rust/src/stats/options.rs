//! What a summary is asked for.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use thiserror::Error;

use super::metric::SLO_METRICS;
use crate::record::LogError;

/// Percentiles of a report unless others are asked for.
pub const DEFAULT_PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 95.0, 99.0, 99.9];

/// From which moment objectives are judged.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum SloFrom {
    /// When the plan wanted the request to start.
    Planned,
    /// When it was sent.
    Sent,
}

/// Objectives of one phase.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Objectives {
    /// Metric and milliseconds; without any, the phase has no goodput.
    pub slo: BTreeMap<String, f64>,
    /// From which moment; unless given, planned for an open-loop phase and sent for a closed-loop one.
    pub slo_from: Option<SloFrom>,
}

/// What a summary is asked for; `{}` asks for the defaults.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Percentiles, above 0 and at most 100.
    pub percentiles: Vec<f64>,
    /// Objectives for goodput: metric and milliseconds.
    pub slo: BTreeMap<String, f64>,
    /// From which moment; unless given, planned for an open-loop phase and sent for a closed-loop one.
    pub slo_from: Option<SloFrom>,
    /// Objectives of single phases by name, in place of those above.
    pub phases: BTreeMap<String, Objectives>,
    /// Seconds of one point of the series; doubled as often as a long phase needs.
    pub interval: f64,
    /// Threads that read the log; 0 chooses.
    pub threads: usize,
    /// A file in the run's directory with a tokenizer's counts of output tokens, for answers without usage.
    pub token_counts: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            percentiles: DEFAULT_PERCENTILES.to_vec(),
            slo: BTreeMap::new(),
            slo_from: None,
            phases: BTreeMap::new(),
            interval: 1.0,
            threads: 0,
            token_counts: None,
        }
    }
}

/// Why a log could not be summarised.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StatsError {
    /// The log itself.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A percentile that is none.
    #[error("percentile {0} is not above 0 and at most 100")]
    Percentile(f64),
    /// An objective for a metric that can't have one.
    #[error("no objective can be set for {0:?}; for {metrics} one can", metrics = SLO_METRICS.join(", "))]
    Slo(String),
    /// An objective that is no time.
    #[error("objective {0}:{1} ms is not above 0")]
    SloLimit(String, f64),
    /// A series interval that is none.
    #[error("interval {0} s is not between 1 ms and a day")]
    Interval(f64),
}

impl Options {
    /// Check what a caller gave.
    pub(super) fn check(&self) -> Result<(), StatsError> {
        if let Some(&bad) = self.percentiles.iter().find(|p| !(**p > 0.0 && **p <= 100.0)) {
            return Err(StatsError::Percentile(bad));
        }
        let own = self.phases.values().flat_map(|phase| &phase.slo);
        for (name, &limit) in self.slo.iter().chain(own) {
            if !SLO_METRICS.contains(&name.as_str()) {
                return Err(StatsError::Slo(name.clone()));
            }
            if !(limit > 0.0 && limit.is_finite()) {
                return Err(StatsError::SloLimit(name.clone(), limit));
            }
        }
        if !(0.001..=86_400.0).contains(&self.interval) {
            return Err(StatsError::Interval(self.interval));
        }
        Ok(())
    }

    /// The objectives of the phase of that name, and from which moment they are judged if that was said.
    pub(super) fn objectives(&self, phase: Option<&str>) -> (&BTreeMap<String, f64>, Option<SloFrom>) {
        let own = phase.and_then(|name| self.phases.get(name));
        own.map_or((&self.slo, self.slo_from), |own| (&own.slo, own.slo_from))
    }
}

/// The report's key of a percentile: `p50`, `p99_9`.
pub(super) fn percentile_key(percent: f64) -> String {
    let digits = format!("{percent:.6}");
    format!("p{}", digits.trim_end_matches('0').trim_end_matches('.').replace('.', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_those_of_the_report() {
        let keys: Vec<String> = [50.0, 99.9, 99.99, 100.0, 2.5].into_iter().map(percentile_key).collect();
        assert_eq!(keys, ["p50", "p99_9", "p99_99", "p100", "p2_5"]);
    }

    #[test]
    fn a_phase_with_objectives_of_its_own_has_none_of_the_others() {
        let mut options = Options { slo: BTreeMap::from([("ttft".to_owned(), 5.0)]), ..Options::default() };
        options.phases.insert("own".to_owned(), Objectives { slo: BTreeMap::new(), slo_from: Some(SloFrom::Sent) });
        assert_eq!(options.objectives(Some("own")), (&BTreeMap::new(), Some(SloFrom::Sent)));
        assert_eq!(options.objectives(Some("other")), (&options.slo, None));
        assert_eq!(options.objectives(None), (&options.slo, None));
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let with = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.check().map_err(|e| e.to_string())
        };
        assert_eq!(with(|_| {}), Ok(()));
        for (change, word) in [
            ((|o| o.percentiles = vec![50.0, 101.0]) as fn(&mut Options), "101"),
            (|o| o.percentiles = vec![f64::NAN], "NaN"),
            (|o| o.slo = BTreeMap::from([("itl".to_owned(), 5.0)]), "ttfb, ttft"),
            (|o| o.slo = BTreeMap::from([("ttft".to_owned(), 0.0)]), "ttft:0"),
            (
                |o| {
                    let slo = BTreeMap::from([("latency".to_owned(), -1.0)]);
                    o.phases.insert("low".to_owned(), Objectives { slo, slo_from: None });
                },
                "latency:-1",
            ),
            (|o| o.interval = 0.0, "interval 0"),
        ] {
            let error = with(change).err().unwrap_or_default();
            assert!(error.contains(word), "{error}");
        }
    }
}
