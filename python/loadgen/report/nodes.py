"""A phase's nodes side by side, a row each: who did how much of it, and how well."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from loadgen.report import figures, sentences
from loadgen.report.columns import lines
from loadgen.report.overview import time_of
from loadgen.report.table import is_open_loop

if TYPE_CHECKING:
    from loadgen.session import NodeResult, PhaseResult

_WIDEST = 48
_NARROWEST = 8


def rows(phase: PhaseResult, width: int) -> list[str]:
    """Return the table's lines, its head first; none where there was one target.

    Times of open loops are from planned, as in the phase's own table.

    Args:
        phase: The phase.
        width: Columns there are.
    """
    if not phase.nodes:
        return []
    # What only some of them have can't be compared: then the latency, which all have.
    answered = [node for node in phase.nodes if node.ok]
    name = "ttft" if answered and all(node.ttft for node in answered) else "latency"
    judged = not math.isnan(phase.goodput)
    tokens = any(node.output_tokens_per_s for node in phase.nodes)
    planned = is_open_loop(phase)
    cells = [_head(name, judged, tokens), *(_cells(node, name, judged, tokens, planned) for node in phase.nodes)]
    return lines(cells, width, [_WIDEST], [(0, _NARROWEST)])


def _head(name: str, judged: bool, tokens: bool) -> list[str]:
    first, rest = ("TTFT", ["TPOT p50"]) if name == "ttft" else ("latency", [])
    head = ["node", "share", "req/s", *(["goodput"] if judged else []), *(["out tok/s"] if tokens else [])]
    return [*head, f"{first} p50", "p99", *rest, "failed"]


def _cells(node: NodeResult, name: str, judged: bool, tokens: bool, planned: bool) -> list[str]:
    metric = node.metric(name)
    if planned and node.metric(f"response_{name}"):
        metric = node.metric(f"response_{name}")
    return [
        sentences.plain(node.url or f"node {node.node}"),
        figures.share(node.share),
        figures.short(node.requests_per_s),
        *([figures.short(node.goodput)] if judged else []),
        *([figures.whole(node.output_tokens_per_s)] if tokens else []),
        time_of(metric, 50),
        time_of(metric, 99),
        *([time_of(node.tpot, 50)] if name == "ttft" else []),
        figures.whole(node.failed),
    ]
