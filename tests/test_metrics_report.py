"""Reports from snapshots: for a run without a log, by the best one there is, and labelled so."""

import io
import json
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from event_support import Contexts
from loadgen.errors import MetricsError
from loadgen.metrics import (
    SNAPSHOT,
    CounterStat,
    MetricsPublisher,
    MetricsRegistry,
    MetricsSnapshotSubscriber,
    SeriesStat,
    SessionState,
    final,
)
from loadgen.report import again, screen
from loadgen.report.from_snapshot import Report, best
from loadgen.session import run_dir
from metrics_support import WAIT_S, snapshot

pytest_plugins = ["event_fixtures"]

SCHEMA = json.loads(resources.files("loadgen.report").joinpath("report.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_a_snapshot_gives_a_report_of_the_same_shape() -> None:
    report = Report.from_snapshot(snapshot())
    VALIDATOR.validate(report.data)
    result = report.result()
    (phase,) = result.perf_results
    assert (result.id, result.status, result.report["run"]["source"]) == ("abcd", "complete", "snapshot")
    assert (phase.counts.issued, phase.counts.ok, phase.counts.failed, phase.counts.cancelled) == (5, 3, 1, 1)
    assert (phase.ttft.mean, phase.ttft.std, phase.ttft.max, phase.ttft.p50, phase.ttft.p99) == (2, 1, 3, 2, 3)
    assert (phase.ttft.count, phase.ttft.unsupported) == (3, ("p50", "p99"))
    assert phase.trust.verdict == "unknown"
    assert "three digits" in report.data["run"]["snapshot"]["precision"]
    assert report.warnings == ()


def test_it_depends_on_nothing_but_the_snapshot() -> None:
    assert Report.from_snapshot(snapshot(), "disk") == Report.from_snapshot(snapshot(), "disk")


@pytest.mark.parametrize(
    ("changed", "status", "said"),
    [
        ({"state": SessionState.INTERRUPTED}, "interrupted", "interrupted"),
        ({"state": SessionState.LIVE}, "interrupted", "had not ended when this was taken (it was live)"),
        ({"state": SessionState.DRAINING, "alive": False}, "interrupted", "its process is gone"),
        ({"pending": 4}, "complete", "4 requests had not ended"),
        ({"missing": 7}, "complete", "7 events were dropped"),
        ({"stats": [SeriesStat("ttft", 0, phase=0, torn=1)]}, "complete", "1 share of a series was cut off"),
    ],
)
def test_what_is_not_whole_is_warned_of(changed: dict[str, Any], status: str, said: str) -> None:
    report = Report.from_snapshot(snapshot(**changed))
    VALIDATOR.validate(report.data)
    assert report.data["run"]["status"] == status
    (warning,) = report.warnings
    assert said in warning
    shown = io.StringIO()
    screen.show(report.result(), shown, 200)
    assert said in shown.getvalue()


def test_the_greatest_value_is_a_percentile_that_any_sample_supports() -> None:
    ttft = SeriesStat(
        "ttft", 2, 6_000_000, 2_000_000, 4_000_000, 3e6, 1.4e6, [(50.0, 2_000_000), (100.0, 4_000_000)], phase=0
    )
    result = Report.from_snapshot(snapshot(stats=[ttft])).result()
    assert result.performance.ttft.unsupported == ("p50",)
    shown = io.StringIO()
    screen.show(result, shown, 200)
    assert "p100" in shown.getvalue()


def test_an_aggregators_counters_are_understood() -> None:
    counters = [
        CounterStat(n, v, phase=0) for n, v in (("issued", 9), ("completed", 8), ("failed", 2), ("cancelled", 1))
    ]
    (phase,) = Report.from_snapshot(snapshot(stats=counters, pending=1)).result().phases
    assert (phase.counts.ok, phase.counts.in_flight) == (5, 1)


def test_every_phase_has_its_part_and_a_run_without_phases_one() -> None:
    stats = [CounterStat("issued", 1, phase=0), CounterStat("issued", 2, phase=3), CounterStat("whole", 9)]
    phases = Report.from_snapshot(snapshot(stats=stats)).result().phases
    assert [(phase.name, phase.counts.issued) for phase in phases] == [("phase 0", 1), ("phase 3", 2)]
    (alone,) = Report.from_snapshot(snapshot(stats=[CounterStat("issued", 4)])).result().phases
    assert alone.counts.issued == 4
    assert Report.from_snapshot(snapshot(stats=[])).result().phases == []


# --- which snapshot


@pytest.fixture
def publisher() -> Iterator[MetricsPublisher]:
    with MetricsRegistry("abcd") as registry:
        registry.counter("issued", phase=0).increment()
        with MetricsPublisher(registry, refresh_hz=100, linger=WAIT_S) as made:
            yield made


def test_the_published_final_one_wins(publisher: MetricsPublisher, contexts: Contexts, tmp_path: Path) -> None:
    final.store(tmp_path / SNAPSHOT, snapshot())
    with MetricsSnapshotSubscriber(contexts(), publisher.address) as subscriber:
        assert subscriber.receive(WAIT_S) is not None
        publisher.publish_final()
        report = best(subscriber, tmp_path, WAIT_S)
    assert (report.via, report.data["run"]["snapshot"]["sequence"]) == ("pubsub", publisher.latest.sequence)  # type: ignore[union-attr]


def test_then_the_stored_one_then_the_last_live_one(
    publisher: MetricsPublisher, contexts: Contexts, tmp_path: Path
) -> None:
    with MetricsSnapshotSubscriber(contexts(), publisher.address) as subscriber:
        assert subscriber.receive(WAIT_S) is not None
        live = best(subscriber, tmp_path, 0)
        final.store(tmp_path / SNAPSHOT, snapshot())
        stored = best(subscriber, tmp_path, 0)
    assert (live.via, live.data["run"]["status"], stored.via) == ("live", "interrupted", "disk")
    assert "had not ended" in live.warnings[0]


def test_without_any_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(MetricsError, match=r"metrics\.snapshot"):
        best(directory=tmp_path)
    with pytest.raises(MetricsError, match="no snapshot"):
        best()


def test_a_run_that_left_but_a_snapshot_is_reported_by_it_and_can_be_removed(tmp_path: Path) -> None:
    run = tmp_path / "20260101T000000Z-abcd"
    run.mkdir()
    final.store(run / SNAPSHOT, snapshot())
    result, warning = again.load(str(run))
    assert (result.report["run"]["source"], "snapshot" in warning) == ("snapshot", True)
    assert run_dir.find("abcd", tmp_path) == run
    assert run_dir.remove(run) == ""
    assert not run.exists()
