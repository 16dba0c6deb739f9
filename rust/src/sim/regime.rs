//! The services that strategies are compared on: R0 to R6 of the published experiment, and ones drawn at random.

use super::draw::Draws;
use super::service::{Failing, Latency, Rate, Service, Stall};

/// A service with a number of calls to make of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Regime {
    /// Its name, `R0` to `R6`.
    pub name: &'static str,
    /// Calls.
    pub items: u32,
    /// Who answers them.
    pub service: Service,
}

/// R0 to R6, in order.
///
/// Where the experiment's description leaves something open, this is what holds here: a stall takes the place of the
/// ordinary latency, a fast 500 comes after 0.2 s, a refusal after 0.1 s, a `Retry-After` is in whole seconds, a copy
/// of a call that stalls with its item stalls for a time of its own, and a cancelled call's place is free at once.
pub fn regimes() -> [Regime; 7] {
    let regime = |name, items, service| Regime { name, items, service };
    [
        regime("R0", 63, published(0.085)),
        regime("R1", 77, published(0.065)),
        regime("R2", 77, with_stall(Stall { of_item: 0.5, ..stalls(0.065) })),
        regime("R3", 77, Service { slots: Some(24), most: Some(60), ..published(0.065) }),
        regime("R4", 77, Service { rate: Some(bucket(5.0, 20.0)), ..published(0.065) }),
        regime("R5", 500, Service { slots: Some(48), rate: Some(bucket(12.0, 12.0)), ..published(0.065) }),
        regime("R6", 63, published(0.10)),
    ]
}

/// The regime of this name; `None` where there is none.
pub fn regime(name: &str) -> Option<Regime> {
    regimes().into_iter().find(|r| r.name.eq_ignore_ascii_case(name))
}

/// A service drawn at random: stalls 0–15 %, capacity 4–200 (half of them refuse what is above 2.5 times that), 1–50
/// calls per second (half of them with no such limit), median latency 0.5–8 s; and 20–400 calls of it.
pub fn random(seed: u64) -> Regime {
    let draws = Draws::new(seed, 0, 0);
    let between = |k, low: f64, high: f64| low + (high - low) * draws.unit(k);
    let log_between = |k, low: f64, high: f64| low * (high / low).powf(draws.unit(k));
    let median_s = log_between(0, 0.5, 8.0);
    let slots = log_between(1, 4.0, 200.0).round() as u32;
    let per_s = log_between(2, 1.0, 50.0);
    let service = Service {
        latency: Latency::Lognormal { median_s, sigma: between(3, 0.15, 0.6) },
        stall: Some(Stall {
            share: between(4, 0.0, 0.15),
            low_s: 6.0 * median_s,
            high_s: 30.0 * median_s,
            of_item: if draws.unit(5) < 0.25 { 0.5 } else { 0.0 },
        }),
        error: Some(fast_500(between(6, 0.0, 0.03))),
        slots: Some(slots),
        most: (draws.unit(7) < 0.5).then(|| (f64::from(slots) * 2.5) as u32),
        rate: (draws.unit(8) < 0.5).then(|| bucket(per_s, (per_s * between(9, 1.0, 4.0)).max(1.0))),
        ..Service::of(Latency::Constant { seconds: 1.0 })
    };
    Regime { name: "random", items: log_between(10, 20.0, 400.0) as u32, service }
}

/// What all of R0 to R6 share: lognormal latency, stalls, and one fast 500 in a hundred.
fn published(stalled: f64) -> Service {
    with_stall(stalls(stalled))
}

fn with_stall(stall: Stall) -> Service {
    Service {
        stall: Some(stall),
        error: Some(fast_500(0.01)),
        ..Service::of(Latency::Lognormal { median_s: 3.0, sigma: 0.35 })
    }
}

const fn stalls(share: f64) -> Stall {
    Stall { share, low_s: 20.0, high_s: 90.0, of_item: 0.0 }
}

const fn fast_500(share: f64) -> Failing {
    Failing { share, after_s: 0.2, status: 500 }
}

const fn bucket(per_s: f64, burst: f64) -> Rate {
    Rate { per_s, burst, retry_after: true, retry_after_ms: false }
}
