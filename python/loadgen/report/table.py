"""The table of a report: a row for each metric, a column for each percentile that was asked for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from loadgen.report import figures
from loadgen.session.metric import percentile_key

if TYPE_CHECKING:
    from loadgen.session import Metric, PhaseResult

_BY_IMPORTANCE = (50.0, 99.0, 90.0, 99.9, 95.0, 75.0)
_NAME, _UNIT = 10, 3
_COLUMN, _MEAN_GAP = 9, 3


class _Row(msgspec.Struct, frozen=True):
    label: str
    metric: Metric
    style: str = ""


class _Layout(msgspec.Struct, frozen=True):
    """How wide the columns are, and which percentiles have one."""

    shown: list[float]
    hidden: list[float]
    column: int
    mean: int


def rows(phase: PhaseResult, width: int) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the table's lines with their styles, and the notes below; none where nothing was measured.

    Args:
        phase: The phase.
        width: Columns there are.
    """
    wanted = _wanted(phase)
    if not wanted:
        return [], []
    layout = _layout(wanted, width)
    origin = "from planned" if is_open_loop(phase) else ""
    head = f" {origin:<{_NAME + _UNIT}}"
    head += "".join(f"{name:>{layout.column}}" for name in [*(_head(p) for p in layout.shown), "max "])
    lines = [(f"{head}{'mean ± sd':>{layout.mean}}", "dim")]
    lines += [(_line(row, layout), row.style) for row in wanted]
    return lines, [note for note in (_marks(wanted, layout.shown), _no_room(layout.hidden)) if note]


def is_open_loop(phase: PhaseResult) -> bool:
    """Return whether a phase's requests started on a schedule, so that times count from planned."""
    return phase.load.get("kind") in ("rate", "stages", "burst")


def first_told(phase: PhaseResult, name: str) -> Metric:
    """Return a metric as the phase's table has it first: from planned in an open loop, where that is known.

    Args:
        phase: The phase.
        name: ``ttft`` or ``latency``.
    """
    planned = phase.metric(f"response_{name}")
    return planned if is_open_loop(phase) and planned else phase.metric(name)


def _wanted(phase: PhaseResult) -> list[_Row]:
    planned = is_open_loop(phase)
    found: list[_Row] = []
    for label, name in (
        ("TTFT", "ttft"),
        ("TTFO", "ttfo"),
        ("ITL", "itl"),
        ("ICL", "icl"),
        ("TPOT", "tpot"),
        ("latency", "latency"),
    ):
        metric = phase.metric(name)
        if not metric or (name == "ttfo" and _same(metric, phase.ttft)) or (name == "icl" and phase.itl):
            continue
        response = phase.metric(f"response_{name}")
        if planned and response:
            found += [_Row(label, response), _Row(" from sent", metric, style="dim")]
        else:
            found.append(_Row(label, metric))
    return found


def _same(one: Metric, other: Metric) -> bool:
    return one.count == other.count and one.mean == other.mean and one.max == other.max


def _scale(metric: Metric) -> tuple[float, int]:
    middle = metric.percentile(50) if not math.isnan(metric.percentile(50)) else metric.mean
    if middle >= 1000:
        return 1e-3, 2
    return 1.0, figures.decimals([middle])


def _head(percent: float) -> str:
    return f"p{percent:.6f}".rstrip("0").rstrip(".") + " "


def _layout(wanted: list[_Row], width: int) -> _Layout:
    """Return the widest columns in which all percentiles fit; the narrowest, and fewer percentiles, if they never do.

    A wider terminal so never shows less than a narrower one.
    """
    asked = sorted({percent for row in wanted for percent in row.metric.percentiles})
    cells = [*(_head(p) for p in asked), *(cell for row in wanted for cell in _cells(row.metric, asked))]
    narrowest = max(len(cell) for cell in cells) + 1
    mean = max(len("mean ± sd"), *(len(_mean(row.metric)) for row in wanted)) + _MEAN_GAP

    def room(column: int) -> int:
        return (width - 1 - _NAME - _UNIT - mean - (column - narrowest)) // column - 1  # one is the maximum's

    column = next((c for c in range(_COLUMN, narrowest, -1) if room(c) >= len(asked)), narrowest)
    own = [p for p in asked if p not in _BY_IMPORTANCE]
    order = own + [p for p in _BY_IMPORTANCE if p in asked]
    shown = sorted(order[: max(1, room(column))])
    return _Layout(shown, [p for p in asked if p not in shown], column, mean + column - narrowest)


def _line(row: _Row, layout: _Layout) -> str:
    unit = "s" if _scale(row.metric)[0] != 1.0 else row.metric.unit
    line = f" {row.label:<{_NAME}}{unit:>{_UNIT}}"
    line += "".join(f"{cell:>{layout.column}}" for cell in _cells(row.metric, layout.shown))
    return f"{line}{_mean(row.metric):>{layout.mean}}"


def _cells(metric: Metric, shown: list[float]) -> list[str]:
    return [*(_percentile(metric, p) for p in shown), _figure(metric, metric.max) + " "]


def _percentile(metric: Metric, percent: float) -> str:
    if percentile_key(percent) not in metric.unsupported:
        return _figure(metric, metric.percentile(percent)) + " "
    return ("–" if metric.is_only_extreme(percent) else _figure(metric, metric.percentile(percent))) + "*"


def _mean(metric: Metric) -> str:
    if metric.count < 2 or math.isnan(metric.std):
        return _figure(metric, metric.mean)
    return f"{_figure(metric, metric.mean)} ± {_figure(metric, metric.std)}"


def _figure(metric: Metric, value: float) -> str:
    factor, places = _scale(metric)
    return "–" if math.isnan(value) else f"{value * factor:,.{places}f}"


def _marks(wanted: list[_Row], shown: list[float]) -> str:
    """Return what the marks in the table mean; empty where there are none."""
    marked = [(row.metric, p) for row in wanted for p in shown if percentile_key(p) in row.metric.unsupported]
    if not marked:
        return ""
    least = min((percent for _, percent in marked), key=_takes)
    takes = f"{_head(least).strip()} takes {_takes(least):,} values"
    extreme = [metric.is_only_extreme(percent) for metric, percent in marked]
    only = f"–* would only be the maximum ({takes})"
    bounded = f"* not bounded with 95 % confidence ({takes})"
    return only if all(extreme) else f"{bounded}; –* would only be the maximum" if any(extreme) else bounded


def _no_room(hidden: list[float]) -> str:
    names = ", ".join(_head(p).strip() for p in hidden)
    return f"no room for {names}: a wider terminal shows them, and so does loadgen report --json" if names else ""


def _takes(percent: float) -> int:
    """Return how many values a percentile's 95 % confidence interval takes to have both ends.

    Source: David & Nagaraja, Order Statistics, 3rd ed., section 7.1, as in the core's ``interval_ranks``.
    """
    share = max(percent, 100 - percent) / 100
    return math.ceil(math.log(0.025) / math.log(share))
