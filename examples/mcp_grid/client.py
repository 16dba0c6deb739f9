"""Asks the tool of `server.py` for the same grid with one strategy after the other, and says how long each took.

usage: python examples/mcp_grid/client.py [STRATEGY…]        needs: pip install 'loadgen[mcp]'

The model behind it is loadgen's mock server: answers after 60 ms, but one request in ten stalls for two seconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters

from loadgen import _core

SERVER = Path(__file__).with_name("server.py")
SENSORS = ["oil temperature", "vibration", "power input"]
FAILURE_MODES = ["bearing wear", "refrigerant leak", "condenser fouling", "lubrication loss"]
SERVICE = {"ttft": 60, "stall_rate": 0.1, "stall_time": 2000, "words": "prompt", "seed": 4}


async def relate(url: str, strategy: str) -> tuple[Any, float]:
    """Start the tool server with a strategy, and have it do the grid."""
    environment = {**os.environ, "FMSR_URL": url, "FMSR_STRATEGY": strategy, "FMSR_HEDGE_AFTER_S": "0.25"}
    async with Client(StdioServerParameters(command=sys.executable, args=[str(SERVER)], env=environment)) as client:
        began = time.monotonic()
        result = await client.call_tool("relate", {"sensors": SENSORS, "failure_modes": FAILURE_MODES})
        if result.is_error:
            raise SystemExit(f"{strategy}: the tool failed; what it wrote is above")
        return result.structured_content, time.monotonic() - began


async def main(strategies: list[str]) -> None:
    first = None
    for strategy in strategies:
        with _core.MockServer(json.dumps(SERVICE)) as model:
            found, seconds = await relate(model.url, strategy)
        first = first or found
        print(f"{strategy:<17}{seconds:6.2f} s   {'the same answers' if found == first else 'OTHER ANSWERS'}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:] or ["sequential", "adaptive_ceiling", "hedged"]))
