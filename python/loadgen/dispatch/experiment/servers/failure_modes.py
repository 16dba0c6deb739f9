"""MCP tool server, over stdio: how an asset may fail.

usage: python -m loadgen.dispatch.experiment.servers.failure_modes [FILE.yaml]

The file has the failure modes of each kind of asset, each with what it does; it is read at each call.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

from loadgen.config import file

_FILE = Path(__file__).with_name("failure_modes.yaml")

server = MCPServer("failure-modes", log_level="WARNING")


@server.tool()
def failure_modes(asset: str) -> list[dict[str, str]]:
    """Tell the failure modes of an asset: the name and the effect of each.

    Args:
        asset: An asset's name, such as `small-chiller`, or a kind of asset that such a name ends in.
    """
    path = sys.argv[1] if len(sys.argv) > 1 else str(_FILE)
    kinds: dict[str, Any] = file.read(path)["assets"]
    found = next((modes for kind, modes in kinds.items() if asset.endswith(kind)), None)
    if found is None:
        raise ToolError(f"nothing is known of how {asset!r} fails; the kinds are {', '.join(kinds)}")
    return [{"name": str(mode["name"]), "effect": str(mode["effect"])} for mode in found]


if __name__ == "__main__":
    server.run()
