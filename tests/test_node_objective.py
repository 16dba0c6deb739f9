"""Costs: the cheapest nodes that are done in time, the fastest that can be paid for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import virtual_loop
from loadgen.dispatch import attempt
from loadgen.errors import ConfigError
from loadgen.node import Node, NodeBatch, NodePool
from loadgen.node.objective import Objective, choose

FAST = Node(url="http://fast", cost=10.0)
MIDDLE = Node(url="http://middle", cost=1.0)
SLOW = Node(url="http://slow", cost=0.1)
NODES = (FAST, MIDDLE, SLOW)
TIMES = (0.1, 0.5, 1.0)


@pytest.mark.parametrize(
    ("deadline_s", "nodes", "words"),
    [
        (200.0, (SLOW,), "The cheapest in 200 s - 1 of 3 nodes"),
        (100.0, (SLOW,), "The cheapest in 100 s - 1 of 3 nodes"),
        (99.0, (SLOW, MIDDLE), "The cheapest in 99 s - 2 of 3 nodes"),
        (20.0, (SLOW, MIDDLE, FAST), "The cheapest in 20 s - 3 of 3 nodes"),
        (1.0, (SLOW, MIDDLE, FAST), "No way in 1 s - 3 of 3 nodes"),
    ],
)
def test_a_deadline_takes_the_cheapest_nodes_that_keep_it(
    deadline_s: float, nodes: tuple[Node, ...], words: str
) -> None:
    found = choose(Objective(deadline_s=deadline_s), NODES, TIMES, (1, 1, 1), 100, 1000)
    assert found.nodes == nodes
    assert found.detail.startswith(words)


@pytest.mark.parametrize(
    ("budget", "nodes"),
    [(1.0, (SLOW, MIDDLE, FAST)), (0.5, (SLOW, MIDDLE)), (0.05, (SLOW,)), (0.001, (SLOW,))],
)
def test_a_budget_takes_the_fastest_nodes_that_it_pays(budget: float, nodes: tuple[Node, ...]) -> None:
    found = choose(Objective(budget=budget), NODES, TIMES, (1, 1, 1), 100, 1000)
    assert found.nodes == nodes
    assert (found.cost <= budget) is (budget > 0.01)
    assert found.detail.startswith("The fastest for" if budget > 0.01 else "No way for")


def test_what_a_batch_costs_is_what_each_node_does_of_it() -> None:
    found = choose(Objective(budget=1e9), (MIDDLE, SLOW), (0.5, 1.0), (1, 1), 30, 1000)
    # 20 items at 1 and 10 at 0.1 a million tokens.
    assert found.cost == pytest.approx(30_000 / 1e6 * (2 / 3 * 1.0 + 1 / 3 * 0.1))
    assert found.seconds == pytest.approx(10.0)


def test_a_node_without_a_cost_cant_be_weighed() -> None:
    with pytest.raises(ConfigError, match="the node http://a has no cost"):
        choose(Objective(budget=1.0), (Node(url="http://a"),), (1.0,), (1,), 1, 1)


def test_a_pool_spares_what_it_doesnt_need() -> None:
    times = dict(zip((node.url for node in NODES), TIMES, strict=True))

    async def call(node: Node, item: int) -> int:
        attempt().used(900, 100)
        await asyncio.sleep(times[node.url])
        return item

    def run(pool: NodePool, items: int) -> NodeBatch[Any]:
        batch = virtual_loop.run(lambda loop: pool.amap(call, range(items)))
        assert isinstance(batch, NodeBatch)
        return batch

    pool = NodePool(NODES, deadline=60)
    assert run(pool, 100).reason == "pull_by_free_slot", "nothing is known yet"
    batch = run(pool, 100)
    assert batch.reason == "cheapest_in_time"
    assert batch.wall_s <= 60
    work = {one.name: one for one in batch.work}
    assert (work["http://fast"].served, work["http://fast"].state, work["http://fast"].reason) == (
        0,
        "up",
        "not needed",
    )
    assert work["http://slow"].served > 0
    assert work["http://middle"].served > 0
    cheap = NodePool(NODES, budget=0.05)
    run(cheap, 100)
    assert run(cheap, 100).nodes == ("http://slow",)


def test_one_of_the_two_only() -> None:
    with pytest.raises(ConfigError, match="deadline and budget are both given"):
        NodePool(NODES, deadline=1, budget=1)
