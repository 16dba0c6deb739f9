"""Small questions to a node: a GET on a connection that is kept for the next one, on a thread, cut off when it lasts.

What is asked of models goes through the engine; this is for what a node says of itself.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

from loadgen.config import secret
from loadgen.dispatch.own_thread import on_own_thread
from loadgen.errors import ConfigError
from loadgen.node.node import Node

SILENCE_S = 2.0
"""The longest that a connection, or the next bytes of an answer, may take."""

_MOST_BODY = 4 << 20


class Reply(NamedTuple):
    """A node's answer: status, headers in small letters, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Wire:
    """The connections of one event loop to the nodes of a pool; used as an async context."""

    def __init__(self) -> None:
        self._lines: dict[Node, _Line] = {}

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
            line = self._lines[node] = _Line(node)
        asked = on_own_thread(lambda: line.get(path))
        try:
            return await asyncio.shield(asked)
        except asyncio.CancelledError:
            line.drop()  # its thread meets the end of its connection, or ends when the connection isn't made in time
            asked.add_done_callback(asyncio.Future.exception)
            raise


class _Line:
    """A connection to one node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._headers = _headers(node)
        self._connection = _connection(node)
        self._is_dropped = False

    def get(self, path: str) -> Reply:
        node, connection = self._node, self._connection
        query = "" if node.url.startswith("unix:") else urlsplit(node.url).query
        target = node.at(path)
        try:
            connection.request("GET", f"{target}?{query}" if query else target, headers=self._headers)
            with connection.getresponse() as response:
                return _reply(response)
        except (OSError, http.client.HTTPException) as error:
            connection.close()  # what is left of the answer would be taken for the next one's
            raise self._named(error) from None
        finally:
            if self._is_dropped:
                connection.close()

    def _named(self, error: OSError | http.client.HTTPException) -> OSError:
        """Return what an exception of the client's means."""
        if isinstance(error, http.client.IncompleteRead):
            return ConnectionResetError("the answer ended too early")
        if isinstance(error, http.client.RemoteDisconnected):
            return ConnectionResetError("the connection was closed before an answer")
        if isinstance(error, http.client.HTTPException):
            return ConnectionError("it does not speak HTTP/1.1")
        if isinstance(error, TimeoutError):
            return ConnectionError(f"{self._node.name} said nothing for {SILENCE_S:g} s")
        return error

    def drop(self) -> None:
        """Close it, whatever is on its way."""
        self._is_dropped = True
        sock = self._connection.sock
        if sock is not None:
            with contextlib.suppress(OSError):  # it is gone already
                sock.shutdown(socket.SHUT_RDWR)
        self._connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=SILENCE_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(node: Node) -> http.client.HTTPConnection:
    if node.url.startswith("unix:"):
        return _UnixConnection(node.url.removeprefix("unix:").removeprefix("//"))
    parts = urlsplit(node.url)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(parts.hostname or "", parts.port, timeout=SILENCE_S, context=context)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=SILENCE_S)


def _headers(node: Node) -> dict[str, str]:
    headers = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "loadgen"}
    key = key_of(node)
    parts = urlsplit("http://localhost" if node.url.startswith("unix:") else node.url)
    if key is not None:
        headers["Authorization"] = f"Bearer {key}"
    elif parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    return headers


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


def _reply(response: http.client.HTTPResponse) -> Reply:
    said = response.getheader("content-length")
    if said is not None and not (said.isascii() and said.isdigit() and int(said) <= _MOST_BODY):
        raise ConnectionError(f"the answer's length {said[:20]!r} is none, or above {_MOST_BODY >> 20} MiB")
    body = response.read(_MOST_BODY + 1)
    if said is not None and len(body) < int(said):
        raise ConnectionResetError("the answer ended too early")
    if len(body) > _MOST_BODY:
        raise ConnectionError(f"the answer is longer than {_MOST_BODY >> 20} MiB")
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
