"""Small questions to a node: a GET on a connection that is kept for the next one, on a thread, cut off when it lasts.

What is asked of models goes through the engine; this is for what a node says of itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import ssl
from collections.abc import Callable
from typing import Self

from loadgen import http_get
from loadgen.config import secret
from loadgen.dispatch.own_thread import on_own_thread
from loadgen.errors import ConfigError
from loadgen.http_get import Reply
from loadgen.node.node import Node

SILENCE_S = 2.0
"""The longest that a connection, or the next bytes of an answer, may take."""


class Wire:
    """The connections of one event loop to the nodes of a pool; used as an async context."""

    def __init__(self) -> None:
        self._lines: dict[Node, _Line] = {}
        # Made for the first that needs it: what is trusted takes its time to be read.
        self._context = functools.cache(ssl.create_default_context)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for line in self._lines.values():
            line.drop()
        self._lines.clear()

    async def get(self, node: Node, path: str) -> Reply:
        """Ask one question; one at a time of each node.

        Args:
            node: Which.
            path: Of the endpoint, as the API names it.

        Raises:
            OSError: If it can't be reached, the connection breaks, or it doesn't speak HTTP/1.1.
            ConfigError: If the node's key isn't there.
        """
        line = self._lines.get(node)
        if line is None:
            line = self._lines[node] = _Line(node, self._context)
        asked = on_own_thread(lambda: line.get(path))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            line.drop()  # its thread meets the end of its connection, or ends when the connection isn't made in time
            asked.add_done_callback(asyncio.Future.exception)
            raise


class _Line:
    """A connection to one node."""

    def __init__(self, node: Node, context: Callable[[], ssl.SSLContext]) -> None:
        self._node = node
        self._headers = http_get.headers(node.url, key_of(node))
        self._connection = http_get.connection(node.url, SILENCE_S, context)
        self._is_dropped = False

    def get(self, path: str) -> Reply:
        node = self._node
        try:
            return http_get.ask(self._connection, http_get.with_query(node.url, node.at(path)), self._headers)
        except TimeoutError:
            raise ConnectionError(f"{node.name} said nothing for {SILENCE_S:g} s") from None
        finally:
            if self._is_dropped:
                self._connection.close()

    def drop(self) -> None:
        """Close it, whatever is on its way."""
        self._is_dropped = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):  # it is gone already
                sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


def key_of(node: Node) -> str | None:
    """Return a node's API key, if it has one.

    Raises:
        ConfigError: If the environment doesn't hold it.
    """
    if node.api_key_env is None:
        return None
    try:
        return secret.key_from_env(node.api_key_env, needed=True)
    except ValueError as error:
        raise ConfigError(f"the node {node.name} {error}") from None
