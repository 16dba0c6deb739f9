"""What is seen while a run goes on: a screen or two lines on a terminal, else a plain line every ten seconds."""

from __future__ import annotations

import os
import shutil
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from loadgen.cli.view import View
from loadgen.report import figures
from loadgen.session.phase_plan import PhasePlan
from loadgen.shown import bar, put

if TYPE_CHECKING:
    from loadgen.session.runner import Core

CHOICES = ("auto", "full", "bar", "none")
_FULL_COLUMNS, _FULL_ROWS = 80, 24
_REDRAW_S, _LINE_S = 0.25, 10.0
_SPARKS = "▁▂▃▄▅▆▇█"
_NAME = 12


def view(ui: str, out: TextIO | None = None) -> View:
    """Return the view that fits where progress goes.

    Args:
        ui: One of :data:`CHOICES`: ``auto`` shows the full view on a terminal that has room for it, else two lines.
            What isn't a terminal gets plain lines, whatever was asked for.
        out: Where progress goes; standard error if ``None``.
    """
    out = out if out is not None else sys.stderr
    if ui == "none":
        return View()
    smart = out.isatty() and os.environ.get("TERM", "") != "dumb"
    if not smart:
        return PlainView(out)
    if ui == "full" or (ui == "auto" and _has_room(out)):
        from loadgen.cli.full import FullView

        return FullView(out, BarView(out))
    return BarView(out)


def _has_room(out: TextIO) -> bool:
    """Return whether the full view fits, on a terminal that is ours: a job in the background must not take it over."""
    from loadgen.tui.terminal import in_foreground, size_of

    try:
        handle = out.fileno()
    except OSError:
        return False
    columns, rows = size_of(handle)
    return columns >= _FULL_COLUMNS and rows >= _FULL_ROWS and in_foreground(handle)


class PlainView(View):
    """A plain line every ten seconds."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._due = 0.0
        self._notes: list[str] = []

    def note(self, text: str) -> None:
        """Say it as a line of its own."""
        self._notes.append(text)

    def begun(self, phase: PhasePlan, directory: Path) -> None:
        """Say what begins, and where its log is."""
        place = f" ({_place(phase, 30)})" if phase.place is not None else ""
        put(self._out, f"{phase.name}{place}: {phase.words}, run in {directory}\n")
        self._due = time.monotonic() + _LINE_S

    def going(self, phase: PhasePlan, engine: Core) -> None:
        """Say how it goes, when a line is due."""
        while self._notes:
            put(self._out, f"{phase.name}: {self._notes.pop(0)}\n")
        if time.monotonic() >= self._due:
            self._due += _LINE_S
            put(self._out, f"{phase.name}: {', '.join(_facts(phase, _live(engine)))}\n")


class BarView(View):
    """Two lines, redrawn four times a second."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._due = 0.0
        self._drawn = False
        self._colour = not os.environ.get("NO_COLOR")
        self._history: list[int] = []
        self._notes: list[str] = []

    def note(self, text: str) -> None:
        """Say it above the view, where it stays."""
        self._notes.append(text)

    def begun(self, phase: PhasePlan, directory: Path) -> None:  # noqa: ARG002
        """Begin to draw."""
        self._history = []
        self._due = 0.0

    def going(self, phase: PhasePlan, engine: Core) -> None:
        """Redraw, when it is time."""
        while self._notes:
            put(self._out, f"\r\x1b[J {phase.name}: {self._notes.pop(0)}\r\n")
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + _REDRAW_S
        live = _live(engine)
        done = live["ok"] + live["failed"]
        if len(self._history) <= int(live["t_s"]):
            self._history.append(done)
        width = shutil.get_terminal_size().columns
        self._draw([top_line(phase, live, width), bottom_line(phase, live, self._history, width)], live["failed"] > 0)

    def ended(self, phase: PhasePlan, end: dict[str, Any]) -> None:  # noqa: ARG002
        """Remove what was drawn: the report says it better."""
        self.close()

    def close(self) -> None:
        """Remove what was drawn."""
        if self._drawn:
            put(self._out, "\r\x1b[J")
            self._drawn = False

    def _draw(self, lines: list[str], alarm: bool) -> None:
        if self._colour and alarm:
            lines = [line.replace("failed ", "\x1b[31mfailed\x1b[0m ", 1) for line in lines]
        # Erase, write both lines, and go back to the first: what comes next, a shell's prompt even, overwrites them.
        put(self._out, "\r\x1b[J" + "\r\n".join(lines) + f"\x1b[{len(lines) - 1}A\r")
        self._drawn = True


def top_line(phase: PhasePlan, live: dict[str, Any], width: int) -> str:
    """Return the first line of the bar: how far, how fast, how many.

    Args:
        phase: The phase.
        live: What the engine says.
        width: Columns of the terminal; the line never fills the last one.
    """
    done = live["ok"] + live["failed"] + live["cancelled"]
    parts = [
        (0, _so_far(phase, live)),
        (3, f"{figures.short(live['requests_per_s'])} req/s"),
        (2, f"in flight {figures.whole(live['in_flight'])}"),
        (1, f"ok {figures.whole(live['ok'])}"),
        (1, f"failed {figures.whole(live['failed'])}"),
    ]
    name = _column(phase.name, phase)
    rest = _fitted(parts, width - len(name) - 1)
    room = width - len(name) - len(rest) - 4
    share = _share_done(phase, live, done)
    filled = bar(share, min(room, 36)) + "  " if share is not None and room >= 8 else ""
    return f"{name}{filled}{rest}"[: width - 1]


def bottom_line(phase: PhasePlan, live: dict[str, Any], history: list[int], width: int) -> str:
    """Return the second line of the bar: times, tokens, and the last seconds as a curve.

    Args:
        phase: The phase.
        live: What the engine says.
        history: Requests done at the end of each second so far.
        width: Columns of the terminal; the line never fills the last one.
    """
    parts = [(index, text) for index, text in enumerate(_times(live))]
    name = _column(_place(phase, _NAME), phase) if width >= 60 else " "
    line = name + _fitted(parts, width - len(name) - 1)
    room = width - len(line) - len("   req/s by second") - 2
    if len(history) > 3 and room >= 8:
        line += f"   {_spark(history, min(room, 24))} req/s by second"
    return line[: width - 1]


def _facts(phase: PhasePlan, live: dict[str, Any]) -> list[str]:
    return [
        _so_far(phase, live),
        f"{figures.short(live['requests_per_s'])} req/s",
        f"{figures.whole(live['in_flight'])} in flight",
        f"{figures.whole(live['ok'])} ok",
        f"{figures.whole(live['failed'])} failed",
        *_times(live),
    ]


def _times(live: dict[str, Any]) -> list[str]:
    parts = []
    for key, name in (("ttft_ms", "TTFT"), ("latency_ms", "latency")):
        if live.get(key):
            found = live[key]
            parts.append(f"{name} p50 {figures.time_ms(found['p50'])} p99 {figures.time_ms(found['p99'])}")
    if live.get("gap_ms"):
        parts.insert(1, f"chunk gap p50 {figures.time_ms(live['gap_ms']['p50'])}")
    if live.get("tokens") and live["t_s"] > 0:
        parts.append(f"out {figures.whole(live['tokens'] / live['t_s'])} tok/s")
    return parts


def _so_far(phase: PhasePlan, live: dict[str, Any]) -> str:
    if phase.duration_s is not None and phase.requests is None:
        return f"{figures.so_far(live['t_s'])} / {figures.clock(phase.duration_s)}"
    total = phase.most_requests
    if total is not None:
        return f"{figures.whole(live['issued'])} / {figures.whole(total)} requests"
    return figures.so_far(live["t_s"])


def _share_done(phase: PhasePlan, live: dict[str, Any], done: int) -> float | None:
    seconds, total = phase.longest_s, phase.most_requests
    shares = [live["t_s"] / seconds] if seconds else []
    shares += [done / total] if total else []
    return min(1.0, max(shares)) if shares else None


def _column(text: str, phase: PhasePlan) -> str:
    """Return the view's first column, wider where names are a user's own and may fill it."""
    return f" {text[:_NAME]:<{_NAME if phase.place is None else _NAME + 2}}"


def _place(phase: PhasePlan, room: int) -> str:
    """Return which of several phases this is; empty where a run isn't told as several."""
    if phase.place is None:
        return ""
    number, of = phase.place
    words = f"phase {number} of {of}"
    return words if len(words) <= room else f"{number}/{of}"


def _fitted(parts: list[tuple[int, str]], room: int) -> str:
    """Join as many parts as fit; those with the highest rank are left out first."""
    kept = list(parts)
    while kept and len("   ".join(text for _, text in kept)) > room:
        kept.remove(max(kept, key=lambda part: part[0]))
    return "   ".join(text for _, text in kept)


def _spark(history: list[int], room: int) -> str:
    steps = [after - before for before, after in pairwise(history)][-room:]
    most = max(steps, default=0) or 1
    return "".join(_SPARKS[min(7, step * 8 // (most + 1))] for step in steps)


def _live(engine: Core) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(engine.live())
    return found
