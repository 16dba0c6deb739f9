"""What happens to a batch when nodes go wrong, in virtual time: nothing is lost, and nobody looks fast by failing."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

import virtual_loop
from loadgen.dispatch import attempt
from loadgen.errors import ConfigError, DispatchError, NodeError
from loadgen.node import Node, NodeBatch, NodePool
from loadgen.node.health import Health
from loadgen.node.work import run_plan

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
        self.is_late = False
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


def test_many_items_that_no_node_can_do_shut_no_node() -> None:
    """Twelve of them in a row: four for each node, and the probes that follow."""
    poison = {*range(30, 42), 90, 91}
    world = World({A: 0.1, B: 0.1, C: 0.2})

    async def call(node: Node, item: int) -> int:
        if item in poison:
            await asyncio.sleep(0.001)
            raise RuntimeError("nobody can")
        return await world.call(node, item)

    batch = virtual_loop.run(lambda loop: NodePool(NODES).amap(call, range(120)))
    assert set(batch.errors) == poison
    assert batch.values[119] == 119
    assert all(one.state == "up" for one in batch.work), "items are at fault, no node"
    # 106 items take 4.3 s; ten more would be a cooldown.
    assert batch.wall_s < 10.0
    for item in poison:
        assert len({one.node for one in batch[item].stats.attempts}) == 3, "each node has tried"


def planned(pool: NodePool, call: Callable[[Node, int], Any], items: int, **changes: Any) -> NodeBatch[Any]:
    """A batch as ``embed_batch`` plans it: with nodes that a health check left out."""
    left_out = changes.pop("left_out")
    plan = pool._planner.plan(call, "call", "m", range(items), None, left_out=left_out)
    batch = virtual_loop.run(lambda loop: run_plan(msgspec.structs.replace(plan, **changes), pool._memory))
    assert isinstance(batch, NodeBatch)
    return batch


def test_a_node_that_was_left_out_is_looked_at_again_and_works_when_it_is_back() -> None:
    pool = NodePool(NODES)
    world = World({A: 0.05, B: 0.2, C: 0.2}, lambda url, at: url == A and at < 8.0)
    looks: list[float] = []

    async def again(node: Node) -> Health:
        looks.append(asyncio.get_running_loop().time())
        assert node.url == A, "the others are there"
        return Health(up=not world.down(A, looks[-1]), reason="connection refused")

    left_out = {pool.nodes[0]: "connection refused"}
    batch = planned(pool, world.call, 300, left_out=left_out, again=again)
    whole(batch, 300)
    assert looks == pytest.approx([5.0, 10.0]), "and no more once it is back"
    # 100 items in ten seconds by the two others, and 30 a second from then on.
    assert batch.wall_s < 18.0
    assert world.answered[A] > 100
    work = {one.url: one for one in batch.work}
    assert (work[A].failed, work[A].state) == (0, "up"), "nothing was sent before"
    assert pool.stats().nodes[0].state == "up"


def test_a_node_that_comes_back_without_the_model_stays_out() -> None:
    pool = NodePool(NODES)
    world = World({A: 0.01, B: 0.2, C: 0.2})

    async def again(node: Node) -> Health:
        return Health(up=True, models=("other",))

    batch = planned(pool, world.call, 100, left_out={pool.nodes[0]: "it has no model m"}, again=again)
    whole(batch, 100)
    assert world.asked[A] == 0
    work = {one.url: one for one in batch.work}
    assert (work[A].state, work[A].reason) == ("down", "it has no model m")


def test_a_look_that_fails_ends_the_batch_with_its_error() -> None:
    pool = NodePool(NODES)

    async def again(node: Node) -> Health:
        raise ConfigError("the node has no key", "")

    with pytest.raises(ConfigError, match="no key"):
        planned(pool, World({A: 1.0, B: 1.0, C: 1.0}).call, 100, left_out={pool.nodes[0]: "down"}, again=again)


@pytest.mark.parametrize("how", ["dies", "slows down"])
def test_a_node_that_was_spared_helps_when_the_chosen_ones_fall_short(how: str) -> None:
    nodes = [Node(url=A, cost=1.0), Node(url=B, cost=1.0), Node(url=C, cost=9.0)]
    pool = NodePool(nodes, deadline=20)

    class Failing(World):
        async def call(self, node: Node, item: int) -> int:
            attempt().used(900, 100)
            late = self.is_late and node.url == A and asyncio.get_running_loop().time() >= 1.0
            if late and how == "slows down":
                self.asked[A] += 1
                await asyncio.sleep(2.0)
                return item
            return await super().call(node, item)

    world = Failing(
        {A: 0.1, B: 0.1, C: 0.1}, lambda url, at: world.is_late and how == "dies" and url == A and at >= 1.0
    )
    world.is_late = False
    whole(world.run(pool, 60), 60)
    spared = world.run(pool, 300)
    whole(spared, 300)
    work = {one.url: one for one in spared.work}
    assert (spared.reason, work[C].served, work[C].reason) == ("cheapest_in_time", 0, "not needed")
    world.is_late = True
    world.asked.clear()
    batch = world.run(pool, 300)
    whole(batch, 300)
    assert batch.reason == "cheapest_in_time"
    # B alone would need 28 s more.
    assert batch.wall_s < 20.0
    assert world.asked[C] > 80


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
