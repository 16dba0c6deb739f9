//! Which request gets which fault. What each fault does is in `faults/stream.rs` and `faults/http.rs`.

mod http;
mod stream;

use serde::Deserialize;

use super::answer::End;
use super::config::ConfigError;
use super::draft::Draft;
use super::draw::{Draws, Purpose};
use super::plan::Plan;

/// One fault and what it does, for lists and tests.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The name by which configuration, header and tests ask for it.
    pub name: &'static str,
    /// What the server then does.
    pub what: &'static str,
    pub(super) act: Act,
}

/// Where a fault takes hold.
#[derive(Clone, Copy, Debug)]
pub(super) enum Act {
    /// On what the answer will say.
    Plan(fn(&mut Plan)),
    /// On the answer, before it is bytes.
    Draft(fn(&mut Draft)),
    /// On a connection that was just accepted; `true` resets it.
    Accept(bool),
    /// On a request that comes on a connection which has served one.
    Reuse,
}

const fn fault(name: &'static str, what: &'static str, act: fn(&mut Draft)) -> Fault {
    Fault { name, what, act: Act::Draft(act) }
}

const fn plan(name: &'static str, what: &'static str, act: fn(&mut Plan)) -> Fault {
    Fault { name, what, act: Act::Plan(act) }
}

const COUNT: usize = stream::FAULTS.len() + http::FAULTS.len();

/// Every fault there is.
pub const ALL: [Fault; COUNT] = all();

const fn all() -> [Fault; COUNT] {
    let mut all = [stream::FAULTS[0]; COUNT];
    let mut n = 0;
    while n < COUNT {
        all[n] = if n < stream::FAULTS.len() { stream::FAULTS[n] } else { http::FAULTS[n - stream::FAULTS.len()] };
        n += 1;
    }
    all
}

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
        #[serde(untagged, expecting = "a fault is a name, or {\"name\": …} with \"share\", \"every\" or \"ms\"")]
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
    const { &ALL }.iter().find(|fault| fault.name == name)
}

/// Check a rule's name and numbers.
pub(super) fn check(rule: &Rule) -> Result<(), ConfigError> {
    known(&rule.name)?;
    if rule.share.is_some() && rule.every.is_some() {
        return Err(ConfigError::FaultRule { name: rule.name.clone() });
    }
    if let Some(value) = rule.share.filter(|share| !(0.0..=1.0).contains(share)) {
        return Err(ConfigError::Share { key: "faults.share", value });
    }
    if rule.every == Some(0) {
        return Err(ConfigError::Positive { key: "faults.every", value: 0.0 });
    }
    if let Some(value) = rule.ms.filter(|ms| !(*ms > 0.0 && ms.is_finite())) {
        return Err(ConfigError::Positive { key: "faults.ms", value });
    }
    Ok(())
}

fn known(name: &str) -> Result<&'static Fault, ConfigError> {
    find(name).ok_or_else(|| {
        let hint = nearest(name).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        ConfigError::UnknownFault { name: name.to_owned(), hint }
    })
}

impl Rule {
    /// Whether the request of this index gets the fault; `n` is the rule's place in the list.
    fn hits(&self, draws: Draws, index: u64, n: usize) -> bool {
        match (self.share, self.every) {
            (Some(share), _) => draws.unit(Purpose::Fault as u64 + n as u64, 0) < share,
            (None, Some(every)) => index.is_multiple_of(every),
            (None, None) => true,
        }
    }
}

/// The faults of one request, and the nanoseconds that each one's rule names.
#[derive(Clone, Debug, Default)]
pub(super) struct Chosen(Vec<(&'static Fault, Option<u64>)>);

impl Chosen {
    /// Those that the rules give to the request of this index.
    pub(super) fn by_rules(rules: &[Rule], draws: Draws, index: u64) -> Self {
        let mut chosen = Self::hit(rules, draws, index);
        chosen.0.retain(|(fault, _)| !matches!(fault.act, Act::Accept(_)));
        chosen
    }

    /// Whether the rules end the connection of this index as it is accepted, and by a reset.
    pub(super) fn of_connection(rules: &[Rule], draws: Draws, index: u64) -> Option<bool> {
        Self::hit(rules, draws, index).on_accept()
    }

    fn hit(rules: &[Rule], draws: Draws, index: u64) -> Self {
        let hit = rules.iter().enumerate().filter(|(n, rule)| rule.hits(draws, index, *n));
        let ns = |ms: f64| (ms * 1e6) as u64;
        Self(hit.filter_map(|(_, rule)| Some((find(&rule.name)?, rule.ms.map(ns)))).collect())
    }

    /// Those that a request asks for itself, separated by commas.
    pub(super) fn by_header(names: &str) -> Result<Self, ConfigError> {
        names.split(',').map(|name| Ok((known(name.trim())?, None))).collect::<Result<_, _>>().map(Self)
    }

    /// Their names, separated by commas.
    pub(super) fn names(&self) -> Option<Box<str>> {
        let names: Vec<&str> = self.0.iter().map(|(fault, _)| fault.name).collect();
        (!names.is_empty()).then(|| names.join(",").into())
    }

    fn on_accept(&self) -> Option<bool> {
        self.0.iter().find_map(|(fault, _)| if let Act::Accept(reset) = fault.act { Some(reset) } else { None })
    }

    /// How the connection ends in place of an answer, when it has served so many requests.
    pub(super) fn at_connection(&self, served: u64) -> Option<End> {
        match self.on_accept() {
            Some(true) => Some(End::Reset),
            Some(false) => Some(End::Close),
            None => {
                let reused = served > 0 && self.0.iter().any(|(fault, _)| matches!(fault.act, Act::Reuse));
                reused.then_some(End::Close)
            }
        }
    }

    /// Whether the answer itself is touched.
    pub(super) fn on_answer(&self) -> bool {
        self.0.iter().any(|(fault, _)| matches!(fault.act, Act::Plan(_) | Act::Draft(_)))
    }

    pub(super) fn change_plan(&self, plan: &mut Plan) {
        for (fault, _) in &self.0 {
            if let Act::Plan(act) = fault.act {
                act(plan);
            }
        }
    }

    pub(super) fn change_draft(&self, draft: &mut Draft) {
        for (fault, pause) in &self.0 {
            if let Act::Draft(act) = fault.act {
                draft.pause = *pause;
                act(draft);
            }
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain_and_no_name_is_there_twice() {
        for (n, fault) in ALL.iter().enumerate() {
            let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(fault.name.bytes().all(plain) && !fault.what.is_empty(), "{}", fault.name);
            assert!(ALL[..n].iter().all(|other| other.name != fault.name), "{} twice", fault.name);
        }
    }

    #[test]
    fn shares_and_periods_pick_the_same_requests_every_time() {
        let rules: Vec<Rule> =
            serde_json::from_str(r#"[{"name": "crlf", "share": 0.25}, {"name": "bom", "every": 10}]"#).unwrap();
        let pick = |seed| -> Vec<Option<Box<str>>> {
            (0..1000).map(|i| Chosen::by_rules(&rules, Draws::new(seed, i), i).names()).collect()
        };
        let picked = pick(1);
        assert_eq!(picked, pick(1));
        assert_ne!(picked, pick(2));
        let with = |name: &str| picked.iter().flatten().filter(|names| names.contains(name)).count();
        assert_eq!(with("bom"), 100);
        assert!((200..300).contains(&with("crlf")), "{}", with("crlf"));
    }

    #[test]
    fn a_header_may_name_several_and_a_wrong_name_gets_a_hint() {
        assert_eq!(Chosen::by_header("crlf, bom").unwrap().names().as_deref(), Some("crlf,bom"));
        let error = Chosen::by_header("gzip_bomp").unwrap_err().to_string();
        assert!(error.contains("\"gzip_bomb\""), "{error}");
    }
}
