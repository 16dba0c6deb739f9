"""``loadgen run``: drive a server with a load, and report what a client saw."""

from __future__ import annotations

import itertools
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from loadgen import config as configs
from loadgen.cli import progress, show, stops
from loadgen.cli.options import GroupedCommand, GroupedOption, flags
from loadgen.report import figures
from loadgen.session import Run

if TYPE_CHECKING:
    from loadgen.cli.view import View
    from loadgen.config import Config
    from loadgen.session import SessionResult

_KINDS = 3


class _Stopped(BaseException):
    """A signal ended the command, whatever it was at."""

    def __init__(self, number: int) -> None:
        self.number = number


class _StoppedEarly(_Stopped):
    """It came before anything was sent."""


def _run(
    urls: tuple[str, ...], config: str | None, ui: str, as_json: bool, quiet: bool, dry_run: bool, **given: Any
) -> int:
    given = {name: value for name, value in given.items() if value not in (None, ())}
    options = configs.resolve(urls or None, given, config_file=config)
    show.warn_of_secrets(options.header if "header" in given else ())
    if dry_run:
        from loadgen.cli import dry

        return dry.show_plan(options, as_json=as_json)
    view = progress.view("none" if quiet else ui)
    going = Run(options, view)
    try:
        with _signals(going, options, view) as seen, view:
            result = going.execute()
    except _StoppedEarly as stopped:
        show.error("stopped before anything was sent")
        return 128 + stopped.number
    except _Stopped as stopped:
        show.error("stopped while the report was made", "the run's log is on disk: loadgen report")
        return 128 + stopped.number
    if going.notes and not quiet:
        show.warning("; ".join(going.notes))
    return _tell(result, options, as_json, quiet, seen)


@contextmanager
def _signals(going: Run, options: Config, view: View) -> Iterator[list[int]]:
    """Let the first signal stop the run with grace, and the second at once."""
    seen: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        if not stops.is_new(number, seen):
            return
        if going.state == "preparing":
            raise _StoppedEarly(number)
        if going.state == "running":
            first = len(seen) == 1
            going.stop(signal.Signals(seen[0]).name, options.grace if first else 0.0)
            if first and options.grace:
                view.note(
                    f"stopping; requests in flight have {figures.clock(options.grace)}, a second signal ends them"
                )
        elif len(seen) > 2:
            raise _Stopped(seen[0])  # who asks a third time doesn't want to wait for the report; the run log is on disk

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, *stops.from_outside())}
    try:
        yield seen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(result: SessionResult, options: Config, as_json: bool, quiet: bool, seen: list[int]) -> int:
    from loadgen.report import screen

    early = any(phase.report.get("reason") == "early" for phase in result.phases)
    # A refusal is said in a sentence; phases that were measured before it still have their report.
    worth_showing = not early or any(
        phase.counts.ok and phase.report.get("reason") != "early" for phase in result.perf_results
    )
    if as_json:
        from loadgen.session import run_dir

        sys.stdout.write((result.dir / run_dir.REPORT).read_text(encoding="utf-8"))
    elif not quiet and worth_showing:
        screen.show(result)
    if seen:
        return 128 + seen[0]
    if result.status == "failed":
        from loadgen.cli import early as early_stop

        why = _failures(result) if quiet or as_json else ""  # else the report above has them
        message, way_out = early_stop.error_of(result, options) if early else (result.reason or "the run failed", why)
        show.error(message, way_out)
        return 1
    return 0


def _failures(result: SessionResult) -> str:
    """Return the first kinds of failures, a line each."""
    from loadgen.report import sentences

    told = (sentence.text for phase in result.perf_results for sentence in sentences.failures(result, phase))
    return "\n".join(itertools.islice(told, _KINDS))


command = GroupedCommand(
    "run",
    callback=_run,
    help="Drive a server with a load, and report what a client saw.\n\n"
    "URL is a base such as http://127.0.0.1:8000 (the API's path is appended), unix:PATH, or mock: for a server within "
    "this process. With several of them, requests are spread over all as --balance says.",
    epilog="Exit status: 0 good, 1 it began and failed, 2 nothing was sent, 129 SIGHUP, 130 SIGINT, 143 SIGTERM.",
    params=[
        click.Argument(["urls"], required=False, nargs=-1, metavar="URL..."),
        *flags(),
        GroupedOption(
            ["--config"],
            type=click.Path(),
            metavar="FILE",
            group="Results",
            help="YAML or TOML file with these options as keys; flags win over it.",
        ),
        GroupedOption(
            ["--ui"],
            type=click.Choice(progress.CHOICES),
            default="auto",
            group="Results",
            help="How progress is shown: a screen, two lines, or nothing.  [default: auto]",
        ),
        GroupedOption(
            ["--json", "as_json"],
            is_flag=True,
            group="Results",
            help="Print report.json, and nothing else, to standard output; with --dry-run, the plan.",
        ),
        GroupedOption(["--quiet", "-q"], is_flag=True, group="Results", help="Print errors only."),
        GroupedOption(
            ["--dry-run"], is_flag=True, group="Results", help="Print the plan and one request, and send nothing."
        ),
    ],
)
