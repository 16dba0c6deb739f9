"""A pool in virtual time: how batches are spread, what is learned of the nodes, and what survives."""

from __future__ import annotations

import asyncio
import json
import logging
import stat
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.pretty import pretty_repr

import virtual_loop
from loadgen.errors import ConfigError, DispatchError, NodeError
from loadgen.node import Node, NodeBatch, NodePool, Thresholds
from loadgen.node.memory import Speed

FIRST = {"http://a": 0.1, "http://b": 1.0, "http://c": 1.0}
"""The published first example: the fastest is ten times faster."""


def serving(times: Mapping[str, float], asked: Counter[str] | None = None) -> Callable[[Node, int], Awaitable[int]]:
    """A function whose nodes take so many seconds for an item."""

    async def double(node: Node, item: int) -> int:
        if asked is not None:
            asked[node.url] += 1
        await asyncio.sleep(times[node.url])
        return 2 * item

    return double


def run(pool: NodePool, call: Any, items: int, force_mode: str | None = None) -> NodeBatch[Any]:
    batch = virtual_loop.run(lambda loop: pool.amap(call, range(items), force_mode=force_mode))
    assert isinstance(batch, NodeBatch)
    return batch


@pytest.mark.parametrize(
    ("times", "items", "best"),
    [
        ([0.1, 1.0, 1.0], 100, 8.4),
        ([0.10, 0.12, 0.11], 100, 3.7),
        ([0.02, 0.3, 0.3, 0.3], 200, 3.34),
        ([0.02, 0.02, 0.02], 200, 1.34),
        ([0.1, 0.1, 0.1, 0.1], 100, 2.5),
    ],
)
def test_the_published_examples_take_the_least_time_before_and_after_learning(
    times: list[float], items: int, best: float
) -> None:
    by_url = {f"http://node-{i}": time for i, time in enumerate(times)}
    pool = NodePool(list(by_url))
    for _ in range(3):
        batch = run(pool, serving(by_url), items)
        assert batch.wall_s <= 1.05 * best
        assert batch.values == tuple(range(0, 2 * items, 2))
        assert batch.mode == "auto"


def test_each_mode_uses_the_nodes_that_it_says() -> None:
    times = {"http://a": 0.1, "http://b": 0.2, "http://c": 0.3, "http://d": 0.4, "http://e": 0.5}
    pool = NodePool(list(times), top_k=2)
    run(pool, serving(times), 100)
    used = {mode: Counter[str]() for mode in ("sequential", "hybrid", "parallel")}
    for mode, asked in used.items():
        batch = run(pool, serving(times, asked), 60, mode)
        assert (batch.mode, batch.reason, set(batch.nodes)) == (mode, "forced", set(asked))
    assert used["sequential"] == {"http://a": 60}
    assert set(used["hybrid"]) == {"http://a", "http://b"}, "hybrid takes the two fastest, and really only those"
    assert set(used["parallel"]) == set(times)


def test_sequential_has_one_item_under_way_at_a_time() -> None:
    most = under_way = 0

    async def call(node: Node, item: int) -> None:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.1)
        under_way -= 1

    pool = NodePool(["http://a", "http://b"], mode="sequential")
    batch = run(pool, call, 5)
    assert (most, batch.workers) == (1, 1)
    assert batch.wall_s == pytest.approx(0.5)


def test_before_anything_is_measured_labels_say_who_is_fast() -> None:
    pool = NodePool([{"url": "http://a", "labels": "cpu"}, {"url": "http://b", "labels": ["gpu"]}], policy="thresholds")
    decision = pool.explain(100)
    assert (decision.mode, decision.reason, decision.nodes) == ("sequential", "dominant_node", (1,))
    assert decision.detail == "Fastest node is 10.0x faster - sequential wins"


def test_hints_and_measured_speeds_are_never_in_one_ratio() -> None:
    times = {"http://a": 5.0, "http://b": 1.0}
    pool = NodePool([{"url": "http://a", "labels": "gpu"}, {"url": "http://b", "labels": "cpu"}], policy="thresholds")
    asked = Counter[str]()
    run(pool, serving(times, asked), 30)
    assert asked == {"http://a": 30}
    # 5 s measured of the one and the 0.1 s of the other's label would say that a is 50 times slower.
    assert pool.explain(30).nodes == (0,)
    run(pool, serving(times), 2, "parallel")
    assert pool.explain(30).nodes == (1,), "both are measured by now"


def test_the_published_rules_decide_where_they_are_asked_for() -> None:
    times = {"http://a": 0.1, "http://b": 0.4, "http://c": 0.4}
    pool = NodePool(list(times), policy="thresholds", thresholds={"small_batch": 10})
    run(pool, serving(times), 30, "parallel")
    reasons = {batch: pool.explain(batch).reason for batch in (9, 10, 51)}
    assert reasons == {9: "small_batch", 10: "default_sequential", 51: "hybrid_parallel"}
    batch = run(pool, serving(times), 51)
    assert (batch.mode, batch.reason, batch.workers, len(batch.nodes)) == ("hybrid", "hybrid_parallel", 6, 3)


def test_each_batch_says_what_was_done_in_the_published_words(caplog: pytest.LogCaptureFixture) -> None:
    pool = NodePool(list(FIRST), policy="thresholds")
    run(pool, serving(FIRST), 30, "parallel")
    with caplog.at_level(logging.INFO, "loadgen.node"):
        run(pool, serving(FIRST), 200)
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("Fastest node is ")
    assert said[0].endswith("x faster - sequential wins")
    assert said[1] == "Sequential mode: Using http://a"
    assert said[-1] == "Progress: 200/200 items (100%)"


def test_the_mode_is_said_for_a_batch_in_code_or_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOADGEN_NODE_MODE", "parallel")
    assert NodePool(["http://a"]).mode == "parallel"
    pool = NodePool(["http://a"], mode="hybrid")
    assert (pool.mode, pool.explain(5).mode, pool.explain(5, force_mode="sequential").mode) == (
        "hybrid",
        "hybrid",
        "sequential",
    )
    monkeypatch.setenv("LOADGEN_NODE_MODE", "paralel")
    with pytest.raises(ConfigError, match=r"LOADGEN_NODE_MODE 'paralel' is none \(did you mean parallel\?\)"):
        NodePool(["http://a"])


def test_an_unknown_mode_names_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"choose one of auto, sequential, parallel, hybrid"):
        NodePool(["http://a"], mode="fastest")
    with pytest.raises(ConfigError, match=r"force_mode 'x' is none"):
        run(NodePool(["http://a"]), serving({"http://a": 1}), 1, "x")


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ([], "a pool of 0 nodes"),
        ("http://a", "nodes is one str"),
        (["http://a", "http://A:80/v1"], "the node http://A:80/v1 is given twice"),
        ([{"url": "http://a", "name": "x"}, {"url": "http://b", "name": "x"}], "two nodes are called x"),
        ([{"url": "http://a", "slots": 2}], "a node has the unknown key 'slots'"),
        ([{"name": "x"}], "a node has no url"),
        ([{"url": "http://a", "capacity": 0}], "a node's capacity 0 must be 1 or more"),
        ([{"url": "http://a", "batch": 0}], "a node's batch 0 must be 1 or more, or auto"),
        ([{"url": "http://a", "weight": -1}], "a node's weight -1 must be above 0"),
        ([{"url": "http://a", "api": "openapi"}], "a node's api 'openapi' must be one of openai, ollama"),
        (["ftp://a"], "must begin with http://"),
        (["mock:"], "is no server"),
        ([7], "a node is int"),
    ],
)
def test_nodes_that_cant_be_say_what_is_wrong(nodes: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NodePool(nodes)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"speed": 1}, "unknown option speed"),
        ({"policy": "rules"}, "policy 'rules' must be one of auto, thresholds"),
        ({"thresholds": {"small_batch": 5}}, "thresholds are given, and the policy is auto"),
        ({"policy": "thresholds", "thresholds": {"small": 5}}, "there is no threshold 'small'"),
        ({"policy": "thresholds", "thresholds": {"dominant_ratio": 0.5}}, "dominant_ratio 0.5 is below 1"),
        ({"half_life": 0}, "half_life 0 must be above 0"),
        ({"copies": 2}, "copies 2 must be a share"),
        ({"top_k": 0}, "top_k 0 must be 1 or more"),
    ],
)
def test_options_that_cant_be_say_what_is_wrong(options: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        NodePool(["http://a"], **options)
    assert words in str(caught.value)


def test_credentials_of_a_url_are_never_shown(tmp_path: Path) -> None:
    url = "http://user:secret-word@a"
    pool = NodePool([url], state=tmp_path / "state")
    batch = run(pool, serving({url: 0.1}), 3)
    shown = [repr(pool), repr(batch), repr(batch.work), repr(pool.stats()), (tmp_path / "state").read_text()]
    shown += [repr(Node(url=url)), pretty_repr(Node(url=url))]
    assert batch.ok
    assert not any("secret-word" in text for text in shown)
    with pytest.raises(ConfigError) as caught:
        NodePool([url, url])
    assert "secret-word" not in str(caught.value)


def test_what_was_learned_survives_in_a_private_file(tmp_path: Path) -> None:
    state = tmp_path / "state"
    run(NodePool(list(FIRST), state=state), serving(FIRST), 100)
    assert stat.S_IMODE(state.stat().st_mode) == 0o600
    again = NodePool(list(reversed(FIRST)), state=state)
    stats = again.stats()
    assert {node.name: node.speed for node in stats.nodes} == {
        "http://a": pytest.approx(10.0, rel=0.05),
        "http://b": pytest.approx(1.0, rel=0.05),
        "http://c": pytest.approx(1.0, rel=0.05),
    }
    assert sum(node.served for node in stats.nodes) == 100
    asked = Counter[str]()
    run(again, serving(FIRST, asked), 5)
    assert asked == {"http://a": 5}, "five items aren't worth a second, and that is known before they begin"


def test_a_state_file_keeps_the_nodes_of_other_pools(tmp_path: Path) -> None:
    state = tmp_path / "state"
    run(NodePool(["http://a"], state=state), serving(FIRST), 3)
    run(NodePool(["http://b"], state=state), serving(FIRST), 3)
    assert [node["url"] for node in json.loads(state.read_bytes())["nodes"]] == ["http://b", "http://a"]


@pytest.mark.parametrize("content", ["{}", "[", '{"loadgen_nodes": 2, "nodes": []}', "null", "[" * 5000])
def test_a_state_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "state").write_text(content)
    with pytest.raises(ConfigError, match="holds nothing that a pool learned"):
        NodePool(["http://a"], state=tmp_path / "state")


def test_a_state_file_that_cant_be_written_says_so(tmp_path: Path) -> None:
    pool = NodePool(["http://a"], state=tmp_path / "missing" / "state")
    with pytest.raises(DispatchError, match="can't write"):
        run(pool, serving(FIRST), 1)


def test_what_was_measured_long_ago_counts_as_one_observation() -> None:
    speed = Speed(service_s=1.0, weight=16.0, at=1000.0)
    assert speed.weight_at(1000.0, 60.0) == 16.0
    assert speed.weight_at(1120.0, 60.0) == pytest.approx(4.0)
    assert speed.weight_at(1e9, 60.0) == 1.0
    assert speed.weight_at(0.0, 60.0) == 16.0, "a clock that went back doesn't make it worth more"


def test_speeds_are_known_by_what_is_asked() -> None:
    slow = {"http://a": 1.0}

    async def other(node: Node, item: int) -> int:
        return await serving({"http://a": 0.1})(node, item)

    pool = NodePool(["http://a"])
    run(pool, serving(slow), 3)
    run(pool, other, 3)
    kinds = {kind.rpartition(".")[2]: pool.stats(kind=kind).nodes[0].speed for kind in _kinds(pool)}
    assert kinds == {"double": pytest.approx(1.0, rel=0.05), "other": pytest.approx(10.0, rel=0.05)}


def _kinds(pool: NodePool) -> list[str]:
    return [kind for kind, _ in pool._memory.kinds()]


def test_an_empty_batch_and_one_item() -> None:
    pool = NodePool(list(FIRST))
    assert run(pool, serving(FIRST), 0).values == ()
    one = run(pool, serving(FIRST), 1)
    assert one.values == (0,)
    assert one.wall_s == pytest.approx(0.1)


def test_blocking_functions_are_called_on_threads() -> None:
    batch = NodePool(["http://a", "http://b"]).map(lambda node, item: (node.url[:7], item), range(20))
    assert batch.values == tuple(("http://", item) for item in range(20))


def test_a_node_works_on_as_many_items_as_it_has_room_for() -> None:
    under_way, most = Counter[str](), Counter[str]()

    async def call(node: Node, item: int) -> None:
        under_way[node.name] += 1
        most[node.name] = max(most[node.name], under_way[node.name])
        await asyncio.sleep(0.1)
        under_way[node.name] -= 1

    pool = NodePool([Node(url="http://a", name="wide", capacity=4), Node(url="http://b", name="narrow")])
    assert run(pool, call, 50).wall_s == pytest.approx(1.0)
    assert most == {"wide": 4, "narrow": 1}


def test_results_tell_each_nodes_part() -> None:
    batch = run(NodePool(list(FIRST)), serving(FIRST), 100)
    assert [one.url for one in batch.work] == list(FIRST)
    assert sum(one.served for one in batch.work) == 100
    assert batch.shares["http://a"] == pytest.approx(0.84, abs=0.03)
    assert batch.check() is batch
    at = Counter(
        one.stats.attempts[one.stats.winner].node for one in batch if one.stats and one.stats.winner is not None
    )
    assert [at[index] for index in range(3)] == [one.served for one in batch.work]


def test_progress_tells_each_nodes_share() -> None:
    told: list[Any] = []
    pool = NodePool(list(FIRST), progress=told.append)
    run(pool, serving(FIRST), 200)
    assert told[-1].line == "Progress: 200/200 items (100%)"
    assert sum(told[-1].answers.values()) == 200
    assert told[-1].shares.startswith("http://a 8")
    assert len(told) > 10, "four times a second, for a batch of some 17 s"


def test_thresholds_may_be_given_ready_made() -> None:
    pool = NodePool(list(FIRST), policy="thresholds", thresholds=Thresholds(dominant_ratio=20.0))
    run(pool, serving(FIRST), 30, "parallel")
    assert pool.explain(100).reason == "hybrid_parallel"


def test_a_batch_that_isnt_whole_says_which_item_and_which_node() -> None:
    async def call(node: Node, item: int) -> int:
        await asyncio.sleep(0.01)
        if item == 3:
            raise ValueError("a poison item")
        return item

    batch = run(NodePool(["http://a", "http://b"]), call, 10)
    assert set(batch.errors) == {3}
    assert not batch.values[3]
    assert batch.values[4] == 4
    with pytest.raises(NodeError, match=r"1 of 10 items have no value; that of item 3: ValueError: a poison item"):
        batch.check()
