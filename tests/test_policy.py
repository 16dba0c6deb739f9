"""The policy as Python sees it: its numbers, its words for what can't be, and its recordings."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from loadgen import _core

S = 1_000_000_000
START, CANCEL, RESOLVE = 0, 1, 2


def policy(strategy: str, most: int = 64, **overrides: object) -> _core.Policy:
    return _core.Policy(_core.policy_config(strategy, most, json.dumps(overrides)), record=True)


def test_a_batch_goes_from_queueing_to_resolution() -> None:
    sequential = policy("sequential")
    assert sequential.queue(0, 2, tokens=7) == 0
    assert sequential.poll(0) == [(START, 0, 0, 0, 0, 90 * S)]
    assert sequential.next_deadline() == 90 * S
    sequential.first_byte(S, 0)
    sequential.ended(2 * S, 0, 0, 200, tokens_in=3, tokens_out=4)
    assert sequential.poll(2 * S) == [(RESOLVE, 0, 0, 0, 0, 0), (START, 1, 1, 0, 0, 92 * S)]
    assert sequential.ended_poll(5 * S, 1) == [(RESOLVE, 1, 1, 0, 0, 0)]
    assert not sequential.is_done()
    sequential.close(5 * S)
    assert sequential.is_done()
    assert sequential.next_deadline() is None
    assert sequential.item(1) == (0, 0, 7, 0, 1, 2 * S, 0, 0)
    assert sequential.attempts_of(0) == [(0, 0, 0, 0, 200, 0, S, 2 * S, 3, 4)]
    totals = sequential.totals()
    assert (totals["ok"], totals["attempts"], totals["tokens_used"], totals["limit_wait_ns"]) == (2, 2, 7, 2 * S)


def test_a_copy_wins_and_the_other_is_cancelled() -> None:
    hedged = policy("hedged", 4, hedge={"after_s": 2})
    hedged.queue(0, 1)
    hedged.poll(0)
    due = hedged.next_deadline()
    assert due == 2 * S
    assert hedged.poll(due) == [(START, 1, 0, 2, 0, 92 * S)]
    assert hedged.ended_poll(3 * S, 1) == [(CANCEL, 0, -1, 0, 0, 0), (RESOLVE, 1, 0, 0, 0, 0)]
    kinds_and_fates = [(kind, fate) for _, kind, _, fate, *_ in hedged.attempts_of(0)]
    assert kinds_and_fates == [(0, 7), (2, 0)]


def test_what_headers_tell_holds_starts_back() -> None:
    told = policy("parallel", 4, limit={"n": 4})
    told.told(0, requests=(60, 1, 2 * S))
    told.queue(0, 2)
    assert len(told.poll(0)) == 1
    assert told.next_deadline() == S
    told.told(0, requests=(None, 0, 5 * S), tokens=(None, None, None))
    assert told.poll(S) == []
    assert told.next_deadline() == 5 * S


def test_the_trace_has_a_column_for_each_thing() -> None:
    adaptive = policy("adaptive_ceiling", 8)
    adaptive.queue(0, 8)
    adaptive.poll(0)
    adaptive.ended(S, 0, 2, 429)
    times, limits, rates, in_flight, hedges = adaptive.trace()
    assert (times[-1], limits[-1], rates[-1], in_flight[-1], hedges[-1]) == (S, 4, None, 7, 0)
    assert max(limits) == 8


def test_a_recording_replays_to_the_same_actions_and_tells_when_it_does_not() -> None:
    hedged = policy("hedged", 4)
    hedged.queue(0, 9)
    hedged.poll(0)
    hedged.ended(S, 0, 2, 500)
    hedged.cancel(S, 3)
    hedged.poll(S)
    while (due := hedged.next_deadline()) is not None and due < 60 * S:
        hedged.poll(due)
    recording = hedged.recording()
    assert recording is not None
    config = _core.policy_config("hedged", 4)
    now, then = _core.replay_policy(config, 0, recording)
    assert now == then
    assert len(now) == 8
    other, then = _core.replay_policy(_core.policy_config("hedged", 3), 0, recording)
    assert other != then


def test_only_a_policy_that_was_asked_to_record_has_a_recording() -> None:
    assert _core.Policy(_core.policy_config("parallel", 2)).recording() is None


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            lambda: _core.policy_config("quick", 1),
            "the choices are sequential, parallel, adaptive_ceiling, hedged, auto",
        ),
        (lambda: _core.policy_config("hedged", 0), "max_concurrency must be a whole number from 1 to 1000000, not 0"),
        (lambda: _core.policy_config("hedged", -5), "not 0"),
        (lambda: _core.policy_config("hedged", 2**40), "not 4294967295"),
        (
            lambda: _core.policy_config("hedged", 1, '{"retry":{"budget":2}}'),
            "retry.budget must be a share from 0 to 1",
        ),
        (lambda: _core.policy_config("hedged", 1, '{"hedge":{"after":2}}'), "unknown field `after`"),
        (lambda: _core.policy_config("hedged", 1, profile="y"), "the choices are fmsr"),
        (lambda: _core.Policy("{"), "the policy can't be read"),
        (lambda: policy("parallel").ended(0, 0, 9), "an outcome is a number from 0 to 7, not 9"),
        (lambda: policy("parallel").ended(0, 0, retryable=3), "retryable is a number from 0 to 2, not 3"),
        (lambda: policy("parallel").queue(0, 2**32 - 1), "a policy holds 4294967294 items"),
        (lambda: _core.replay_policy(_core.policy_config("parallel", 2), 0, "[]"), "the recording of a policy"),
    ],
)
def test_what_can_not_be_says_which_value_and_which_rule(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        make()


def test_an_item_that_was_never_queued_is_an_index_error() -> None:
    with pytest.raises(IndexError, match="there are 0 items: none has the number 3"):
        policy("parallel").item(3)
    assert policy("parallel").attempts_of(3) == []


def test_the_published_profile_counts_every_500_as_push_back() -> None:
    config = json.loads(_core.policy_config("adaptive_ceiling", 8, profile="fmsr"))
    published = _core.Policy(json.dumps(config))
    published.queue(0, 8)
    published.poll(0)
    published.ended(S, 0, 2, 500)
    assert published.totals()["limit"] == 4
    plain = policy("adaptive_ceiling", 8)
    plain.queue(0, 8)
    plain.poll(0)
    plain.ended(S, 0, 2, 500)
    assert plain.totals()["limit"] == 8
