//! What the log keeps of a policy.

use serde_json::{Value, json};

use crate::policy::{Point, Policy};

/// What the log keeps of a policy: its sums, and how its limit changed over time, as columns (`t_ns` from the phase's start).
pub(in crate::engine) fn account(policy: &Policy) -> Value {
    let mut account = json!(policy.totals());
    let points: Vec<Point> = policy.trace().points().collect();
    let column = |of: fn(&Point) -> Value| points.iter().map(of).collect::<Vec<_>>();
    account["trace"] = json!({
        "t_ns": column(|p| p.at_ns.into()),
        "limit": column(|p| p.limit.into()),
        "rate": column(|p| p.rate.is_finite().then_some(p.rate).into()),
        "in_flight": column(|p| p.in_flight.into()),
        "hedges": column(|p| p.hedges.into()),
    });
    account
}
