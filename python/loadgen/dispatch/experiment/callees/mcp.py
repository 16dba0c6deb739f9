"""The callee over MCP: one call of a tool is the whole grid, and its strategy is in the tool server's environment."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from loadgen.dispatch.experiment import hardware, mcp_client, service, timing, trace_file
from loadgen.dispatch.experiment.callees import Task
from loadgen.dispatch.experiment.catalogue import Grid
from loadgen.dispatch.experiment.hardware import Sampler
from loadgen.dispatch.experiment.measured import Call as Cell
from loadgen.dispatch.experiment.measured import Measured
from loadgen.dispatch.experiment.settings import ToolServer, command
from loadgen.errors import DispatchError

if TYPE_CHECKING:
    from loadgen.dispatch.live import Call

_LOOK_S = 0.05
_CALL_S = 400.0
"""Seconds of the service that a call may take at most: four attempts of 90 s, and what lies between."""


class Server(msgspec.Struct, frozen=True):
    """A model's server that is there already.

    Args:
        url: Where it listens.
        model: The model to ask.
    """

    url: str
    model: str


class McpCallee:
    """Has a tool server do each grid; the server is started anew for each, with the strategy in its environment.

    Args:
        tool: The tool server's command, and its tool.
        described: The service that a mock server is for the tool; ``None`` with ``server``.
        server: A model's server to use instead.
        time_scale: Seconds measured for one of the service.
        trace: Told of each call as it ends.
    """

    name = "mcp"
    answers = True

    def __init__(
        self,
        tool: ToolServer,
        described: Mapping[str, Any] | None,
        *,
        server: Server | None = None,
        time_scale: float = 0.05,
        trace: Callable[[Call], None] | None = None,
    ) -> None:
        self.time_scale = time_scale
        self.exact = server is None  # the mock answers by the prompt; of a model nobody knows
        self._tool = tool
        self._service = described
        self._server = server
        self._trace = trace

    def describe(self) -> dict[str, Any]:
        """Return the service, or the server that is one."""
        return {"service": None if self._service is None else dict(self._service), "server": self._told_server()}

    async def measure(self, task: Task) -> Measured:
        """Call the tool with a grid's rows and columns.

        Raises:
            DispatchError: If a server does not start, or the tool's account of its calls can't be read. A tool that
                fails is a result.
        """
        async with self._model(task) as server:
            with tempfile.TemporaryDirectory(prefix="loadgen-trace-") as made:
                told = Path(made) / "trace.jsonl"
                strategy = task.cell.strategy
                env = {
                    "FMSR_STRATEGY": strategy,
                    "FMSR_POLICY": json.dumps(timing.policy(strategy, self.time_scale, profile="fmsr")),
                    "FMSR_URL": server.url,
                    "FMSR_MODEL": server.model,
                    trace_file.VARIABLE: str(told),
                }
                return await self._call(task.grid, env, trace_file.Reader(told, self._trace))

    async def _call(self, grid: Grid, env: Mapping[str, str], reader: trace_file.Reader) -> Measured:
        before = hardware.children(os.getpid())
        async with mcp_client.connected(command(self._tool.command), env) as client:
            new = hardware.children(os.getpid()) - before
            arguments = {"sensors": list(grid.rows), "failure_modes": list(grid.cols)}
            limit_s = 60 + _CALL_S * self.time_scale * len(grid.pairs)
            following = asyncio.create_task(_follow(reader))
            error, content = None, None
            with Sampler(min(new, default=0)) as sampler:
                began = time.monotonic()
                try:
                    content = await mcp_client.call(client, self._tool.name, arguments, timeout_s=limit_s)
                except DispatchError as failure:
                    error = f"{type(failure).__name__}: {failure.message}"
                finally:
                    wall_s = time.monotonic() - began
                    following.cancel()
            await asyncio.wait([following])
        if not following.cancelled():
            following.result()  # it has ended by itself, so it raises: what the tool wrote can't be read, or be told
        reader.read()
        measured = reader.measured or _from_answers(content, grid, wall_s)
        return msgspec.structs.replace(measured, wall_s=wall_s, error=error, hardware=sampler.result())

    @asynccontextmanager
    async def _model(self, task: Task) -> AsyncIterator[Server]:
        if self._server is not None:
            yield self._server
            return
        assert self._service is not None
        async with service.mock(service.config(self._service, self.time_scale, task.seed)) as mock:
            yield Server(mock.url, "mock")

    def _told_server(self) -> dict[str, Any] | None:
        if self._server is None:
            return None
        from loadgen.config.secret import shown_url

        return {"url": shown_url(self._server.url), "model": self._server.model}


async def _follow(reader: trace_file.Reader) -> None:
    while True:
        reader.read()
        await asyncio.sleep(_LOOK_S)


def _from_answers(content: Any, grid: Grid, wall_s: float) -> Measured:
    """Make do with what a tool returned that tells nothing of its calls: their answers, in any order."""
    cells = content.get("cells", ()) if isinstance(content, dict) else ()
    by_pair = {(cell.get("sensor"), cell.get("failure_mode")): cell for cell in cells if isinstance(cell, dict)}
    found = (by_pair.get(pair, {"error": "NoAnswer: the tool's result lacks the cell"}) for pair in grid.pairs)
    calls = (Cell(started_s=None, ended_s=wall_s, answer=cell.get("answer"), error=cell.get("error")) for cell in found)
    return Measured(wall_s=wall_s, calls=tuple(calls))
