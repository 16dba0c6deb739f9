"""What recording a value costs a Python caller: exact statistics and a histogram in shared memory, beside Python's own.

PyPI's hdrhistogram keeps the histogram alone; the Python baseline keeps the statistics and a histogram of 32 buckets a
power of two, in a list. A counter in shared memory is seen beside an attribute that nobody else can read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.micro import CALLS, measure
from loadgen import _core

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

# Two decades from 1 ms, evenly by their logarithm.
VALUES = [round(1e6 * 100 ** (n * 0.6180339887 % 1)) for n in range(CALLS)]


@pytest.fixture
def segment(tmp_path: Path) -> Iterator[_core.Segment]:
    segment = _core.Segment.create("bench", [tmp_path / "loadgen"])
    yield segment
    segment.remove()


class _Statistics:
    """Count, sum, sum of squares, extremes and a histogram, as one writes them in Python."""

    def __init__(self) -> None:
        self.count = self.total = self.squares = self.high = 0
        self.low = math.inf
        self.buckets = [0] * 32 * 64

    def record(self, value: int) -> None:
        self.count += 1
        self.total += value
        self.squares += value * value
        self.low = min(self.low, value)
        self.high = max(self.high, value)
        shift = max(0, value.bit_length() - 6)
        self.buckets[(shift << 5) + (value >> shift)] += 1


class _Attribute:
    """A counter that only this process can read."""

    def __init__(self) -> None:
        self.count = 0

    def increment(self, n: int = 1) -> None:
        self.count += n


def _each(record: Callable[[int], object]) -> None:
    for value in VALUES:
        record(value)


def _loop() -> None:
    for _ in VALUES:
        pass


@pytest.mark.benchmark(group="value recorded")
def test_series(benchmark: BenchmarkFixture, segment: _core.Segment) -> None:
    measure(benchmark, _each, segment.series("bench").record)


@pytest.mark.benchmark(group="value recorded")
def test_hdrhistogram(benchmark: BenchmarkFixture) -> None:
    hdrh = pytest.importorskip("hdrh.histogram", reason="hdrhistogram has no wheel for this machine")
    measure(benchmark, _each, hdrh.HdrHistogram(1_000, 3_600_000_000_000, 3).record_value, role="baseline")


@pytest.mark.benchmark(group="value recorded")
def test_python(benchmark: BenchmarkFixture) -> None:
    statistics = _Statistics()
    measure(benchmark, _each, statistics.record, role="baseline")
    assert statistics.total % sum(VALUES) == 0


@pytest.mark.benchmark(group="value recorded")
def test_the_loop_alone(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _loop, role="empty")


@pytest.mark.benchmark(group="counter counted")
def test_counter(benchmark: BenchmarkFixture, segment: _core.Segment) -> None:
    measure(benchmark, _each, segment.counter("bench").increment)


@pytest.mark.benchmark(group="counter counted")
def test_attribute(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _each, _Attribute().increment, role="baseline")
