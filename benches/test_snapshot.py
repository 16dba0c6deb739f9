"""What a look at live metrics costs a series: 20 of them with 10,000 values each, with six percentiles, as JSON.

The baselines have the same to tell: PyPI's hdrhistogram by walking its buckets, and Python from lists of all values,
sorted at each look, as a client that keeps its samples does.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.figures import percentile
from harness.micro import measure
from loadgen import _core
from test_record import VALUES

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

SERIES = 20
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)

pytestmark = pytest.mark.benchmark(group="series of a snapshot")


def _of_hdr(histograms: list[Any]) -> str:
    told = []
    for histogram in histograms:
        tail = histogram.get_percentile_to_value_dict(PERCENTILES)
        told.append(
            {
                "count": histogram.get_total_count(),
                "min": histogram.get_min_value(),
                "max": histogram.get_max_value(),
                "mean": histogram.get_mean_value(),
                "deviation": histogram.get_stddev(),
                "percentiles": tail,
            }
        )
    return json.dumps(told)


def _of_lists(lists: list[list[int]]) -> str:
    told = []
    for values in lists:
        ordered = sorted(values)
        told.append(
            {
                "count": len(ordered),
                "min": ordered[0],
                "max": ordered[-1],
                "mean": statistics.fmean(ordered),
                "deviation": statistics.pstdev(ordered),
                "percentiles": {percent: percentile(ordered, percent) for percent in PERCENTILES},
            }
        )
    return json.dumps(told)


def test_segment(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    segment = _core.Segment.create("bench", [tmp_path / "loadgen"])
    for number in range(SERIES):
        record = segment.series(f"series-{number}").record
        for value in VALUES:
            record(value)
    told = json.loads(measure(benchmark, segment.snapshot, units=SERIES))
    assert [series["count"] for series in told["series"]] == [len(VALUES)] * SERIES
    segment.remove()


def test_hdrhistogram(benchmark: BenchmarkFixture) -> None:
    hdrh = pytest.importorskip("hdrh.histogram", reason="hdrhistogram has no wheel for this machine")
    histograms = [hdrh.HdrHistogram(1_000, 3_600_000_000_000, 3) for _ in range(2)]  # it takes its time
    for histogram in histograms:
        for value in VALUES:
            histogram.record_value(value)
    told = json.loads(measure(benchmark, _of_hdr, histograms, units=len(histograms), role="baseline"))
    assert [each["count"] for each in told] == [len(VALUES)] * 2


def test_sorted_lists(benchmark: BenchmarkFixture) -> None:
    told = json.loads(measure(benchmark, _of_lists, [VALUES] * SERIES, units=SERIES, role="baseline"))
    assert told[0]["count"] == len(VALUES)
