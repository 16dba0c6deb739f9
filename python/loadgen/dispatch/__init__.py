"""Dispatch: many calls at once, as fast as a service allows, at a bounded extra cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loadgen.dispatch.current import Attempt, attempt
    from loadgen.dispatch.dispatcher import Dispatcher
    from loadgen.dispatch.grid import Grid
    from loadgen.dispatch.journal import Codec, Journal
    from loadgen.dispatch.live import Call, Live
    from loadgen.dispatch.progress import Progress
    from loadgen.dispatch.requests import Answer
    from loadgen.dispatch.result import AttemptStats, Batch, CallResult, CallStats, Unknown
    from loadgen.dispatch.strategy import STRATEGIES

__all__ = [
    "STRATEGIES",
    "Answer",
    "Attempt",
    "AttemptStats",
    "Batch",
    "Call",
    "CallResult",
    "CallStats",
    "Codec",
    "Dispatcher",
    "Grid",
    "Journal",
    "Live",
    "Progress",
    "Unknown",
    "attempt",
]

_FILES = {
    "current": ("Attempt", "attempt"),
    "dispatcher": ("Dispatcher",),
    "grid": ("Grid",),
    "journal": ("Codec", "Journal"),
    "live": ("Call", "Live"),
    "progress": ("Progress",),
    "requests": ("Answer",),
    "result": ("AttemptStats", "Batch", "CallResult", "CallStats", "Unknown"),
    "strategy": ("STRATEGIES",),
}
_HOMES = {name: file for file, names in _FILES.items() for name in names}

if not TYPE_CHECKING:  # a checker would take any name for one of ours

    def __getattr__(name: str) -> Any:
        import importlib

        if name not in _HOMES:
            raise AttributeError(f"module 'loadgen.dispatch' has no attribute {name!r}")
        value = getattr(importlib.import_module(f"loadgen.dispatch.{_HOMES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
