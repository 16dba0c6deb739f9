"""What it costs to cross into the core and back: calls that do next to nothing, and a run's rows as columns.

The rows of a log come to Python as an Arrow stream, as buffers of columns, or one object after the other; the baseline
reads the same rows from a CSV file into tuples, as a client does that writes one.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

import loadgen
from harness.micro import CALLS, measure
from loadgen import _core
from loadgen.session.requests import RequestTable

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

REQUESTS = 20_000


def _nothing() -> int:
    return 0


def _called(call: Callable[[], object]) -> None:
    for _ in range(CALLS):
        call()


def _called_with_three(call: Callable[[int, int, int], object]) -> None:
    for n in range(CALLS):
        call(17, n, 0)


def _three(kind: int, request: int, ns: int) -> bool:
    return kind + request + ns < 0


@pytest.mark.benchmark(group="empty call")
def test_core_function(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _called, _core.now_ns)


@pytest.mark.benchmark(group="empty call")
def test_builtin_function(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _called, time.monotonic_ns, role="baseline")


@pytest.mark.benchmark(group="empty call")
def test_python_function(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _called, _nothing, role="baseline")


@pytest.mark.benchmark(group="call with three integers")
def test_core_method(benchmark: BenchmarkFixture) -> None:
    batch = _core.EventBatch(32_768, send_threshold=1 << 31, max_age_ns=1 << 62, max_bytes=1 << 40)
    measure(benchmark, _called_with_three, batch.record, setup=batch.take)


@pytest.mark.benchmark(group="call with three integers")
def test_python_function_of_three(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _called_with_three, _three, role="baseline")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> RequestTable:
    out = tmp_path_factory.mktemp("bench") / "run"
    result = loadgen.run("mock:", requests=REQUESTS, concurrency=64, output_tokens=4, out=out)
    assert len(result.performance.requests) == REQUESTS
    return result.performance.requests


@pytest.fixture(scope="module")
def lines(table: RequestTable, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("csv") / "rows.csv"
    pl.DataFrame(table).write_csv(path)
    return path


def _from_csv(path: Path) -> list[tuple[object, ...]]:
    with path.open(newline="") as file:
        reader = csv.reader(file)
        next(reader)
        return [tuple(int(cell) if cell.isdecimal() else cell or None for cell in row) for row in reader]


@pytest.mark.benchmark(group="row of a run's log to Python")
def test_arrow(benchmark: BenchmarkFixture, table: RequestTable) -> None:
    assert measure(benchmark, pl.DataFrame, table, units=REQUESTS).height == REQUESTS


@pytest.mark.benchmark(group="row of a run's log to Python")
def test_objects(benchmark: BenchmarkFixture, table: RequestTable) -> None:
    assert len(measure(benchmark, list, table, units=REQUESTS)) == REQUESTS


@pytest.mark.benchmark(group="row of a run's log to Python")
def test_tuples_of_a_csv_file(benchmark: BenchmarkFixture, lines: Path) -> None:
    assert len(measure(benchmark, _from_csv, lines, units=REQUESTS, role="baseline")) == REQUESTS
