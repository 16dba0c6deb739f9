"""Answers that began and then fell silent: one timer for all that are under way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from loadgen.dispatch.current import Attempt


class Stalls:
    """Rings for each attempt of which something was heard, and then nothing for too long.

    Args:
        loop: The loop whose clock counts.
        silence_s: How long is too long, in seconds.
        stalled: Called with the attempt; it is forgotten by then.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, silence_s: float, stalled: Callable[[Attempt], None]) -> None:
        self._loop = loop
        self._silence_s = silence_s
        self._stalled = stalled
        self._heard: dict[Attempt, float] = {}  # in the order of when: the first is the next to be due
        self._timer: asyncio.TimerHandle | None = None

    def heard(self, told: Attempt) -> None:
        """Note that a piece of an attempt's answer has come."""
        self._heard.pop(told, None)
        self._heard[told] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(self._heard[told] + self._silence_s, self._ring)

    def forget(self, told: Attempt) -> None:
        """Note that an attempt is over."""
        self._heard.pop(told, None)

    def close(self) -> None:
        """Forget them all."""
        self._heard.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        due = self._loop.time() - self._silence_s
        self._timer = None
        while self._heard:
            told, last = next(iter(self._heard.items()))
            # The clock may be behind what the timer was set to by its last digits.
            if last > due + 1e-6:
                self._timer = self._loop.call_at(last + self._silence_s, self._ring)
                return
            del self._heard[told]
            self._stalled(told)
