"""How a command of dispatch is stopped: SIGTERM and SIGHUP do what Ctrl-C does; the exit status says which it was."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any, Self

from loadgen.cli import stops


class Stopping:
    """Raises ``KeyboardInterrupt`` for signals, as long as it is entered.

    Args:
        *signals: Which; what isn't among them goes its usual way.
    """

    def __init__(self, *signals: signal.Signals) -> None:
        self._signals = signals
        self._before: dict[signal.Signals, Any] = {}
        self._seen: list[int] = []

    @property
    def status(self) -> int:
        """The exit status by the first signal that came; where none did, it was Ctrl-C."""
        return 128 + (self._seen[0] if self._seen else signal.SIGINT)

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._stop) for number in self._signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop(self, number: int, _: FrameType | None) -> None:
        if stops.is_new(number, self._seen):
            raise KeyboardInterrupt
