"""The live trace of a batch: a line for each call as it ends, and totals at the end."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from typing import Any, NamedTuple, TextIO

import msgspec

from loadgen.dispatch.progress import clock
from loadgen.errors import words_of
from loadgen.shown import plain, put

_FIXED = 37
"""Columns of a line besides answer, row and column: the times, the kind, and what is between."""


class _Layout(NamedTuple):
    """How wide answer, row and column are, and what stands above the latter."""

    answer: int
    row: int
    column: int
    heads: tuple[str, str]


_GRID = _Layout(28, 24, 24, ("row", "column"))
_LIST = _Layout(28, 7, 41, ("call", "item"))


class Call(msgspec.Struct, frozen=True):
    """One item that is settled.

    Args:
        at_s: When, in seconds since the batch began.
        index: The item's place in the batch, from 0.
        item: The item itself.
        ok: Whether it has a value.
        value: Its value; None where it has none.
        error: Why it has none.
        seconds: From the start of its first attempt to its end; 0 for one from a journal.
        kind: What kind of attempt settled it: ``first``, ``retry``, ``hedge``, ``probe``, or ``journal``; empty where
            none was made.
        attempts: How many were made.
        hedges: How many of them were copies of a slow one.
        row: Its row's name in a grid.
        column: Its column's name in a grid.
    """

    at_s: float
    index: int
    item: Any
    ok: bool
    value: Any = None
    error: BaseException | str | None = None
    seconds: float = 0.0
    kind: str = "first"
    attempts: int = 1
    hedges: int = 0
    row: str | None = None
    column: str | None = None


class Live:
    """Prints each call as it ends; give it to a dispatcher as ``trace=``.

    Args:
        out: Where to; standard output if None.
        title: What stands above, such as a scenario's name; nothing if None.
    """

    def __init__(self, out: TextIO | None = None, title: str | None = None) -> None:
        self._out = out if out is not None else sys.stdout
        self._title = title
        self._layout: _Layout | None = None
        self._kinds: Counter[str] = Counter()
        self._ok = self._failed = self._attempts = self._hedges = 0
        self._busy_s = self._last_s = 0.0

    def __call__(self, call: Call) -> None:
        """Print one call, and count it."""
        if self._layout is None:
            self._layout = _layout(call.row is not None, self._out)
            self._head(self._layout)
        self._kinds[call.kind] += 1
        self._ok += call.ok
        self._failed += not call.ok
        self._attempts += call.attempts if call.kind != "journal" else 0
        self._hedges += call.hedges
        self._busy_s += call.seconds
        self._last_s = max(self._last_s, call.at_s)
        self._put(row_of(call, self._layout))

    def total(self, wall_s: float | None = None) -> None:
        """Print what all of them come to.

        Args:
            wall_s: How long the batch took; None for the time of its last call.
        """
        wall = self._last_s if wall_s is None else wall_s
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self._kinds.most_common() if kind)
        self._put(f" {self._ok + self._failed:,} calls in {clock(wall)}: {self._ok:,} ok, {self._failed:,} failed")
        self._put(f" {self._attempts:,} sent, {self._hedges:,} of them hedges; settled by {kinds or 'nothing'}")
        self._put(f" {clock(self._busy_s)} in calls, {self._busy_s / wall:.1f} at a time" if wall > 0 else "")

    def _head(self, layout: _Layout) -> None:
        if self._title:
            self._put(f" {plain(self._title)}")
        row, column = layout.heads
        names = f"{'answer':<{layout.answer}}  {row:<{layout.row}}  {column:<{layout.column}}"
        self._put(f" {'time':>8}  {names}  {'took':>8}  kind")

    def _put(self, line: str) -> None:
        put(self._out, f"{line}\n")


def _layout(is_grid: bool, out: TextIO) -> _Layout:
    """Return the widths for a terminal; elsewhere they are as wide as one wishes to read them."""
    full = _GRID if is_grid else _LIST
    try:
        width = shutil.get_terminal_size().columns if out.isatty() else None
    except ValueError:  # it is closed
        width = None
    room = None if width is None else width - 1 - _FIXED
    if room is None or room >= full.answer + full.row + full.column:
        return full
    row = max(6, room // 3) if is_grid else full.row
    answer = max(6, (room - row) * 2 // 5 if not is_grid else room - 2 * row)
    return full._replace(answer=answer, row=row, column=max(6, room - answer - row))


def row_of(call: Call, layout: _Layout = _GRID) -> str:
    """Return a call's line."""
    answer = _short(call.value) if call.ok else f"✗ {reason(call.error)}"
    row = call.row if call.row is not None else f"#{call.index + 1}"
    column = call.column if call.column is not None else _short(call.item)
    more = f" of {call.attempts}" if call.attempts > 1 else ""
    return (
        f" {_time(call.at_s):>8}  {_cut(answer, layout.answer)}  {_cut(plain(row), layout.row)}  "
        f"{_cut(plain(column), layout.column)}  {_time(call.seconds):>8}  {call.kind}{more}"
    ).rstrip()


def _time(seconds: float) -> str:
    return clock(seconds) if seconds < 60 else f"{seconds:.1f} s"  # minutes would be too wide to stand in a column


def reason(error: BaseException | str | None) -> str:
    """Return why a call failed, in words that are harmless for a terminal."""
    if error is None:
        return "failed"
    return plain(error if isinstance(error, str) else words_of(error))


def _short(value: Any) -> str:
    """Return the beginning of what a model or a user wrote, harmless for a terminal and on one line."""
    return plain(" ".join(str(value)[: 4 * _GRID.answer].split()))


def _cut(text: str, room: int) -> str:
    return text.ljust(room) if len(text) <= room else f"{text[: room - 1]}…"
