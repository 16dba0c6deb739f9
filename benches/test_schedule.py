"""What a plan costs a request: when it is due by a Poisson process, and which sample it sends.

The plan's offsets and samples come as two buffers, and are made lists here, so that both sides end with integers.
The baseline draws from `random`, adds up and shuffles; its sequence is promised by nobody but this version of Python.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import pytest

from harness.micro import CALLS, measure
from loadgen import _core

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

RATE = 500.0
SAMPLES = 1_000
LOAD = json.dumps({"kind": "rate", "rate": RATE, "arrival": {"kind": "poisson"}})


def _plan() -> tuple[list[int], list[int]]:
    offsets, samples = _core.Plan(LOAD, "without_replacement", SAMPLES, 7).block(0, CALLS)
    assert offsets is not None
    return memoryview(offsets).cast("Q").tolist(), memoryview(samples).cast("Q").tolist()


def _random() -> tuple[list[int], list[int]]:
    drawn, now = random.Random(7), 0.0
    offsets: list[int] = []
    samples: list[int] = []
    for _ in range(CALLS):
        offsets.append(round(now * 1e9))
        now += drawn.expovariate(RATE)
    while len(samples) < CALLS:
        order = list(range(SAMPLES))
        drawn.shuffle(order)
        samples += order
    return offsets, samples


def _gaps() -> Iterator[int]:
    drawn = random.Random(7)
    while True:
        yield max(1, round(drawn.expovariate(RATE) * 1e9))


def _first(gaps: Iterator[int]) -> list[int]:
    return list(islice(gaps, CALLS))


@pytest.mark.benchmark(group="request planned")
def test_plan(benchmark: BenchmarkFixture) -> None:
    offsets, samples = measure(benchmark, _plan)
    assert len(offsets) == len(samples) == CALLS


@pytest.mark.benchmark(group="request planned")
def test_random(benchmark: BenchmarkFixture) -> None:
    offsets, samples = measure(benchmark, _random, role="baseline")
    assert len(offsets) == len(samples) == CALLS


@pytest.mark.benchmark(group="delay drawn")
def test_delays(benchmark: BenchmarkFixture) -> None:
    assert len(measure(benchmark, _first, _core.Delays("poisson", RATE, 7))) == CALLS


@pytest.mark.benchmark(group="delay drawn")
def test_expovariate(benchmark: BenchmarkFixture) -> None:
    assert len(measure(benchmark, _first, _gaps(), role="baseline")) == CALLS
