"""From what the dispatcher keeps of its calls to what the experiment keeps of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loadgen.dispatch.experiment.measured import Attempt, AttemptKind, Call, Measured
from loadgen.errors import words_of

if TYPE_CHECKING:
    from loadgen.dispatch.result import Batch, CallStats

_KINDS: dict[str, AttemptKind] = {"first": "first", "retry": "retry", "hedge": "hedge", "probe": "probe"}


def measured(batch: Batch[Any], wall_s: float) -> Measured:
    """Return what a batch brought.

    Args:
        batch: A grid's batch; its values are the answers' texts.
        wall_s: Seconds that it took as its caller saw it.
    """
    calls = tuple(
        call(
            result.stats,
            answer=str(result.value) if result.ok else None,
            error=None if result.error is None else words_of(result.error),
        )
        for result in batch
    )
    return Measured(wall_s=wall_s, calls=calls, limits=limits(batch.trace))


def call(stats: CallStats | None, *, answer: str | None, error: str | None) -> Call:
    """Return one call.

    Args:
        stats: What it met; ``None`` where nobody was called for it.
        answer: What came back.
        error: Why nothing did.
    """
    if stats is None:
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
        hedge_won=error is None and winner is not None and winner.kind == "hedge",
    )


def limits(trace: Mapping[str, Sequence[Any]]) -> tuple[tuple[float, float], ...]:
    """Return how the limit changed in a batch: moments in seconds, each with the limit from then on."""
    found: list[tuple[float, float]] = []
    for at, limit in zip(trace["t_s"], trace["limit"], strict=True):
        if not found or found[-1][1] != limit:
            found.append((at, float(limit)))
    return tuple(found)
