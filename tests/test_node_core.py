"""The core's side of nodes: what a policy tells of them, and the simulator that spreads batches in virtual time."""

from __future__ import annotations

import json
import re

import pytest

from loadgen import _core

PUBLISHED = [{"service_s": 0.1}, {"service_s": 1.0}, {"service_s": 1.0}]


def _policy() -> _core.Policy:
    route = {"nodes": [{"slots": 1, "service_s": 0.5}, {"slots": 2}]}
    limit = {"kind": "fixed", "n": 3}
    breaker = {"failures": 2, "cooldown_s": 10}
    return _core.Policy(
        _core.policy_config("parallel", 3, json.dumps({"route": route, "limit": limit, "breaker": breaker}))
    )


def test_a_policy_tells_what_it_knows_of_each_node() -> None:
    policy = _policy()
    assert [node[0] for node in policy.nodes()] == [pytest.approx(0.5), None]
    policy.queue(0, 5)
    started = [action for action in policy.poll(0) if action[0] == 0]
    assert sorted(action[4] for action in started) == [0, 1, 1]
    assert [node[1] for node in policy.nodes()] == [1, 2]
    for _, attempt, _, _, node, _ in started:
        policy.ended(1_000_000_000, attempt, 0 if node == 0 else 2, 0, None, 0, 0, 1)
    (first, second) = policy.nodes()
    assert first[1:] == (0, 1, 0, 0, 0, 0, 1)
    assert second[1:] == (0, 0, 2, 0, 2, 1, 1), "two failures in a row open its breaker: one item shows how it is"
    [probe] = [action for action in policy.poll(1_000_000_000) if action[0] == 0 and action[3] == 3]
    assert (probe[2], probe[4]) == (4, 1), "the last in line: its neighbours may be at fault themselves"
    policy.ended(1_000_000_000, probe[1], 2, 0, None, 0, 0, 1)
    assert policy.nodes()[1][6] == 2, "that failed too: it is down"
    late = 12_000_000_000
    policy.queue(late, 1)
    assert policy.nodes()[1][6] == 1, "its cooldown is over: it is half-open"


def test_a_policy_is_told_how_much_room_a_node_has() -> None:
    policy = _policy()
    policy.room(0, 1, 0)
    policy.queue(0, 5)
    assert [action[4] for action in policy.poll(0)] == [0]
    assert [node[6] for node in policy.nodes()] == [0, 2]
    policy.room(5, 1, 1)
    assert [action[4] for action in policy.poll(5)] == [1], "one at a time from now on"
    assert [node[6] for node in policy.nodes()] == [0, 0]


def test_a_node_learns_in_virtual_time_how_many_items_a_request_carries() -> None:
    learner = {"batch": 64, "slots": 64, "start": 4}
    nodes = [{"service_s": 0.001, "request_s": 0.1, **learner}, {"service_s": 0.02, **learner}]
    _, [(makespan, ok, failed, _, served)] = _core.simulate_nodes(json.dumps(nodes), 2_000, [1])
    assert (ok, failed) == (2_000, 0)
    # 64 in 0.164 s and 50 a second are 440 a second; one at a time 60.
    assert makespan < 1.3 * 2_000 / 440
    assert served[0] > 4 * served[1]


def test_a_policy_without_a_route_knows_no_nodes() -> None:
    assert _core.Policy(_core.policy_config("parallel", 2)).nodes() == []


@pytest.mark.parametrize("known", [True, False])
def test_the_simulator_spreads_the_published_example(known: bool) -> None:
    best, batches = _core.simulate_nodes(json.dumps(PUBLISHED), 100, [1, 2], known=known)
    assert best == pytest.approx(8.4)
    for makespan, ok, failed, _, served in batches:
        assert (ok, failed, sum(served)) == (100, 0, 100)
        assert makespan <= 1.02 * best


def test_the_fastest_alone_and_all_of_them_are_what_they_say() -> None:
    nodes = json.dumps(PUBLISHED)
    _, [(alone, *_, served)] = _core.simulate_nodes(nodes, 100, [1], spread='{"fastest": 1}', known=True)
    assert alone == pytest.approx(10.0)
    assert served == [100, 0, 0]
    _, [(_, ok, _, _, everyone)] = _core.simulate_nodes(nodes, 100, [1], spread='"all"')
    assert ok == 100
    assert min(everyone) > 0


def test_a_node_that_goes_down_in_the_simulator_loses_nothing() -> None:
    nodes = json.dumps([{"service_s": 0.1, "down": [[1.0, 1e9]]}, {"service_s": 0.2}])
    _, [(_, ok, failed, _, served)] = _core.simulate_nodes(nodes, 50, [3])
    assert (ok, failed) == (50, 0)
    assert served[0] <= 10


@pytest.mark.parametrize(
    ("nodes", "spread", "words"),
    [
        ("{", '"auto"', "the nodes can't be read"),
        ('[{"speed": 1}]', '"auto"', "unknown field `speed`"),
        ('[{"service_s": 0}]', '"auto"', "service_s must be finite and above 0, not 0"),
        ('[{"slots": 0}]', '"auto"', "slots must be finite and above 0, not 0"),
        ('[{"noise": 9}]', '"auto"', "noise must be from 0 to 3, not 9"),
        ("[{}]", "fast", "the spread can't be read"),
        ("[]", '"auto"', "must be a whole number from 1"),
    ],
)
def test_what_cant_be_simulated_says_why(nodes: str, spread: str, words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        _core.simulate_nodes(nodes, 1, [1], spread=spread)
