"""``loadgen ls``: runs, the newest first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from loadgen.cli.show import plain
from loadgen.errors import ReportError
from loadgen.report import figures
from loadgen.report.again import stored
from loadgen.session import SessionResult, run_dir

_HEAD = ("id", "when (UTC)", "target", "load", "ok", "failed", "TTFT p50", "p99", "status")
_RIGHT = {"ok", "failed", "TTFT p50", "p99"}
_WIDEST = {"target": 40, "load": 36}


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
    """Return a run's line, from its stored report alone: no log is read.

    Args:
        directory: The run's directory.
    """
    run_id = directory.name.rpartition("-")[2]
    if run_dir.is_running(directory):
        return Line(id=run_id, dir=str(directory), status="running", started_at=_stamp(directory.name))
    if not (directory / run_dir.REPORT).exists():
        return Line(id=run_id, dir=str(directory), status="killed", started_at=_stamp(directory.name))
    try:
        result = SessionResult.of(directory, stored(directory))
    except (ReportError, KeyError, TypeError, msgspec.ValidationError):
        return Line(id=run_id, dir=str(directory), status="unreadable", started_at=_stamp(directory.name))
    phases = result.perf_results
    ttft = phases[0].report["metrics"].get("ttft") or {} if len(phases) == 1 else {}
    return Line(
        id=result.id,
        dir=str(directory),
        status=result.status,
        started_at=result.report["run"]["started_at"],
        target=result.report["run"]["config"]["url"],
        load="; ".join(str(phase.load.get("words") or "") for phase in phases),
        ok=sum(phase.counts.ok for phase in phases),
        failed=sum(phase.counts.failed for phase in phases),
        ttft_p50=ttft.get("p50"),
        ttft_p99=ttft.get("p99"),
    )


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
    for text in table([_cells(line) for line in lines]):
        click.echo(text)
    if any(line.status == "killed" for line in lines):
        click.echo("`loadgen report ID` reports what a killed run completed", err=True)
    return 0


def _cells(line: Line) -> list[str]:
    when = (line.started_at or "")[:19].replace("T", " ")
    target = plain(line.target or "–")
    numbers = [figures.whole(line.ok), figures.whole(line.failed)]
    return [
        line.id,
        when,
        target,
        plain(line.load or "–"),
        *numbers,
        figures.time_ms(line.ttft_p50),
        figures.time_ms(line.ttft_p99),
        line.status,
    ]


def table(rows: list[list[str]]) -> list[str]:
    """Return rows below a head, in columns.

    Args:
        rows: Cells, as many in each row as the head has.
    """
    cut = [
        [_cut(cell, _WIDEST.get(head, 60)) for head, cell in zip(_HEAD, row, strict=True)]
        for row in [list(_HEAD), *rows]
    ]
    widths = [max(len(row[column]) for row in cut) for column in range(len(_HEAD))]
    lines: list[str] = []
    for row in cut:
        cells: list[Any] = [
            f"{cell:>{width}}" if head in _RIGHT else f"{cell:<{width}}"
            for head, cell, width in zip(_HEAD, row, widths, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


command = click.Command(
    "ls",
    callback=_ls,
    help="List runs, the newest first.\n\nDIR is where runs are kept; loadgen-runs unless given.",
    params=[
        click.Argument(["directory"], required=False, metavar="[DIR]"),
        click.Option(["--json", "as_json"], is_flag=True, help="Print them as JSON."),
    ],
)
