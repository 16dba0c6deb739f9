"""What it costs to decide: a call's queueing, start, end and resolution with 256 in flight, asked from Python.

The baselines decide less: the first is additive-increase limiting in plain Python with a deadline a call, the second
starts calls as they are let through, without deadlines, retries, hedges or statistics.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from typing import TYPE_CHECKING

import pytest

from harness.micro import CALLS, measure
from loadgen import _core

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

IN_FLIGHT = 256
CALL_NS = 3_000_000_000
START = 0

pytestmark = pytest.mark.benchmark(group="call decided")


def _decide(config: str) -> _core.Policy:
    """Calls of equal length: the oldest in flight ends next, and what may start then does."""
    policy = _core.Policy(config, 1)
    policy.queue(0, CALLS)
    policy.close(0)
    now, running = 0, deque[tuple[int, int]]()
    actions = policy.poll(0)
    while True:
        for kind, attempt, *_ in actions:
            if kind == START:
                running.append((now + CALL_NS, attempt))
        if not running:
            return policy
        ends, attempt = running.popleft()
        now = max(now + 1, ends)
        actions = policy.ended_poll(now, attempt)


class _Limiter:
    """Additive increase, multiplicative decrease, and a deadline for each call, as one writes it in Python."""

    def __init__(self, limit: float) -> None:
        self._limit = self._ceiling = limit
        self._waiting: deque[int] = deque()
        self._deadlines: list[tuple[int, int]] = []
        self._live: set[int] = set()

    def queue(self, count: int) -> None:
        self._waiting.extend(range(count))

    def poll(self, now: int) -> list[int]:
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][1] not in self._live):
            _, late = heapq.heappop(self._deadlines)
            if late in self._live:
                self._live.remove(late)
                self._limit = max(1.0, self._limit * 0.8)
        started = []
        while self._waiting and len(self._live) < int(self._limit):
            call = self._waiting.popleft()
            self._live.add(call)
            heapq.heappush(self._deadlines, (now + 90_000_000_000, call))
            started.append(call)
        return started

    def ended(self, call: int) -> None:
        self._live.discard(call)
        self._limit = min(self._ceiling, self._limit + 1 / self._limit)


def _decide_in_python() -> int:
    limiter = _Limiter(IN_FLIGHT)
    limiter.queue(CALLS)
    now, done, running = 0, 0, deque[tuple[int, int]]()
    started = limiter.poll(0)
    while True:
        running.extend((now + CALL_NS, call) for call in started)
        if not running:
            return done
        ends, call = running.popleft()
        now = max(now + 1, ends)
        limiter.ended(call)
        done += 1
        started = limiter.poll(now)


async def _gathered() -> int:
    free, done = asyncio.Semaphore(IN_FLIGHT), 0

    async def call() -> None:
        nonlocal done
        async with free:
            await asyncio.sleep(0)
            done += 1

    await asyncio.gather(*(call() for _ in range(CALLS)))
    return done


def test_fixed_limit(benchmark: BenchmarkFixture) -> None:
    config = _core.policy_config("parallel", IN_FLIGHT, '{"limit":{"n":256},"breaker":null}')
    policy = measure(benchmark, _decide, config)
    assert policy.totals()["ok"] == CALLS


def test_hedged(benchmark: BenchmarkFixture) -> None:
    overrides = '{"rates":{"rpm":1e9,"tpm":1e12},"call_timeout_s":600}'
    policy = measure(benchmark, _decide, _core.policy_config("hedged", IN_FLIGHT, overrides))
    assert policy.totals()["ok"] == CALLS


def test_auto(benchmark: BenchmarkFixture) -> None:
    policy = measure(benchmark, _decide, _core.policy_config("auto", IN_FLIGHT))
    assert policy.totals()["ok"] == CALLS


def test_plain_python(benchmark: BenchmarkFixture) -> None:
    assert measure(benchmark, _decide_in_python, role="baseline") == CALLS


def test_asyncio_semaphore(benchmark: BenchmarkFixture) -> None:
    with asyncio.Runner() as runner:
        done = measure(benchmark, lambda: runner.run(_gathered()), role="baseline")
    assert done == CALLS
