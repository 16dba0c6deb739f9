"""Asking a node over HTTP: one request on a connection that is kept for the next, all of it cancellable."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from typing import NamedTuple, Self
from urllib.parse import unquote, urlsplit

from loadgen.config import secret
from loadgen.errors import ConfigError
from loadgen.node.node import Node

CONNECT_S = 5.0
"""The longest that a connection may take."""

_MOST_HEAD = 1 << 16
_MOST_BODY = 256 << 20


class Reply(NamedTuple):
    """A node's answer: status, headers in small letters, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _Connection(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def drop(self) -> None:
        """Close it at once, whatever is on its way."""
        self.writer.transport.abort()


class Wire:
    """The connections of one event loop to the nodes of a pool; used as an async context."""

    def __init__(self) -> None:
        self._idle: dict[Node, list[_Connection]] = {}
        self._context: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connections in self._idle.values():
            for connection in connections:
                connection.drop()
        self._idle.clear()

    async def ask(self, node: Node, method: str, path: str, body: bytes | None = None) -> Reply:
        """Make one request.

        A connection that the node closed while it was idle is replaced once; nothing else is made again here.

        Args:
            node: Which.
            method: ``GET`` or ``POST``.
            path: Of the endpoint, as the API names it.
            body: JSON.

        Raises:
            OSError: If it can't be reached, or the connection breaks.
            ConnectionError: If it doesn't speak HTTP/1.1.
        """
        head = _head(node, method, node.at(path), body)
        idle = self._idle.setdefault(node, [])
        while idle:
            connection = idle.pop()
            if connection.reader.at_eof():
                connection.drop()
                continue
            try:
                return await self._on(connection, node, head, body)
            except _ClosedBeforeAnyByteError:
                break
        return await self._on(await self._connect(node), node, head, body)

    async def _on(self, connection: _Connection, node: Node, head: bytes, body: bytes | None) -> Reply:
        try:
            connection.writer.write(head + (body or b""))
            await connection.writer.drain()
            reply, is_kept = await _read(connection.reader)
        except (ConnectionResetError, BrokenPipeError) as error:
            connection.drop()
            if error.errno is None:  # it says what happened already
                raise
            raise ConnectionResetError(f"the connection to {node.name} broke") from error
        except BaseException:
            connection.drop()
            raise
        if is_kept:
            self._idle[node].append(connection)
        else:
            connection.drop()
        return reply

    async def _connect(self, node: Node) -> _Connection:
        try:
            async with asyncio.timeout(CONNECT_S):
                if node.url.startswith("unix:"):
                    path = node.url.removeprefix("unix:").removeprefix("//")
                    return _Connection(*await asyncio.open_unix_connection(path, limit=_MOST_HEAD))
                parts = urlsplit(node.url)
                is_secure = parts.scheme == "https"
                context = self._secure() if is_secure else None
                port = parts.port or (443 if is_secure else 80)
                return _Connection(*await asyncio.open_connection(parts.hostname, port, ssl=context, limit=_MOST_HEAD))
        except TimeoutError:
            raise ConnectionError(f"no connection to {node.name} within {CONNECT_S:g} s") from None
        except ConnectionRefusedError:
            raise ConnectionRefusedError(f"{node.name} refuses connections") from None

    def _secure(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context


class _ClosedBeforeAnyByteError(ConnectionError):
    """A kept connection was closed while it was idle."""


def _head(node: Node, method: str, path: str, body: bytes | None) -> bytes:
    parts = urlsplit("http://localhost" if node.url.startswith("unix:") else node.url)
    target = f"{path}?{parts.query}" if parts.query else path
    lines = [f"{method} {target} HTTP/1.1", f"Host: {parts.netloc.rpartition('@')[2]}", "Accept: application/json"]
    key = _key(node)
    if key is not None:
        lines.append(f"Authorization: Bearer {key}")
    elif parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        lines.append(f"Authorization: Basic {base64.b64encode(pair.encode()).decode()}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _key(node: Node) -> str | None:
    if node.api_key_env is None:
        return None
    try:
        return secret.key_from_env(node.api_key_env, needed=True)
    except ValueError as error:
        raise ConfigError(f"the node {node.name} {error}") from None


async def _read(reader: asyncio.StreamReader) -> tuple[Reply, bool]:
    """Read an answer; and whether its connection may be used again."""
    status, version, headers = await _read_head(reader)
    while 100 <= status < 200:
        status, version, headers = await _read_head(reader)
    said = headers.get("connection", "").lower()
    is_kept = said != "close" and (version == "HTTP/1.1" or said == "keep-alive")
    try:
        if status in (204, 304):
            body = b""
        elif "chunked" in headers.get("transfer-encoding", "").lower():
            body = await _chunks(reader)
        elif "content-length" in headers:
            body = await reader.readexactly(_length(headers["content-length"], 10))
        else:
            body, is_kept = await _to_the_end(reader), False
    except asyncio.IncompleteReadError:
        raise ConnectionResetError("the answer ended too early") from None
    return Reply(status, headers, body), is_kept


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, str, dict[str, str]]:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            raise _ClosedBeforeAnyByteError("the connection was closed before an answer") from None
        raise ConnectionResetError("the answer ended within its head") from None
    except asyncio.LimitOverrunError:
        raise ConnectionError("the answer's head is longer than 64 KiB") from None
    first, *lines = raw.decode("latin-1").split("\r\n")[:-2]
    version, _, rest = first.partition(" ")
    code = rest[:3]
    if not version.startswith("HTTP/1.") or not code.isdigit():
        raise ConnectionError("it does not speak HTTP/1.1")
    headers: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return int(code), version, headers


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        size = _length(line.split(b";")[0].strip().decode("latin-1"), 16)
        if len(body) + size > _MOST_BODY:
            raise ConnectionError("the answer is longer than 256 MiB")
        if size == 0:
            while (await reader.readuntil(b"\r\n")) != b"\r\n":
                pass
            return bytes(body)
        body += await reader.readexactly(size)
        await reader.readexactly(2)


def _length(text: str, base: int) -> int:
    try:
        length = int(text, base)
    except ValueError:
        length = -1
    if not 0 <= length <= _MOST_BODY:
        raise ConnectionError(f"the answer's length {text[:20]!r} is none, or above 256 MiB")
    return length


async def _to_the_end(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while part := await reader.read(_MOST_HEAD):
        body += part
        if len(body) > _MOST_BODY:
            raise ConnectionError("the answer is longer than 256 MiB")
    return bytes(body)
