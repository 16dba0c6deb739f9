"""How a microbench measures: CPU of the calling thread, in rounds long enough that their start and end don't matter."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

Role = Literal["ours", "baseline", "empty"]
"""What is measured: the package, what it is seen beside, or the loop around both with nothing in it."""

CALLS = 10_000
"""Calls of a round, where a unit is a call."""

_BUDGET_S = 1.0
_ROUNDS = (5, 100)


def measure(
    benchmark: BenchmarkFixture,
    work: Callable[..., object],
    *args: Any,
    units: int = CALLS,
    role: Role = "ours",
    setup: Callable[[], object] | None = None,
) -> Any:
    """Call ``work`` once a round, for about a second of CPU, and return what it returned the last time.

    The figure that is told is the nanoseconds of one unit.

    Args:
        benchmark: pytest-benchmark's fixture.
        work: What is measured.
        *args: Its arguments, the same each time.
        units: How many units one call does.
        role: What it is.
        setup: Called before each round, unmeasured.
    """
    benchmark.extra_info |= {"units": units, "role": role}
    if setup is not None:
        setup()
    began = time.thread_time()
    work(*args)
    cost = time.thread_time() - began
    few, many = _ROUNDS
    rounds = max(few, min(many, round(_BUDGET_S / cost)))
    return benchmark.pedantic(  # type: ignore[no-untyped-call]
        work, args, setup=_silent(setup), rounds=rounds, warmup_rounds=1
    )


def _silent(setup: Callable[[], object] | None) -> Callable[[], None] | None:
    """What a setup returns would be taken for arguments."""
    if setup is None:
        return None

    def run() -> None:
        setup()

    return run
