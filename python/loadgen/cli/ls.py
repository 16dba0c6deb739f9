"""``loadgen ls``: runs, the newest first."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import click
import msgspec

from loadgen.cli import show
from loadgen.config.target import words
from loadgen.errors import MetricsError, ReportError
from loadgen.report import figures
from loadgen.report.again import stored
from loadgen.report.table import first_told
from loadgen.session import Metric, SessionResult, describe, run_dir
from loadgen.session.metric import percentile_key
from loadgen.shown import plain

_HEAD = ("id", "when (UTC)", "target", "load", "ok", "failed", "TTFT p50", "p99", "status")
_RIGHT = {"ok", "failed", "TTFT p50", "p99"}
_WIDEST = {"target": 40, "load": 36}
# What gives way where the terminal is narrow, in this order.
_NARROWEST = (("target", 10), ("load", 12), ("target", 6), ("load", 6), ("when (UTC)", 5), ("status", 6))
_GAP = "  "
_WORTH_CUTTING = 4


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One run, as it is listed; times are milliseconds."""

    id: str
    dir: str
    status: str
    started_at: str | None = None
    target: str | None = None
    load: str | None = None
    ok: int | None = None
    failed: int | None = None
    ttft_p50: float | None = None
    ttft_p99: float | None = None


def line_of(directory: Path) -> Line:
    """Return a run's line, from its stored report, or its live metrics while it goes on: no log is read.

    Args:
        directory: The run's directory.
    """
    run_id = directory.name.rpartition("-")[2]
    if run_dir.is_running(directory):
        return _running(directory, run_id)
    if not (directory / run_dir.REPORT).exists():
        return Line(id=run_id, dir=str(directory), status="killed", started_at=_stamp(directory.name))
    try:
        result = SessionResult.of(directory, stored(directory))
    except (ReportError, KeyError, TypeError, msgspec.ValidationError):
        return Line(id=run_id, dir=str(directory), status="unreadable", started_at=_stamp(directory.name))
    return line_of_result(result)


def _running(directory: Path, run_id: str) -> Line:
    """Return the line of a run that goes on, with what its live metrics tell: times are told when they are final."""
    line = Line(id=run_id, dir=str(directory), status="running", started_at=_stamp(directory.name))
    try:
        reader = describe.watched(directory)
        if reader is None:
            return line  # it shows none, or to nobody but itself
        about, snapshot = describe.read(reader.about), reader.snapshot(percentiles=(), bins=1)
    except MetricsError:
        return line  # it went while it was looked at
    measured = {place: phase for place, phase in enumerate(about.phases) if phase.kind != "warmup"}
    counted = [stat for stat in snapshot.counters if stat.phase in measured]
    return msgspec.structs.replace(
        line,
        target=about.target,
        load=_loads([phase.load for phase in measured.values()]),
        ok=sum(stat.value for stat in counted if stat.name == "ok"),
        failed=sum(stat.value for stat in counted if stat.name == "failed"),
    )


def _loads(words: list[str]) -> str:
    loads = "; ".join(words)
    return f"{len(words)} phases: {loads}" if len(words) > 1 else loads


def line_of_result(result: SessionResult) -> Line:
    """Return the line of a run that has a report.

    Args:
        result: The run's result.
    """
    phases = [phase for phase in result.phases if phase.type != "warmup"]
    ttft = first_told(phases[0], "ttft") if len(phases) == 1 else None
    return Line(
        id=result.id,
        dir=str(result.dir),
        status=result.status,
        started_at=result.report["run"]["started_at"],
        target=words(result.report["run"]["config"]["url"]),
        load=_loads([str(phase.load.get("words") or "") for phase in phases]),
        ok=sum(phase.counts.ok for phase in phases),
        failed=sum(phase.counts.failed for phase in phases),
        ttft_p50=_supported(ttft, 50),
        ttft_p99=_supported(ttft, 99),
    )


def _supported(metric: Metric | None, percent: float) -> float | None:
    """Return a percentile unless so few values can't support it, as a report shows it."""
    if metric is None or percentile_key(percent) in metric.unsupported:
        return None
    value = metric.percentile(percent)
    return None if math.isnan(value) else value


def _stamp(name: str) -> str | None:
    day, _, rest = name.partition("T")
    if len(day) != 8 or not day.isdigit() or len(rest) < 7 or rest[6] != "Z":
        return None
    return f"{day[:4]}-{day[4:6]}-{day[6:]}T{rest[:2]}:{rest[2:4]}:{rest[4:6]}Z"


def _ls(directory: str | None, as_json: bool) -> int:
    below = Path(directory) if directory is not None else run_dir.RUNS
    if directory is not None and not below.is_dir():
        raise ReportError(f"there is no directory {directory}")
    lines = [line_of(path) for path in run_dir.runs(below)]
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(lines), indent=1).decode())
        return 0
    if not lines:
        click.echo(f"no run in {below}", err=True)
        return 0
    for text in table(_rows(lines), show.width()):
        click.echo(text)
    if any(line.status == "killed" for line in lines):
        click.echo("`loadgen report ID` reports what a killed run completed", err=True)
    return 0


def _rows(lines: list[Line]) -> list[list[str]]:
    p50 = figures.times_ms([line.ttft_p50 for line in lines])
    p99 = figures.times_ms([line.ttft_p99 for line in lines])
    return [
        [
            line.id,
            (line.started_at or "")[:19].replace("T", " "),
            plain(line.target or "–"),
            plain(line.load or "–"),
            figures.whole(line.ok),
            figures.whole(line.failed),
            *times,
            line.status,
        ]
        for line, *times in zip(lines, p50, p99, strict=True)
    ]


def table(rows: list[list[str]], width: int | None) -> list[str]:
    """Return rows below a head, in columns that fit.

    Year and ``http://`` go first, then what targets have in common; if that is all of them, it stands below the rows.
    Then target and load are shortened.

    Args:
        rows: Cells, as many in each row as the head has.
        width: Columns there are; ``None`` for as many as it takes.
    """
    from rich.cells import cell_len, set_cell_size

    cut = [list(_HEAD), *rows]
    below: list[str] = []
    widths = _widths(cut)
    if width is not None and _total(widths) > width:
        # Month, day, hour and minute; and of a target what tells it from others.
        cut = [cut[0], *([row[0], row[1][5:16], row[2].replace("http://", ""), *row[3:]] for row in rows)]
        widths = _widths(cut)
    if width is not None and _total(widths) > width:
        cut, below = _told_apart(cut)
        widths = _widths(cut)
    heads = cut[0]
    over = _total(widths) - width if width is not None else 0
    for head, least in _NARROWEST:
        if head not in heads:
            continue
        column = heads.index(head)
        given = min(max(0, over), max(0, widths[column] - least))
        widths[column] -= given
        over -= given

    def cell(text: str, head: str, wide: int) -> str:
        if cell_len(text) > wide:
            text = set_cell_size(text, wide - 1).rstrip() + "…"
        blank = " " * (wide - cell_len(text))
        return blank + text if head in _RIGHT else text + blank

    made = [_GAP.join(map(cell, row, heads, widths)).rstrip() for row in cut] + below
    return [set_cell_size(line, width).rstrip() if width and cell_len(line) > width else line for line in made]


def _told_apart(cut: list[list[str]]) -> tuple[list[list[str]], list[str]]:
    """Return rows with what tells their targets apart; none where that is nothing, and what to say below instead."""
    head, *rows = cut
    letters = zip(*(row[2] for row in rows), strict=False)
    shared = "".join(same[0] for same in itertools.takewhile(lambda each: len(set(each)) == 1, letters))
    if all(row[2] == shared for row in rows):
        return [[*row[:2], *row[3:]] for row in cut], [f"target of all: {shared}"]
    if len(shared) < _WORTH_CUTTING:
        return cut, []
    return [head, *([*row[:2], f"…{row[2].removeprefix(shared)}", *row[3:]] for row in rows)], []


def _widths(cut: list[list[str]]) -> list[int]:
    from rich.cells import cell_len

    natural = [max(map(cell_len, column)) for column in zip(*cut, strict=True)]
    return [min(wide, _WIDEST.get(head, wide)) for head, wide in zip(cut[0], natural, strict=True)]


def _total(widths: list[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


command = click.Command(
    "ls",
    callback=_ls,
    help="List runs, the newest first.\n\nDIR is where runs are kept; loadgen-runs unless given.",
    params=[
        click.Argument(["directory"], required=False, metavar="[DIR]"),
        click.Option(["--json", "as_json"], is_flag=True, help="Print them as JSON."),
    ],
)
