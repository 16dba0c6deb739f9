"""The signals that end a command in good order, and how a terminal is let go of that has gone away."""

from __future__ import annotations

import errno
import os
import signal
import termios
from types import FrameType
from typing import Any, Self


class Stopping:
    """Raises ``KeyboardInterrupt`` for signals, as long as it is entered: SIGTERM and SIGHUP do what Ctrl-C does.

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
        if is_new(number, self._seen):
            raise KeyboardInterrupt


def from_outside() -> tuple[signal.Signals, ...]:
    """Return what ends a command from elsewhere than its keyboard: SIGTERM, and SIGHUP, which a closed terminal sends.

    SIGHUP isn't among them where it is ignored: ``nohup`` has said that the terminal doesn't matter.
    """
    is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return (signal.SIGTERM,) if is_ignored else (signal.SIGTERM, signal.SIGHUP)


def is_new(number: int, seen: list[int]) -> bool:
    """Take note of a signal, and return whether it asks for anything; callable from its handler.

    A terminal that closes is told of by its shell and again by the kernel: nobody is in a hurry, and only the first
    SIGHUP counts. What is written to the terminal from then on goes nowhere, instead of being an error.

    Args:
        number: The signal.
        seen: Those that came before; it is added.
    """
    if number == signal.SIGHUP:
        _let_go()
        if number in seen:
            return False
    seen.append(number)
    return True


def _let_go() -> None:
    """Have standard output and error lead nowhere, each if it was a terminal that is gone."""
    for handle in (1, 2):
        try:
            termios.tcgetattr(handle)
        except termios.error as error:
            if error.args[0] == errno.EIO:  # a file or a pipe says ENOTTY, and is still there
                nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                os.dup2(nowhere, handle)
                os.close(nowhere)
