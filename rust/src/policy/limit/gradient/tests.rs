use super::*;

const MS: u64 = 1_000_000;

fn gradient(paced: bool) -> Gradient {
    Gradient::new(&GradientConfig::with(1_000), paced, None)
}

fn seen(now: u64, attempt: u32, started: u64, in_flight: u32, signal: Signal) -> Observation {
    Observation {
        now,
        attempt,
        next_attempt: attempt + in_flight,
        started,
        first_byte: None,
        signal,
        status: 0,
        retry_after_ns: None,
        in_flight,
        permits: 0,
        waiting: 100,
        key: 0,
    }
}

/// A service that serves `slots` at once, each for 1 to 1.9 s; the limit after `calls` calls, always as many in flight as
/// it allows.
fn settled(limit: &mut Gradient, slots: usize, calls: u32) -> u32 {
    let (mut now, mut next) = (0, 0);
    let mut line = std::collections::VecDeque::new();
    let mut served: Vec<(u64, u32, u64)> = Vec::new();
    while next < calls {
        limit.tick(now);
        while ((line.len() + served.len()) as u32) < limit.permits() {
            limit.started(now, next, (line.len() + served.len()) as u32 + 1);
            line.push_back((next, now));
            next += 1;
        }
        while served.len() < slots
            && let Some((attempt, started)) = line.pop_front()
        {
            let long = 1_000 + u64::from(attempt.wrapping_mul(2_654_435_761) % 900);
            served.push((now + long * MS, attempt, started));
        }
        let at = (0..served.len()).min_by_key(|&i| served[i]).unwrap();
        if limit.next().is_some_and(|due| due < served[at].0) {
            now = limit.next().unwrap();
            continue;
        }
        let (end, attempt, started) = served.swap_remove(at);
        now = end;
        let in_flight = (line.len() + served.len()) as u32 + 1;
        limit.observe(&Observation { next_attempt: next, ..seen(now, attempt, started, in_flight, Signal::Success) });
    }
    limit.permits()
}

#[test]
fn it_rises_to_its_ceiling_where_nothing_slows_down() {
    assert_eq!(settled(&mut gradient(true), 10_000, 6_000), 1_000);
}

#[test]
fn it_stays_near_what_the_service_serves_at_once() {
    for slots in [16, 24, 100] {
        let limit = settled(&mut gradient(true), slots, 6_000) as usize;
        assert!((slots..=slots * 2).contains(&limit), "{slots} slots: {limit}");
    }
}

#[test]
fn time_raises_it_until_it_would_be_blind_and_answers_from_then_on() {
    let mut limit = gradient(true);
    limit.started(7, 0, 1);
    assert_eq!((limit.permits(), limit.next()), (20, Some(7 + 50 * MS)));
    limit.tick(7 + 500 * MS);
    assert_eq!(limit.permits(), 30);
    limit.tick(7 + 5_000 * MS);
    assert_eq!((limit.permits(), limit.next()), (40, None));
    (1..41).for_each(|i| limit.started(5_000 * MS, i, i + 1));
    limit.observe(&seen(5_100 * MS, 0, 7, 41, Signal::Success));
    assert_eq!(limit.permits(), 41);
    limit.observe(&seen(5_100 * MS, 1, 7, 30, Signal::Success));
    assert_eq!(limit.permits(), 41, "it wasn't what held starts back");
}

#[test]
fn overload_cuts_it_to_what_is_in_flight_once_a_round_trip_and_a_refused_rate_does_not_if_starts_are_paced() {
    let mut limit = gradient(true);
    (0..20).for_each(|i| limit.started(0, i, i + 1));
    let refused = |attempt, in_flight, status| Observation {
        status,
        next_attempt: 20,
        ..seen(100 * MS, attempt, 0, in_flight, Signal::PushBack)
    };
    limit.observe(&refused(19, 20, 429));
    assert_eq!((limit.permits(), limit.next()), (20, None), "but it rises blindly no more");
    limit.observe(&refused(18, 19, 503));
    assert_eq!(limit.permits(), 16);
    limit.observe(&refused(17, 18, 503));
    assert_eq!(limit.permits(), 16);
    limit.observe(&Observation { attempt: 20, ..refused(20, 11, 503) });
    assert_eq!(limit.permits(), 9);

    let mut unpaced = gradient(false);
    unpaced.started(0, 0, 1);
    unpaced.observe(&refused(0, 11, 429));
    assert_eq!(unpaced.permits(), 9);
}

#[test]
fn a_service_that_was_down_is_soon_given_a_share_of_what_it_bore() {
    let mut limit = gradient(true);
    (0..20).for_each(|i| limit.started(0, i, i + 1));
    let refused =
        |attempt| Observation { status: 503, next_attempt: attempt + 1, ..seen(MS, attempt, 0, 2, Signal::PushBack) };
    limit.observe(&refused(0));
    // What was started before it went down tells nothing of its return.
    limit.observe(&Observation { permits: 1, ..seen(2 * MS, 0, 0, 2, Signal::Success) });
    for attempt in 20..30 {
        limit.started(2 * MS, attempt, 1);
        limit.observe(&refused(attempt));
    }
    assert_eq!(limit.permits(), 1);
    for attempt in 30..40 {
        limit.started(3 * MS, attempt, limit.permits());
        limit.observe(&seen(4 * MS, attempt, 3 * MS, limit.permits(), Signal::Success));
    }
    assert_eq!(limit.permits(), 8, "two fifths of 20 soon, the rest with care");
}

#[test]
fn it_keeps_within_its_bounds() {
    let config = GradientConfig { floor: 5, ..GradientConfig::with(30) };
    let mut limit = Gradient::new(&config, false, Some(200));
    assert_eq!(limit.permits(), 30);
    limit.started(0, 0, 1);
    limit.tick(90_000 * MS);
    assert_eq!(limit.permits(), 30);
    limit.observe(&Observation { status: 503, ..seen(MS, 0, 0, 1, Signal::PushBack) });
    assert_eq!((limit.permits(), limit.can_shrink()), (5, false));
}

#[test]
fn a_service_that_has_become_slower_for_everybody_is_believed_in_the_end() {
    let mut limit = gradient(true);
    limit.best = Some((1e9, 50.0));
    let mut windows = 0;
    while limit.compare(3e9, 20.0) * 1.5 < 3e9 {
        windows += 1;
    }
    assert!((10..40).contains(&windows), "{windows}");
    assert!((0..100).all(|_| limit.compare(9e9, 60.0) < 3e9), "with more in flight than ever it isn't");
}
