"""The tables of a screen: times of the phase that runs, how they spread, and all phases."""

from __future__ import annotations

from typing import NamedTuple

from rich.cells import cell_len, set_cell_size

from loadgen.metrics.snapshot import SeriesStat
from loadgen.report import figures
from loadgen.tui.line import Line, curve, spread, time
from loadgen.tui.look import Look, PhaseLook, percentile

LABEL = 15
"""Columns of what stands before a row."""

_CELL = 9
_WIDE = 118
_NARROW = 62
_PHASE_ROWS = 8
_NODE_NAME = 34


class _Row(NamedTuple):
    """A row of times: its label, where its values are, and which curve belongs to it."""

    label: str
    names: tuple[str, ...]
    only_planned: bool = False


_ROWS = (
    _Row("TTFT", ("ttft",)),
    _Row("  planned", ("response_ttft",), only_planned=True),
    _Row("chunk gap", ("gap", "icl")),
    _Row("latency", ("latency",)),
    _Row("  planned", ("response_latency",), only_planned=True),
    _Row("failed", ("failed_latency",)),
)


_SPREADS = (("TTFT spread", ("ttft",)), ("gap spread", ("gap", "icl")), ("latency spread", ("latency",)))


def _columns(room: int) -> list[tuple[str, float | None]]:
    """Return the columns that fit: their heads, and the percentile, or ``None`` for the greatest value."""
    if room >= _WIDE:
        return [("p50", 50), ("p75", 75), ("p90", 90), ("p95", 95), ("p99", 99), ("p99.9", 99.9), ("max", None)]
    if room >= _NARROW:
        return [("p50", 50), ("p90", 90), ("p99", 99), ("max", None)]
    return [("p50", 50), ("p99", 99)] if room < 46 else [("p50", 50), ("p99", 99), ("max", None)]


def times(look: Look, room: int) -> list[Line]:
    """Return percentiles of the phase that runs, a row each kind of time; the mean of each second as a curve.

    Args:
        look: What is seen of the run.
        room: Columns.
    """
    rows = _rows(look)
    if not rows:
        return []
    columns = _columns(room)
    left = room - 1 - LABEL - _CELL * len(columns) - 3
    head = f" {'':<{LABEL}}" + "".join(f"{name:>{_CELL}}" for name, _ in columns)
    if left >= 12:
        head += "   mean by second" if left >= 14 else "   by second"
    made: list[Line] = [[(head, "dim")]]
    for row, series in rows:
        cells = "".join(f"{time(_value(series, percent)):>{_CELL}}" for _, percent in columns)
        line: Line = [(f" {row.label:<{LABEL}}", "dim"), (cells, "")]
        means = next((look.means[name] for name in row.names if name in look.means), [])
        if left >= 12 and any(value is not None for value in means):
            line.append(("   " + curve(means, min(left, 60)), "key"))
        made.append(line)
    return made


def _rows(look: Look) -> list[tuple[_Row, SeriesStat]]:
    current = look.current
    if current is None:
        return []
    rows = [row for row in _ROWS if current.about.open_loop or not row.only_planned]
    found = [(row, current.values(*row.names)) for row in rows]
    return [(row, series) for row, series in found if series is not None]


def _value(series: SeriesStat, percent: float | None) -> float | None:
    return series.max if percent is None else percentile(series, percent)


def spreads(look: Look, room: int) -> list[Line]:
    """Return histograms of the phase that runs, each a line between its least and its greatest value.

    Args:
        look: What is seen of the run.
        room: Columns.
    """
    wide = room - 1 - LABEL - 2 * (_CELL + 1)
    current = look.current
    if current is None or wide < 15:
        return []
    made: list[Line] = []
    for label, names in _SPREADS:
        series = current.values(*names)
        if series is None or len(series.counts) < 2:
            continue
        drawn = spread(series.counts, wide)
        low, high = time(series.min), time(series.max)
        head = f" {label:<{LABEL}}{low:>{_CELL}} "
        made.append([(head, "dim"), (drawn, "key"), (f" {high}", "dim")])
    return made


def nodes(look: Look, room: int, rows: int | None) -> list[Line]:
    """Return what each of several nodes has done of the phase that runs, a row each.

    Args:
        look: What is seen of the run.
        room: Columns.
        rows: Rows of the terminal; the first nodes are shown where there are more than a third of them.
    """
    found = look.current.nodes(look.about.nodes) if look.current is not None else []
    if not found:
        return []
    most = len(found) if rows is None else max(2, rows // 3 - 1)
    shown = found if len(found) <= most else found[: most - 1]
    heads = ("share", "requests", "failed", "in flight")
    name_room = max(8, min(_NODE_NAME, room - 4 - (_CELL + 1) * len(heads)))
    made: list[Line] = [[(f" {'nodes':<{name_room + 2}}" + "".join(f"{head:>{_CELL + 1}}" for head in heads), "dim")]]
    for node in shown:
        cells = [figures.share(node.share), *(figures.whole(n) for n in (node.issued, node.failed, node.in_flight))]
        line: Line = [
            (f"   {_sized(node.name, name_room)}", ""),
            ("".join(f"{cell:>{_CELL + 1}}" for cell in cells), ""),
        ]
        made.append(line)
    if len(shown) < len(found):
        made.append([(f"   and {len(found) - len(shown)} more", "dim")])
    return made


def phases(look: Look, room: int, rows: int | None) -> list[Line]:
    """Return all phases of a run that has several, a row each: those that are over, the one that runs, those to come.

    Args:
        look: What is seen of the run.
        room: Columns.
        rows: Rows of the terminal; the newest phases are shown where there are more than a third of them.
    """
    total = max(look.about.of, len(look.phases))
    if total < 2:
        return []
    seen = {phase.number: phase for phase in look.phases}
    now = look.current.number if look.current is not None else 0
    most = _PHASE_ROWS if rows is None else max(2, min(_PHASE_ROWS, rows // 3 - 1))
    first = max(0, min(now - most // 2, total - most))
    wide = room >= _WIDE
    name_room = max(8, min(34 if wide else 20, room - (92 if wide else 58)))
    heads = ["ok", "failed", "TTFT p50", *(["p99"] if wide else []), "latency", *(["p99"] if wide else [])]
    head = f" {'phases':<{name_room + 2}}" + "".join(f"{name:>{_CELL + 1}}" for name in heads)
    shown = range(first, min(total, first + most))
    return [[(head, "dim")], *(_phase_row(look, number, seen.get(number), name_room, wide) for number in shown)]


def _phase_row(look: Look, number: int, phase: PhaseLook | None, name_room: int, wide: bool) -> Line:
    known = look.about.phases
    name = phase.about.name if phase is not None else known[number].name if number < len(known) else ""
    name = _sized(name or f"phase {number + 1}", name_room)
    is_now = look.current is not None and number == look.current.number
    mark = "▸" if is_now and not look.is_over else " "
    if phase is None:
        gone = look.current is not None and number < look.current.number
        load = known[number].load if number < len(known) else ""
        return [(f" {mark} {name}", "dim"), ("   no longer kept" if gone else f"   {load}", "dim")]
    cells = [figures.whole(phase.ok), figures.whole(phase.failed)]
    for series in (phase.values("ttft"), phase.values("latency")):
        percents = (50, 99) if wide else (50,)
        cells += [time(None if series is None else percentile(series, percent)) for percent in percents]
    return [(f" {mark} {name}", "bold" if is_now else ""), ("".join(f"{cell:>{_CELL + 1}}" for cell in cells), "")]


def _sized(name: str, room: int) -> str:
    return set_cell_size(name, room - 1).rstrip() + "…" if cell_len(name) > room else set_cell_size(name, room)
