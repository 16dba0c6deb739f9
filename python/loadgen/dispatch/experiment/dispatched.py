"""From a batch of the dispatcher to what the experiment keeps of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from loadgen.dispatch.experiment.measured import Attempt, AttemptKind, Call, Measured

if TYPE_CHECKING:
    from loadgen.dispatch.result import Batch, CallResult

_KINDS: dict[str, AttemptKind] = {"first": "first", "retry": "retry", "hedge": "hedge", "probe": "probe"}


def measured(batch: Batch[Any], wall_s: float) -> Measured:
    """Return what a batch brought.

    Args:
        batch: A grid's batch; its values are the answers' texts.
        wall_s: Seconds that it took as its caller saw it.
    """
    trace = batch.trace
    limits: list[tuple[float, float]] = []
    for at, limit in zip(trace["t_s"], trace["limit"], strict=True):
        if not limits or limits[-1][1] != limit:
            limits.append((at, float(limit)))
    return Measured(wall_s=wall_s, calls=tuple(_call(result) for result in batch), limits=tuple(limits))


def _call(result: CallResult[Any]) -> Call:
    error = None if result.error is None else f"{type(result.error).__name__}: {result.error}"
    answer = str(result.value) if result.ok else None
    stats = result.stats
    if stats is None:  # nobody was called for it
        return Call(started_s=None, ended_s=0.0, answer=answer, error=error)
    winner = None if stats.winner is None else stats.attempts[stats.winner]
    return Call(
        queued_s=stats.queued,
        started_s=stats.started,
        ended_s=stats.ended,
        answer=answer,
        error=error,
        attempts=tuple(
            Attempt(
                _KINDS[one.kind], one.outcome, one.status, one.started, stats.ended if one.ended is None else one.ended
            )
            for one in stats.attempts
        ),
        limiter_s=stats.waits.get("limit", 0.0),
        rate_s=stats.waits.get("rate", 0.0),
        backoff_s=stats.waits.get("backoff", 0.0),
        hedge_won=result.ok and winner is not None and winner.kind == "hedge",
    )
