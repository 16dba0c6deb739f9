"""What a batch must survive: outages, poison, push-back, all at once. In virtual time."""

import asyncio
import random
from collections import Counter
from typing import Any

import pytest

import loadgen
import virtual_loop
from loadgen import _core
from loadgen.dispatch import attempt, strategy
from loadgen.dispatch.callee import Callee
from loadgen.dispatch.classify import Classifier
from loadgen.dispatch.driver import Driver
from loadgen.dispatch.running import bounds
from loadgen.dispatch.work import BatchWork

STRATEGIES = ("sequential", "parallel", "adaptive_ceiling", "hedged", "auto")


class StatusError(Exception):
    """An HTTP error as an SDK raises it."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status_code = status


def batch(call: Any, items: Any, strategy: str = "hedged", **options: Any) -> Any:
    async def main(_: Any) -> Any:
        return await loadgen.Dispatcher(strategy, **options).arun(call, items)

    return virtual_loop.run(main)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_service_that_is_down_for_a_minute_is_neither_flooded_nor_lost(strategy: str) -> None:
    made: list[float] = []
    finished: Counter[int] = Counter()

    async def call(item: int) -> int:
        now = asyncio.get_running_loop().time()
        if 10 <= now < 70:
            made.append(now)
            raise ConnectionRefusedError("down")
        await asyncio.sleep(1)
        finished[item] += 1
        return item

    done = batch(call, range(200), strategy, max_concurrency=8)
    lost = len(done.errors)
    assert done.wall_s > 70
    assert lost < 40, "the breaker holds most items back until the service is there again"
    assert len(made) < 100
    assert set(finished.values()) == {1}, "what finished was not called again"
    assert sum(finished.values()) == 200 - lost


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_where_nobody_listens_the_batch_ends_after_one_look_in_vain(strategy: str) -> None:
    made = 0

    async def call(item: int) -> int:
        nonlocal made
        made += 1
        raise ConnectionRefusedError("down")

    done = batch(call, range(200), strategy, max_concurrency=8)
    assert len(done.errors) == 200
    assert 30 <= done.wall_s < 40
    assert made < 60


def test_a_poison_item_fails_alone() -> None:
    async def call(item: int) -> int:
        await asyncio.sleep(0.5)
        if item == 13:
            raise StatusError(500)
        return item

    done = batch(call, range(100), max_concurrency=4, retry={"attempts": 20}, budget=1)
    assert done.errors.keys() == {13}
    assert str(done.errors[13]) == "status 500"
    assert done.wall_s < 300


def test_push_back_is_not_a_failure_while_the_service_recovers() -> None:
    """A service that serves four at once and answers 429 to the rest."""
    serving = 0
    pushed = 0

    async def call(item: int) -> int:
        nonlocal serving, pushed
        if serving >= 4:
            pushed += 1
            raise StatusError(429)
        serving += 1
        try:
            await asyncio.sleep(1)
        finally:
            serving -= 1
        return item

    done = batch(call, range(60), "adaptive_ceiling", max_concurrency=32, retry={"attempts": 50}, budget=1)
    assert done.ok
    assert done.totals["push_backs"] == pushed > 0
    assert done.totals["limit_least"] < 8
    assert len(done.trace["t_s"]) == len(done.trace["limit"]) > 2


def test_a_400_is_not_tried_again() -> None:
    made: list[int] = []

    async def call(item: int) -> None:
        made.append(item)
        raise StatusError(400)

    assert len(batch(call, range(5)).errors) == 5
    assert sorted(made) == [0, 1, 2, 3, 4]


class Rough:
    """A service that does everything wrong now and then, by a seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.finished: Counter[int] = Counter()
        self.in_flight = self.most = 0

    async def call(self, item: int) -> int:
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            await asyncio.sleep(self._random.lognormvariate(1, 0.4))
            chance = self._random.random()
            if chance < 0.1:
                raise self._random.choice([StatusError(429), StatusError(503), StatusError(500), ConnectionError()])
            if chance < 0.15:
                raise loadgen.PushBack(retry_after=self._random.choice([0, 1, 5, float("nan"), -1, 1e30]))
            if chance < 0.2:
                await asyncio.sleep(3600)
            if chance < 0.25:
                try:
                    await asyncio.sleep(30)
                except asyncio.CancelledError:
                    raise ValueError("raises when it is cancelled") from None
            attempt().first_token()
            self.finished[item] += 1
            return item
        finally:
            self.in_flight -= 1


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_rough_service_leaves_every_item_settled_and_nothing_running(strategy: str, seed: int) -> None:
    rough = Rough(seed)

    async def main(_: Any) -> Any:
        dispatcher = loadgen.Dispatcher(strategy, max_concurrency=20, seed=seed, retry={"retry_after_most": 30})
        done = await dispatcher.arun(rough.call, range(60))
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return done

    done = virtual_loop.run(main)
    assert len(done.values) == 60
    assert rough.in_flight == done.abandoned == done.totals["in_flight"] == 0
    for index, value in enumerate(done.values):
        assert value == index or index in done.errors
    assert rough.most <= {"sequential": 1, "parallel": 2}.get(strategy, 20)
    totals = done.totals
    assert totals["ok"] == 60 - len(done.errors)
    assert totals["attempts"] == sum(len(stats.attempts) for stats in done.stats)


@pytest.mark.parametrize("at", range(0, 40, 3))
def test_a_batch_cancelled_at_any_moment_leaves_nothing_running(at: int) -> None:
    rough = Rough(at)

    async def main(_: Any) -> None:
        dispatcher = loadgen.Dispatcher("hedged", hedge_after=3, max_concurrency=20, seed=at)
        task = asyncio.ensure_future(dispatcher.arun(rough.call, range(200)))
        await asyncio.sleep(at / 2)
        for _ in range(at % 4):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert rough.in_flight == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    virtual_loop.run(main)


@pytest.mark.parametrize("strategy_name", STRATEGIES)
def test_what_this_driver_did_comes_out_of_its_recording_again(strategy_name: str) -> None:
    async def main(_: Any) -> tuple[Any, str]:
        options = strategy.read(strategy_name, {"max_concurrency": 20})
        config = options.config(40)
        policy = _core.Policy(config, 5, record=True)
        work = BatchWork(Callee(Rough(5).call), range(40), options)
        driver = Driver(policy, work, Classifier(), **bounds(config))
        work.queue(driver)
        await work.done()
        await driver.leave()
        return policy, config

    policy, config = virtual_loop.run(main)
    again, then = _core.replay_policy(config, 5, policy.recording())
    assert again == then
    assert len(then) > 80
