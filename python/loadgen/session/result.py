"""What a run returns: its phases' results, typed, with the report's numbers as attributes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from loadgen.session.requests import RequestTable
from loadgen.session.scoring import AccuracyResult, SampleScore, scores_of

Status = Literal["complete", "interrupted", "failed"]


class Metric:
    """One metric's summary over a phase. Times are milliseconds.

    A value that does not exist is ``nan``: no comparison with it is true, so ``metric.p99 < 200`` fails where nothing
    was measured. Any percentile that the report holds is an attribute: ``p50``, ``p99``, ``p99_9``.

    Args:
        name: Its name in the report.
        data: Its object in the report.
    """

    __slots__ = ("_data", "name")

    def __init__(self, name: str, data: dict[str, Any] | None) -> None:
        self.name = name
        self._data = data or {}

    @property
    def unit(self) -> str:
        """The unit of its values."""
        return str(self._data.get("unit", "ms"))

    @property
    def count(self) -> int:
        """How many values it summarises."""
        return int(self._data.get("count") or 0)

    @property
    def ci95(self) -> dict[str, tuple[float, float]]:
        """95 % confidence intervals of percentiles, where the sample supports one: ``{"p50": (low, high)}``."""
        found = self._data.get("ci95") or {}
        return {name: (bounds[0], bounds[1]) for name, bounds in found.items() if bounds and None not in bounds}

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Percentiles that so few values can't support."""
        return tuple(self._data.get("unsupported") or ())

    @property
    def percentiles(self) -> tuple[float, ...]:
        """The percentiles that the report holds, ascending: ``(50.0, 99.9)``."""
        keys = (key for key in self._data if key[0] == "p" and key[1:2].isdigit())
        return tuple(sorted(float(key[1:].replace("_", ".")) for key in keys))

    def is_only_extreme(self, percent: float) -> bool:
        """Return whether an unsupported percentile is so far out that it is but the greatest value."""
        return percentile_key(percent) in self.unsupported and self.count * (100 - percent) < 100

    def percentile(self, percent: float) -> float:
        """Return a percentile by its number, ``nan`` where the report doesn't hold it."""
        return self._value(percentile_key(percent))

    def _value(self, name: str) -> float:
        value = self._data.get(name)
        return math.nan if value is None else float(value)

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return self._value("mean")

    @property
    def std(self) -> float:
        """Standard deviation of the sample."""
        return self._value("std")

    @property
    def min(self) -> float:
        """Smallest value."""
        return self._value("min")

    @property
    def max(self) -> float:
        """Largest value."""
        return self._value("max")

    def __getattr__(self, name: str) -> float:
        if name.startswith("p") and name[1:2].isdigit():
            if name in self._data or self._data == {}:
                return self._value(name)
            raise AttributeError(f"the report holds no {name} of {self.name}; ask for it with percentiles=…")
        raise AttributeError(f"a metric has no {name}")

    def __bool__(self) -> bool:
        return self.count > 0

    def __repr__(self) -> str:
        middle, far = self._value("p50"), self._value("p99")
        return f"Metric({self.name}: n={self.count}, p50={middle:.6g}, p99={far:.6g} {self.unit})"


def percentile_key(percent: float) -> str:
    """Return the report's key of a percentile: ``p50``, ``p99_9``."""
    return "p" + f"{percent:.6f}".rstrip("0").rstrip(".").replace(".", "_")


class Counts(msgspec.Struct, frozen=True):
    """What became of a phase's requests: ``issued = ok + failed + cancelled + in_flight``."""

    issued: int
    ok: int
    failed: int
    cancelled: int
    in_flight: int = 0
    reconnects: int = 0


class Throughput(msgspec.Struct, frozen=True):
    """What got through per second, from the first request issued to the last one done; ``None`` where not known."""

    requests_per_s: float | None = None
    output_tokens_per_s: float | None = None
    total_tokens_per_s: float | None = None
    steady: dict[str, Any] | None = None


class Prompts(msgspec.Struct, frozen=True):
    """Where a phase's prompts are from.

    Args:
        name: The dataset's file, or how the prompts were made.
        sha256: Hex digest of the file, or of the prompts that were made.
        samples: How many there are.
        note: What a reader must know of how they came to be.
    """

    name: str
    sha256: str
    samples: int
    note: str | None = None


class Trust(msgspec.Struct, frozen=True):
    """How far to trust a phase's numbers.

    Args:
        verdict: ``ok``, ``client_limited``, or ``unknown`` where something needed to judge is missing.
        reasons: Why it is not ``ok``, a sentence each.
        notes: What is worth knowing and changes nothing, a sentence each.
        distrust: Metrics that are not the server's alone.
        suggestion: What to try.
        offered_per_s: Requests per second that an open loop asked for.
        achieved_per_s: Requests per second that were sent.
        send_lateness_us: Percentiles of how late requests were issued.
        late_share: Share of the requests that left more than 5 ms late.
        cpu_share: Share of one core that the busiest worker used.
        steal: Cores that others on the host got instead of this machine.
        throttled: Share of the time that a container's CPU limit held the client back.
    """

    verdict: Literal["ok", "client_limited", "unknown"]
    reasons: list[str] = []
    notes: list[str] = []
    distrust: list[str] = []
    suggestion: str | None = None
    offered_per_s: float | None = None
    achieved_per_s: float | None = None
    send_lateness_us: dict[str, float] | None = None
    late_share: float | None = None
    cpu_share: float | None = None
    steal: float | None = None
    throttled: float | None = None


class PhaseResult(msgspec.Struct, frozen=True):
    """The result of one phase.

    Args:
        name: Its name.
        type: ``warmup``, ``performance`` or ``accuracy``.
        counts: What became of its requests.
        throughput: What got through.
        trust: How far to trust it.
        goodput: Requests per second that met every objective; ``nan`` without objectives.
        duration_s: From its first request issued to its last one done.
        start_ns: When its load began, on the run's monotonic clock; ``None`` where its log no longer tells.
        end_ns: When it was over, what it had in flight included; ``None`` for one that did not end.
        dataset: Where its prompts are from; ``None`` where its log no longer tells.
        seed: The seed of order and arrivals.
        dir: The run's directory.
        report: Its part of ``report.json``.
        accuracy: How right its answers are; ``None`` where they were not scored.
    """

    name: str
    type: str
    counts: Counts
    throughput: Throughput
    trust: Trust
    goodput: float
    duration_s: float
    start_ns: int | None
    end_ns: int | None
    dataset: Prompts | None
    seed: int | None
    dir: Path
    report: dict[str, Any]
    accuracy: AccuracyResult | None = None

    @classmethod
    def of(cls, directory: Path, report: dict[str, Any]) -> PhaseResult:
        """Make a phase's result from its part of a report.

        Args:
            directory: The run's directory.
            report: The phase's object in its ``report.json``.
        """
        rate = (report.get("goodput") or {}).get("requests_per_s")
        return cls(
            name=report["name"],
            type=report["type"],
            counts=msgspec.convert(report["counts"], Counts),
            throughput=msgspec.convert(report.get("throughput") or {}, Throughput),
            trust=msgspec.convert(report["trust"], Trust),
            goodput=math.nan if rate is None else float(rate),
            duration_s=math.nan if report.get("duration_s") is None else float(report["duration_s"]),
            start_ns=report.get("start_ns"),
            end_ns=report.get("end_ns"),
            dataset=msgspec.convert(report.get("dataset"), Prompts | None),
            seed=report.get("seed"),
            dir=directory,
            report=report,
            accuracy=msgspec.convert(report.get("accuracy"), AccuracyResult | None),
        )

    def __repr__(self) -> str:
        return f"<PhaseResult {_said(self)}>"

    def __str__(self) -> str:
        return repr(self)

    @property
    def requests(self) -> RequestTable:
        """Its requests, a row each: a table for whoever reads Arrow, and an iterable of :class:`Request`."""
        counts = self.counts
        return RequestTable(self.dir, self.report["index"], counts.issued - counts.in_flight)

    @property
    def scores(self) -> Iterator[SampleScore]:
        """The scores of its requests, one each, read from their file whenever it is used; an accuracy phase's only.

        Raises:
            ReportError: If it was not scored, when the first is asked for.
        """
        return scores_of(self.dir, self.report["index"])

    def metric(self, name: str) -> Metric:
        """Return a metric by its name in the report; one without values where it wasn't measured."""
        return Metric(name, self.report["metrics"].get(name))

    @property
    def strategy(self) -> str:
        """The load strategy in words."""
        return str((self.report.get("load") or {}).get("words", ""))

    @property
    def load(self) -> dict[str, Any]:
        """The load that was asked for."""
        return dict(self.report.get("load") or {})

    @property
    def order(self) -> str | None:
        """How samples were drawn from the dataset; ``None`` where its log no longer tells."""
        return (self.report.get("config") or {}).get("order")

    @property
    def settings(self) -> dict[str, Any]:
        """Its settings that differ from the run's options, by their words; empty unless phases were listed."""
        return dict(self.report.get("settings") or {})

    @property
    def failures(self) -> dict[str, Any]:
        """Failed requests by class."""
        return dict(self.report.get("failures") or {})

    @property
    def tokens(self) -> dict[str, Any]:
        """Tokens in and out, and who counted them."""
        return dict(self.report.get("tokens") or {})

    @property
    def series(self) -> dict[str, list[float | None]]:
        """Values per second of the phase."""
        return dict(self.report.get("series") or {})

    @property
    def ttfb(self) -> Metric:
        """Time to the first byte, from sent."""
        return self.metric("ttfb")

    @property
    def ttft(self) -> Metric:
        """Time to the first token, from sent."""
        return self.metric("ttft")

    @property
    def ttfo(self) -> Metric:
        """Time to the first output that is not reasoning, from sent."""
        return self.metric("ttfo")

    @property
    def tpot(self) -> Metric:
        """Time per output token after the first."""
        return self.metric("tpot")

    @property
    def itl(self) -> Metric:
        """Time between tokens, where the server tells how many tokens a chunk holds."""
        return self.metric("itl")

    @property
    def icl(self) -> Metric:
        """Time between chunks that carry tokens, pooled over requests."""
        return self.metric("icl")

    @property
    def ntpot(self) -> Metric:
        """Latency per output token."""
        return self.metric("ntpot")

    @property
    def latency(self) -> Metric:
        """Time to the last token (streamed) or the end of the answer, from sent."""
        return self.metric("latency")

    @property
    def connect(self) -> Metric:
        """Time to connect, of the requests that did."""
        return self.metric("connect")

    @property
    def send_lateness(self) -> Metric:
        """How long after its time a request was sent."""
        return self.metric("send_lateness")

    @property
    def response_ttft(self) -> Metric:
        """Time to the first token, from planned."""
        return self.metric("response_ttft")

    @property
    def response_latency(self) -> Metric:
        """Time to the last token or the end of the answer, from planned."""
        return self.metric("response_latency")


def _said(phase: PhaseResult) -> str:
    """Return a phase's result in one line."""
    rate = phase.throughput.requests_per_s
    parts = [f"{phase.name!r}: {phase.counts.ok} ok", f"{phase.counts.failed} failed"]
    parts += [f"{rate:.4g} req/s"] if rate is not None else []
    held = [(name, phase.ttft.percentile(percent)) for name, percent in (("p50", 50), ("p99", 99))]
    if phase.accuracy is not None and phase.accuracy.mean is not None:
        parts.append(f"score {phase.accuracy.mean:.4g} of {phase.accuracy.scored}")
    times = " ".join(f"{name} {value:.4g} ms" for name, value in held if not math.isnan(value))
    return ", ".join([*parts, f"TTFT {times}"] if times else parts)


class SessionResult(msgspec.Struct, frozen=True):
    """The result of a run.

    Args:
        id: The run's id.
        dir: Its directory, with ``report.json`` and ``run.log``.
        status: ``complete``, ``interrupted`` or ``failed``.
        reason: Why it isn't complete, in words; ``None`` where it is.
        report: The whole of ``report.json``.
        phases: Results of all phases, in order.
    """

    id: str
    dir: Path
    status: Status
    reason: str | None
    report: dict[str, Any]
    phases: list[PhaseResult]

    @classmethod
    def of(cls, directory: Path, report: dict[str, Any]) -> SessionResult:
        """Make a run's result from its report.

        Args:
            directory: The run's directory.
            report: What its ``report.json`` holds.
        """
        run = report["run"]
        phases = [PhaseResult.of(directory, phase) for phase in report["phases"]]
        return cls(run["id"], directory, run["status"], run["reason"], report, phases)

    def __repr__(self) -> str:
        phases = "".join(f"; {_said(phase)}" for phase in self.phases)
        return f"<SessionResult {self.id} {self.status}{phases}>"

    def __str__(self) -> str:
        return repr(self)

    @property
    def perf_results(self) -> list[PhaseResult]:
        """Results of the performance phases."""
        return [phase for phase in self.phases if phase.type == "performance"]

    @property
    def accuracy_results(self) -> list[PhaseResult]:
        """Results of the accuracy phases."""
        return [phase for phase in self.phases if phase.type == "accuracy"]

    @property
    def start_ns(self) -> int | None:
        """When its first phase began, on the run's monotonic clock; ``None`` where none did."""
        return min((phase.start_ns for phase in self.phases if phase.start_ns is not None), default=None)

    @property
    def end_ns(self) -> int | None:
        """When its last phase was over, what it had in flight included; ``None`` where none ended."""
        return max((phase.end_ns for phase in self.phases if phase.end_ns is not None), default=None)

    @property
    def late_answers(self) -> int:
        """Answers of an issuer of the user's own to requests that were not in flight any more; they count nowhere."""
        return int(self.report["run"].get("late_answers") or 0)

    @property
    def environment(self) -> dict[str, Any]:
        """The machine that the run was made on."""
        return dict(self.report["run"]["environment"])

    @property
    def performance(self) -> PhaseResult:
        """The only performance phase.

        Raises:
            LookupError: If there is none, or there are several.
        """
        found = self.perf_results
        if len(found) != 1:
            names = ", ".join(phase.name for phase in found) or "none"
            raise LookupError(f"the run has {len(found)} performance phases ({names}); use phase(name)")
        return found[0]

    def phase(self, name: str) -> PhaseResult:
        """Return the result of a phase by its name.

        Raises:
            LookupError: If no phase has that name.
        """
        for phase in self.phases:
            if phase.name == name:
                return phase
        raise LookupError(f"the run has no phase {name!r} (it has: {', '.join(phase.name for phase in self.phases)})")
