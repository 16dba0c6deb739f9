//! Faults by name: what each does, and which request gets which.

use serde::Deserialize;

use super::config::ConfigError;
use super::draw::{Draws, Purpose};

/// One fault and what it does, for lists and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name by which configuration, header and tests ask for it.
    pub name: &'static str,
    /// What the server then does.
    pub what: &'static str,
}

/// Every fault there is.
pub const ALL: &[Fault] = &[Fault { name: "crlf", what: "lines of the stream end with CR LF" }];

/// Which requests get a fault.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// The fault's name.
    pub name: String,
    /// This share of the requests, by seed.
    pub share: Option<f64>,
    /// Every so many requests: the first, the `every + 1`-th, …
    pub every: Option<u64>,
    /// Milliseconds, for faults that wait: the pause between two bytes, or the length of a stall.
    pub ms: Option<f64>,
}

impl<'de> Deserialize<'de> for Rule {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            name: String,
            share: Option<f64>,
            every: Option<u64>,
            ms: Option<f64>,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Name(String),
            Long(Long),
        }
        Ok(match Written::deserialize(input)? {
            Written::Name(name) => Self { name, share: None, every: None, ms: None },
            Written::Long(Long { name, share, every, ms }) => Self { name, share, every, ms },
        })
    }
}

/// The fault of this name.
pub fn find(name: &str) -> Option<&'static Fault> {
    ALL.iter().find(|fault| fault.name == name)
}

/// Check a rule's name and numbers.
pub(super) fn check(rule: &Rule) -> Result<(), ConfigError> {
    if find(&rule.name).is_none() {
        let hint = nearest(&rule.name).map(|name| format!("; did you mean {name:?}?")).unwrap_or_default();
        return Err(ConfigError::UnknownFault { name: rule.name.clone(), hint });
    }
    if rule.share.is_some() && rule.every.is_some() {
        return Err(ConfigError::FaultRule { name: rule.name.clone() });
    }
    if let Some(value) = rule.share.filter(|share| !(0.0..=1.0).contains(share)) {
        return Err(ConfigError::Share { key: "faults.share", value });
    }
    if rule.every == Some(0) {
        return Err(ConfigError::Positive { key: "faults.every", value: 0.0 });
    }
    if let Some(value) = rule.ms.filter(|ms| !(*ms >= 0.0 && ms.is_finite())) {
        return Err(ConfigError::Positive { key: "faults.ms", value });
    }
    Ok(())
}

impl Rule {
    #[expect(dead_code, reason = "the faults of the next commit ask it")]
    /// Whether the request of this index gets the fault; `n` is the rule's place in the list.
    pub(super) fn hits(&self, draws: Draws, index: u64, n: usize) -> bool {
        match (self.share, self.every) {
            (Some(share), _) => draws.unit(Purpose::Fault as u64 + n as u64, 0) < share,
            (None, Some(every)) => index.is_multiple_of(every),
            (None, None) => true,
        }
    }
}

/// The known name nearest to what was typed, if it is near at all.
fn nearest(typed: &str) -> Option<&'static str> {
    let near = ALL.iter().map(|fault| (distance(typed, fault.name), fault.name)).min()?;
    (near.0 <= 2.max(typed.len() / 3)).then_some(near.1)
}

/// Levenshtein's edit distance (Soviet Physics Doklady 10, 1966).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let swap = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = swap.min(row[j] + 1).min(corner + 1);
        }
    }
    row[b.len()]
}
