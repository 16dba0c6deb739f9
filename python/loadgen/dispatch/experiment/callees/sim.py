"""The callee in virtual time: the same policy against a simulated service, a grid in a blink."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from loadgen import _core
from loadgen.dispatch.experiment import dispatched
from loadgen.dispatch.experiment.callees import Task
from loadgen.dispatch.experiment.measured import Call, Measured

if TYPE_CHECKING:
    from loadgen.dispatch.live import Call as Told

_VERDICTS = ("Ok", "Failed", "TimedOut", "Cancelled", "GaveUp")


class SimCallee:
    """Simulates each grid; its calls have times and outcomes, and no answers.

    Args:
        described: The service, as the simulator describes one.
        trace: Told of each call, in the order in which they end.
    """

    name = "sim"
    answers = False
    exact = False
    time_scale = 1.0

    def __init__(self, described: Mapping[str, Any], *, trace: Callable[[Told], None] | None = None) -> None:
        self._service = described
        self._trace = trace

    def describe(self) -> dict[str, Any]:
        """Return the service."""
        return {"service": dict(self._service)}

    async def measure(self, task: Task) -> Measured:
        """Simulate all calls of a grid."""
        measured = await asyncio.to_thread(self._measure, task)
        if self._trace is not None:
            _tell(measured, task, self._trace)
        return measured

    def _measure(self, task: Task) -> Measured:
        from loadgen.dispatch import strategy
        from loadgen.dispatch.columns import PolicyColumns

        items = len(task.grid.pairs)
        config = strategy.read(task.cell.strategy, {}).config(items)  # as a dispatcher would have it
        wall_ns, policy = _core.simulate_whole(config, json.dumps(self._service), items, task.seed)
        columns = PolicyColumns(policy, range(items), {})
        calls = []
        for item in range(items):
            verdict = policy.item(item)[3]
            ended = "Unsettled" if verdict is None else _VERDICTS[verdict]
            error = None if verdict == 0 else f"{ended}: the simulated call ended so"
            calls.append(dispatched.call(columns.stats(item), answer=None, error=error))
        return Measured(wall_s=wall_ns / 1e9, calls=tuple(calls), limits=dispatched.limits(columns.trace()))


def _tell(measured: Measured, task: Task, trace: Callable[[Told], None]) -> None:
    for index in sorted(range(len(measured.calls)), key=lambda index: measured.calls[index].ended_s):
        trace(_told(measured.calls[index], index, task.grid.pairs[index]))


def _told(call: Call, index: int, pair: tuple[str, str]) -> Told:
    from loadgen.dispatch.live import Call as Told

    hedges = sum(attempt.kind == "hedge" for attempt in call.attempts)
    kinds = [attempt.kind for attempt in call.attempts if attempt.outcome == "ok"]
    return Told(
        at_s=call.ended_s,
        index=index,
        item=pair,
        ok=call.error is None,
        value="(simulated)",
        error=call.error,
        seconds=call.seconds or 0.0,
        kind=kinds[-1] if kinds else "first",
        attempts=len(call.attempts),
        hedges=hedges,
        row=pair[0],
        column=pair[1],
    )
