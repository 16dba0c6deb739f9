"""The full view of one's own run: the screen of ``loadgen top``, until the run ends or the user wants two lines."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from loadgen.cli.view import View
from loadgen.session.phase_plan import PhasePlan
from loadgen.tui import screen
from loadgen.tui.terminal import Terminal
from loadgen.tui.watch import REFRESH_S, OwnRun, Watch

if TYPE_CHECKING:
    from loadgen import _core

_FOOT = "q shows two lines only · Ctrl-C stops the run"


class FullView(View):
    """A screen, redrawn four times a second.

    Args:
        out: A terminal.
        small: What is shown once the user has left the screen.
    """

    def __init__(self, out: TextIO, small: View) -> None:
        self._small = small
        self._terminal: Terminal | None = Terminal(out, sys.stdin)
        self._watch: Watch | None = None
        self._due = 0.0
        self._note = ""

    def __enter__(self) -> Self:
        if self._terminal is not None:
            self._terminal.__enter__()
        return self

    def note(self, text: str) -> None:
        """Say it at the top of the screen."""
        self._note = text
        self._small.note(text)

    def begun(self, phase: PhasePlan, directory: Path) -> None:
        """A phase has begun."""
        self._small.begun(phase, directory)

    def going(self, phase: PhasePlan, engine: _core.Engine | _core.Sink) -> None:
        """Redraw, when it is time; leave the screen, when the user wants to."""
        if self._terminal is None:
            self._small.going(phase, engine)
            return
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + REFRESH_S
        if self._watch is None:
            self._watch = Watch(OwnRun(engine.segment()))
        columns, rows = self._terminal.size
        self._terminal.draw(screen.lines(self._watch.look(), columns, rows, foot=_FOOT, note=self._note))
        if "q" in self._terminal.key().lower():
            self.close()

    def ended(self, phase: PhasePlan, end: dict[str, Any]) -> None:
        """A phase has ended; the screen stays for the next one."""
        if self._terminal is None:
            self._small.ended(phase, end)

    def close(self) -> None:
        """Leave the terminal as it was found."""
        if self._terminal is not None:
            self._terminal.close()
            self._terminal = None
        self._small.close()
