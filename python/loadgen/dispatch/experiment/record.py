"""The raw record of one run of one scenario with one strategy: a line of ``runs.jsonl``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec

from loadgen.dispatch.experiment.catalogue import Grid
from loadgen.dispatch.experiment.hardware import Hardware
from loadgen.dispatch.experiment.measured import Call, Measured

KEPT = "what has a record is kept: the same command goes on from there"
"""What an error says to do once runs have been made."""


class Cell(msgspec.Struct, frozen=True, order=True):
    """One cell of the experiment.

    Args:
        run: Number of the repetition, from 1.
        scenario: The scenario's id.
        strategy: The strategy's name.
    """

    run: int
    scenario: str
    strategy: str

    def __str__(self) -> str:
        return f"run {self.run}, scenario {self.scenario}, {self.strategy}"


class Phases(msgspec.Struct, frozen=True):
    """Where the time went.

    Args:
        queued: Seconds that calls waited behind others, summed over the calls.
        limiter: Seconds they waited for the concurrency limit.
        rate: Seconds they waited for the rate.
        backoff: Seconds between failures and retries.
        in_call: Seconds from a call's first attempt to its outcome, without backing off and hedged time.
        hedge: Seconds with a copy under way.
        first_pass: Wall seconds until the last call had its first attempt.
        retries: Wall seconds from then until the last retry began.
        tail: Wall seconds from then to the end: nothing was left to start.
    """

    queued: float
    limiter: float
    rate: float
    backoff: float
    in_call: float
    hedge: float
    first_pass: float
    retries: float
    tail: float


class Hedges(msgspec.Struct, frozen=True):
    """Copies that were sent, and calls that one of them answered."""

    sent: int
    won: int


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One run. Seconds are as measured; those of the service are ``time_scale`` times as many.

    Args:
        run: Number of the repetition, from 1.
        scenario: The scenario's id.
        strategy: The strategy's name.
        started_at: Wall clock at its start, ISO 8601.
        time_scale: Seconds measured for one second of the service.
        wall_s: Seconds from first to last.
        ok: Whether every cell has a real answer.
        error: The first reason why not.
        rows: Sensors.
        cols: Failure modes.
        calls: Cells of the grid.
        call_s: Seconds of each call from its first attempt to its outcome, row-major; ``None`` if it never began.
        answers: The answer of each; ``None`` for none, and for a callee that gives none.
        first_result_s: Seconds to the first outcome.
        attempts: Requests by kind.
        hedges: Copies.
        limits: Changes of the concurrency limit, each with its moment.
        phases: Where the time went.
        errors: Failed calls by type of error.
        hardware: What the callee's process tree used; ``None`` where there is none to look at.
    """

    run: int
    scenario: str
    strategy: str
    started_at: str
    time_scale: float
    wall_s: float
    ok: bool
    error: str | None
    rows: tuple[str, ...]
    cols: tuple[str, ...]
    calls: int
    call_s: tuple[float | None, ...]
    answers: tuple[str | None, ...] | None
    first_result_s: float | None
    attempts: dict[str, int]
    hedges: Hedges
    limits: tuple[tuple[float, float], ...]
    phases: Phases
    errors: dict[str, int]
    hardware: Hardware | None

    @property
    def cell(self) -> Cell:
        """What it is a record of."""
        return Cell(self.run, self.scenario, self.strategy)

    @property
    def sent(self) -> int:
        """Requests sent, of all kinds."""
        return sum(self.attempts.values())


def make(
    cell: Cell,
    grid: Grid,
    measured: Measured,
    *,
    started_at: str,
    time_scale: float,
    answers: bool,
) -> Record:
    """Make the record of a run.

    Args:
        cell: What was run.
        grid: Its rows and columns.
        measured: What the callee brought.
        started_at: Wall clock at its start.
        time_scale: Seconds measured for one second of the service.
        answers: Whether the callee gives answers; where it does, a call without one has failed.
    """
    calls = measured.calls
    errors = [error for call in calls if (error := _error(call, answers)) is not None]
    missing = len(grid.pairs) - len(calls)
    error = measured.error or (f"{missing} of {len(grid.pairs)} cells are missing" if missing else None)
    error = error or (errors[0] if errors else None)
    return Record(
        run=cell.run,
        scenario=cell.scenario,
        strategy=cell.strategy,
        started_at=started_at,
        time_scale=time_scale,
        wall_s=measured.wall_s,
        ok=error is None,
        error=error,
        rows=grid.rows,
        cols=grid.cols,
        calls=len(grid.pairs),
        call_s=tuple(call.seconds for call in calls),
        answers=tuple(call.answer for call in calls) if answers else None,
        first_result_s=min((call.ended_s for call in calls), default=None),
        attempts=dict(Counter(attempt.kind for call in calls for attempt in call.attempts)),
        hedges=Hedges(_sent(calls, "hedge"), sum(call.hedge_won for call in calls)),
        limits=measured.limits,
        phases=phases(measured),
        errors=dict(Counter(error.partition(":")[0] for error in errors)),
        hardware=measured.hardware,
    )


def _error(call: Call, answers: bool) -> str | None:
    if call.error is not None:
        return call.error
    return "NoAnswer: the call ended well and empty" if answers and not (call.answer or "").strip() else None


def _sent(calls: Sequence[Call], kind: str) -> int:
    return sum(attempt.kind == kind for call in calls for attempt in call.attempts)


def phases(measured: Measured) -> Phases:
    """Return where the time of a pass went: summed over its calls, and along its wall time."""
    calls = measured.calls
    began = [call for call in calls if call.started_s is not None]
    queued = sum((call.started_s or 0.0) - call.queued_s for call in began)
    limiter, rate, backoff, hedge = (
        sum(call.limiter_s for call in calls),
        sum(call.rate_s for call in calls),
        sum(call.backoff_s for call in calls),
        sum(call.hedged_s for call in calls),
    )
    first_pass = max((call.started_s or 0.0 for call in began), default=0.0)
    last_retry = max(
        (attempt.start_s for call in calls for attempt in call.attempts if attempt.kind == "retry"), default=0.0
    )
    begun = max(first_pass, last_retry)
    return Phases(
        queued=max(0.0, queued - limiter - rate),
        limiter=limiter,
        rate=rate,
        backoff=backoff,
        in_call=max(0.0, sum(call.seconds or 0.0 for call in began) - backoff - hedge),
        hedge=hedge,
        first_pass=first_pass,
        retries=begun - first_pass,
        tail=max(0.0, measured.wall_s - begun),
    )
