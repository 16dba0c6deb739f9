"""What became of a request, as the engine tells it: which place of it says what.

One tuple a request, as a named one would cost each of them a third of a microsecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

if TYPE_CHECKING:
    from loadgen._core import _Completion

Ended: TypeAlias = "_Completion"
"""As ``_core.Engine.take_completions`` gives it."""

REQUEST: Final = 0
PHASE: Final = 1
SAMPLE: Final = 2
FAILURE: Final = 3
"""``none`` for a good one."""
DETAIL: Final = 4
STATUS: Final = 5
FINISH: Final = 6
TOKENS_IN: Final = 7
TOKENS_OUT: Final = 8
KIND: Final = 9
"""What the attempt that gave the outcome was for, by the core's number."""
ATTEMPTS: Final = 10
HEDGES: Final = 11
PLANNED_NS: Final = 12
DONE_NS: Final = 15
TEXT: Final = 16
REASONING: Final = 17
ERROR: Final = 18
"""Why it failed, in words, where there is more to say than the class."""
NODE: Final = 19
"""Where it went, by its place in the run; ``None`` where to none."""
RETRY_AFTER_NS: Final = 20
