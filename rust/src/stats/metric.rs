//! What each number means: the one table of per-request metrics, each with its formula in words and in code.

use crate::record::{Failure, Row, TokenSource, UNSET};

/// Which requests a metric is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// Those that succeeded.
    Ok,
    /// Those that failed; cancelled ones are neither.
    Failed,
    /// All that were sent.
    Sent,
}

impl Over {
    /// Whether a row belongs to them.
    pub fn holds(self, row: &Row) -> bool {
        match self {
            Self::Ok => row.failure == Failure::None,
            Self::Failed => !matches!(row.failure, Failure::None | Failure::Cancelled),
            Self::Sent => row.stamps.sent != UNSET,
        }
    }
}

/// One metric of a request, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its key in `report.json`.
    pub name: &'static str,
    /// Its definition.
    pub formula: &'static str,
    /// Which requests have it.
    pub over: Over,
    /// Whether it depends on the number of output tokens.
    pub by_tokens: bool,
    /// Its value, from the row and its output tokens; `None` where the row has none.
    pub value: fn(&Row, Option<u64>) -> Option<u64>,
}

/// Every per-request metric, in the order of a report. (`icl` and `itl` are pooled over reads: see `gaps`.)
pub const METRICS: &[Metric] = &[
    ok("ttfb", "first byte of the answer − sent", |r, _| since(r.stamps.sent, r.stamps.first_byte)),
    ok("ttft", "first chunk that carries tokens − sent; streamed answers", |r, _| {
        since(r.stamps.sent, streamed(r, r.stamps.first_token))
    }),
    ok("ttfo", "first chunk of output that is not reasoning − sent; streamed answers", |r, _| {
        since(r.stamps.sent, streamed(r, r.stamps.first_output))
    }),
    Metric {
        by_tokens: true,
        ..ok("tpot", "(last token − first token) / (output tokens − 1); streamed, 2 tokens or more", tpot)
    },
    Metric {
        by_tokens: true,
        ..ok("ntpot", "latency / output tokens", |r, tokens| rounded(since(r.stamps.sent, answered(r))?, tokens?))
    },
    ok("latency", "last token − sent when streamed, else end of the answer − sent", |r, _| {
        since(r.stamps.sent, answered(r))
    }),
    ok("done", "end of the answer − sent; streamed answers", |r, _| since(r.stamps.sent, streamed(r, r.stamps.done))),
    ok("response_ttft", "first chunk that carries tokens − planned; streamed answers", |r, _| {
        since(r.stamps.planned, streamed(r, r.stamps.first_token))
    }),
    ok("response_latency", "last token − planned when streamed, else end of the answer − planned", |r, _| {
        since(r.stamps.planned, answered(r))
    }),
    sent("connect", "name, TCP and TLS of requests that opened a connection; lies before sent", |r, _| {
        (r.connect_ns > 0).then_some(r.connect_ns)
    }),
    sent("send_lateness", "issued − the later of planned and slot free", |r, _| {
        since(r.stamps.planned.max(r.stamps.free), r.stamps.issued)
    }),
    sent("send_delay", "sent − issued − connect", |r, _| {
        since(r.stamps.issued, r.stamps.sent).map(|ns| ns.saturating_sub(r.connect_ns))
    }),
    Metric {
        over: Over::Failed,
        ..ok("failed_latency", "end of the last attempt − sent; failed requests", |r, _| {
            since(r.stamps.sent, r.stamps.done)
        })
    },
];

/// Where TTFT stands in [`METRICS`].
pub(super) const TTFT: usize = 1;
/// Where the send lateness stands in [`METRICS`].
pub(super) const SEND_LATENESS: usize = 10;

/// Metrics that an objective can be set for.
pub const SLO_METRICS: &[&str] = &["ttfb", "ttft", "ttfo", "tpot", "ntpot", "latency"];

/// The pooled metrics: name and formula. Their values come from `gaps`.
pub const POOLED: &[(&str, &str)] = &[
    (
        "icl",
        "gaps between chunks that carry tokens, pooled over requests; k chunks of one read are one gap and k − 1 of 0",
    ),
    (
        "itl",
        "gaps between tokens, pooled: a chunk's gap spread over its k tokens (k gaps of gap / k), the chunks that came in the same read have gap 0",
    ),
];

/// The index of a metric in [`METRICS`].
pub fn index_of(name: &str) -> Option<usize> {
    METRICS.iter().position(|metric| metric.name == name)
}

/// Who counts a phase's output tokens: one source for all its requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Tokens {
    /// The server's usage.
    #[default]
    Usage = 0,
    /// The user's tokenizer, after the run.
    Tokenizer = 1,
    /// Chunks that carried tokens.
    Chunks = 2,
}

impl Tokens {
    /// Every source, the best first.
    pub const ALL: [Self; 3] = [Self::Usage, Self::Tokenizer, Self::Chunks];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Usage => "usage",
            Self::Tokenizer => "tokenizer",
            Self::Chunks => "chunks",
        }
    }

    /// A row's output tokens by this source; `None` where it has none.
    pub fn of(self, row: &Row) -> Option<u64> {
        let counted = |by: TokenSource| row.tokens_out.filter(|_| row.token_source == by);
        let tokens = match self {
            Self::Usage => counted(TokenSource::Usage),
            Self::Tokenizer => counted(TokenSource::Tokenizer),
            Self::Chunks => Some(row.chunks).filter(|&chunks| row.streamed && chunks > 0),
        };
        tokens.map(u64::from)
    }
}

/// The row's moments in the order that the record promises, with their names.
pub fn ordered_stamps(row: &Row) -> [(&'static str, u64); 7] {
    let s = &row.stamps;
    [
        ("planned", s.planned),
        ("issued", s.issued),
        ("sent", s.sent),
        ("first_byte", s.first_byte),
        ("first_token", s.first_token),
        ("last_token", s.last_token),
        ("done", s.done),
    ]
}

/// The first pair of set stamps that stand in the wrong order, if any; and TTFT never exceeds the latency.
pub fn broken_order(row: &Row) -> Option<(&'static str, &'static str)> {
    let mut before = ("", UNSET);
    for (name, stamp) in ordered_stamps(row).into_iter().filter(|(_, stamp)| *stamp != UNSET) {
        if stamp < before.1 {
            return Some((before.0, name));
        }
        before = (name, stamp);
    }
    let (first, output) = (row.stamps.first_token, row.stamps.first_output);
    (output != UNSET && output < first).then_some(("first_token", "first_output"))
}

const fn ok(name: &'static str, formula: &'static str, value: fn(&Row, Option<u64>) -> Option<u64>) -> Metric {
    Metric { name, formula, over: Over::Ok, by_tokens: false, value }
}

const fn sent(name: &'static str, formula: &'static str, value: fn(&Row, Option<u64>) -> Option<u64>) -> Metric {
    Metric { name, formula, over: Over::Sent, by_tokens: false, value }
}

/// `to − from` where both were taken in this order.
fn since(from: u64, to: u64) -> Option<u64> {
    if from == UNSET || to == UNSET { None } else { to.checked_sub(from) }
}

fn streamed(row: &Row, stamp: u64) -> u64 {
    if row.streamed { stamp } else { UNSET }
}

/// The moment the answer was there: its last token, or its end when it did not come as a stream.
fn answered(row: &Row) -> u64 {
    if row.streamed { row.stamps.last_token } else { row.stamps.done }
}

fn tpot(row: &Row, tokens: Option<u64>) -> Option<u64> {
    let gaps = tokens?.checked_sub(1).filter(|gaps| *gaps > 0)?;
    rounded(since(row.stamps.first_token, streamed(row, row.stamps.last_token))?, gaps)
}

/// `ns / parts` to the nearest nanosecond.
fn rounded(ns: u64, parts: u64) -> Option<u64> {
    (parts > 0).then(|| ns.saturating_add(parts / 2) / parts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::record::Stamps;

    fn streamed_row() -> Row {
        let stamps = Stamps {
            planned: 1_000,
            free: 1_500,
            issued: 1_600,
            sent: 2_000,
            first_byte: 2_500,
            first_token: 3_000,
            first_output: 3_500,
            last_token: 7_003,
            done: 8_000,
        };
        Row {
            stamps,
            streamed: true,
            connect_ns: 300,
            tokens_out: Some(5),
            token_source: TokenSource::Usage,
            chunks: 3,
            ..Row::default()
        }
    }

    fn value(name: &str, row: &Row, tokens: Tokens) -> Option<u64> {
        let metric = METRICS[index_of(name).unwrap()];
        metric.over.holds(row).then(|| (metric.value)(row, tokens.of(row))).flatten()
    }

    #[test]
    fn each_metric_of_a_stream_is_its_formula() {
        let row = streamed_row();
        for (name, expected) in [
            ("ttfb", 500),
            ("ttft", 1_000),
            ("ttfo", 1_500),
            ("tpot", 1_001),  // 4,003 / 4
            ("ntpot", 1_001), // 5,003 / 5
            ("latency", 5_003),
            ("done", 6_000),
            ("response_ttft", 2_000),
            ("response_latency", 6_003),
            ("connect", 300),
            ("send_lateness", 100),
            ("send_delay", 100),
        ] {
            assert_eq!(value(name, &row, Tokens::Usage), Some(expected), "{name}");
        }
        assert_eq!(value("tpot", &row, Tokens::Chunks), Some(2_002));
        assert_eq!(value("failed_latency", &row, Tokens::Usage), None);
    }

    #[test]
    fn an_answer_that_is_no_stream_has_a_latency_and_no_token_times() {
        let row = Row { streamed: false, chunks: 0, ..streamed_row() };
        for name in ["ttft", "ttfo", "tpot", "done", "response_ttft"] {
            assert_eq!(value(name, &row, Tokens::Usage), None, "{name}");
        }
        assert_eq!(value("latency", &row, Tokens::Usage), Some(6_000));
        assert_eq!(value("ntpot", &row, Tokens::Usage), Some(1_200));
        assert_eq!(value("ntpot", &row, Tokens::Chunks), None);
    }

    #[test]
    fn a_failed_request_is_in_no_series_of_successes() {
        let row = Row { failure: Failure::Stall, ..streamed_row() };
        for metric in METRICS.iter().filter(|metric| metric.over == Over::Ok) {
            assert_eq!(value(metric.name, &row, Tokens::Usage), None, "{}", metric.name);
        }
        assert_eq!(value("failed_latency", &row, Tokens::Usage), Some(6_000));
        let cancelled = Row { failure: Failure::Cancelled, ..streamed_row() };
        assert_eq!(value("failed_latency", &cancelled, Tokens::Usage), None);
    }

    #[test]
    fn one_token_has_no_time_per_further_token() {
        let row = Row { tokens_out: Some(1), ..streamed_row() };
        assert_eq!(value("tpot", &row, Tokens::Usage), None);
        let none = Row { tokens_out: Some(0), ..streamed_row() };
        assert_eq!(value("ntpot", &none, Tokens::Usage), None);
    }

    #[test]
    fn stamps_out_of_order_are_named() {
        assert_eq!(broken_order(&streamed_row()), None);
        let mut row = streamed_row();
        row.stamps.first_token = 2_400;
        assert_eq!(broken_order(&row), Some(("first_byte", "first_token")));
        row.stamps.first_byte = UNSET;
        assert_eq!(broken_order(&row), None);
        row.stamps.first_output = 2_300;
        assert_eq!(broken_order(&row), Some(("first_token", "first_output")));
    }

    #[test]
    fn every_objective_names_a_metric_of_the_table() {
        assert_eq!((METRICS[TTFT].name, METRICS[SEND_LATENESS].name), ("ttft", "send_lateness"));
        assert!(SLO_METRICS.iter().all(|name| index_of(name).is_some()));
    }
}
