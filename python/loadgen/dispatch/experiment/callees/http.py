"""The callee over HTTP: the engine's own client against the mock server, which is the service at another pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from loadgen.dispatch.experiment import dispatched, service, timing
from loadgen.dispatch.experiment.callees import Task
from loadgen.dispatch.experiment.catalogue import Grid
from loadgen.dispatch.experiment.hardware import Sampler
from loadgen.dispatch.experiment.measured import Measured

if TYPE_CHECKING:
    from loadgen.dispatch.live import Call

TOKENS = 8


class HttpCallee:
    """Makes each call of a grid as a request to a mock server of its own.

    Args:
        described: The service, as the simulator describes one.
        time_scale: Seconds measured for one of the service.
        trace: Told of each call as it ends.
    """

    name = "http"
    answers = True
    exact = True

    def __init__(
        self, described: Mapping[str, Any], *, time_scale: float = 0.05, trace: Callable[[Call], None] | None = None
    ) -> None:
        self.time_scale = time_scale
        self._service = described
        self._trace = trace

    def describe(self) -> dict[str, Any]:
        """Return the service."""
        return {"service": dict(self._service)}

    async def measure(self, task: Task) -> Measured:
        """Make all calls of a grid.

        Raises:
            DispatchError: If the mock server does not start, or the batch can't be carried on.
        """
        from loadgen.dispatch.dispatcher import Dispatcher

        strategy = task.cell.strategy
        dispatcher = Dispatcher(
            strategy,
            progress=False,
            trace=self._named(task.grid),
            policy=timing.policy(strategy, self.time_scale),
            seed=task.seed,
        )
        prompts = [task.grid.prompt(row, col) for row, col in task.grid.pairs]
        async with service.mock(service.config(self._service, self.time_scale, task.seed)) as mock:
            with Sampler(mock.pid) as sampler:
                began = time.monotonic()
                batch = await dispatcher.arequests(
                    prompts,
                    url=mock.url,
                    model="mock",
                    stream=False,
                    output_tokens=TOKENS,
                    extra_body={"temperature": 0},
                )
                wall_s = time.monotonic() - began
        return msgspec.structs.replace(dispatched.measured(batch, wall_s), hardware=sampler.result())

    def _named(self, grid: Grid) -> Callable[[Call], None] | None:
        """Return what is told of each call, with its row, its column and its answer as text."""
        if self._trace is None:
            return None
        trace, pairs = self._trace, grid.pairs

        def told(call: Call) -> None:
            row, column = pairs[call.index]
            trace(msgspec.structs.replace(call, row=row, column=column, value=str(call.value) if call.ok else None))

        return told
