"""The table of a report: a row for each metric, as many percentiles as the width allows."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from loadgen.report import figures
from loadgen.session.result import percentile_key

if TYPE_CHECKING:
    from loadgen.session import Metric, PhaseResult, SessionResult

_DEFAULT = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
_BY_IMPORTANCE = (50.0, 99.0, 90.0, 99.9, 95.0, 75.0)
_NAME, _UNIT = 10, 3


class _Row(msgspec.Struct, frozen=True):
    label: str
    metric: Metric
    note: str = ""
    style: str = ""


def rows(result: SessionResult, phase: PhaseResult, width: int) -> list[tuple[str, str]]:
    """Return the table's lines with their styles; none where nothing was measured.

    Args:
        result: The run's result.
        phase: The phase.
        width: Columns there are.
    """
    wanted = _wanted(phase, width)
    if not wanted:
        return []
    column = 11 if width >= 110 else 9
    shown = _percentiles(result, width, column)
    from_planned = is_open_loop(phase)
    origin = "from planned" if from_planned else ""
    head = f" {origin:<{_NAME + _UNIT}}" + "".join(f"{f'p{p:g} ':>{column}}" for p in shown)
    lines = [(f"{head}{'max ':>{column}}{'mean ± sd':>{column + 8}}", "dim")]
    lines += [(_line(row, shown, column, width), row.style) for row in wanted]
    marked = [p for p in shown if any(percentile_key(p) in row.metric.unsupported for row in wanted)]
    if marked:
        least = min(marked, key=_takes)
        lines.append((f" * too few values to bound it with 95 % confidence: p{least:g} takes {_takes(least):,}", "dim"))
    return lines


def is_open_loop(phase: PhaseResult) -> bool:
    """Return whether a phase's requests started on a schedule, so that times count from planned."""
    return phase.load.get("kind") in ("rate", "stages", "burst")


def _wanted(phase: PhaseResult, width: int) -> list[_Row]:
    planned = is_open_loop(phase)
    tight = width < 110
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
        if not planned or not response:
            found.append(_Row(label, metric, _note(phase, name)))
        elif tight:
            found += [_Row(label, response), _Row("  from sent", metric, style="dim")]
        else:
            found.append(_Row(label, response, f"from sent: {_three(metric)}"))
    return found


def _same(one: Metric, other: Metric) -> bool:
    return one.count == other.count and one.mean == other.mean and one.max == other.max


def _note(phase: PhaseResult, name: str) -> str:
    if name == "itl":
        tokens = phase.tokens.get("tokens_per_chunk")
        return f"{tokens:.2f} tokens a chunk" if tokens is not None else ""
    return "gaps between chunks, however many tokens each holds" if name == "icl" else ""


def _three(metric: Metric) -> str:
    factor, places = _scale(metric)
    return " / ".join(
        f"{metric.percentile(p) * factor:,.{places}f}" for p in (50, 90, 99) if not math.isnan(metric.percentile(p))
    )


def _scale(metric: Metric) -> tuple[float, int]:
    middle = metric.percentile(50) if not math.isnan(metric.percentile(50)) else metric.mean
    if middle >= 1000:
        return 1e-3, 2
    return 1.0, figures.decimals([middle])


def _line(row: _Row, shown: list[float], column: int, width: int) -> str:
    metric = row.metric
    factor, places = _scale(metric)

    def figure(value: float) -> str:
        return "–" if math.isnan(value) else f"{value * factor:,.{places}f}"

    def percentile(percent: float) -> str:
        if percentile_key(percent) not in metric.unsupported:
            return figure(metric.percentile(percent)) + " "
        # Where it would be the greatest value itself, even the number says nothing.
        return ("–" if metric.count * (100 - percent) < 100 else figure(metric.percentile(percent))) + "*"

    cells = [percentile(p) for p in shown]
    unit = "s" if factor != 1.0 else metric.unit
    line = f" {row.label:<{_NAME}}{unit:>{_UNIT}}"
    line += "".join(f"{cell:>{column}}" for cell in [*cells, figure(metric.max) + " "])
    line += f"{figure(metric.mean) + ' ± ' + figure(metric.std):>{column + 8}}"
    return f"{line}      {row.note}" if row.note and len(line) + 6 + len(row.note) <= width else line


def _percentiles(result: SessionResult, width: int, column: int) -> list[float]:
    asked = [float(p) for p in result.report["run"]["config"].get("percentiles") or _DEFAULT]
    room = (width - 1 - _NAME - _UNIT - column - (column + 8)) // column
    if width >= 110:
        room = (width - 1 - _NAME - _UNIT - column - (column + 8) - 40) // column
    custom = [p for p in asked if p not in _DEFAULT]
    order = custom + [p for p in _BY_IMPORTANCE if p in asked]
    return sorted(order[: max(1, room)])


def _takes(percent: float) -> int:
    """Return how many values a percentile's 95 % confidence interval takes to have both ends.

    Source: David & Nagaraja, Order Statistics, 3rd ed., section 7.1, as in the core's ``interval_ranks``.
    """
    share = max(percent, 100 - percent) / 100
    return math.ceil(math.log(0.025) / math.log(share))
