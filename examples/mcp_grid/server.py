"""An MCP tool whose one call is many calls of a model: a row × column grid, dispatched as FMSR_STRATEGY says.

usage: FMSR_URL=http://127.0.0.1:8000 FMSR_STRATEGY=hedged python examples/mcp_grid/server.py    (speaks MCP over stdio)

The tool's inputs and outputs don't change with the strategy. `client.py` beside this file asks it.
"""

from __future__ import annotations

import os
from typing import Any

import httpx2
from mcp.server import MCPServer

import loadgen

server = MCPServer("grid", log_level="WARNING")
# Time-outs and retries are the dispatcher's: a client's own would hide from it what happens.
model = httpx2.AsyncClient(
    base_url=os.environ.get("FMSR_URL", "http://127.0.0.1:8000"),
    timeout=None,
    limits=httpx2.Limits(max_connections=None),
)


async def ask(sensor: str, failure_mode: str) -> str:
    """Ask the model about one pair."""
    question = f"Does the sensor {sensor!r} help to detect {failure_mode!r}? Answer yes or no."
    answer = await model.post(
        "/v1/chat/completions",
        json={"model": "mock", "messages": [{"role": "user", "content": question}], "temperature": 0, "max_tokens": 8},
    )
    answer.raise_for_status()  # the dispatcher reads status and Retry-After from the exception
    return str(answer.json()["choices"][0]["message"]["content"])


@server.tool()
async def relate(sensors: list[str], failure_modes: list[str]) -> dict[str, Any]:
    """Tell for each sensor and failure mode what the model says of the pair; null where it said nothing."""
    grid = await loadgen.Dispatcher.from_env("FMSR_", progress=False).agrid(ask, sensors, failure_modes)
    return {
        sensor: {mode: grid[row, col].value or None for col, mode in enumerate(failure_modes)}
        for row, sensor in enumerate(sensors)
    }


if __name__ == "__main__":
    server.run()
