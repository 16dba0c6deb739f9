"""Live metrics as Python sees them: registering, recording, snapshots, other processes' segments, HDR both ways."""

from __future__ import annotations

import base64
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import segment_reader
from loadgen import _core

WRITER = """
import sys
from loadgen import _core
segment = _core.Segment.create("run-1", [sys.argv[1]])
segment.counter("ok").increment(3)
ttft = segment.series("ttft", phase=0)
for value in range(1_000_000, 1_001_000):
    ttft.record(value)
print("READY", flush=True)
sys.stdin.read()
segment.advance("complete")
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "loadgen"


@pytest.fixture
def segment(directory: Path) -> _core.Segment:
    return _core.Segment.create("run-1", [directory])


def _series(snapshot: str, name: str) -> dict[str, Any]:
    return next(s for s in json.loads(snapshot)["series"] if s["name"] == name)


def test_what_is_recorded_is_in_the_snapshot_with_its_unit_and_help(segment: _core.Segment) -> None:
    ok = segment.counter("ok", "requests", "Requests that succeeded.", phase=2)
    ok.increment()
    ok.increment(4)
    ttft = segment.series("ttft", "ns", "From sent to the first token.", phase=2)
    for value in (2_000_000, 4_000_000, 9_000_000):
        ttft.record(value)
    segment.begin(2)
    seen = json.loads(segment.snapshot(percentiles=[50, 100]))
    assert seen["id"] == "run-1"
    assert (seen["state"], seen["alive"], seen["pid"], seen["phase"]) == ("live", True, os.getpid(), 2)
    assert seen["counters"] == [
        {"name": "ok", "unit": "requests", "help": "Requests that succeeded.", "phase": 2, "value": 5}
    ]
    stat = seen["series"][0]
    assert (stat["count"], stat["total"], stat["min"], stat["max"]) == (3, 15_000_000, 2_000_000, 9_000_000)
    assert stat["mean"] == 5_000_000
    assert stat["std"] == pytest.approx(statistics.stdev([2e6, 4e6, 9e6]))
    assert stat["percentiles"][1] == [100.0, 9_000_000]
    assert stat["percentiles"][0] == [50.0, pytest.approx(4_000_000, rel=1e-3)]
    assert (stat["histogram"]["edges"][0], stat["histogram"]["edges"][-1]) == (2e6, 9e6)
    assert sum(stat["histogram"]["counts"]) == 3


def test_an_empty_series_has_no_numbers_and_no_bins(segment: _core.Segment) -> None:
    segment.series("ttft")
    stat = _series(segment.snapshot(), "ttft")
    assert (stat["count"], stat["min"], stat["max"], stat["mean"], stat["std"]) == (0, None, None, None, 0.0)
    assert (stat["percentiles"], stat["histogram"]) == ([], {"edges": [], "counts": []})


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=60))
def test_exact_numbers_are_exact_whatever_was_recorded(values: list[int]) -> None:
    segment = _core.Segment.create("run-1", [])
    series = segment.series("s")
    for value in values:
        series.record(value)
    stat = _series(segment.snapshot(bins=7), "s")
    assert (stat["count"], stat["total"]) == (len(values), sum(values))
    assert (stat["min"], stat["max"]) == (min(values), max(values))
    assert stat["below"] == sum(value < 1_000 for value in values)
    assert stat["above"] == sum(value > 3_600_000_000_000 for value in values)
    assert sum(stat["histogram"]["counts"]) == len(values)
    assert len(stat["histogram"]["counts"]) <= 7


def test_a_name_that_is_taken_is_a_value_error(segment: _core.Segment) -> None:
    segment.counter("ok")
    segment.counter("ok", phase=1)
    with pytest.raises(ValueError, match="ok is registered already"):
        segment.series("ok")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": ""}, "1 to 64 bytes"),
        ({"name": "a", "unit": "x" * 17}, "1 to 16 bytes"),
        ({"name": "a", "low": 10, "high": 19}, r"low \(10\) and 2 × low <= high \(19\)"),
        ({"name": "a", "low": 0}, r"1 <= low \(0\)"),
    ],
)
def test_what_no_series_can_be_is_named(segment: _core.Segment, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        segment.series(**arguments)


def test_what_is_no_value_is_refused(segment: _core.Segment) -> None:
    series = segment.series("s")
    with pytest.raises(OverflowError):
        series.record(-1)
    with pytest.raises(OverflowError):
        series.record(2**64)
    with pytest.raises(TypeError):
        series.record(1.5)  # type: ignore[arg-type]
    assert _series(segment.snapshot(), "s")["count"] == 0


@pytest.mark.parametrize(
    ("percentiles", "words"), [([101], "from 0 to 100"), ([99, 50], "ascending"), ([math.nan], "NaN")]
)
def test_percentiles_are_checked(segment: _core.Segment, percentiles: list[float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        segment.snapshot(percentiles=percentiles)


def test_states_only_go_forward(segment: _core.Segment) -> None:
    segment.advance("draining")
    with pytest.raises(ValueError, match="draining can't become live"):
        segment.advance("live")
    with pytest.raises(ValueError, match='"done" is no state'):
        segment.advance("done")
    segment.advance("complete")
    assert segment.state == "complete"


def test_threads_that_share_a_handle_lose_nothing(segment: _core.Segment) -> None:
    series, counter = segment.series("s"), segment.counter("c")

    def work() -> None:
        for value in range(1_000, 21_000):
            series.record(value)
            counter.increment()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen = json.loads(segment.snapshot())
    assert seen["counters"][0]["value"] == 80_000
    assert (seen["series"][0]["count"], seen["series"][0]["total"]) == (80_000, 4 * sum(range(1_000, 21_000)))


def test_another_process_is_looked_into_until_after_its_end(directory: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stdout.readline() == "READY\n"
        reader = _core.Segment.find("run-1", [directory])
        assert (reader.run, reader.path, reader.alive, reader.state) == (
            "run-1",
            directory / "run-1.series",
            True,
            "live",
        )
        stat = _series(reader.snapshot(), "ttft")
        assert (stat["count"], stat["total"]) == (1000, sum(range(1_000_000, 1_001_000)))
        child.stdin.close()
        assert child.wait(60) == 0
    assert (reader.alive, reader.state) == (False, "complete")
    assert _series(reader.snapshot(), "ttft") == stat
    assert _core.segments([directory]) == []
    with pytest.raises(FileNotFoundError):
        _core.Segment.find("run-1", [directory])


def test_a_killed_run_is_dead_and_cleaned_up_and_a_running_one_is_not(directory: Path, segment: _core.Segment) -> None:
    script = WRITER.replace("run-1", "run-2")
    with subprocess.Popen(
        [sys.executable, "-c", script, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "READY\n"
        reader = _core.Segment.find("run-2", [directory])
        child.send_signal(signal.SIGKILL)
        child.wait(60)
    assert (reader.alive, reader.state) == (False, "live")
    assert _series(reader.snapshot(), "ttft")["count"] == 1000
    assert _core.clean_segments([directory]) == [directory / "run-2.series"]
    assert _core.segments([directory]) == [segment.path]


def test_files_that_are_no_segment_are_an_error_that_says_why(directory: Path, segment: _core.Segment) -> None:
    other = directory / "other.series"
    other.write_bytes(b"hello")
    with pytest.raises(PermissionError, match="0600"):
        _core.Segment.attach(other)
    other.chmod(0o600)
    with pytest.raises(OSError, match="not a loadgen segment"):
        _core.Segment.attach(other)
    assert segment.path is not None
    other.write_bytes(segment.path.read_bytes()[:5000])
    with pytest.raises(OSError, match="5000 bytes"):
        _core.Segment.attach(other)
    with pytest.raises(ValueError, match="can't name a segment"):
        _core.Segment.create("../x", [directory])


def test_without_a_place_to_share_it_works_alone_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    segment = _core.Segment.create("run-1", [tmp_path / "file"])
    assert segment.path is None
    assert "private memory" in segment.notes[-1]
    segment.counter("ok").increment()
    assert json.loads(segment.snapshot())["counters"][0]["value"] == 1


def test_pypis_hdrhistogram_reads_what_is_exported_and_what_it_writes_is_read(segment: _core.Segment) -> None:
    hdrh = pytest.importorskip("hdrh.histogram", reason="PyPI's hdrhistogram has no wheel here")
    peer = hdrh.HdrHistogram(1_000, 3_600_000_000_000, 3)
    series = segment.series("ttft")
    for n in range(1, 5_000):
        value = n * n * 1_009
        series.record(value)
        peer.record_value(value)
    read = hdrh.HdrHistogram.decode(base64.b64encode(segment.hdr("ttft")))
    assert read.get_total_count() == peer.get_total_count() == 4_999
    for percentile in (0.1, 25, 50, 90, 99, 99.9, 100):
        assert read.get_value_at_percentile(percentile) == peer.get_value_at_percentile(percentile)
    ours = json.loads(_core.read_hdr(base64.b64decode(peer.encode())))
    assert (ours["count"], ours["low"], ours["high"], ours["digits"]) == (4_999, 1_000, 3_600_000_000_000, 3)
    assert ours["counts"] == json.loads(_core.read_hdr(segment.hdr("ttft")))["counts"]
    with pytest.raises(LookupError, match='no series called "itl"'):
        segment.hdr("itl")
    with pytest.raises(ValueError, match="not a histogram"):
        _core.read_hdr(b"nothing")


def test_a_second_reader_that_shares_no_code_reads_the_same(segment: _core.Segment) -> None:
    segment.counter("ok", "requests", "Good ones.").increment(7)
    values = [5, 900, 1_000, 2_047, 2_048, 123_456, 10**6, 10**9, 7 * 10**12]
    series = segment.series("ttft", "ns", "First token.", phase=3)
    for value in values:
        series.record(value)
    segment.series("empty", phase=3)
    segment.begin(3)
    segment.advance("complete")
    assert segment.path is not None
    second = segment_reader.read_segment(segment.path)
    own = json.loads(segment.snapshot())
    assert {key: second[key] for key in ("id", "pid", "state", "phase")} == {
        key: own[key] for key in ("id", "pid", "state", "phase")
    }
    assert second["counters"] == own["counters"]
    shared = ("name", "unit", "help", "phase", "low", "high", "count", "total", "min", "max", "below", "above")
    for theirs, ours in zip(second["series"], own["series"], strict=True):
        assert {key: theirs[key] for key in shared} == {key: ours[key] for key in shared}
    assert second["series"][0]["squares"] == sum(value * value for value in values)
    exported = json.loads(_core.read_hdr(segment.hdr("ttft")))
    assert [list(pair) for pair in second["series"][0]["counts"]][:-1] == exported["counts"][:-1]
