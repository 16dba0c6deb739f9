//! What an answer's head says of when to come again and how much is left: `Retry-After` and the rate-limit headers.
//!
//! Headers are advice from strangers: what can't be read is as if it weren't there, and no wait is taken at its word
//! here; whoever waits has a bound of its own.

use super::date;

const NS_PER_S: f64 = 1e9;
const THIRTY_YEARS_NS: u64 = 1_000_000_000_000_000_000;

/// LiteLLM's proxy hands a provider's headers on under their names with this in front.
const HANDED_ON: &[u8] = b"llm_provider-";

/// How much of something may still be asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    /// How much in a whole period.
    pub limit: Option<u64>,
    /// How much of it is left.
    pub remaining: Option<u64>,
    /// Nanoseconds until all of it is there again.
    pub reset_ns: Option<u64>,
}

impl Allowance {
    /// Whether anything was said.
    pub fn is_told(&self) -> bool {
        *self != Self::default()
    }
}

/// The hints of one answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hints {
    /// Nanoseconds to wait before asking again; 0 for a moment that is over, saturated for one beyond counting.
    pub retry_after_ns: Option<u64>,
    /// Of requests.
    pub requests: Allowance,
    /// Of tokens.
    pub tokens: Allowance,
}

impl Hints {
    /// Read them from a head's fields; `wall_ns` is the Unix time now, which dates are measured from.
    ///
    /// A wait is `retry-after-ms` before `retry-after`, and a provider's own, handed on by LiteLLM, comes last.
    ///
    /// Source: RFC 9110, section 10.2.3; the rate-limit headers as OpenAI's and Anthropic's references describe them.
    pub fn of<'a>(fields: impl Iterator<Item = (&'a [u8], &'a [u8])>, wall_ns: u64) -> Self {
        let mut told = Told::default();
        for (name, value) in fields {
            told.note(name, value, wall_ns);
        }
        told.hints()
    }
}

/// What was read so far, the plain headers and those handed on apart.
#[derive(Default)]
struct Told {
    own: Fields,
    handed_on: Fields,
}

#[derive(Clone, Copy, Default)]
struct Fields {
    after_ms: Option<u64>,
    after: Option<u64>,
    requests: Allowance,
    tokens: Allowance,
    /// Anthropic counts tokens of prompts apart, for models without a limit on both together.
    input_tokens: Allowance,
}

impl Told {
    fn note(&mut self, name: &[u8], value: &[u8], wall_ns: u64) {
        match name.split_at_checked(HANDED_ON.len()) {
            Some((start, rest)) if start.eq_ignore_ascii_case(HANDED_ON) => self.handed_on.note(rest, value, wall_ns),
            _ => self.own.note(name, value, wall_ns),
        }
    }

    fn hints(self) -> Hints {
        let Self { own, handed_on } = self;
        let either = |a: Allowance, b: Allowance| if a.is_told() { a } else { b };
        let tokens = |fields: Fields| either(fields.tokens, fields.input_tokens);
        Hints {
            retry_after_ns: own.after_ms.or(own.after).or(handed_on.after_ms).or(handed_on.after),
            requests: either(own.requests, handed_on.requests),
            tokens: either(tokens(own), tokens(handed_on)),
        }
    }
}

impl Fields {
    fn note(&mut self, name: &[u8], value: &[u8], wall_ns: u64) {
        // Only names of these beginnings are looked at closer: this runs for every header of every answer.
        if !matches!(name.first().map(u8::to_ascii_lowercase), Some(b'r' | b'x' | b'a')) {
            return;
        }
        let (Ok(name), Ok(value)) = (str::from_utf8(name), str::from_utf8(value)) else { return };
        let (name, value) = (name.to_ascii_lowercase(), value.trim());
        let first = |slot: &mut Option<u64>, found: Option<u64>| *slot = slot.or(found);
        match name.as_str() {
            "retry-after-ms" => return first(&mut self.after_ms, scaled(value, 1e6)),
            "retry-after" => return first(&mut self.after, scaled(value, NS_PER_S).or_else(|| until(value, wall_ns))),
            _ => {}
        }
        let Some((what, part)) = rate_limit(&name) else { return };
        let allowance = match what {
            "requests" => &mut self.requests,
            "tokens" => &mut self.tokens,
            "input-tokens" => &mut self.input_tokens,
            _ => return,
        };
        match part {
            "limit" => first(&mut allowance.limit, value.parse().ok()),
            "remaining" => first(&mut allowance.remaining, value.parse().ok()),
            "reset" => first(&mut allowance.reset_ns, reset(value, wall_ns)),
            _ => {}
        }
    }
}

/// What a rate-limit header counts, and which part of it: OpenAI's `x-ratelimit-PART-WHAT`, Anthropic's
/// `anthropic-ratelimit-WHAT-PART`.
fn rate_limit(name: &str) -> Option<(&str, &str)> {
    if let Some(rest) = name.strip_prefix("x-ratelimit-") {
        let (part, what) = rest.split_once('-')?;
        return Some((what, part));
    }
    name.strip_prefix("anthropic-ratelimit-")?.rsplit_once('-')
}

/// A number of so many nanoseconds each; below zero, or no number, is no hint.
fn scaled(number: &str, ns: f64) -> Option<u64> {
    // Rust also reads `inf` and `nan`, which nobody sends in earnest.
    let plain = number.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'));
    let value = number.parse::<f64>().ok().filter(|&value| plain && value >= 0.0)?;
    // The cast saturates.
    Some((value * ns) as u64)
}

/// Nanoseconds until an HTTP date, or a time as Anthropic writes it; 0 once it is over.
fn until(value: &str, wall_ns: u64) -> Option<u64> {
    let at = date::http(value).or_else(|| date::rfc3339(value))?;
    Some(at.saturating_mul(1_000_000_000).saturating_sub(wall_ns))
}

/// When an allowance is whole again: `6m0s`, `17ms`, `2.5`, a date, or a Unix time.
fn reset(value: &str, wall_ns: u64) -> Option<u64> {
    let Some(ns) = scaled(value, NS_PER_S) else { return span(value).or_else(|| until(value, wall_ns)) };
    // Nobody waits for thirty years: so large a number is a moment, in seconds, or in milliseconds if as seconds it lay
    // centuries ahead.
    Some(match ns / THIRTY_YEARS_NS {
        0 => ns,
        1..10 => ns.saturating_sub(wall_ns),
        _ => scaled(value, 1e6)?.saturating_sub(wall_ns),
    })
}

/// A span as Go prints it: `1h2m3.5s`, `17ms`.
fn span(mut text: &str) -> Option<u64> {
    let mut total = 0u64;
    while !text.is_empty() {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, rest) = text.split_at(digits);
        let unit_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (unit, rest) = rest.split_at(unit_end);
        let ns = match unit {
            "d" => 86_400.0 * NS_PER_S,
            "h" => 3_600.0 * NS_PER_S,
            "m" => 60.0 * NS_PER_S,
            "s" => NS_PER_S,
            "ms" => 1e6,
            "us" | "µs" => 1e3,
            "ns" => 1.0,
            _ => return None,
        };
        total = total.saturating_add(scaled(number, ns)?);
        text = rest;
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT
    const WALL: u64 = 784_111_777_000_000_000;
    const S: u64 = 1_000_000_000;

    fn hints(fields: &[(&str, &str)]) -> Hints {
        Hints::of(fields.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())), WALL)
    }

    fn after(name: &str, value: &str) -> Option<u64> {
        hints(&[(name, value)]).retry_after_ns
    }

    #[test]
    fn a_wait_is_read_in_every_form_and_what_is_none_is_ignored() {
        let cases = [
            ("2", Some(2 * S)),
            (" 0 ", Some(0)),
            ("0.25", Some(S / 4)),
            ("Sun, 06 Nov 1994 08:49:40 GMT", Some(3 * S)),
            ("Sunday, 06-Nov-94 08:49:40 GMT", Some(3 * S)),
            ("Sun Nov  6 08:49:40 1994", Some(3 * S)),
            ("Sun, 06 Nov 1994 08:49:30 GMT", Some(0)),
            ("99999999999999999999", Some(u64::MAX)),
            ("-5", None),
            ("soon, maybe", None),
            ("inf", None),
            ("nan", None),
            ("", None),
            ("Sun, 99 Nov 1994 08:49:40 GMT", None),
        ];
        for (value, expected) in cases {
            assert_eq!(after("Retry-After", value), expected, "{value:?}");
        }
        assert_eq!(after("retry-after-ms", "120.5"), Some(120_500_000));
        assert_eq!(after("llm_provider-retry-after", "3"), Some(3 * S));
        assert_eq!(after("x-retry-after", "3"), None);
    }

    #[test]
    fn the_finest_wait_counts_and_a_providers_only_where_there_is_no_other() {
        let all = [("llm_provider-retry-after", "9"), ("retry-after", "2"), ("Retry-After-Ms", "1500")];
        assert_eq!(hints(&all).retry_after_ns, Some(1_500_000_000));
        assert_eq!(hints(&all[..2]).retry_after_ns, Some(2 * S));
        assert_eq!(hints(&[("retry-after", "soon"), ("retry-after", "4")]).retry_after_ns, Some(4 * S));
    }

    #[test]
    fn allowances_are_read_as_either_house_writes_them() {
        let openai = hints(&[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149984"),
            ("x-ratelimit-reset-tokens", "6m0s"),
        ]);
        assert_eq!(openai.requests, Allowance { limit: Some(60), remaining: Some(59), reset_ns: Some(S) });
        assert_eq!(
            openai.tokens,
            Allowance { limit: Some(150_000), remaining: Some(149_984), reset_ns: Some(360 * S) }
        );
        let anthropic = hints(&[
            ("anthropic-ratelimit-requests-limit", "50"),
            ("anthropic-ratelimit-requests-remaining", "0"),
            ("anthropic-ratelimit-requests-reset", "1994-11-06T08:49:38Z"),
            ("anthropic-ratelimit-input-tokens-limit", "40000"),
        ]);
        assert_eq!(anthropic.requests, Allowance { limit: Some(50), remaining: Some(0), reset_ns: Some(S) });
        assert_eq!(anthropic.tokens.limit, Some(40_000));
        assert_eq!(hints(&[("content-type", "text/plain"), ("x-request-id", "7")]), Hints::default());
    }

    #[test]
    fn a_reset_is_a_span_or_a_moment() {
        let of = |value| hints(&[("x-ratelimit-reset-requests", value)]).requests.reset_ns;
        for (value, expected) in [
            ("17ms", Some(17_000_000)),
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("2.5", Some(5 * S / 2)),
            ("784111780", Some(784_111_780 * S)),
            ("1784111780", Some((1_784_111_780 - 784_111_777) * S)),
            ("1784111780.500", Some((1_784_111_780 - 784_111_777) * S + S / 2)),
            ("1784111780000", Some((1_784_111_780 - 784_111_777) * S)),
            ("5 parsecs", None),
            ("s", None),
            ("12", Some(12 * S)),
        ] {
            assert_eq!(of(value), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn no_header_is_too_odd_to_read(name in "(?i)(llm_provider-)?(retry-after(-ms)?|x-ratelimit-reset-tokens|anthropic-ratelimit-tokens-reset)", value in "\\PC{0,40}") {
            let _ = hints(&[(&name, &value)]);
        }

        #[test]
        fn seconds_come_back_as_they_were_sent(seconds in 0u32..1_000_000) {
            prop_assert_eq!(after("retry-after", &seconds.to_string()), Some(u64::from(seconds) * S));
        }
    }
}
