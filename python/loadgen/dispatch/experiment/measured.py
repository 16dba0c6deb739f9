"""What one pass over a grid brought, whoever made the calls: the form that every callee answers in."""

from __future__ import annotations

from typing import Literal

import msgspec

from loadgen.dispatch.experiment.hardware import Hardware

AttemptKind = Literal["first", "retry", "hedge", "probe"]


class Attempt(msgspec.Struct, frozen=True):
    """One request of a call.

    Args:
        kind: Why it was made.
        outcome: How it ended, in the policy's words: ``ok``, ``failed``, ``cancelled`` …
        status: The answer's HTTP status; 0 for none.
        start_s: Seconds from the start of the grid.
        end_s: The same for its end.
    """

    kind: AttemptKind
    outcome: str
    status: int
    start_s: float
    end_s: float


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One cell of the grid. Times are seconds from the start of the grid.

    Args:
        queued_s: When it was handed over.
        started_s: When its first attempt began; ``None`` if none did.
        ended_s: When its outcome was known.
        answer: What came back; ``None`` for none.
        error: Why nothing did, in one sentence that begins with the error's type.
        attempts: Its requests, in order of start.
        limiter_s: Seconds spent waiting for the concurrency limit.
        rate_s: Seconds spent waiting for the rate.
        backoff_s: Seconds spent between a failure and its retry.
        hedge_won: Whether a hedge copy brought the answer.
    """

    queued_s: float = 0.0
    started_s: float | None
    ended_s: float
    answer: str | None = None
    error: str | None = None
    attempts: tuple[Attempt, ...] = ()
    limiter_s: float = 0.0
    rate_s: float = 0.0
    backoff_s: float = 0.0
    hedge_won: bool = False

    @property
    def seconds(self) -> float | None:
        """Seconds from its first attempt to its outcome: what the call took once its turn had come."""
        return None if self.started_s is None else self.ended_s - self.started_s

    @property
    def hedged_s(self) -> float:
        """Seconds of it during which a copy was under way."""
        first = min((attempt.start_s for attempt in self.attempts if attempt.kind == "hedge"), default=None)
        return 0.0 if first is None else max(0.0, self.ended_s - first)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One pass over a grid.

    Args:
        wall_s: Seconds from its start to its end, as the caller saw it.
        calls: Its cells, row-major.
        limits: Moments in seconds from its start, each with the concurrency limit from then on.
        error: Why the grid as a whole failed; ``None`` if it did not.
        hardware: What the callee's process tree used; ``None`` where there is none to look at.
    """

    wall_s: float
    calls: tuple[Call, ...]
    limits: tuple[tuple[float, float], ...] = ()
    error: str | None = None
    hardware: Hardware | None = None
