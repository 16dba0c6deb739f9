//! What an attempt came to, in the policy's words.

use crate::engine::request::Given;
use crate::http::{Allowance, Hints};
use crate::policy::{self, End, Outcome, Quota, RateHint, Retryable};
use crate::record::{AttemptKind, Detail, Failure, Row, UNSET};

/// How an attempt ended.
///
/// With `others`, there are nodes beside this one: what speaks of a node rather than of the item says nothing against them.
pub(super) fn end_of(given: &Given, others: bool) -> End {
    let row = &given.row;
    let of_the_node = others && is_of_the_node(row);
    let (outcome, retryable) = judged(row);
    End {
        outcome,
        // A policy would judge the item by it.
        status: if of_the_node { 0 } else { row.status },
        retry_after_ns: given.hints.retry_after_ns,
        tokens_in: row.tokens_in.unwrap_or(0),
        tokens_out: row.tokens_out.unwrap_or(0),
        retryable: if of_the_node { Retryable::Yes } else { retryable },
    }
}

fn judged(row: &Row) -> (Outcome, Retryable) {
    let again = if is_lasting(row.detail) { Retryable::No } else { Retryable::Yes };
    match row.failure {
        Failure::None => (Outcome::Ok, Retryable::ByStatus),
        // Which of them push back, and which are worth another attempt, is the policy's to say.
        Failure::Http => (Outcome::Failed, Retryable::ByStatus),
        Failure::Timeout => (Outcome::TimedOut, Retryable::Yes),
        Failure::Stall => (Outcome::Stalled, Retryable::Yes),
        Failure::Cancelled => (Outcome::Cancelled, Retryable::No),
        Failure::Connect | Failure::Tls => (Outcome::Unreached, again),
        Failure::Protocol | Failure::Body if row.stamps.first_token != UNSET => (Outcome::Broken, again),
        Failure::Protocol | Failure::Body => (Outcome::Failed, again),
    }
}

/// Whether a failure comes of how the node is set up, so that another may do what this one can't.
fn is_of_the_node(row: &Row) -> bool {
    match row.failure {
        Failure::Http => matches!(row.status, 401 | 403 | 404 | 405 | 501),
        Failure::Connect | Failure::Tls | Failure::Protocol | Failure::Body => {
            row.stamps.first_token == UNSET && is_lasting(row.detail)
        }
        _ => false,
    }
}

/// What the same request would meet again: it speaks of who answers and how, not of this answer.
fn is_lasting(detail: Detail) -> bool {
    matches!(
        detail,
        Detail::Certificate
            | Detail::BadHead
            | Detail::HeadTooBig
            | Detail::LineTooLong
            | Detail::BodyTooBig
            | Detail::Encoding
            | Detail::ContentType
            | Detail::Redirect
            | Detail::Upgrade
    )
}

/// The rate limits that an answer told, if it told any.
pub(super) fn rates_of(hints: &Hints) -> Option<RateHint> {
    let quota = |Allowance { limit, remaining, reset_ns }| Quota { limit, remaining, reset_ns };
    let told = |allowance: Allowance| allowance.is_told().then(|| quota(allowance));
    let hint = RateHint { requests: told(hints.requests), tokens: told(hints.tokens) };
    (hint != RateHint::default()).then_some(hint)
}

/// The word in the log for why an attempt was made.
pub(super) fn kind_of(kind: policy::AttemptKind) -> AttemptKind {
    match kind {
        policy::AttemptKind::First => AttemptKind::First,
        // A probe is an item's next attempt, at a node that may be well again.
        policy::AttemptKind::Retry | policy::AttemptKind::Probe => AttemptKind::Retry,
        policy::AttemptKind::Hedge => AttemptKind::Hedge,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Stamps;

    fn judge(failure: Failure, detail: Detail, first_token: u64) -> (Outcome, Retryable) {
        judged(&Row { failure, detail, stamps: Stamps { first_token, ..Stamps::default() }, ..Row::default() })
    }

    #[test]
    fn what_would_happen_again_is_not_tried_again() {
        assert_eq!(judge(Failure::Tls, Detail::Certificate, 0), (Outcome::Unreached, Retryable::No));
        assert_eq!(judge(Failure::Tls, Detail::Reset, 0), (Outcome::Unreached, Retryable::Yes));
        assert_eq!(judge(Failure::Connect, Detail::Refused, 0), (Outcome::Unreached, Retryable::Yes));
        assert_eq!(judge(Failure::Protocol, Detail::ContentType, 0), (Outcome::Failed, Retryable::No));
    }

    #[test]
    fn a_stream_breaks_only_after_its_first_token() {
        assert_eq!(judge(Failure::Body, Detail::EarlyEnd, 0), (Outcome::Failed, Retryable::Yes));
        assert_eq!(judge(Failure::Body, Detail::EarlyEnd, 7), (Outcome::Broken, Retryable::Yes));
        assert_eq!(judge(Failure::Stall, Detail::None, 7), (Outcome::Stalled, Retryable::Yes));
    }

    #[test]
    fn what_speaks_of_a_node_says_nothing_against_the_others() {
        let of = |failure, status, detail| is_of_the_node(&Row { failure, status, detail, ..Row::default() });
        assert!(of(Failure::Http, 404, Detail::None) && of(Failure::Protocol, 200, Detail::ContentType));
        assert!(!of(Failure::Http, 400, Detail::None) && !of(Failure::Http, 500, Detail::None));
        assert!(!of(Failure::Body, 200, Detail::EarlyEnd) && !of(Failure::Timeout, 0, Detail::None));
    }

    #[test]
    fn a_status_is_judged_by_the_policy() {
        assert_eq!(judge(Failure::Http, Detail::None, 0), (Outcome::Failed, Retryable::ByStatus));
    }

    #[test]
    fn rates_are_told_only_where_an_answer_spoke_of_them() {
        assert_eq!(rates_of(&Hints { retry_after_ns: Some(5), ..Hints::default() }), None);
        let requests = Allowance { remaining: Some(0), ..Allowance::default() };
        let hint = rates_of(&Hints { requests, ..Hints::default() }).unwrap();
        assert_eq!((hint.requests.unwrap().remaining, hint.tokens), (Some(0), None));
    }
}
