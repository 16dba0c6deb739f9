"""A report from a snapshot, for a run that has no log, or none here: the same shape, less of it, and labelled so."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any, Literal

import msgspec

from loadgen import _core
from loadgen.errors import MetricsError
from loadgen.metrics import SNAPSHOT
from loadgen.metrics.final import load
from loadgen.metrics.snapshot import MetricsSnapshot, SeriesStat, SessionState
from loadgen.metrics.subscriber import MetricsSnapshotSubscriber
from loadgen.report import figures
from loadgen.session import SessionResult
from loadgen.session.metric import percentile_key
from loadgen.session.summary import SCHEMA

Via = Literal["pubsub", "disk", "live"]

PRECISION = (
    "percentiles from HDR histograms: to three digits, below a millisecond to half a microsecond; "
    "counts, sums, min, max, mean and std are exact"
)
_VIA = {
    "pubsub": "the final snapshot, published",
    "disk": "the final snapshot, stored",
    "live": "the last live snapshot",
}
_NO_PLACE = Path()


class Report(msgspec.Struct, frozen=True):
    """A run's report from a snapshot.

    Args:
        data: What ``report.json`` would hold: ``run.source`` is ``snapshot``, ``run.log`` is ``null``.
        via: How the snapshot came: published when it was final, stored, or the last live one.
        warnings: What a reader must know before any number, in sentences; empty for a complete run.
    """

    data: dict[str, Any]
    via: Via
    warnings: tuple[str, ...]

    @classmethod
    def from_snapshot(cls, snapshot: MetricsSnapshot, via: Via = "live") -> Report:
        """Make a report of a snapshot, and of nothing else.

        Args:
            snapshot: The snapshot.
            via: How it came.
        """
        warnings = _warnings(snapshot)
        return cls({"schema": SCHEMA, "run": _run(snapshot, via, warnings), "phases": _phases(snapshot)}, via, warnings)

    def result(self, directory: str | os.PathLike[str] | None = None) -> SessionResult:
        """Return it as a run's result, with typed phases and metrics.

        Args:
            directory: The run's directory, if it has one.
        """
        return SessionResult.of(_NO_PLACE if directory is None else Path(directory), self.data)


def best(
    subscriber: MetricsSnapshotSubscriber | None = None,
    directory: str | os.PathLike[str] | None = None,
    timeout: float = 2.0,
) -> Report:
    """Report a run without a log by the best snapshot there is: final and published, else final and stored, else live.

    Args:
        subscriber: Who listened to the run; asked for the final snapshot, and at the end for the last live one.
        directory: The run's directory, where the final one may be stored.
        timeout: Seconds to wait for the final one at most.

    Raises:
        MetricsError: If there is none at all.
    """
    final = subscriber.wait_for_complete(timeout) if subscriber is not None else None
    if final is not None:
        return Report.from_snapshot(final, "pubsub")
    problem: MetricsError | None = None
    if directory is not None:
        try:
            return Report.from_snapshot(load(Path(directory) / SNAPSHOT), "disk")
        except MetricsError as error:
            problem = error
    if subscriber is not None and subscriber.latest is not None:
        return Report.from_snapshot(subscriber.latest, "live")
    raise problem or MetricsError("no snapshot of the run has come", "was it going while this listened?")


def _warnings(snapshot: MetricsSnapshot) -> tuple[str, ...]:
    found = []
    if snapshot.state is SessionState.INTERRUPTED:
        found.append("the run was interrupted: these are the numbers up to then")
    elif not snapshot.state.is_last:
        gone = "" if snapshot.alive else ", and its process is gone"
        found.append(f"the run had not ended when this was taken (it was {snapshot.state.value}{gone})")
    if snapshot.pending:
        found.append(f"{snapshot.pending} requests had not ended when this was taken; they are in no number below")
    if snapshot.missing:
        found.append(f"{snapshot.missing} events were dropped on the way: the numbers may lack as much")
    torn = sum(stat.torn for stat in snapshot.series)
    if torn:
        shares = f"{figures.many(torn, 'share of a series', 'shares of series')} {'was' if torn == 1 else 'were'}"
        found.append(f"{shares} cut off by the writer's end: the value it was at may be counted in part")
    return tuple(found)


def _run(snapshot: MetricsSnapshot, via: Via, warnings: tuple[str, ...]) -> dict[str, Any]:
    is_complete = snapshot.state is SessionState.COMPLETE
    begun = dt.datetime.fromtimestamp((snapshot.wall_ns - max(0, snapshot.ns - snapshot.start_ns)) / 1e9, dt.UTC)
    return {
        "id": snapshot.run,
        "status": "complete" if is_complete else "interrupted",
        "reason": None if is_complete else warnings[0],
        "source": "snapshot",
        "version": _core.__version__,
        "started_at": begun.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": None,
        "environment": {},
        "config": {"url": "unknown target"},
        "percentiles": f"nearest rank, of buckets: {PRECISION}",
        "anchor": {"mono_ns": snapshot.ns, "wall_ns": snapshot.wall_ns},
        "snapshot": {
            "via": via,
            "words": _VIA[via],
            "state": snapshot.state.value,
            "sequence": snapshot.sequence,
            "pending": snapshot.pending,
            "missing": snapshot.missing,
            "precision": PRECISION,
            "warnings": list(warnings),
        },
        "log": None,
    }


def _phases(snapshot: MetricsSnapshot) -> list[dict[str, Any]]:
    numbers = sorted({stat.phase for stat in snapshot.stats if stat.phase is not None})
    if not numbers and snapshot.stats:
        return [_phase(snapshot, None, 0)]
    return [_phase(snapshot, number, number) for number in numbers]


def _phase(snapshot: MetricsSnapshot, phase: int | None, index: int) -> dict[str, Any]:
    counters = {stat.name: stat.value for stat in snapshot.counters if stat.phase == phase}
    series = [stat for stat in snapshot.series if stat.phase == phase and stat.unit == "ns"]
    return {
        "name": f"phase {index}",
        "type": "performance",
        "reason": None,
        "load": None,
        "dataset": None,
        "seed": None,
        "config": None,
        "index": index,
        "start_ns": snapshot.phase_ns if phase == snapshot.phase else None,
        "end_ns": None,
        "counts": _counts(counters),
        "never_issued": None,
        "usage_refused": None,
        "dispatch": None,
        "duration_s": None,
        "throughput": dict.fromkeys(
            ("requests_per_s", "output_tokens_per_s", "total_tokens_per_s", "ramp_s", "drain_s", "steady")
        ),
        "goodput": None,
        "metrics": {stat.name: _metric(stat) for stat in series},
        "nodes": None,
        "failures": {},
        "failure_details": [],
        "finish": {},
        "tokens": _tokens(counters),
        "distinct_samples": None,
        "bytes": {"received": counters.get("bytes_in", 0), "sent": counters.get("bytes_out", 0)},
        "series": {"interval_s": 1.0, **{name: [] for name in _PER_SECOND}},
        "trust": _TRUST,
    }


def _counts(counters: dict[str, int]) -> dict[str, int]:
    """Return what became of the requests; one that was counted as ended before its issue was makes none negative."""
    failed, cancelled = counters.get("failed", 0), counters.get("cancelled", 0)
    ok = counters["ok"] if "ok" in counters else max(0, counters.get("completed", 0) - failed - cancelled)
    issued = max(counters.get("issued", 0), ok + failed + cancelled)
    in_flight = issued - ok - failed - cancelled
    counted = {"issued": issued, "ok": ok, "failed": failed, "cancelled": cancelled, "in_flight": in_flight}
    return {**counted, "reconnects": counters.get("reconnects", 0)}


def _metric(stat: SeriesStat) -> dict[str, Any] | None:
    if not stat.count or stat.mean is None or stat.min is None or stat.max is None:
        return None
    percentiles = {percentile_key(percent): value / 1e6 for percent, value in stat.percentiles}
    return {
        "unit": "ms",
        "count": stat.count,
        "mean": stat.mean / 1e6,
        "std": stat.std / 1e6,
        "min": stat.min / 1e6,
        "max": stat.max / 1e6,
        **percentiles,
        "ci95": {},
        "unsupported": [percentile_key(p) for p, _ in stat.percentiles if not _supports(stat.count, p)],
        "definition": stat.help,
    }


def _supports(count: int, percent: float) -> bool:
    """Return whether a sample can bound a percentile: a 95 % interval by order statistics has both ends."""
    share = percent / 100
    return percent >= 100 or (share**count <= 0.025 and (1 - share) ** count <= 0.025)


def _tokens(counters: dict[str, int]) -> dict[str, Any]:
    return {
        **dict.fromkeys(("source", "input", "output", "input_mean", "output_mean")),
        "rows_without_usage": 0,
        "events": 0,
        "chunks": counters.get("chunks", 0),
        **dict.fromkeys(("chunks_per_read", "tokens_per_chunk", "gaps")),
        "rows_without_itl": 0,
    }


_PER_SECOND = ("t_s", "requests_per_s", "output_tokens_per_s", "in_flight", "ttft_p50", "errors")
_TRUST: dict[str, Any] = {
    "verdict": "unknown",
    "reasons": ["this is made from a snapshot, and what the client is judged by stands in the run log"],
    "notes": [],
    "distrust": [],
    **dict.fromkeys(
        ("suggestion", "offered_per_s", "achieved_per_s", "send_lateness_us", "late_share", "connect_share")
    ),
    **dict.fromkeys(("cpu_share", "cpu_cores", "loop_stall_ms", "steal", "throttled")),
    "invariant_violations": 0,
}
