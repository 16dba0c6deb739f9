"""Dispatch: many calls at once, as fast as a service allows, at a bounded extra cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadgen.first_use import on_first_use

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

if not TYPE_CHECKING:  # a checker would take any name for one of ours
    __getattr__, __dir__ = on_first_use(__name__, _FILES)
