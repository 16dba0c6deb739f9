"""What is seen while a batch goes on: one line on a terminal, elsewhere nothing; or a user's function is told."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import Any, NamedTuple, Self, TextIO, TypeAlias

from loadgen.errors import ConfigError
from loadgen.shown import bar, plain, put

_REDRAW_S, _LINE_S = 0.25, 10.0
_BAR, _BAR_LEAST, _NARROW = 28, 8, 40
"""Columns of the bar, and of a terminal that is too narrow for one."""
_WHY = 120
"""Characters of why an attempt failed: a server may say very much."""


class Progress(NamedTuple):
    """How far a batch is.

    Args:
        done: Items that are settled, well or not; with those restored from a journal.
        total: Items in all; None while more may come.
        ok: Items with a value.
        failed: Items without one.
        in_flight: Attempts under way.
        waiting: Items that wait for their turn, or for another attempt.
        limit: How many attempts may be under way.
        hedges: Copies sent of calls that were slow.
        hedges_won: Those that answered first.
        retries: Attempts after one that failed.
        push_backs: Answers that said "not so fast", or "not now".
        seconds: Since the batch began.
        restored: Items whose value a journal had.
        attempts: Attempts so far, with those under way.
        failure: Why the latest attempt failed that did, in words; empty if none did, or its call is settled.
    """

    done: int = 0
    total: int | None = None
    ok: int = 0
    failed: int = 0
    in_flight: int = 0
    waiting: int = 0
    limit: int = 0
    hedges: int = 0
    hedges_won: int = 0
    retries: int = 0
    push_backs: int = 0
    seconds: float = 0.0
    restored: int = 0
    attempts: int = 0
    failure: str = ""

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the pace so far; None while nothing tells it. A stall at the end isn't foreseen."""
        made = self.done - self.restored
        if self.total is None or made <= 0:
            return None
        return self.seconds * (self.total - self.done) / made


Choice: TypeAlias = "str | bool | Callable[[Progress], object] | View | None"
"""What a user may say: ``"auto"`` or None, True, False, a function that is told, or a view of one's own."""


class View:
    """Shows nothing. The other views fill in what is shown; none of them sleeps or has a thread."""

    interval_s: float | None = None
    """How often :meth:`show` is wanted, in seconds; None for never."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def show(self, progress: Progress) -> None:
        """Show how far the batch is."""

    def close(self) -> None:
        """Leave the screen as what comes next expects it."""


def view(choice: Choice = None, out: TextIO | None = None, name: str = "dispatch") -> View:
    """Return the view that a user chose.

    Args:
        choice: ``"auto"`` or None shows a line on a terminal and nothing elsewhere; True shows plain lines elsewhere;
            False shows nothing; a function is called with a :class:`Progress` four times a second and at the end;
            a view is taken as it is.
        out: Where it goes; standard error if None.
        name: What the line begins with.

    Raises:
        ConfigError: If it is none of these.
    """
    if choice is False:
        return View()
    if isinstance(choice, View):
        return choice
    if callable(choice):
        return CallView(choice)
    if choice not in (None, True, "auto"):
        raise ConfigError(f"progress {choice!r} is none", 'it is "auto", True, False or a function')
    out = out if out is not None else sys.stderr
    if out.isatty() and os.environ.get("TERM", "") != "dumb":
        return BarView(out, name)
    return LineView(out, name) if choice is True else View()


class CallView(View):
    """Tells a user's function."""

    interval_s = _REDRAW_S

    def __init__(self, call: Callable[[Progress], object]) -> None:
        self._call = call

    def show(self, progress: Progress) -> None:
        """Tell it."""
        self._call(progress)


class KeptView(View):
    """Keeps the latest progress, for whoever asks when the batch is gone, and shows it as another view does.

    Args:
        shown: The other view.
    """

    def __init__(self, shown: View) -> None:
        self.interval_s = shown.interval_s or _LINE_S
        self.latest = Progress()
        self._shown = shown

    def show(self, progress: Progress) -> None:
        """Keep it, and show it."""
        self.latest = progress
        self._shown.show(progress)

    def close(self) -> None:
        """Close the other view."""
        self._shown.close()


class LineView(View):
    """A plain line every ten seconds."""

    interval_s: float = _LINE_S

    def __init__(self, out: TextIO, name: str) -> None:
        self._out = out
        self._name = name

    def show(self, progress: Progress) -> None:
        """Say how far it is, if the batch isn't a short one."""
        if progress.seconds < self.interval_s:
            return
        put(self._out, f"{self._name}: {', '.join(text for _, text in _facts(progress))}\n")


class BarView(View):
    """One line, redrawn four times a second, and gone at the end: the result says it better."""

    interval_s = _REDRAW_S

    def __init__(self, out: TextIO, name: str) -> None:
        self._out = out
        self._name = name
        self._drawn = False
        self._colour = not os.environ.get("NO_COLOR")

    def show(self, progress: Progress) -> None:
        """Redraw."""
        text = line(self._name, progress, shutil.get_terminal_size().columns)
        if self._colour and progress.failed:
            text = text.replace("failed ", "\x1b[31mfailed\x1b[0m ", 1)
        put(self._out, f"\r\x1b[K{text}\r")
        self._drawn = True

    def close(self) -> None:
        """Remove what was drawn."""
        if self._drawn:
            put(self._out, "\r\x1b[K")
            self._drawn = False


def line(name: str, progress: Progress, width: int) -> str:
    """Return the line of the bar.

    Args:
        name: What it begins with.
        progress: How far the batch is.
        width: Columns of the terminal; the last one is never filled.
    """
    # The bar's width hangs on the terminal's alone: one that gave way to the facts would jump as they come and go.
    cells = max(_BAR_LEAST, min(_BAR, (width - _NARROW) // 3)) if progress.total and width >= _NARROW else 0
    if progress.failure and (in_vain(progress) or _standing(progress)):
        cells = 0  # the reason needs the room, and a bar has nothing new to show
    room = width - len(name) - 4 - (cells + 2 if cells else 0)
    facts = _facts(progress)
    while max(facts)[0] > 0 and len("   ".join(text for _, text in facts)) > room:
        facts.remove(max(facts, key=lambda fact: fact[0]))
    rest = "   ".join(text for _, text in facts)
    filled = f"{bar(progress.done / progress.total, cells)}  " if progress.total and cells else ""
    return f" {name}  {filled}{rest}"[: width - 1]


def _facts(p: Progress) -> list[tuple[int, str]]:
    """Return what is said, each with how soon it is left out where the room is short: the highest first, 0 never."""
    eta = p.eta_s
    # A service that is down has the breaker wait half a minute at a time: it must not look like one that is slow.
    # Nor like one that is busy, where it answered before: then no pace so far tells an end either.
    vain, standing = in_vain(p), _standing(p)
    hedges = f"hedges {p.hedges:,}" + (f" ({p.hedges_won:,} won)" if p.hedges_won else "")
    found = [
        (0, f"{p.done:,} / {p.total:,}" if p.total is not None else f"{p.done:,} done"),
        (8, f"{p.restored:,} from the journal" if p.restored else ""),
        (0 if p.failure else 2, vain or standing),
        (3, f"in flight {p.in_flight:,}" if not standing else ""),
        (5, f"limit {p.limit:,}" if p.limit else ""),
        (6, hedges if p.hedges else ""),
        (7, f"retries {p.retries:,}" if p.retries else ""),
        (4, f"push-backs {p.push_backs:,}" if p.push_backs else ""),
        (1, f"failed {p.failed:,}" if p.failed else ""),
        (2, f"about {clock(eta)} left" if eta is not None and p.done != p.total and not standing else ""),
    ]
    return [(rank, text) for rank, text in found if text]


def in_vain(p: Progress) -> str:
    """Return that no attempt has succeeded, and why the latest didn't; empty where one has, or none has ended.

    Args:
        p: How far the batch is.
    """
    ended = p.attempts - p.in_flight
    if ended <= 0 or p.ok != p.restored:
        return ""
    why = _why(p)
    return f"none of {ended:,} attempts succeeded" + (f": {why}" if why else "")


def _standing(p: Progress) -> str:
    """Return that calls wait and none is made, and why the latest failed that did; empty where one is, or none has."""
    if p.in_flight or not p.waiting or not p.failure or in_vain(p):
        return ""
    return f"none in flight, the latest failure: {_why(p)}"


def _why(p: Progress) -> str:
    why = plain(" ".join(p.failure.split()))
    return why if len(why) <= _WHY else f"{why[: _WHY - 1]}…"


def clock(seconds: float) -> str:
    """Return a time as a person reads it: ``54 ms``, ``15.5 s``, ``2 min 05 s``, ``1 h 03 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def progress_of(
    totals: dict[str, Any],
    *,
    total: int | None,
    seconds: float,
    restored: int = 0,
    failure: str = "",
    is_cut_short: bool = False,
) -> Progress:
    """Return how far a batch is, from what its policy counts.

    Args:
        totals: As ``_core.Policy.totals()`` gives them.
        total: Items in all, with those restored; None while more may come.
        seconds: Since the batch began.
        restored: Items whose value a journal had.
        failure: Why the latest attempt failed that did.
        is_cut_short: Whether an error or an interrupt ends the batch: what that cancels has neither failed nor ended.
    """
    bad = ("failed", "timed_out", "gave_up") if is_cut_short else ("failed", "timed_out", "gave_up", "cancelled")
    failed: int = sum(totals[name] for name in bad)
    return Progress(
        done=totals["ok"] + failed + restored,
        total=total,
        ok=totals["ok"] + restored,
        failed=failed,
        in_flight=totals["in_flight"],
        waiting=totals["waiting"] + totals["backing_off"],
        limit=totals["limit"],
        hedges=totals["hedges"],
        hedges_won=totals["hedges_won"],
        retries=totals["retries"],
        push_backs=totals["push_backs"],
        seconds=seconds,
        restored=restored,
        attempts=totals["attempts"],
        failure=failure,
    )
