"""A batch over several nodes, of which one may be ten times faster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
_HOMES = {name: file for file, names in _FILES.items() for name in names}

if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        import importlib

        if name not in _HOMES:
            raise AttributeError(f"module 'loadgen.node' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"loadgen.node.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
