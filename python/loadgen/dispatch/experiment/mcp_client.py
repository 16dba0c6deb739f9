"""Asking an MCP server over stdio: one process a connection, its complaints on our standard error."""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from loadgen.errors import ConfigError, DispatchError

if TYPE_CHECKING:
    from mcp import Client

Progress = Callable[[float, float | None, str | None], None]
"""Told what has been done, of how much, and in words."""


@asynccontextmanager
async def connected(command: Sequence[str], env: Mapping[str, str] | None = None) -> AsyncIterator[Client]:
    """Start a server, and be connected to it; its process is gone afterwards.

    Args:
        command: Its program and arguments.
        env: Set for it on top of our own environment.

    Raises:
        ConfigError: If the package ``mcp`` isn't installed.
        DispatchError: If it can't be started, or speaks no MCP.
    """
    try:
        from mcp import Client, MCPError, StdioServerParameters
    except ImportError:
        raise ConfigError(
            "the package mcp, which speaks to tool servers, is not installed", "pip install 'loadgen[mcp]'"
        ) from None
    name = shlex.join(command)
    server = StdioServerParameters(command=command[0], args=list(command[1:]), env={**os.environ, **(env or {})})
    client = Client(server)
    try:
        await client.__aenter__()
    except (OSError, MCPError, ExceptionGroup) as error:
        raise DispatchError(
            f"can't start the MCP server {name}: {_words(error)}", "it must speak MCP on its standard streams"
        ) from None
    try:
        yield client
    finally:
        await client.__aexit__(None, None, None)


async def call(
    client: Client,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    timeout_s: float,
    on_progress: Progress | None = None,
) -> Any:
    """Call a tool, and return what it returned.

    Args:
        client: A connected client.
        tool: The tool's name.
        arguments: Its arguments.
        timeout_s: Seconds to wait for its end.
        on_progress: Told how far it is.

    Raises:
        DispatchError: If there is no such tool, it fails, or takes longer.
    """
    from mcp import MCPError

    async def told(progress: float, total: float | None, message: str | None) -> None:
        if on_progress is not None:
            on_progress(progress, total, message)

    try:
        result = await client.call_tool(
            tool, dict(arguments), read_timeout_seconds=timeout_s, progress_callback=told if on_progress else None
        )
    except MCPError as error:
        raise DispatchError(f"the MCP tool {tool} could not be called: {_words(error)}") from None
    if result.is_error:
        said = " ".join(getattr(block, "text", "") for block in result.content).strip()
        raise DispatchError(f"the MCP tool {tool} failed: {said or 'it does not say why'}")
    content = result.structured_content
    # A tool that returns no object has it wrapped, for a result must be one.
    return content["result"] if isinstance(content, dict) and content.keys() == {"result"} else content


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):  # the package's tasks give one around whatever went wrong
        error = error.exceptions[0]
    return " ".join(str(error).split()) or type(error).__name__
