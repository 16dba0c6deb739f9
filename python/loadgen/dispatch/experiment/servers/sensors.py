"""MCP tool server, over stdio: which sensors an asset has.

usage: python -m loadgen.dispatch.experiment.servers.sensors [FILE.yaml]

The file has the names of each asset's sensors; it is read at each call, so that what is told is what there is now.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from loadgen.config import file

_FILE = Path(__file__).with_name("sensors.yaml")

server = MCPServer("sensors", log_level="WARNING")


@server.tool()
def assets() -> list[str]:
    """Name the assets that have sensors."""
    return list(_assets())


@server.tool()
def sensors(asset: str) -> list[str]:
    """Name the sensors of an asset.

    Args:
        asset: One of `assets`, such as `small-chiller`.
    """
    known = _assets()
    if asset not in known:
        raise ToolError(f"there is no asset {asset!r}; there are {', '.join(known)}")
    return [str(name) for name in known[asset]]


def _assets() -> dict[str, Any]:
    path = sys.argv[1] if len(sys.argv) > 1 else str(_FILE)
    known: dict[str, Any] = file.read(path)["assets"]
    return known


if __name__ == "__main__":
    server.run()
