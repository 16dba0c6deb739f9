"""Live metrics: the registry, snapshots of it, looks into it from elsewhere, HDR's format both ways."""

import base64
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen import _core
from loadgen.errors import MetricsError
from loadgen.metrics import CounterStat, MetricsRegistry, MetricsSnapshot, SeriesStat, SessionState, attach, read_hdr
from loadgen.metrics.snapshot import of_core
from loadgen.metrics.wire import SnapshotCodec

MS = 1_000_000


@pytest.fixture
def place(tmp_path: Path) -> list[Path]:
    """A directory of segments of the test's own: it must be private, as theirs is."""
    (tmp_path / "segments").mkdir(mode=0o700)
    return [tmp_path / "segments"]


@pytest.fixture
def registry(place: list[Path]) -> Iterator[MetricsRegistry]:
    with MetricsRegistry("run-1", directories=place) as made:
        yield made


# --- registry and snapshots


def test_what_is_recorded_is_in_the_snapshot(registry: MetricsRegistry) -> None:
    issued, ttft = registry.counter("issued", help="Requests"), registry.series("ttft", help="First token", phase=0)
    for ms in range(1, 1001):
        issued.increment()
        ttft.record(ms * MS)
    registry.increment("issued", 5)
    registry.record("ttft", 2000 * MS, phase=0)
    found = registry.snapshot()
    assert found.stats[0] == CounterStat("issued", 1005, "1", "Requests", None)
    stat = found.find("ttft", 0)
    assert (stat.count, stat.total, stat.min, stat.max) == (1001, 502_500 * MS, MS, 2000 * MS)
    assert dict(stat.percentiles)[50.0] == pytest.approx(501 * MS, rel=0.001)
    assert (stat.unit, stat.help, stat.phase, stat.below, stat.above, stat.torn) == ("ns", "First token", 0, 0, 0, 0)


def test_a_name_is_registered_once_in_a_phase(registry: MetricsRegistry) -> None:
    registry.counter("issued", phase=0)
    registry.counter("issued", phase=1)
    register: Any
    for register in (registry.counter, registry.series):
        with pytest.raises(ValueError, match="issued"):
            register("issued", phase=0)


def test_what_is_not_registered_is_refused_by_name(registry: MetricsRegistry) -> None:
    registry.counter("issued")
    with pytest.raises(LookupError, match="register it"):
        registry.increment("isued")
    with pytest.raises(LookupError, match="register it"):
        registry.record("issued", 1)
    with pytest.raises(LookupError, match="there are issued"):
        registry.snapshot().counter("isued")
    with pytest.raises(LookupError, match="there are none"):
        registry.snapshot().find("ttft")


def test_counters_come_first_and_phases_are_told_apart(registry: MetricsRegistry) -> None:
    for phase in (0, 1):
        registry.series("ttft", phase=phase).record((phase + 1) * MS)
        registry.counter("issued", phase=phase).increment(phase + 1)
    found = registry.snapshot()
    assert [type(stat) for stat in found.stats] == [CounterStat, CounterStat, SeriesStat, SeriesStat]
    assert (found.counter("issued"), found.counter("issued", 1)) == (3, 2)
    assert (found.find("ttft").max, found.find("ttft", 0).max) == (2 * MS, MS)
    assert [stat.phase for stat in registry.snapshot(phase=1).stats] == [1, 1]


@given(st.lists(st.integers(0, 10**13), max_size=60))
def test_edges_span_exactly_what_was_observed_and_bins_hold_all_of_it(values: list[int]) -> None:
    registry = MetricsRegistry(directories=["/proc/nowhere"])
    series = registry.series("x")
    for value in values:
        series.record(value)
    stat = registry.snapshot().find("x")
    assert sum(stat.counts) == stat.count == len(values)
    assert stat.total == sum(values)
    assert (stat.edges[0], stat.edges[-1]) == (min(values), max(values)) if values else stat.edges == []
    assert stat.edges == sorted(stat.edges)
    assert len(stat.counts) <= 30


def test_an_empty_series_has_no_values_and_one_value_no_deviation(registry: MetricsRegistry) -> None:
    series = registry.series("x")
    none = registry.snapshot().find("x")
    assert (none.count, none.min, none.max, none.mean, none.std) == (0, None, None, None, 0.0)
    assert (none.edges, none.counts, none.percentiles) == ([], [], [])
    series.record(5 * MS)
    one = registry.snapshot().find("x")
    assert (one.mean, one.std, one.edges) == (5 * MS, 0.0, [5 * MS, 5 * MS])


def test_sums_are_exact_as_far_as_msgpack_goes(registry: MetricsRegistry) -> None:
    series = registry.series("x")
    for total in (2**64 - 1, float(2**65 - 2)):
        series.record(2**64 - 1)
        found = registry.snapshot()
        assert found.find("x").total == total
        payload = SnapshotCodec().encode(found)[1]
        assert SnapshotCodec().decode(payload) == found


def test_snapshots_are_numbered_and_stamped(registry: MetricsRegistry) -> None:
    registry.begin(3)
    before = _core.now_ns()
    first, second = registry.snapshot(), registry.snapshot()
    assert (first.sequence, second.sequence) == (0, 1)
    assert before <= first.ns <= second.ns <= _core.now_ns()
    assert (first.run, first.phase, first.alive) == ("run-1", 3, True)


@pytest.mark.parametrize(
    ("counters", "pending"),
    [
        ({}, 0),
        ({"issued": 9, "ok": 4, "failed": 2, "cancelled": 1}, 2),
        ({"issued": 9, "completed": 7, "failed": 2}, 2),
        ({"issued": 1, "ok": 2}, 0),
    ],
)
def test_pending_is_what_was_issued_and_has_not_ended(
    registry: MetricsRegistry, counters: dict[str, int], pending: int
) -> None:
    for name, value in counters.items():
        registry.counter(name).increment(value)
    assert registry.snapshot().pending == pending


def test_a_session_only_goes_forward(registry: MetricsRegistry) -> None:
    assert registry.state is SessionState.LIVE
    registry.advance(SessionState.DRAINING)
    with pytest.raises(ValueError, match="draining"):
        registry.advance(SessionState.LIVE)
    registry.advance(SessionState.COMPLETE)
    with pytest.raises(ValueError, match="complete"):
        registry.advance(SessionState.INTERRUPTED)
    assert registry.snapshot().state is SessionState.COMPLETE


def test_a_snapshot_is_a_msgpack_array_that_comes_back(registry: MetricsRegistry) -> None:
    registry.series("ttft").record(MS)
    registry.counter("issued").increment()
    found = registry.snapshot()
    payload = msgspec.msgpack.encode(found)
    raw: list[Any] = msgspec.msgpack.decode(payload)
    assert (raw[0], raw[1], raw[3]) == ("loadgen.metrics.1", 0, "live")
    assert [stat[0] for stat in raw[6]] == ["counter", "series"]
    assert msgspec.msgpack.decode(payload, type=MetricsSnapshot) == found


def test_what_the_core_says_is_taken_as_it_is() -> None:
    said = {
        "id": "a", "state": "draining", "alive": False, "pid": 1, "mono_ns": 5, "wall_ns": 6, "start_ns": 4,
        "phase": None, "phase_ns": None,
        "counters": [{"name": "issued", "unit": "1", "help": "", "phase": None, "value": 3}], "series": [],
    }  # fmt: skip
    found = of_core(json.dumps(said), 9, missing=2)
    assert found == MetricsSnapshot(
        9, 5, SessionState.DRAINING, 3, None, [CounterStat("issued", 3)], "a", 6, 4, alive=False, missing=2
    )


def test_percentiles_and_bins_are_as_asked(registry: MetricsRegistry) -> None:
    series = registry.series("x")
    for ms in range(1, 101):
        series.record(ms * MS)
    found = registry.snapshot(percentiles=[10, 99.99], bins=5).find("x")
    assert [percent for percent, _ in found.percentiles] == [10, 99.99]
    assert len(found.counts) == 5
    with pytest.raises(ValueError, match="101"):
        registry.snapshot(percentiles=[101])


def test_without_room_the_metrics_are_private_and_it_says_so() -> None:
    registry = MetricsRegistry("alone", directories=["/proc/nowhere"])
    assert registry.path is None
    assert "private memory" in registry.notes[-1]
    registry.counter("issued").increment()
    assert registry.snapshot().counter("issued") == 1


# --- looks from elsewhere


def test_another_look_sees_what_is_recorded(registry: MetricsRegistry, place: list[Path]) -> None:
    reader = attach("run-1", directories=place)
    registry.series("ttft", phase=0).record(MS)  # after it was attached: the reader maps again
    assert (reader.run, reader.path, reader.alive, reader.was_killed) == ("run-1", registry.path, True, False)
    assert reader.snapshot().find("ttft").count == 1
    assert reader.hdr("ttft") == registry.hdr("ttft")
    registry.advance(SessionState.COMPLETE)
    assert (reader.state, reader.snapshot().state) == (SessionState.COMPLETE, SessionState.COMPLETE)


def test_a_run_is_found_by_what_names_it(place: list[Path], tmp_path: Path) -> None:
    directory = tmp_path / "20260101T000000Z-b0b1"
    directory.mkdir()
    with MetricsRegistry("b0b1", directories=place) as one, MetricsRegistry("b0ff", directories=place):
        assert one.path is not None
        for named in ("b0b1", "b0b", directory, f"{directory}/", one.path):
            assert attach(named, directories=place).run == "b0b1"
        with pytest.raises(MetricsError, match=r"2 runs.*begin with b0: "):
            attach("b0", directories=place)
        with pytest.raises(MetricsError, match="begins with 'c'"):
            attach("c", directories=place)
        assert attach(directories=place).run in ("b0b1", "b0ff")


def test_without_a_run_it_says_so(place: list[Path]) -> None:
    with pytest.raises(MetricsError, match="no run of this machine"):
        attach(directories=place)


@pytest.mark.parametrize("content", [b"", b"\0" * 8192, b"\x89LGSER\r\n" + b"\0" * 8192])
def test_a_file_that_is_no_segment_is_refused(place: list[Path], content: bytes) -> None:
    path = place[0] / "x.series"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(MetricsError, match=r"x\.series"):
        attach(path)


def test_a_file_that_is_cut_while_it_is_looked_at_is_told(registry: MetricsRegistry, place: list[Path]) -> None:
    registry.series("ttft").record(MS)
    assert registry.path is not None
    path = place[0] / "copy.series"
    path.write_bytes(registry.path.read_bytes())
    path.chmod(0o600)
    reader = attach(path)
    assert reader.snapshot().find("ttft").count == 1
    os.truncate(path, 5000)
    for look in (reader.snapshot, lambda: reader.hdr("ttft")):
        with pytest.raises(MetricsError, match=r"(?s)of run run-1: .*5000 bytes.*loadgen report"):
            look()


KILLED = """
import os, sys
from loadgen.metrics import MetricsRegistry
registry = MetricsRegistry("doomed", directories=[sys.argv[1]])
registry.counter("issued").increment(41)
os.kill(os.getpid(), 9)
"""


def test_a_killed_writer_is_told_and_its_numbers_stay(place: list[Path]) -> None:
    subprocess.run([sys.executable, "-c", KILLED, str(place[0])], check=False, timeout=60)
    reader = attach("doomed", directories=place)
    found = reader.snapshot()
    assert (reader.alive, reader.was_killed, found.alive) == (False, True, False)
    assert (found.state, found.counter("issued")) == (SessionState.LIVE, 41)


READS = """
import os, sys, time
from loadgen.metrics import attach
reader = attach("run-1", directories=[sys.argv[1]])
print("attached", flush=True)
while True:
    reader.snapshot()
"""


def test_a_killed_reader_changes_nothing(registry: MetricsRegistry, place: list[Path]) -> None:
    series = registry.series("x")
    with subprocess.Popen([sys.executable, "-c", READS, str(place[0])], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"attached\n"
        for _ in range(10_000):
            series.record(MS)
        process.kill()
    series.record(MS)
    assert registry.snapshot().find("x").count == 10_001


# --- HDR's format


def test_hdr_histograms_say_how_many_are_at_most_a_bound(registry: MetricsRegistry) -> None:
    series = registry.series("x")
    for ms in range(1, 101):
        series.record(ms * MS)
    found = read_hdr(registry.hdr("x"))
    assert (found.low, found.high, found.digits, found.count) == (1000, 3_600_000_000_000, 3, 100)
    assert found.at_most([0, MS, 50 * MS, 99.5 * MS, 1e12]) == [0, 1, 50, 99, 100]


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=50), st.integers(1, 10**12))
def test_values_are_at_most_a_bound_to_three_digits(values: list[int], bound: int) -> None:
    registry = MetricsRegistry(directories=["/proc/nowhere"])
    series = registry.series("x", low=1)
    for value in values:
        series.record(value)
    (found,) = read_hdr(registry.hdr("x")).at_most([bound])
    assert sum(value <= bound for value in values) <= found <= sum(value <= bound * 1.001 for value in values)


def test_the_python_package_reads_what_is_written_here(registry: MetricsRegistry) -> None:
    hdrh = pytest.importorskip("hdrh.histogram", reason="hdrhistogram has no wheel for this machine")
    series = registry.series("x")
    for us in range(1, 20_000, 7):
        series.record(us * 1000)
    theirs = hdrh.HdrHistogram.decode(base64.b64encode(registry.hdr("x")))
    ours = read_hdr(registry.hdr("x"))
    assert theirs.get_total_count() == ours.count
    assert (theirs.lowest_trackable_value, theirs.highest_trackable_value) == (ours.low, ours.high)
    buckets = [(item.value_iterated_to, item.count_added_in_this_iter_step) for item in theirs.get_recorded_iterator()]
    assert buckets == ours.counts


def test_what_the_python_package_writes_is_read_here() -> None:
    hdrh = pytest.importorskip("hdrh.histogram", reason="hdrhistogram has no wheel for this machine")
    theirs = hdrh.HdrHistogram(1, 3_600_000_000, 3)
    for value in (1, 5, 5, 1_000_003, 2_000_000_000):
        theirs.record_value(value)
    ours = read_hdr(base64.b64decode(theirs.encode()))
    assert (ours.low, ours.high, ours.digits, ours.count) == (1, 3_600_000_000, 3, 5)
    buckets = [(item.value_iterated_to, item.count_added_in_this_iter_step) for item in theirs.get_recorded_iterator()]
    assert ours.counts == buckets
    assert ours.at_most([1, 5, 9 * 10**5, 10**7]) == [1, 3, 3, 4]


@pytest.mark.parametrize("data", [b"", b"no histogram", b"\x1c\x84\x93\x14\0\0\0\x09\1\2"])
def test_other_bytes_are_no_histogram(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"HDR|histogram"):
        read_hdr(data)


# --- what a look brings along


def test_a_look_needs_neither_zmq_nor_an_event_loop() -> None:
    code = "import sys, loadgen.metrics; loadgen.metrics.attach; loadgen.metrics.MetricsRegistry; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert not {"zmq", "asyncio", "http.server", "opentelemetry"} & set(done.stdout.split())


def test_every_public_name_is_there() -> None:
    from loadgen import metrics

    for name in metrics.__all__:
        assert getattr(metrics, name).__module__.startswith("loadgen.metrics."), name
    with pytest.raises(AttributeError, match="Snapshot"):
        _ = metrics.Snapshot  # type: ignore[attr-defined]
