"""A terminal that a screen is drawn on: only the lines that changed are sent, and it is left as it was found."""

from __future__ import annotations

import os
import select
import shutil
import signal
import termios
import tty
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Self, TextIO

from loadgen.tui.line import Line

_ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
"""Another screen, without a cursor, and without wrapping."""
_LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
_COLOURED = {"bold": "1", "dim": "2", "alarm": "1;31", "good": "32", "key": "36"}
_PLAIN = {"bold": "1", "dim": "2", "alarm": "1"}


class Terminal:
    """A terminal, for as long as it is open: a context manager that restores it whatever happens.

    Nothing is written before the first drawing, and none while the shell has put the program into the background.

    Args:
        out: What is written to.
        keys: Where keys come from; ``None`` for nowhere.
    """

    def __init__(self, out: TextIO, keys: TextIO | None = None) -> None:
        self._out = out.fileno()
        self._keys = keys.fileno() if keys is not None and _is_terminal(keys) else None
        self._styles = _PLAIN if os.environ.get("NO_COLOR") else _COLOURED
        self._entered = self._gone = False
        self._modes: list[Any] | None = None
        self._drawn: list[str] = []
        self._size = (0, 0)
        self._stopped_by: Any = None

    def __enter__(self) -> Self:
        self._stopped_by = _on_stop(self._stop)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Leave the terminal as it was found; may be called again."""
        self._leave()
        if self._stopped_by is not None:
            signal.signal(signal.SIGTSTP, self._stopped_by)
            self._stopped_by = None

    @property
    def size(self) -> tuple[int, int]:
        """Its columns and rows at this moment."""
        return size_of(self._out)

    @property
    def is_gone(self) -> bool:
        """Whether it can't be written to any more."""
        return self._gone

    def draw(self, lines: Sequence[Line]) -> None:
        """Show these lines, from the top; what stood below is erased.

        Args:
            lines: No more than it has rows, none wider than it has columns.
        """
        if not in_foreground(self._out):
            self._entered = False  # the shell has the terminal, with its own modes: begin anew when we have it again
            return
        head = ""
        size = self.size
        if not self._entered:
            self._enter()
            head = _ENTER
        if head or size != self._size:
            head += "\x1b[2J"
            self._drawn, self._size = [], size
        made = [self._styled(line) for line in lines]
        blank = [""] * (len(self._drawn) - len(made))
        changed = [
            f"\x1b[{row};1H{line}\x1b[K"
            for row, line in enumerate([*made, *blank], start=1)
            if row > len(self._drawn) or self._drawn[row - 1] != line
        ]
        self._drawn = made
        self._put(head + "".join(changed))

    def key(self, wait_s: float = 0.0) -> str:
        """Return the keys that were pressed, after waiting for the first one; empty for none.

        Args:
            wait_s: Longest wait.
        """
        if self._keys is None or not in_foreground(self._keys):
            select.select([], [], [], wait_s)
            return ""
        ready, _, _ = select.select([self._keys], [], [], wait_s)
        if not ready:
            return ""
        try:
            pressed = os.read(self._keys, 64)
        except OSError:
            pressed = b""
        if not pressed:
            self._keys = None  # it hung up; asking again would never wait
        return pressed.decode(errors="replace")

    def _enter(self) -> None:
        self._entered = True
        if self._keys is None:
            return
        try:
            modes = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSADRAIN)
        except termios.error:
            self._keys = None
        else:
            self._modes = modes

    def _leave(self) -> None:
        if not self._entered:
            return
        self._entered = False
        if not in_foreground(self._out):
            return
        self._put(_LEAVE)
        if self._modes is not None and self._keys is not None:
            try:
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)
            except termios.error:
                self._keys = None  # it hung up: there is nothing to restore

    def _stop(self, number: int, _: FrameType | None) -> None:
        """Give the terminal back before the process stops; the next drawing takes it again."""
        self._leave()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        # Here it goes on, when somebody continues it.
        signal.signal(number, self._stop)

    def _styled(self, line: Line) -> str:
        return "".join(
            f"\x1b[{code}m{text}\x1b[0m" if (code := self._styles.get(style)) else text for text, style in line
        )

    def _put(self, text: str) -> None:
        # Not through a buffer: a signal's handler may write while something else does.
        left = text.encode(errors="replace")
        while left and not self._gone:
            try:
                left = left[os.write(self._out, left) :]
            except BlockingIOError:
                select.select([], [self._out], [], 1.0)
            except OSError:
                self._gone = True


def _on_stop(handler: Any) -> Any:
    """Have Ctrl-Z handled, where signals can be; what handled it before."""
    try:
        return signal.signal(signal.SIGTSTP, handler)
    except ValueError:
        return None  # not the main thread: the terminal stays as it is while the process is stopped


def in_foreground(handle: int) -> bool:
    """Return whether the shell has given us the terminal; writing modes to it from the background would stop us.

    Args:
        handle: The terminal's descriptor.
    """
    try:
        return os.tcgetpgrp(handle) == os.getpgrp()
    except OSError:
        return True  # nobody controls jobs on it


def size_of(handle: int) -> tuple[int, int]:
    """Return a terminal's columns and rows; 80 and 24 where it doesn't know.

    Args:
        handle: Its descriptor.
    """
    try:
        columns, rows = os.get_terminal_size(handle)
    except OSError:
        columns, rows = shutil.get_terminal_size()
    return columns or 80, rows or 24


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        return False  # closed
