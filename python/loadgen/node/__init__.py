"""A batch over several nodes, of which one may be ten times faster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadgen.first_use import on_first_use

if TYPE_CHECKING:
    from loadgen.node.node import Node
    from loadgen.node.pool import NodePool
    from loadgen.node.report import Report, ReportRow
    from loadgen.node.result import NodeBatch, NodeWork
    from loadgen.node.stats import NodeStats, Stats
    from loadgen.node.thresholds import MODES, Decision, Mode, Thresholds

__all__ = [
    "MODES",
    "Decision",
    "Mode",
    "Node",
    "NodeBatch",
    "NodePool",
    "NodeStats",
    "NodeWork",
    "Report",
    "ReportRow",
    "Stats",
    "Thresholds",
]

_FILES = {
    "node": ("Node",),
    "pool": ("NodePool",),
    "report": ("Report", "ReportRow"),
    "result": ("NodeBatch", "NodeWork"),
    "stats": ("NodeStats", "Stats"),
    "thresholds": ("MODES", "Decision", "Mode", "Thresholds"),
}

if not TYPE_CHECKING:  # a checker would take any name for one of ours
    __getattr__, __dir__ = on_first_use(__name__, _FILES)
