"""What happens to a batch when nodes go wrong, in virtual time: nothing is lost, and nobody looks fast by failing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import virtual_loop
from loadgen.errors import DispatchError, NodeError
from loadgen.node import Node, NodeBatch, NodePool

A, B, C = "http://a", "http://b", "http://c"
NODES = [A, B, C]


class World:
    """Nodes that take some time for an item, and are down when they are told to.

    Args:
        times: Seconds for an item.
        down: Whether a node is down at a time in seconds since the batch began.
        fails_in: Seconds until a call at one that is down fails.
    """

    def __init__(
        self,
        times: dict[str, float],
        down: Callable[[str, float], bool] = lambda url, at: False,
        fails_in: float = 0.001,
    ) -> None:
        self.times = times
        self.down = down
        self.fails_in = fails_in
        self.asked = Counter[str]()
        self.answered = Counter[str]()

    async def call(self, node: Node, item: int) -> int:
        loop = asyncio.get_running_loop()
        self.asked[node.url] += 1
        ends = loop.time() + self.times[node.url]
        while (now := loop.time()) < ends:
            if self.down(node.url, now):
                await asyncio.sleep(self.fails_in)
                raise ConnectionRefusedError("connection refused")
            await asyncio.sleep(min(0.01, ends - now))
        self.answered[node.url] += 1
        return item

    def run(self, pool: NodePool, items: int, force_mode: str | None = None) -> NodeBatch[Any]:
        batch = virtual_loop.run(lambda loop: pool.amap(self.call, range(items), force_mode=force_mode))
        assert isinstance(batch, NodeBatch)
        return batch


def whole(batch: NodeBatch[Any], items: int) -> None:
    assert batch.errors == {}
    assert batch.values == tuple(range(items)), "nothing is lost, nothing is out of its place"


MODES = ("auto", "sequential", "parallel", "hybrid")


@pytest.mark.parametrize("mode", MODES)
def test_a_node_that_is_down_from_the_start_costs_little(mode: str) -> None:
    world = World({A: 0.1, B: 0.2, C: 0.2}, lambda url, at: url == A)
    batch = world.run(NodePool(NODES), 60, mode)
    whole(batch, 60)
    # Two nodes of 0.2 s share 60 items in 6 s; in a line one needs 12.
    assert batch.wall_s < (15.0 if mode == "sequential" else 8.5)
    assert world.asked[A] <= 10


@pytest.mark.parametrize("mode", MODES)
def test_a_node_that_dies_in_the_middle_loses_nothing(mode: str) -> None:
    world = World({A: 0.05, B: 0.2, C: 0.2}, lambda url, at: url == A and at >= 1.0)
    batch = world.run(NodePool(NODES), 100, mode)
    whole(batch, 100)
    assert world.answered[A] >= 15, "it did its part before"
    work = {one.url: one for one in batch.work}
    assert work[A].failed >= 1
    assert "connection refused" in work[A].reason


@pytest.mark.parametrize("mode", MODES)
def test_the_fastest_node_dying_in_a_known_pool_is_no_loss_either(mode: str) -> None:
    times = {A: 0.02, B: 0.3, C: 0.3}
    pool = NodePool(NODES)
    whole(World(times).run(pool, 50, "parallel"), 50)
    batch = World(times, lambda url, at: url == A and at >= 0.5).run(pool, 60, mode)
    whole(batch, 60)


def test_a_flapping_node_loses_nothing() -> None:
    world = World({A: 0.05, B: 0.1, C: 0.1}, lambda url, at: url == A and int(at * 2) % 2 == 1)
    batch = world.run(NodePool(NODES), 200)
    whole(batch, 200)
    assert batch.wall_s < 200 * 0.05 * 1.3, "not worse than the two others alone, but for what flapping costs"


def test_failing_fast_doesnt_look_fast() -> None:
    world = World({A: 0.1, B: 0.1, C: 0.1}, lambda url, at: url == A, fails_in=0.0001)
    batch = world.run(NodePool(NODES), 200)
    whole(batch, 200)
    assert world.asked[A] <= 10, "asked again and again, it would be the fastest of all"
    assert batch.wall_s < 1.1 * 200 * 0.1 / 2


def test_failures_lower_the_health_score() -> None:
    pool = NodePool(NODES)
    world = World({A: 0.1, B: 0.1, C: 0.1}, lambda url, at: url == A)
    world.run(pool, 100)
    stats = {node.url: node for node in pool.stats().nodes}
    assert stats[A].error_share == 1.0
    assert stats[A].health == 0.0
    assert stats[B].health == pytest.approx(100.0)
    assert "connection refused" in stats[A].reason


def test_a_node_that_becomes_ten_times_slower_is_found_out() -> None:
    class Slowing(World):
        async def call(self, node: Node, item: int) -> int:
            late = node.url == A and asyncio.get_running_loop().time() >= 1.0
            self.asked[node.url] += 1
            await asyncio.sleep(self.times[node.url] * (10 if late else 1))
            return item

    world = Slowing({A: 0.05, B: 0.1, C: 0.1})
    batch = world.run(NodePool(NODES), 200)
    whole(batch, 200)
    # 40 items in the first second, and then 22 a second at best.
    assert batch.wall_s < 1.1 * (1.0 + 160 / 22)


def test_a_node_that_never_answers_is_timed_out_and_its_items_go_elsewhere() -> None:
    class Hanging(World):
        async def call(self, node: Node, item: int) -> int:
            self.asked[node.url] += 1
            await asyncio.sleep(1e6 if node.url == A else 0.1)
            return item

    batch = Hanging({A: 0.1, B: 0.1, C: 0.1}).run(NodePool(NODES, attempt_timeout=5), 100, "parallel")
    whole(batch, 100)
    assert batch.wall_s < 40.0


def test_all_nodes_down_ends_with_an_error_and_keeps_what_was_done() -> None:
    world = World({A: 0.1, B: 0.1, C: 0.1}, lambda url, at: at >= 1.0)
    batch = world.run(NodePool(NODES), 100)
    done = [index for index in range(100) if index not in batch.errors]
    assert 20 <= len(done) < 40
    assert all(batch.values[index] == index for index in done)
    assert batch.wall_s < 120.0, "it gives up, rather than trying for ever"
    with pytest.raises(NodeError, match=r"items have no value.*not up: http://"):
        batch.check()


def test_no_node_from_the_start_fails_every_item_with_the_reason() -> None:
    world = World({A: 0.1, B: 0.1, C: 0.1}, lambda url, at: True)
    batch = world.run(NodePool(NODES), 20)
    assert set(batch.errors) == set(range(20))
    assert any(isinstance(error, ConnectionRefusedError) for error in batch.errors.values())


def test_an_item_that_no_node_can_do_fails_alone() -> None:
    asked = Counter[int]()

    async def call(node: Node, item: int) -> int:
        asked[item] += 1
        await asyncio.sleep(0.1)
        if item == 7:
            raise RuntimeError("nobody can")
        return item

    batch = virtual_loop.run(lambda loop: NodePool(NODES).amap(call, range(30)))
    assert set(batch.errors) == {7}
    assert str(batch.errors[7]) == "nobody can"
    assert len({one.node for one in batch[7].stats.attempts}) == 3, "each node has tried"
    assert all(one.state == "up" for one in batch.work), "an item is at fault, no node"


def test_a_bug_in_the_function_is_not_tried_on_every_node() -> None:
    asked = Counter[int]()

    async def call(node: Node, item: int) -> int:
        asked[item] += 1
        raise TypeError("a bug")

    batch = virtual_loop.run(lambda loop: NodePool(NODES).amap(call, range(5)))
    assert set(batch.errors) == set(range(5))
    assert max(asked.values()) <= 2, "once, and perhaps one copy at the batch's end: a retry would be on each node"


def test_cancelling_the_caller_cancels_every_call() -> None:
    under_way = 0

    async def call(node: Node, item: int) -> None:
        nonlocal under_way
        under_way += 1
        try:
            await asyncio.sleep(10)
        finally:
            under_way -= 1

    async def main(loop: virtual_loop.VirtualLoop) -> None:
        pool = NodePool(NODES)
        task = loop.create_task(pool.amap(call, range(50)))
        await asyncio.sleep(1)
        assert under_way == 3
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert under_way == 0
        assert [node.in_flight for node in pool.stats().nodes] == [0, 0, 0]

    virtual_loop.run(main)


def test_a_loop_that_runs_already_is_told_what_to_await() -> None:
    async def call(node: Node, item: int) -> Awaitable[None] | None:
        return None

    async def main(loop: virtual_loop.VirtualLoop) -> None:
        with pytest.raises(DispatchError, match=r"await pool\.amap\(…\) on it"):
            NodePool(NODES).map(call, [1])

    virtual_loop.run(main)
