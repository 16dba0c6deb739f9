"""Several performance phases side by side, a row each: what a reader compares before the details."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from loadgen.report import figures, title
from loadgen.report.columns import lines
from loadgen.report.table import first_told
from loadgen.session.metric import percentile_key
from loadgen.shown import plain

if TYPE_CHECKING:
    from loadgen.session import Metric, PhaseResult

_WIDEST = (24, 48)
# What gives way where the terminal is narrow, in this order: the load, then the name.
_NARROWEST = ((1, 12), (0, 8), (1, 4))


def rows(phases: Sequence[PhaseResult], width: int) -> list[str]:
    """Return the table's lines, its head first; none for fewer than two phases.

    Times of open loops are from planned, as in the phases' own tables.

    Args:
        phases: The performance phases in order.
        width: Columns there are.
    """
    if len(phases) < 2:
        return []
    # What only some of them have can't be compared: then the latency, which all have.
    answered = [phase for phase in phases if phase.counts.ok]
    name = "ttft" if answered and all(phase.ttft for phase in answered) else "latency"
    judged = any(not math.isnan(phase.goodput) for phase in phases)
    cells = [_head(name, judged), *(_cells(phase, name, judged) for phase in phases)]
    return lines(cells, width, _WIDEST, _NARROWEST)


def _head(name: str, judged: bool) -> list[str]:
    first, rest = ("TTFT", ["TPOT p50"]) if name == "ttft" else ("latency", [])
    return ["phase", "load", "req/s", *(["goodput"] if judged else []), f"{first} p50", "p99", *rest, "failed"]


def _cells(phase: PhaseResult, name: str, judged: bool) -> list[str]:
    metric = first_told(phase, name)
    return [
        plain(phase.name),
        plain(title.load(phase)),
        figures.short(phase.throughput.requests_per_s),
        *([figures.short(phase.goodput)] if judged else []),
        time_of(metric, 50),
        time_of(metric, 99),
        *([time_of(phase.tpot, 50)] if name == "ttft" else []),
        figures.whole(phase.counts.failed),
    ]


def time_of(metric: Metric, percent: float) -> str:
    """Return a percentile, marked as the phase's own table marks it where its values can't bound it."""
    value = metric.percentile(percent)
    if math.isnan(value) or percentile_key(percent) not in metric.unsupported:
        return figures.time_ms(value)
    return "–*" if metric.is_only_extreme(percent) else f"{figures.time_ms(value)}*"
