"""What is seen of a batch over nodes: how far it is, and each node's share; on a terminal, or told to a function."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TextIO, TypeAlias

import msgspec

from loadgen.dispatch.progress import Progress
from loadgen.errors import ConfigError
from loadgen.shown import put

log = logging.getLogger("loadgen.node")

_LOGGED = 4
"""A batch logs its progress after each quarter."""


class NodeProgress(msgspec.Struct, frozen=True):
    """How far a batch over nodes is.

    Args:
        done: Items that are settled, well or not.
        total: Items in all.
        unit: What they are called.
        answers: Answers of each node so far, by its name.
        seconds: Since the batch began.
        failed: Items that are settled without a value.
    """

    done: int
    total: int
    unit: str
    answers: Mapping[str, int]
    seconds: float
    failed: int = 0

    @property
    def line(self) -> str:
        """The published line: ``Progress: 50/200 embeddings (25%)``."""
        percent = 100 * self.done // self.total if self.total else 100
        return f"Progress: {self.done}/{self.total} {self.unit} ({percent}%)"

    @property
    def shares(self) -> str:
        """Each node's share: ``gpu-box 82 %, laptop 18 %``."""
        answers = sum(self.answers.values())
        if not answers:
            return ""
        return ", ".join(f"{name} {100 * count / answers:.0f} %" for name, count in self.answers.items() if count)


Choice: TypeAlias = "str | bool | Callable[[NodeProgress], object] | None"


class Watch:
    """Shows or tells how far a batch is, and logs each quarter of it.

    Args:
        choice: ``"auto"`` or ``None`` shows a line on a terminal and nothing elsewhere; ``True`` prints it elsewhere
            too, after each quarter; ``False`` shows nothing; a function is told four times a second and at the end.
        names: The nodes.
        unit: What items are called.
        out: Where it goes; standard error if ``None``.

    Raises:
        ConfigError: If the choice is none.
    """

    def __init__(self, choice: Choice, names: Sequence[str], unit: str, out: TextIO | None = None) -> None:
        if choice not in (None, True, False, "auto") and not callable(choice):
            raise ConfigError(f"progress {choice!r} is none", 'it is "auto", True, False or a function')
        self._out = out if out is not None else sys.stderr
        self._tell = choice if callable(choice) else None
        self._is_terminal = self._out.isatty() and os.environ.get("TERM", "") != "dumb"
        self._draws = self._tell is None and choice is not False and self._is_terminal
        self._prints = choice is True and not self._is_terminal
        self._answers = dict.fromkeys(names, 0)
        self._unit = unit
        self._quarters = 0
        self._is_drawn = False

    @property
    def is_wanted(self) -> bool:
        """Whether anybody looks."""
        return self._draws or self._prints or self._tell is not None or log.isEnabledFor(logging.INFO)

    def answered(self, name: str) -> None:
        """Count an answer of a node."""
        self._answers[name] += 1

    def show(self, progress: Progress) -> None:
        """Show how far it is."""
        told = NodeProgress(
            done=progress.done,
            total=progress.total or 0,
            unit=self._unit,
            answers=dict(self._answers),
            seconds=progress.seconds,
            failed=progress.failed,
        )
        if self._tell is not None:
            self._tell(told)
        self._note(told)
        if self._draws:
            self._draw(told)

    def end(self) -> None:
        """Leave the screen as what comes next expects it."""
        if self._is_drawn:
            put(self._out, "\r\x1b[K")
            self._is_drawn = False

    def _note(self, told: NodeProgress) -> None:
        quarters = _LOGGED * told.done // told.total if told.total else 0
        if quarters <= self._quarters:
            return
        self._quarters = quarters
        log.info("%s", told.line)
        if self._prints:
            put(self._out, f"{told.line}  {told.shares}\n")

    def _draw(self, told: NodeProgress) -> None:
        width = shutil.get_terminal_size().columns
        put(self._out, f"\r\x1b[K{f' {told.line}   {told.shares}'[: width - 1]}\r")
        self._is_drawn = True
