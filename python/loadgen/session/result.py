"""What a run returns: its phases' results, typed, with the report's numbers as attributes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from loadgen.session import scoring
from loadgen.session.metric import Measured
from loadgen.session.requests import RequestTable
from loadgen.session.scoring.accuracy import AccuracyResult

if TYPE_CHECKING:
    from loadgen.session.scoring import SampleScore

Status = Literal["complete", "interrupted", "failed"]


class Counts(msgspec.Struct, frozen=True):
    """What became of a phase's requests: ``issued = ok + failed + cancelled + in_flight``.

    Args:
        issued: Requests that began.
        ok: Those with a good answer.
        failed: Those without one.
        cancelled: Those cut off at the end.
        in_flight: Those of which no record came: the process was killed.
        reconnects: Connections that were closed before an answer began, and replaced.
    """

    issued: int
    ok: int
    failed: int
    cancelled: int
    in_flight: int = 0
    reconnects: int = 0


class Throughput(msgspec.Struct, frozen=True):
    """What got through per second, from the first request issued to the last one done; ``None`` where not known.

    Args:
        requests_per_s: Good answers.
        output_tokens_per_s: Tokens of the answers.
        total_tokens_per_s: The prompts' tokens as well.
        steady: The same without ramp and drain, from ``from_s`` to ``to_s``, and the mean ``in_flight`` then.
    """

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


class NodeResult(Measured, frozen=True, kw_only=True):
    """What one of several nodes did of a phase; its metrics are attributes, as a phase's are.

    Args:
        node: Its index among the run's targets, as in the rows.
        name: What a person calls it, like no other of the run: its URL, or ``mock 2``.
        url: Its URL as it was given, without credentials; ``None`` where the log no longer tells.
        ok: Requests that succeeded.
        failed: Requests that failed.
        cancelled: Requests that were cancelled.
        share: Of the phase's requests that ended; ``None`` where none did.
        requests_per_s: Successful requests per second of the phase: those of all nodes add up to the phase's.
        output_tokens_per_s: Output tokens of those, likewise.
        goodput: Requests per second that met every objective; ``nan`` without objectives.
        report: Its part of ``report.json``.
    """

    node: int
    name: str
    url: str | None
    ok: int
    failed: int
    cancelled: int
    share: float | None
    requests_per_s: float | None
    output_tokens_per_s: float | None
    goodput: float

    @classmethod
    def of(cls, report: dict[str, Any]) -> NodeResult:
        """Make a node's result from its part of a report.

        Args:
            report: The node's object in its phase's.
        """
        rate = (report.get("goodput") or {}).get("requests_per_s")
        told = {name: report[name] for name in ("node", "name", "url", "ok", "failed", "cancelled", "share")}
        rates = {name: report[name] for name in ("requests_per_s", "output_tokens_per_s")}
        return cls(**told, **rates, goodput=math.nan if rate is None else float(rate), report=report)

    @property
    def failures(self) -> dict[str, int]:
        """Failed requests by class."""
        return dict(self.report["failures"])

    def __repr__(self) -> str:
        return f"<NodeResult {self.name}: {self.ok} ok, {self.failed} failed>"


class PhaseResult(Measured, frozen=True, kw_only=True):
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
        nodes: Results of each of several nodes, in their order; empty where there was one target.
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
    nodes: tuple[NodeResult, ...] = ()
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
            nodes=tuple(NodeResult.of(node) for node in report.get("nodes") or ()),
            report=report,
            accuracy=msgspec.convert(report.get("accuracy"), AccuracyResult | None),
        )

    def __repr__(self) -> str:
        return f"<PhaseResult {_said(self)}>"

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
        return scoring.scores_of(self.dir, self.report["index"])

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
    def failures(self) -> dict[str, int]:
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
        why = f" ({self.reason})" if self.reason else ""
        return f"<SessionResult {self.id} {self.status}{why}{phases}>"

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
