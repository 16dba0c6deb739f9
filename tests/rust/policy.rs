//! The policy as a driver meets it: what it is told, and what it then wants done.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use loadgen::policy::{
    Action, AttemptId, AttemptKind, CancelWhy, Config, End, Event, ItemId, Outcome, Policy, Verdict, replay,
};

const S: u64 = 1_000_000_000;

/// A policy, and what it wanted so far.
struct Driver {
    policy: Policy,
    config: Config,
    now: u64,
}

impl Driver {
    fn new(strategy: &str, most: u32, overrides: &str) -> Self {
        let config = Config::named(strategy, most, None, Some(overrides)).unwrap();
        let mut policy = Policy::new(&config, 7).unwrap();
        policy.record();
        Self { policy, config, now: 0 }
    }

    fn queued(strategy: &str, most: u32, overrides: &str, count: u32) -> (Self, Vec<Action>) {
        let mut driver = Self::new(strategy, most, overrides);
        let actions = driver.tell(0, Event::Queued { count, key: 0, tokens: 0 });
        (driver, actions)
    }

    /// Tell of something at this time, and poll.
    fn tell(&mut self, now: u64, event: Event) -> Vec<Action> {
        self.now = now;
        self.policy.on_event(now, event);
        self.poll()
    }

    fn poll(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.policy.poll(self.now)).collect()
    }

    /// Poll at the next deadline, if there is one.
    fn wait(&mut self) -> Vec<Action> {
        let due = self.policy.next_deadline().expect("something is due");
        assert!(due > self.now, "a deadline at {due} that is not ahead of {}", self.now);
        self.now = due;
        self.poll()
    }

    /// Wait until something is to be done.
    fn wait_for_action(&mut self) -> Vec<Action> {
        loop {
            let actions = self.wait();
            if !actions.is_empty() {
                return actions;
            }
        }
    }

    fn ok(&mut self, now: u64, attempt: AttemptId) -> Vec<Action> {
        self.tell(now, Event::Ended { attempt, end: End::default() })
    }

    fn fail(&mut self, now: u64, attempt: AttemptId, status: u16) -> Vec<Action> {
        let end = End { outcome: Outcome::Failed, status, ..End::default() };
        self.tell(now, Event::Ended { attempt, end })
    }
}

impl Drop for Driver {
    /// Whatever a test did comes again from its recording.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let recording = self.policy.recording().unwrap();
            assert_eq!(replay(&self.config, 7, recording).unwrap(), recording.actions);
        }
    }
}

fn started(actions: &[Action]) -> Vec<(AttemptId, ItemId, AttemptKind)> {
    let start = |action: &Action| match *action {
        Action::Start { attempt, item, kind, .. } => Some((attempt, item, kind)),
        _ => None,
    };
    actions.iter().filter_map(start).collect()
}

fn resolved(actions: &[Action]) -> Vec<(ItemId, Option<AttemptId>, Verdict)> {
    let resolve = |action: &Action| match *action {
        Action::Resolve { item, winner, verdict } => Some((item, winner, verdict)),
        _ => None,
    };
    actions.iter().filter_map(resolve).collect()
}

fn cancelled(actions: &[Action]) -> Vec<(AttemptId, CancelWhy)> {
    let cancel = |action: &Action| match *action {
        Action::Cancel { attempt, why } => Some((attempt, why)),
        _ => None,
    };
    actions.iter().filter_map(cancel).collect()
}

#[test]
fn sequential_calls_one_after_the_other_and_is_done_when_all_are() {
    let (mut driver, first) = Driver::queued("sequential", 64, "{}", 3);
    assert_eq!(started(&first), [(0, 0, AttemptKind::First)]);
    for item in 0..3 {
        assert!(!driver.policy.is_done());
        let actions = driver.ok(u64::from(item + 1) * S, item);
        assert_eq!(resolved(&actions), [(item, Some(item), Verdict::Ok)]);
        assert_eq!(started(&actions).len(), usize::from(item < 2));
    }
    driver.tell(4 * S, Event::Closed);
    assert!(driver.policy.is_done());
    assert_eq!(driver.policy.next_deadline(), None);
    let last = driver.policy.items().get(2).unwrap();
    assert_eq!((last.limit_ns, last.rate_ns, last.backoff_ns), (2 * S, 0, 0));
}

#[test]
fn adaptive_ceiling_gates_halves_once_a_round_trip_and_rises_after_three() {
    let (mut driver, first) = Driver::queued("adaptive_ceiling", 8, "{}", 40);
    assert_eq!(started(&first).len(), 8);
    for attempt in 0..6 {
        driver.fail(S, attempt, 429);
    }
    assert_eq!(driver.policy.totals().limit, 4);
    assert_eq!(driver.policy.totals().cuts, 1);
    let actions = driver.ok(2 * S, 6);
    assert_eq!(driver.policy.totals().in_flight, 4, "{actions:?}");
    let mut running: Vec<AttemptId> = vec![7];
    running.extend(8..11);
    running.iter().for_each(|&attempt| drop(driver.ok(3 * S, attempt)));
    assert_eq!(driver.policy.totals().limit, 5);
}

#[test]
fn a_failure_backs_off_without_a_permit_and_returns_to_the_end_of_the_line() {
    let (mut driver, _) = Driver::queued("sequential", 1, r#"{"retry":{"jitter":"none"}}"#, 3);
    let actions = driver.fail(S, 0, 500);
    assert_eq!(started(&actions), [(1, 1, AttemptKind::First)]);
    let actions = driver.ok(S + S / 10, 1);
    assert_eq!(started(&actions), [(2, 2, AttemptKind::First)]);
    assert_eq!(started(&driver.ok(S + S / 5, 2)), []);
    let actions = driver.wait();
    assert_eq!((driver.now, started(&actions)), (S + S / 2, vec![(3, 0, AttemptKind::Retry)]));
    driver.ok(2 * S, 3);
    assert_eq!(driver.policy.items().get(0).unwrap().backoff_ns, S / 2);
}

#[test]
fn an_item_fails_after_its_attempts_and_at_once_where_no_other_helps() {
    let (mut driver, _) = Driver::queued("sequential", 1, "{}", 1);
    for attempt in 0..3 {
        assert_eq!(resolved(&driver.fail(driver.now + S, attempt, 500)), []);
        assert_eq!(started(&driver.wait_for_action()), [(attempt + 1, 0, AttemptKind::Retry)]);
    }
    assert_eq!(resolved(&driver.fail(driver.now + S, 3, 500)), [(0, Some(3), Verdict::Failed)]);
    let (mut driver, _) = Driver::queued("sequential", 1, "{}", 1);
    assert_eq!(resolved(&driver.fail(S, 0, 400)), [(0, Some(0), Verdict::Failed)]);
}

#[test]
fn push_back_costs_no_attempt_and_is_waited_for_as_the_service_wishes() {
    let (mut driver, _) = Driver::queued("sequential", 1, r#"{"retry":{"jitter":"none","push_backs":5}}"#, 1);
    for attempt in 0..5 {
        let end = End { outcome: Outcome::Failed, status: 429, retry_after_ns: Some(7 * S), ..End::default() };
        let at = driver.now;
        assert_eq!(driver.tell(at, Event::Ended { attempt, end }), []);
        assert_eq!(started(&driver.wait()), [(attempt + 1, 0, AttemptKind::Retry)]);
        assert_eq!(driver.now, at + 7 * S);
    }
    assert_eq!(resolved(&driver.fail(driver.now + S, 5, 429)), [(0, Some(5), Verdict::GaveUp)]);
}

#[test]
fn a_silent_call_gets_a_copy_and_the_first_success_cancels_the_other() {
    let (mut driver, _) = Driver::queued("hedged", 4, "{}", 2);
    driver.ok(S, 1);
    let actions = driver.wait();
    assert_eq!((driver.now, started(&actions)), (8 * S, vec![(2, 0, AttemptKind::Hedge)]));
    let actions = driver.ok(11 * S, 2);
    assert_eq!(cancelled(&actions), [(0, CancelWhy::Lost)]);
    assert_eq!(resolved(&actions), [(0, Some(2), Verdict::Ok)]);
    let late = End { tokens_out: 5, ..End::default() };
    assert_eq!(driver.tell(12 * S, Event::Ended { attempt: 0, end: late }), []);
    let totals = driver.policy.totals();
    assert_eq!((totals.hedges_won, totals.tokens_wasted, totals.in_flight), (1, 5, 0));
}

#[test]
fn a_failed_copy_never_fails_a_live_one() {
    let (mut driver, _) = Driver::queued("hedged", 4, "{}", 1);
    driver.wait();
    assert_eq!(driver.fail(9 * S, 1, 400), []);
    let actions = driver.ok(10 * S, 0);
    assert_eq!(resolved(&actions), [(0, Some(0), Verdict::Ok)]);
}

#[test]
fn an_attempt_that_takes_too_long_is_dropped_and_tried_again() {
    let (mut driver, actions) = Driver::queued("sequential", 1, r#"{"attempt_timeout_s":2}"#, 1);
    assert!(matches!(actions[..], [Action::Start { deadline_ns: 2_000_000_000, .. }]));
    for attempt in 0..4 {
        let actions = driver.wait_for_action();
        assert_eq!(cancelled(&actions), [(attempt, CancelWhy::TimedOut)]);
        if attempt < 3 {
            assert_eq!(started(&driver.wait_for_action()), [(attempt + 1, 0, AttemptKind::Retry)]);
        } else {
            assert_eq!(resolved(&actions), [(0, Some(3), Verdict::TimedOut)]);
        }
    }
    assert_eq!(driver.ok(99 * S, 3), []);
}

#[test]
fn a_call_that_takes_too_long_in_all_ends_with_its_copies() {
    let (mut driver, _) = Driver::queued("hedged", 4, r#"{"call_timeout_s":10}"#, 1);
    let actions = driver.wait();
    assert!(matches!(actions[..], [Action::Start { deadline_ns: 10_000_000_000, .. }]));
    let actions = driver.wait();
    assert_eq!(cancelled(&actions), [(1, CancelWhy::CallTimedOut), (0, CancelWhy::CallTimedOut)]);
    assert_eq!(resolved(&actions), [(0, Some(1), Verdict::TimedOut)]);
}

#[test]
fn cancelling_frees_the_permits_wherever_the_item_is() {
    let (mut driver, _) = Driver::queued("parallel", 2, "{}", 4);
    driver.fail(S, 0, 500);
    assert_eq!(resolved(&driver.tell(S, Event::Cancel { item: 0 })), [(0, None, Verdict::Cancelled)]);
    let actions = driver.tell(S, Event::Cancel { item: 1 });
    assert_eq!(cancelled(&actions), [(1, CancelWhy::CallerLeft)]);
    assert_eq!(started(&actions), [(3, 3, AttemptKind::First)]);
    driver.tell(S, Event::Cancel { item: 2 });
    driver.tell(S, Event::Cancel { item: 3 });
    driver.tell(S, Event::Cancel { item: 3 });
    let totals = driver.policy.totals();
    assert_eq!((totals.in_flight, totals.waiting, totals.backing_off, totals.cancelled), (0, 0, 0, 4));
}

#[test]
fn where_answers_are_streamed_the_first_token_decides_and_a_broken_winner_is_tried_again() {
    let (mut driver, _) = Driver::queued("hedged", 4, r#"{"streaming":true}"#, 2);
    assert_eq!(driver.tell(S, Event::FirstToken { attempt: 0 }), []);
    assert_eq!(started(&driver.wait()), [(2, 1, AttemptKind::Hedge)]);
    let actions = driver.tell(9 * S, Event::FirstToken { attempt: 2 });
    assert_eq!(cancelled(&actions), [(1, CancelWhy::Lost)]);
    let end = End { outcome: Outcome::Broken, ..End::default() };
    assert_eq!(driver.tell(10 * S, Event::Ended { attempt: 2, end }), []);
    assert_eq!(started(&driver.wait_for_action()), [(3, 1, AttemptKind::Retry)]);
    assert_eq!(driver.policy.totals().in_flight, 2);
}

#[test]
fn a_node_that_fails_gets_one_probe_after_its_cooldown_and_then_everybody() {
    let (mut driver, first) = Driver::queued("parallel", 10, r#"{"limit":{"n":10},"retry":{"jitter":"none"}}"#, 10);
    assert_eq!(started(&first).len(), 10);
    (0..10).for_each(|attempt| drop(driver.fail(S, attempt, 0)));
    let totals = driver.policy.totals();
    assert_eq!((totals.in_flight, totals.failed), (0, 0));
    let actions = driver.wait_for_action();
    assert_eq!(driver.now, 31 * S);
    let probe = started(&actions);
    assert!(matches!(probe[..], [(_, _, AttemptKind::Probe)]), "{probe:?}");
    let actions = driver.ok(32 * S, probe[0].0);
    assert_eq!(started(&actions).len(), 9);
}

fn with_status(status: u16) -> Option<End> {
    Some(End { outcome: Outcome::Failed, status, ..End::default() })
}

fn unreached() -> Option<End> {
    Some(End { outcome: Outcome::Unreached, ..End::default() })
}

/// A service that answers after a second, but while it is down fails so at once, or says nothing at all.
fn survive_outage(strategy: &str, overrides: &str, fails: Option<End>, down: std::ops::Range<u64>) -> Driver {
    let (mut driver, actions) = Driver::queued(strategy, 32, overrides, 400);
    let mut due: BTreeMap<(u64, AttemptId), End> = BTreeMap::new();
    let mut take = |driver: &mut Driver, actions: Vec<Action>| {
        let now = driver.now;
        for action in actions {
            match action {
                Action::Start { attempt, .. } if down.contains(&now) => {
                    let Some(end) = fails else { continue };
                    due.insert((now + S / 1_000, attempt), end);
                }
                Action::Start { attempt, .. } => drop(due.insert((now + S, attempt), End::default())),
                Action::Cancel { attempt, .. } => due.retain(|&(_, other), _| other != attempt),
                Action::Resolve { .. } => {}
            }
        }
        let wake = driver.policy.next_deadline().unwrap_or(u64::MAX);
        match due.first_entry() {
            Some(entry) if entry.key().0 <= wake => {
                let ((at, attempt), end) = entry.remove_entry();
                Some(driver.tell(at.max(now), Event::Ended { attempt, end }))
            }
            _ if wake < u64::MAX => Some(driver.wait()),
            _ => None,
        }
    };
    let mut next = Some(actions);
    while let Some(actions) = next {
        next = take(&mut driver, actions);
    }
    driver
}

#[test]
fn a_service_that_is_down_for_a_minute_costs_no_item_and_few_requests() {
    for strategy in ["parallel", "adaptive_ceiling", "hedged"] {
        for status in [0, 500, 503] {
            let driver = survive_outage(strategy, "{}", with_status(status), 3 * S..63 * S);
            let totals = driver.policy.totals();
            assert_eq!(totals.ok, 400, "{strategy} and {status}: {totals:?}");
            assert!(totals.attempts < 700, "{strategy} and {status}: {totals:?}");
            // Two at a time take 200 s without the outage; whoever learned to go slowly must learn to go on.
            assert!(driver.now < 300 * S, "{strategy} and {status}: {} s", driver.now / S);
        }
    }
}

#[test]
fn a_service_that_is_silent_for_a_minute_costs_few_items_and_few_requests() {
    for strategy in ["parallel", "adaptive_ceiling", "hedged", "auto"] {
        let driver = survive_outage(strategy, r#"{"attempt_timeout_s":5}"#, None, 3 * S..63 * S);
        let totals = driver.policy.totals();
        assert!(totals.ok >= 360 && totals.attempts < 700, "{strategy}: {totals:?}");
        assert!(totals.probes > 0 || strategy == "parallel", "{strategy}: {totals:?}");
        assert!(driver.now < 300 * S, "{strategy}: {} s", driver.now / S);
    }
}

#[test]
fn what_is_refused_for_the_first_time_keeps_its_place_in_the_line() {
    for strategy in ["parallel", "auto"] {
        let (mut driver, first) = Driver::queued(strategy, 2, r#"{"retry":{"jitter":"none","base_s":0.1}}"#, 9);
        assert_eq!(started(&first).len(), 2, "{strategy}");
        driver.ok(S, 0);
        let refused = End { outcome: Outcome::Failed, status: 429, ..End::default() };
        let beside = started(&driver.tell(2 * S, Event::Ended { attempt: 1, end: refused }));
        let mut next = driver.ok(3 * S, 2);
        while started(&next).is_empty() {
            next = driver.wait();
        }
        assert_eq!(started(&next)[0].1, 1, "{strategy}: before those who wait for their first turn");
        // Who is refused again may be at fault itself: the others don't wait for it.
        let again = started(&next)[0].0;
        let mut running: Vec<AttemptId> = beside.iter().map(|start| start.0).collect();
        running.extend(started(&next).iter().skip(1).map(|start| start.0));
        let mut order: Vec<ItemId> = Vec::new();
        next = driver.tell(driver.now + S, Event::Ended { attempt: again, end: refused });
        while driver.policy.totals().ok < 9 {
            order.extend(started(&next).iter().map(|start| start.1));
            running.extend(started(&next).iter().map(|start| start.0));
            next = match running.is_empty() {
                false => driver.ok(driver.now + S, running.remove(0)),
                true => driver.wait(),
            };
        }
        assert_eq!(order.last(), Some(&1), "{strategy}: {order:?}");
    }
}

#[test]
fn a_service_that_is_gone_ends_the_batch_in_time() {
    let driver = survive_outage("parallel", "{}", with_status(0), 0..u64::MAX);
    let totals = driver.policy.totals();
    assert_eq!((totals.ok, totals.queued), (0, totals.failed + totals.gave_up));
    assert!(totals.gave_up > 300 && totals.attempts < 100, "{totals:?}");
    assert!(driver.now < 1_000 * S, "{} s", driver.now / S);
}

#[test]
fn where_nobody_ever_was_the_batch_ends_after_one_probe_in_vain() {
    for (strategy, overrides) in [
        ("sequential", "{}"),
        ("parallel", "{}"),
        ("parallel", r#"{"limit":{"n":300}}"#),
        ("adaptive_ceiling", "{}"),
        ("hedged", "{}"),
        ("auto", "{}"),
    ] {
        let driver = survive_outage(strategy, overrides, unreached(), 0..u64::MAX);
        let totals = driver.policy.totals();
        assert_eq!((totals.ok, totals.failed + totals.gave_up), (0, 400), "{strategy}: {totals:?}");
        assert_eq!(totals.probes, 1, "{strategy}: {totals:?}");
        assert!((30 * S..40 * S).contains(&driver.now), "{strategy}: {} s", driver.now / S);
    }
}

#[test]
fn who_was_there_once_is_waited_for() {
    let driver = survive_outage("parallel", "{}", unreached(), 3 * S..200 * S);
    let totals = driver.policy.totals();
    assert!(totals.gave_up == 0 && totals.ok > 380, "{totals:?}");
    // An answer of any kind says that somebody is there.
    let driver = survive_outage("parallel", "{}", with_status(502), 0..200 * S);
    assert_eq!(driver.policy.totals().gave_up, 0);
}

#[test]
fn one_item_that_always_fails_opens_no_breaker_and_spares_the_others() {
    let (mut driver, mut actions) = Driver::queued("parallel", 2, r#"{"breaker":{"calls":2,"share":0.4}}"#, 30);
    let mut resolutions = Vec::new();
    while let Some(&(attempt, item, kind)) = started(&actions).first() {
        assert_ne!(kind, AttemptKind::Probe);
        let rest: Vec<_> = started(&actions).into_iter().skip(1).collect();
        assert!(rest.len() <= 1);
        actions = match item {
            0 => driver.fail(driver.now + S, attempt, 500),
            _ => driver.ok(driver.now + S, attempt),
        };
        resolutions.extend(resolved(&actions));
        for (attempt, ..) in rest {
            let more = driver.ok(driver.now, attempt);
            resolutions.extend(resolved(&more));
            actions.extend(more);
        }
        if started(&actions).is_empty() && driver.policy.next_deadline().is_some() {
            actions = driver.wait();
        }
    }
    assert_eq!(driver.policy.totals().ok, 29);
    assert_eq!(resolutions.len(), 30);
    assert!(resolutions.iter().any(|&(item, _, verdict)| (item, verdict) == (0, Verdict::Failed)));
}

#[test]
fn retries_beyond_the_budget_are_put_off_and_not_given_up() {
    let overrides =
        r#"{"limit":{"n":30},"breaker":null,"retry":{"jitter":"none","reserve":2,"budget":0.1,"per_s":0.5}}"#;
    let (mut driver, _) = Driver::queued("parallel", 30, overrides, 30);
    (0..30).for_each(|attempt| drop(driver.fail(0, attempt, 404 + 4)));
    let actions = driver.wait();
    assert_eq!((driver.now, started(&actions).len()), (S / 2, 5), "2, a tenth of 30, and not yet one for the time");
    let actions = driver.wait_for_action();
    assert_eq!((driver.now.div_ceil(S / 100), started(&actions).len()), (250, 1));
    // What succeeds is given back.
    let actions = driver.ok(driver.now, 30);
    assert_eq!(started(&actions).len(), 1);
    let totals = driver.policy.totals();
    assert_eq!((totals.backing_off, totals.failed, totals.gave_up), (23, 0, 0));
}

#[test]
fn a_copy_and_a_retry_go_to_another_node_where_there_is_one() {
    let node_of = |actions: &[Action]| match actions {
        [Action::Start { node, .. }] => *node,
        other => panic!("{other:?}"),
    };
    let (mut driver, first) = Driver::queued("hedged", 8, r#"{"nodes":3}"#, 1);
    let copy = driver.wait();
    assert_eq!((node_of(&first), node_of(&copy)), (0, 1));
    let (mut driver, first) = Driver::queued("parallel", 2, r#"{"nodes":2}"#, 1);
    driver.fail(S, 0, 500);
    let retry = driver.wait_for_action();
    assert_eq!((node_of(&first), node_of(&retry)), (0, 1));
}

#[test]
fn waits_are_told_apart_by_what_held_the_line_back() {
    let overrides = r#"{"limit":{"n":1},"rates":{"rpm":6,"burst":0.1}}"#;
    let (mut driver, _) = Driver::queued("parallel", 1, overrides, 2);
    assert_eq!(driver.ok(4 * S, 0).len(), 1);
    let actions = driver.wait();
    assert_eq!((driver.now, started(&actions)), (10 * S, vec![(1, 1, AttemptKind::First)]));
    driver.ok(11 * S, 1);
    let item = driver.policy.items().get(1).unwrap();
    assert_eq!((item.limit_ns, item.rate_ns, item.backoff_ns), (4 * S, 6 * S, 0));
    let totals = driver.policy.totals();
    assert_eq!((totals.limit_wait_ns, totals.rate_wait_ns), (4 * S, 6 * S));
}

#[test]
fn tokens_are_reserved_at_the_start_and_settled_at_the_end() {
    let mut driver = Driver::new("parallel", 4, r#"{"limit":{"n":4},"rates":{"tpm":6000,"learn":false}}"#);
    let actions = driver.tell(0, Event::Queued { count: 3, key: 0, tokens: 300 });
    assert_eq!(started(&actions).len(), 2);
    let end = End { tokens_in: 10, tokens_out: 10, ..End::default() };
    assert_eq!(started(&driver.tell(0, Event::Ended { attempt: 0, end })).len(), 0, "20 short of 300");
    let end = End { tokens_in: 10, tokens_out: 10, ..End::default() };
    assert_eq!(started(&driver.tell(0, Event::Ended { attempt: 1, end })).len(), 1);
    assert_eq!(driver.policy.totals().tokens_used, 40);
}

#[test]
fn a_remembered_limit_is_where_the_next_run_begins() {
    let (_, first) = Driver::queued("adaptive_ceiling", 64, r#"{"remembered":{"limit":9}}"#, 64);
    assert_eq!(started(&first).len(), 9);
}

#[test]
fn a_copy_that_failed_is_made_again_at_once_but_only_once() {
    let (mut driver, _) = Driver::queued("auto", 8, r#"{"limit":{"kind":"fixed","n":10},"pacer":null}"#, 8);
    (0..6).for_each(|attempt| drop(driver.ok(S, attempt)));
    let mut copies = Vec::new();
    while copies.len() < 2 {
        copies.extend(started(&driver.wait()));
    }
    assert_eq!(copies, [(8, 6, AttemptKind::Hedge), (9, 7, AttemptKind::Hedge)]);
    // The other call is silent for less long by now: this one must not stand behind it.
    assert_eq!(started(&driver.fail(driver.now, 8, 500)), [(10, 6, AttemptKind::Hedge)]);
    assert_eq!(started(&driver.fail(driver.now, 10, 500)), []);
}
