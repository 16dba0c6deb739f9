"""MCP tool server under test, over stdio: relates failure modes to sensors, one question to a model for each pair.

usage: FMSR_URL=http://127.0.0.1:8000 FMSR_STRATEGY=hedged python -m loadgen.dispatch.experiment.servers.grid

What goes in and comes out is the same whatever the strategy; that is chosen by the environment:
    FMSR_STRATEGY, FMSR_PARALLEL_WORKERS, FMSR_HEDGE_AFTER_S    as loadgen.Dispatcher.from_env("FMSR_") reads them
    FMSR_URL, FMSR_MODEL     an OpenAI-compatible server, and the model to ask; FMSR_API_KEY where it wants one
    FMSR_MAX_TOKENS          of an answer; 32
    FMSR_POLICY              JSON that is laid over the policy's configuration
    FMSR_TRACE               a file that is told of each call as it ends, and of all of them at last
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import time
from typing import Any

import httpx2
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError

from loadgen.dispatch.dispatcher import Dispatcher
from loadgen.dispatch.experiment import dispatched, trace_file
from loadgen.dispatch.experiment.catalogue import prompt
from loadgen.dispatch.grid import Grid
from loadgen.dispatch.live import Call
from loadgen.errors import LoadgenError, words_of

server = MCPServer("failure-modes-to-sensors", log_level="WARNING")


@server.tool()
async def relate(sensors: list[str], failure_modes: list[str], ctx: Context[Any]) -> dict[str, Any]:
    """Tell which sensors help to detect which failure modes: the answer for each pair of them.

    Args:
        sensors: Names of sensors.
        failure_modes: Names of failure modes.
        ctx: Where progress goes; no argument of the tool.

    Returns:
        `cells`, each with sensor, failure_mode and either answer or error; and the answers `by_sensor` and
        `by_failure_mode`, where a cell that failed is null.
    """
    telling = _Progress(ctx, len(sensors) * len(failure_modes))
    try:
        with trace_file.Writer() as trace:

            def told(call: Call) -> None:
                trace.call(call)
                telling.one(call)

            dispatcher = Dispatcher.from_env(
                "FMSR_", trace=told, progress=False, policy=json.loads(os.environ.get("FMSR_POLICY", "{}"))
            )
            began = time.monotonic()
            grid = await dispatcher.agrid(_model(), sensors, failure_modes)
            trace.whole(dispatched.measured(grid.batch, time.monotonic() - began))
    except LoadgenError as error:
        raise ToolError(str(error)) from error
    await telling.done()
    return _result(grid, sensors, failure_modes)


class _Model:
    """Asks the model about one pair; a status that isn't good is an exception, which the dispatcher can read."""

    def __init__(self) -> None:
        self._client = _client()
        self._model = os.environ.get("FMSR_MODEL", "mock")
        self._max_tokens = int(os.environ.get("FMSR_MAX_TOKENS", "32"))

    async def __call__(self, sensor: str, failure_mode: str) -> str:
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": prompt(sensor, failure_mode)}],
            "temperature": 0,
            "max_tokens": self._max_tokens,
        }
        answer = await self._client.post("/v1/chat/completions", json=body)
        answer.raise_for_status()
        return str(answer.json()["choices"][0]["message"]["content"])


@functools.cache
def _model() -> _Model:
    """Return the one model that all calls ask: its connections are kept from one grid to the next."""
    return _Model()


def _client() -> httpx2.AsyncClient:
    """Connect to the model's server: no timeouts and no retries of its own, for both are the dispatcher's."""
    url = os.environ.get("FMSR_URL")
    if not url:
        raise ToolError("FMSR_URL names no server")
    key = os.environ.get("FMSR_API_KEY")
    return httpx2.AsyncClient(
        base_url=url.removesuffix("/").removesuffix("/v1"),
        headers={"authorization": f"Bearer {key}"} if key else {},
        timeout=None,
        limits=httpx2.Limits(max_connections=None),
        trust_env=False,
    )


class _Progress:
    """Tells the client how far the grid is, call by call."""

    def __init__(self, ctx: Context[Any], total: int) -> None:
        self._ctx = ctx
        self._total = total
        self._ended = 0
        self._sending: set[asyncio.Task[None]] = set()

    def one(self, call: Call) -> None:
        """Tell of one call that ended."""
        self._ended += 1
        said = f"{call.row} × {call.column}: {'ok' if call.ok else 'failed'}, {call.seconds:.1f} s, {call.kind}"
        task = asyncio.ensure_future(self._ctx.report_progress(self._ended, self._total, said))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def done(self) -> None:
        """Wait until all is told."""
        if self._sending:
            await asyncio.wait(self._sending)


def _result(grid: Grid[str], sensors: list[str], failure_modes: list[str]) -> dict[str, Any]:
    cells = [
        {
            "sensor": sensor,
            "failure_mode": mode,
            "answer": call.value if call.ok else None,
            "error": None if call.error is None else words_of(call.error),
        }
        for (sensor, mode), call in zip(((s, m) for s in sensors for m in failure_modes), grid, strict=True)
    ]
    return {
        "cells": cells,
        "by_sensor": {s: {c["failure_mode"]: c["answer"] for c in cells if c["sensor"] == s} for s in sensors},
        "by_failure_mode": {
            m: {c["sensor"]: c["answer"] for c in cells if c["failure_mode"] == m} for m in failure_modes
        },
    }


if __name__ == "__main__":
    if os.environ.get("FMSR_URL"):
        _model()  # made before the first grid, which is then not the slower one
    server.run()
