"""How long calls may take, and the errors of those that took longer, each by its option; and of those never made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from loadgen.errors import CallTimeoutError, DispatchError

_ROUNDING_S = 1e-3
"""The engine and a loop's timer may end a call so much before its limit."""


def given_up() -> DispatchError:
    """Return the error of a call that was not tried: nobody took it."""
    return DispatchError("the call was given up before it was made")


class TimeLimits(NamedTuple):
    """The time limits of a policy's calls, in seconds; ``None`` for none.

    Args:
        attempt_s: For each attempt.
        call_s: For a call in all, from its first attempt on.
        stall_s: Between the pieces of an answer.
    """

    attempt_s: float | None = None
    call_s: float | None = None
    stall_s: float | None = None

    @classmethod
    def of(cls, policy: Mapping[str, Any]) -> Self:
        """Return the limits of a policy's configuration."""
        return cls(policy["attempt_timeout_s"], policy["call_timeout_s"], policy["stall_timeout_s"])

    def is_over(self, lasted_s: float) -> bool:
        """Return whether a call has had all the time that it may have.

        Args:
            lasted_s: From the start of its first attempt, in seconds.
        """
        return self.call_s is not None and lasted_s >= self.call_s - _ROUNDING_S

    def exceeded(self, attempts: int, lasted_s: float) -> CallTimeoutError:
        """Return the error of a call whose time was up.

        Args:
            attempts: How many were made.
            lasted_s: From the start of its first attempt to its end, in seconds.
        """
        many = f"{attempts} attempts" if attempts != 1 else "1 attempt"
        if self.is_over(lasted_s):
            return CallTimeoutError(f"the call had no answer within its call_timeout of {self.call_s:g} s, in {many}")
        within = "in time" if self.attempt_s is None else f"within the attempt_timeout of {self.attempt_s:g} s"
        return CallTimeoutError(f"the call had no answer {within}, in {many}")

    def stalled(self) -> CallTimeoutError:
        """Return the error of an attempt whose answer began and then fell silent."""
        within = "in time" if self.stall_s is None else f"within the stall_timeout of {self.stall_s:g} s"
        return CallTimeoutError(f"the answer began, and nothing more of it came {within}")
