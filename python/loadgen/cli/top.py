"""``loadgen top``: watch a run that goes on in another terminal, from its live metrics in shared memory."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from loadgen import metrics
from loadgen.cli import complete, show, stops
from loadgen.errors import MetricsError, ReportError
from loadgen.session import describe, run_dir
from loadgen.shown import plain
from loadgen.tui import screen
from loadgen.tui.line import text
from loadgen.tui.terminal import Terminal, size_of
from loadgen.tui.watch import REFRESH_S, Watch

if TYPE_CHECKING:
    from loadgen.tui.look import Look

_FOOT = "q leaves; the run goes on"
_TWO_LOOKS_S = 1.0


class _Ended(BaseException):
    """A signal came; the terminal must be given back before the process ends."""

    def __init__(self, number: int) -> None:
        self.number = number


def _top(run: str | None, once: bool) -> int:
    try:
        reader = (describe.watched(Path(run)) if run is not None and Path(run).is_dir() else None) or metrics.attach(
            run
        )
    except MetricsError as error:
        return _without_metrics(run, error)
    watch = Watch(reader)
    if once or not sys.stdout.isatty() or os.environ.get("TERM", "") == "dumb":
        return _print(_second_look(watch))
    try:
        with _ending(), Terminal(sys.stdout, sys.stdin) as terminal:
            last = _watch(watch, terminal)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except _Ended as ended:
        return 128 + ended.number
    return _print(last) if last.is_over else 0


def _watch(watch: Watch, terminal: Terminal) -> Look:
    """Draw until the run is over or the user leaves; what was seen last."""
    while True:
        look = watch.look()
        columns, rows = terminal.size
        terminal.draw(screen.lines(look, columns, rows, foot=_FOOT))
        if look.is_over or terminal.is_gone or "q" in terminal.key(REFRESH_S).lower():
            return look


def _second_look(watch: Watch) -> Look:
    """Look twice, where the run goes on: a rate takes two."""
    look = watch.look()
    if look.is_over:
        return look
    time.sleep(_TWO_LOOKS_S)
    return watch.look()


def _print(look: Look) -> int:
    """Print a screen where it stays; 1 for a run that was killed."""
    # On a terminal the beginning, which says how it stands, must not scroll away.
    # Elsewhere it is 100 columns wide, or as COLUMNS says, as a report is.
    elsewhere = (shutil.get_terminal_size((100, 24)).columns if os.environ.get("COLUMNS") else 100, None)
    columns, rows = size_of(sys.stdout.fileno()) if sys.stdout.isatty() else elsewhere
    for line in screen.lines(look, columns, rows and max(1, rows - 2)):
        click.echo(text(line).rstrip())
    return 1 if look.was_killed else 0


def _without_metrics(run: str | None, error: MetricsError) -> int:
    """Say what there is of a run that shows no live metrics: its report, if it is over."""
    if run is not None and Path(run).is_file():
        raise error
    try:
        found = run_dir.find(run)
    except ReportError:
        raise error from None
    if run_dir.is_running(found):
        raise MetricsError(
            f"{found} goes on, and its live metrics can't be seen from here: {error.message}",
            "it found no shared memory, or runs as another user",
        ) from None
    if run is None:
        raise MetricsError(
            "no run of this machine goes on", f"the newest one here is over: loadgen report {found}"
        ) from None
    from loadgen.report import again
    from loadgen.report import screen as report

    result, warning = again.load(str(found), None)
    if warning:
        show.warning(warning)
    click.echo(f" {plain(found.name)} is over. These are its final numbers:")
    report.show(result)
    return 0


@contextmanager
def _ending() -> Iterator[None]:
    seen: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if stops.is_new(number, seen):
            raise _Ended(number)

    before = {number: signal.signal(number, stop) for number in stops.from_outside()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


command = click.Command(
    "top",
    callback=_top,
    help="Watch a run that goes on in another terminal of this machine; it doesn't notice.\n\n"
    "RUN is the beginning of a run's id, its directory, or nothing for the newest run that goes on. The screen ends "
    "with the run, and its last state stays; q leaves before. To a file or a pipe one state is printed.",
    epilog="Exit status: 0 good, 1 the run was killed, 2 there is none to watch, 129 SIGHUP, 130 SIGINT, 143 SIGTERM.",
    params=[
        click.Argument(["run"], required=False, metavar="[RUN]", shell_complete=complete.going_runs),
        click.Option(["--once"], is_flag=True, help="Print one state, and leave."),
    ],
)
