"""``loadgen clean``: remove old runs, and nothing else."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import click

from loadgen import _core
from loadgen.cli import show
from loadgen.cli.ls import line_of
from loadgen.cli.options import value_of
from loadgen.config import values
from loadgen.errors import ConfigError, ReportError
from loadgen.report import figures
from loadgen.session import run_dir
from loadgen.shown import plain


def _clean(directory: str | None, keep: str | None, older_than: str | None, yes: bool) -> int:
    if keep is None and older_than is None:
        raise ConfigError(
            "which runs? Say how many of the newest to keep, or how old the others are",
            "loadgen clean --keep 10, or loadgen clean --older-than 168h",
        )
    below = Path(directory) if directory is not None else run_dir.RUNS
    if directory is not None and not below.is_dir():
        raise ReportError(f"there is no directory {directory}")
    least_s = value_of("--older-than", older_than, _age, "days are written 7d")
    newest = value_of("--keep", keep, values.whole)
    chosen = choose(list(run_dir.runs(below)), newest, least_s, dt.datetime.now(dt.UTC))
    if not chosen:
        click.echo("no run to remove", err=True)
        _clean_segments()
        return 0
    sizes = [run_dir.size(path) for path in chosen]
    for path, size in zip(chosen, sizes, strict=True):
        click.echo(f"{plain(str(path))}  {figures.size(size)}")
    # The time with its unit: who wrote 7 and meant days sees seconds before anything is gone.
    age = "" if least_s is None else f" older than {_told(least_s)}"
    many = f"{len(chosen)} run{'' if len(chosen) == 1 else 's'}{age}, {figures.size(sum(sizes))}"
    if not yes and not _agreed(many):
        return 1
    kept = 0
    for path in chosen:
        problem = run_dir.remove(path)
        if problem:
            kept += 1
            show.warning(f"{path}: {problem}")
    click.echo(f"removed {len(chosen) - kept} of {many}", err=True)
    _clean_segments()
    return 1 if kept else 0


def _agreed(many: str) -> bool:
    """Ask; where nobody can answer, say so rather than end like Ctrl-C."""
    try:
        return click.confirm(f"Remove {many}?")
    except click.Abort as abort:
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise
        click.echo()
        raise ConfigError("nobody answers: standard input has ended", "--yes removes without asking") from None


def _clean_segments() -> None:
    """Remove the live metrics of killed runs, wherever those were made: nobody can use them, and they are in memory."""
    gone = len(_core.clean_segments())
    if gone:
        click.echo(f"removed the live metrics of {gone} killed run{'' if gone == 1 else 's'}", err=True)


def choose(runs: list[Path], keep: int | None, older_than: float | None, now: dt.datetime) -> list[Path]:
    """Return the runs to remove: those beyond the newest ``keep``, and among them those older than a time.

    Args:
        runs: Runs, the newest first.
        keep: How many of the newest stay; ``None`` for no such rule.
        older_than: Seconds; younger ones stay. ``None`` for no such rule.
        now: The moment that ages count from.
    """
    beyond = runs[keep or 0 :]
    if older_than is not None:
        beyond = [path for path in beyond if _seconds_old(path, now) > older_than]
    return [path for path in beyond if not run_dir.is_running(path)]


def _seconds_old(path: Path, now: dt.datetime) -> float:
    started = line_of(path).started_at
    if started is not None:
        return (now - dt.datetime.fromisoformat(started)).total_seconds()
    return now.timestamp() - path.stat().st_mtime


def _age(typed: str) -> float:
    """Read an age in seconds: a duration, or days."""
    return values.positive(typed[:-1]) * 86400 if typed.endswith("d") else values.duration(typed)


def _told(seconds: float) -> str:
    return figures.clock(seconds) if seconds < 86400 else f"{seconds / 86400:.3g} d"


command = click.Command(
    "clean",
    callback=_clean,
    help="Remove old runs, and nothing else.\n\n"
    "DIR is where runs are kept; loadgen-runs unless given. A run that is still going stays, and so do files that no "
    "run wrote. What killed runs left in shared memory goes, too.",
    params=[
        click.Argument(["directory"], required=False, metavar="[DIR]"),
        click.Option(["--keep"], metavar="N", help="Keep the newest N."),
        click.Option(["--older-than"], metavar="D", help="Keep what is younger than D, such as 12h or 7d."),
        click.Option(["--yes", "-y"], is_flag=True, help="Do not ask."),
    ],
)
