//! What holds of the policy whatever happens and whatever a driver does: against random events, told loosely.

#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use loadgen::policy::{
    Action, AttemptId, AttemptKind, CancelWhy, Config, End, Event, HedgeConfig, ItemId, Outcome, Policy, Quota,
    RateHint, Retryable, Totals, Verdict, replay,
};
use proptest::prelude::*;

/// What a driver does. Whom it concerns is drawn as a number, to be taken modulo how many there are.
#[derive(Clone, Copy, Debug)]
enum Deed {
    Queue {
        count: u32,
        key: u32,
        tokens: u32,
    },
    /// One of the live attempts ends.
    End {
        whom: u32,
        end: End,
    },
    FirstByte {
        whom: u32,
    },
    FirstToken {
        whom: u32,
    },
    /// Somebody says that any attempt ended, live or not, known or not.
    EndAnybody {
        attempt: u32,
        end: End,
    },
    TokenOfAnybody {
        attempt: u32,
    },
    Cancel {
        item: u32,
    },
    Told {
        hint: RateHint,
    },
    Pass {
        ms: u64,
    },
    /// Time passes to the next deadline.
    PassToDeadline,
    /// The clock steps back.
    StepBack {
        ms: u64,
    },
    /// It polls, and it may be the first time in a while.
    Poll,
}

fn end() -> impl Strategy<Value = End> {
    let outcome = prop_oneof![
        6 => Just((Outcome::Ok, 200)),
        2 => Just((Outcome::Failed, 429)),
        2 => Just((Outcome::Failed, 500)),
        1 => Just((Outcome::Failed, 400)),
        1 => Just((Outcome::Failed, 0)),
        1 => Just((Outcome::Unreached, 0)),
        1 => Just((Outcome::Rejected, 0)),
        1 => Just((Outcome::TimedOut, 0)),
        1 => Just((Outcome::Stalled, 200)),
        1 => Just((Outcome::Broken, 200)),
        1 => Just((Outcome::Cancelled, 0)),
    ];
    let retryable = prop_oneof![4 => Just(Retryable::ByStatus), 1 => Just(Retryable::Yes), 1 => Just(Retryable::No)];
    (outcome, proptest::option::of(0..300_000_000_000u64), 0..2_000u32, retryable).prop_map(
        |((outcome, status), retry_after_ns, tokens_out, retryable)| End {
            outcome,
            status,
            retry_after_ns,
            tokens_in: tokens_out / 2,
            tokens_out,
            retryable,
        },
    )
}

fn deed() -> impl Strategy<Value = Deed> {
    let whom = 0..1_000u32;
    let hint = (proptest::option::of(0..100u64), proptest::option::of(0..100u64), proptest::option::of(0..90_000u64))
        .prop_map(|(limit, remaining, reset)| {
            let quota = Quota { limit, remaining, reset_ns: reset.map(|ms| ms * 1_000_000) };
            RateHint { requests: Some(quota), tokens: None }
        });
    prop_oneof![
        3 => (0..12u32, 0..3u32, 0..400u32).prop_map(|(count, key, tokens)| Deed::Queue { count, key, tokens }),
        16 => (whom.clone(), end()).prop_map(|(whom, end)| Deed::End { whom, end }),
        2 => whom.clone().prop_map(|whom| Deed::FirstByte { whom }),
        3 => whom.clone().prop_map(|whom| Deed::FirstToken { whom }),
        2 => (0..400u32, end()).prop_map(|(attempt, end)| Deed::EndAnybody { attempt, end }),
        1 => any::<u32>().prop_map(|attempt| Deed::TokenOfAnybody { attempt }),
        2 => (0..200u32).prop_map(|item| Deed::Cancel { item }),
        1 => hint.prop_map(|hint| Deed::Told { hint }),
        8 => (0..20_000u64).prop_map(|ms| Deed::Pass { ms }),
        8 => Just(Deed::PassToDeadline),
        1 => (0..5_000u64).prop_map(|ms| Deed::StepBack { ms }),
        6 => Just(Deed::Poll),
    ]
}

/// Strategies and what is varied about them.
fn config() -> impl Strategy<Value = Config> {
    let strategy = prop_oneof![Just("parallel"), Just("adaptive_ceiling"), Just("hedged"), Just("auto"), Just("auto")];
    let variant = prop_oneof![
        3 => Just("{}"),
        2 => Just(r#"{"streaming":true}"#),
        1 => Just(r#"{"call_timeout_s":20,"breaker":null}"#),
        1 => Just(r#"{"rates":{"rpm":120,"tpm":60000},"nodes":3}"#),
        1 => Just(r#"{"breaker":{"failures":2,"probes":2,"cooldown_s":5},"retry":{"push_backs":2}}"#),
        1 => Just(r#"{"nodes":2,"streaming":true,"retry":{"budget":0.0,"reserve":0.0,"per_s":0.1}}"#),
    ];
    (strategy, 1..24u32, variant)
        .prop_map(|(strategy, most, overrides)| Config::named(strategy, most, None, Some(overrides)).unwrap())
}

/// A driver that keeps count of what it was told to do, and checks each of it.
struct Driver {
    policy: Policy,
    config: Config,
    now: u64,
    /// Items of live attempts.
    live: BTreeMap<AttemptId, ItemId>,
    queued: u32,
    resolved: BTreeSet<ItemId>,
    cancelled: BTreeSet<ItemId>,
    /// The first attempt after the last cut, if there was one.
    after_cut: Option<AttemptId>,
}

const SEED: u64 = 11;

impl Driver {
    fn new(config: Config) -> Self {
        let mut policy = Policy::new(&config, SEED).unwrap();
        policy.record();
        Self {
            policy,
            config,
            now: 0,
            live: BTreeMap::new(),
            queued: 0,
            resolved: BTreeSet::new(),
            cancelled: BTreeSet::new(),
            after_cut: None,
        }
    }

    fn nth_live(&self, whom: u32) -> Option<AttemptId> {
        self.live.keys().nth(whom as usize % self.live.len().max(1)).copied()
    }

    fn of(&self, item: ItemId) -> usize {
        self.live.values().filter(|&&other| other == item).count()
    }

    fn tell(&mut self, event: Event) {
        let before = self.policy.totals();
        self.policy.on_event(self.now, event);
        self.check_cut(before, event);
    }

    /// One cut a round trip: what brings a cut was started after the one before.
    fn check_cut(&mut self, before: Totals, event: Event) {
        let after = self.policy.totals();
        assert!(after.cuts <= before.cuts + 1, "{event:?} cut more than once");
        assert!(after.limit >= before.limit || after.cuts > before.cuts, "{event:?} shrank the limit without a cut");
        if after.cuts > before.cuts {
            let Event::Ended { attempt, .. } = event else { panic!("{event:?} cut the limit") };
            // A limit that learns from latency may fall with an answer, too.
            let answered = matches!(event, Event::Ended { end: End { outcome: Outcome::Ok, .. }, .. });
            let again = self.after_cut.is_some_and(|first| attempt < first);
            assert!(!again || (answered && self.config.strategy == "auto"), "attempt {attempt} cut a second time");
            self.after_cut = Some(self.policy.attempts().len());
        }
    }

    fn poll_all(&mut self) {
        for _ in 0..100_000 {
            let before = self.policy.totals();
            let Some(action) = self.policy.poll(self.now) else {
                // Nothing to do now, and not again before time or an event changes something.
                assert!(
                    self.policy.next_deadline().is_none_or(|due| due > self.now),
                    "the deadline has passed already"
                );
                return self.check_books();
            };
            let after = self.policy.totals();
            assert!(after.limit >= before.limit, "polling cut the limit");
            self.take(action);
        }
        panic!("it never stops wanting things");
    }

    fn take(&mut self, action: Action) {
        match action {
            Action::Start { attempt, item, kind, node, deadline_ns } => {
                assert!(item < self.queued && !self.resolved.contains(&item), "{action:?}: nobody waits for it");
                assert!(deadline_ns > self.now && u32::from(node) < u32::from(self.config.nodes), "{action:?}");
                let copies = self.of(item);
                assert_eq!(copies > 0, kind == AttemptKind::Hedge, "{action:?} beside {copies} live");
                self.check_copies(copies as u32, kind);
                assert!(self.live.insert(attempt, item).is_none(), "{action:?} again");
                assert!(self.live.len() as u64 <= self.policy.totals().limit, "{action:?} without a permit");
            }
            Action::Cancel { attempt, why } => {
                let item = self.live.remove(&attempt).expect("only what is live is cancelled");
                assert_eq!(why == CancelWhy::CallerLeft, self.cancelled.contains(&item), "{action:?}");
            }
            Action::Resolve { item, winner, verdict } => {
                assert!(item < self.queued && self.resolved.insert(item), "{action:?}: again, or never queued");
                assert_eq!(self.of(item), 0, "{action:?} while copies live");
                assert!(verdict != Verdict::Ok || winner.is_some(), "{action:?}: no answer");
                assert!(winner.is_none_or(|attempt| self.policy.attempts().get(attempt).unwrap().item == item));
            }
        }
    }

    /// As many copies of one item, and of all, as may be.
    fn check_copies(&self, live: u32, kind: AttemptKind) {
        let totals = self.policy.totals();
        let (of_one, of_all) = match &self.config.hedge {
            HedgeConfig::None => (0, 0.0),
            HedgeConfig::After(after) => (after.copies, f64::INFINITY),
            HedgeConfig::Straggler(straggler) => {
                let started = totals.items_started as f64;
                (straggler.copies, straggler.cap * started + f64::from(straggler.reserve))
            }
        };
        assert!(live <= of_one, "{live} live beside this one");
        assert!(kind != AttemptKind::Hedge || totals.hedges as f64 <= of_all, "{} copies in all", totals.hedges);
    }

    /// What the policy says of itself agrees with what it did.
    fn check_books(&self) {
        let totals = self.policy.totals();
        let done = totals.ok + totals.failed + totals.timed_out + totals.cancelled + totals.gave_up;
        assert_eq!(totals.in_flight, self.live.len() as u64, "permits leaked");
        assert_eq!(done, self.resolved.len() as u64);
        let flying: BTreeSet<_> = self.live.values().collect();
        assert_eq!(totals.queued, totals.waiting + totals.backing_off + flying.len() as u64 + done, "{totals:?}");
        assert_eq!(totals.attempts, totals.firsts + totals.retries + totals.hedges + totals.probes);
    }

    /// Whether an end of this attempt leaves others of its item live.
    fn has_others(&self, attempt: AttemptId) -> Option<ItemId> {
        let item = *self.live.get(&attempt)?;
        (self.of(item) > 1).then_some(item)
    }

    fn ended(&mut self, attempt: AttemptId, end: End) {
        let spared = self.has_others(attempt).filter(|_| end.outcome != Outcome::Ok);
        self.live.remove(&attempt);
        self.tell(Event::Ended { attempt, end });
        self.poll_all();
        if let Some(item) = spared.filter(|item| !self.resolved.contains(item)) {
            assert!(self.of(item) > 0, "a failed copy ended a live one");
        } else if let Some(item) = spared {
            let verdict = self.policy.items().get(item).unwrap().verdict;
            // Time may have been up at the very moment that it was told of.
            assert_eq!(verdict, Some(Verdict::TimedOut), "a failed copy failed a live one");
        }
    }

    fn act(&mut self, deed: Deed) {
        match deed {
            Deed::Queue { count, key, tokens } => {
                self.queued += count;
                self.tell(Event::Queued { count, key, tokens });
            }
            Deed::End { whom, end } => {
                if let Some(attempt) = self.nth_live(whom) {
                    self.poll_all();
                    if self.live.contains_key(&attempt) {
                        self.ended(attempt, end);
                    }
                }
            }
            Deed::FirstByte { whom } => {
                if let Some(attempt) = self.nth_live(whom) {
                    self.tell(Event::FirstByte { attempt });
                }
            }
            Deed::FirstToken { whom } => {
                if let Some(attempt) = self.nth_live(whom) {
                    self.tell(Event::FirstToken { attempt });
                }
            }
            Deed::EndAnybody { attempt, end } => {
                self.poll_all();
                self.ended(attempt, end);
            }
            Deed::TokenOfAnybody { attempt } => self.tell(Event::FirstToken { attempt }),
            Deed::Cancel { item } => {
                self.poll_all();
                if item < self.queued && !self.resolved.contains(&item) {
                    self.cancelled.insert(item);
                }
                self.tell(Event::Cancel { item });
            }
            Deed::Told { hint } => self.tell(Event::Told { hint }),
            Deed::Pass { ms } => self.now += ms * 1_000_000,
            Deed::PassToDeadline => self.now = self.policy.next_deadline().unwrap_or(self.now).max(self.now),
            Deed::StepBack { ms } => {
                self.policy.on_event(self.now.saturating_sub(ms * 1_000_000), Event::Tick);
            }
            Deed::Poll => self.poll_all(),
        }
    }

    /// Let everything that is left succeed: all must be done at some time.
    fn finish(&mut self) {
        self.tell(Event::Closed);
        self.poll_all();
        for _ in 0..100_000 {
            if self.policy.is_done() {
                break;
            }
            match self.live.keys().next().copied() {
                Some(attempt) => {
                    self.live.remove(&attempt);
                    self.tell(Event::Ended { attempt, end: End::default() });
                }
                None => self.now = self.policy.next_deadline().expect("something is left, and nothing is due"),
            }
            self.poll_all();
        }
        assert!(self.policy.is_done(), "{:?}", self.policy.totals());
        assert_eq!(self.resolved.len() as u32, self.queued);
        assert_eq!(self.policy.totals().in_flight, 0);
    }
}

/// A service of which a share of the attempts stalls, and a share fails at once, by lot.
#[derive(Clone, Copy, Debug)]
struct Stalling {
    items: u32,
    median_ms: u64,
    stalls: f64,
    fails: f64,
    lot: u64,
}

impl Stalling {
    /// A number from 0 to 1 for an attempt. Source: the finaliser of SplitMix64 (Steele, Lea, Flood, 2014).
    fn draw(&self, attempt: AttemptId, what: u64) -> f64 {
        let mut z = self.lot.wrapping_add(u64::from(attempt) << 3 | what).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) as f64 / u64::MAX as f64
    }

    /// How long an attempt takes, and how it ends.
    fn serve(&self, attempt: AttemptId) -> (u64, End) {
        let luck = self.draw(attempt, 0);
        let spread = 0.7 + 0.6 * self.draw(attempt, 1);
        let ms = self.median_ms as f64 * spread;
        if luck < self.fails {
            return (10_000_000, End { outcome: Outcome::Failed, status: 500, ..End::default() });
        }
        let stalled = if luck < self.fails + self.stalls { 20.0 } else { 1.0 };
        ((ms * stalled * 1e6) as u64, End::default())
    }
}

impl Driver {
    /// Run a batch against a service until all is done.
    fn run(&mut self, service: Stalling) {
        self.queued = service.items;
        self.tell(Event::Queued { count: service.items, key: 0, tokens: 0 });
        self.tell(Event::Closed);
        self.poll_all();
        while !self.policy.is_done() {
            let ends = |attempt: AttemptId| {
                let started = self.policy.attempts().get(attempt).unwrap().started_ns;
                started + service.serve(attempt).0
            };
            let first = self.live.keys().map(|&attempt| (ends(attempt), attempt)).min();
            let due = self.policy.next_deadline().unwrap_or(u64::MAX);
            match first {
                Some((at, attempt)) if at <= due => {
                    self.now = at;
                    self.ended(attempt, service.serve(attempt).1);
                }
                _ => {
                    assert!(due < u64::MAX, "something is left, and nothing is due");
                    self.now = due;
                    self.poll_all();
                }
            }
        }
    }
}

fn stalling() -> impl Strategy<Value = Stalling> {
    (20..200u32, 50..5_000u64, 0.0..0.5f64, 0.0..0.1f64, any::<u64>())
        .prop_map(|(items, median_ms, stalls, fails, lot)| Stalling { items, median_ms, stalls, fails, lot })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn copies_stay_within_their_bounds_however_much_stalls(
        strategy in prop_oneof![1 => Just("hedged"), 3 => Just("auto")], most in 4..80u32, service in stalling()
    ) {
        let mut driver = Driver::new(Config::named(strategy, most, None, None).unwrap());
        driver.run(service);
        prop_assert_eq!(driver.resolved.len() as u32, service.items);
        // All that could go wrong with an item is four failures in a row.
        let totals = driver.policy.totals();
        prop_assert!(totals.ok + totals.failed + totals.timed_out == totals.queued, "{:?}", totals);
    }

    #[test]
    fn permits_never_leak_and_every_item_resolves_once(config in config(), deeds in prop::collection::vec(deed(), 0..160)) {
        let mut driver = Driver::new(config);
        deeds.into_iter().for_each(|deed| driver.act(deed));
        driver.finish();
        let recording = driver.policy.recording().unwrap();
        prop_assert_eq!(&replay(&driver.config, SEED, recording).unwrap(), &recording.actions);
    }
}
