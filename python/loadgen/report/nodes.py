"""A phase's nodes side by side, a row each: who did how much of it, and how well."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loadgen.config.target import bare
from loadgen.report import figures
from loadgen.report.columns import lines, taken
from loadgen.report.overview import time_of
from loadgen.report.table import is_open_loop
from loadgen.shown import plain

if TYPE_CHECKING:
    from loadgen.session import Metric, NodeResult, PhaseResult

_WIDEST = 48
_READABLE = 24
_NARROWEST = 8
_OPTIONAL = ("TPOT p50", "out tok/s", "goodput")
"""What is left out, in this order, where the terminal is too narrow for the nodes' names."""


def rows(phase: PhaseResult, width: int) -> list[str]:
    """Return the table's lines, its head first; none where there was one target.

    Times of open loops are from planned, as in the phase's own table.

    Args:
        phase: The phase.
        width: Columns there are.
    """
    if not phase.nodes:
        return []
    columns = _columns(phase)
    for head in _OPTIONAL:
        if taken([[name, *cells] for name, cells in columns.items()], [_READABLE]) < width:
            break
        columns.pop(head, None)
    cells = [list(columns), *(list(row) for row in zip(*columns.values(), strict=True))]
    return lines(cells, width, [_WIDEST], [(0, _NARROWEST)])


def _columns(phase: PhaseResult) -> dict[str, list[str]]:
    """Return the table by columns, each under its head."""
    nodes = phase.nodes
    # What only some of them have can't be compared: then the latency, which all have.
    answered = [node for node in nodes if node.ok]
    name, head = ("ttft", "TTFT") if answered and all(node.ttft for node in answered) else ("latency", "latency")
    times = [_time(phase, node, name) for node in nodes]
    found = {
        "node": [plain(name) for name in bare([node.name for node in nodes])],
        "share": [figures.share(node.share) for node in nodes],
        "req/s": [figures.short(node.requests_per_s) for node in nodes],
        "goodput": [figures.short(node.goodput) for node in nodes],
        "out tok/s": [figures.whole(node.output_tokens_per_s) for node in nodes],
        f"{head} p50": [time_of(time, 50) for time in times],
        "p99": [time_of(time, 99) for time in times],
        "TPOT p50": [time_of(node.tpot, 50) for node in nodes],
        "failed": [figures.whole(node.failed) for node in nodes],
    }
    lacking = [] if not math.isnan(phase.goodput) else ["goodput"]
    lacking += [] if any(node.output_tokens_per_s for node in nodes) else ["out tok/s"]
    lacking += [] if any(node.tpot for node in nodes) else ["TPOT p50"]
    return {head: cells for head, cells in found.items() if head not in lacking}


def _time(phase: PhaseResult, node: NodeResult, name: str) -> Metric:
    response = node.metric(f"response_{name}")
    return response if is_open_loop(phase) and response else node.metric(name)
