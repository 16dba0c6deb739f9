"""Small questions to a server, by the standard library's client: what it serves, and how it is."""

from __future__ import annotations

import base64
import http.client
import re
import socket
import ssl
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import msgspec

from loadgen.config import target

_MOST_BODY = 4 << 20
_DIGITS = re.compile("[0-9]{1,20}")
"""A length: of thousands of digits Python makes no number."""


class Reply(NamedTuple):
    """A server's answer: status, headers in small letters, body."""

    status: int
    headers: Mapping[str, str]
    body: bytes


def connection(
    url: str, timeout_s: float, context: Callable[[], ssl.SSLContext] = ssl.create_default_context
) -> http.client.HTTPConnection:
    """Return a connection to a server, to be made by the first request on it.

    Args:
        url: ``http://``, ``https://`` or ``unix:``.
        timeout_s: The longest that connecting, or the next bytes of an answer, may take.
        context: Gives what ``https://`` is trusted by.
    """
    path = target.socket_path(url)
    if path is not None:
        return _UnixConnection(path, timeout_s)
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https":
        return http.client.HTTPSConnection(host, parts.port or 443, timeout=timeout_s, context=context())
    return http.client.HTTPConnection(host, parts.port or 80, timeout=timeout_s)


def headers(url: str, api_key: str | None) -> dict[str, str]:
    """Return the headers of a question; an API key wins over what the URL says of a user.

    Args:
        url: The server.
        api_key: The key to show, if there is one.
    """
    made = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "loadgen"}
    basic = basic_of(url)
    if api_key is not None:
        made["Authorization"] = f"Bearer {api_key}"
    elif basic is not None:
        made["Authorization"] = basic
    return made


def basic_of(url: str) -> str | None:
    """Return the authorisation by the user and password in a URL; ``None`` if there are none."""
    parts = urlsplit(url) if target.socket_path(url) is None else None
    if parts is None or parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def with_query(url: str, path: str) -> str:
    """Return a path with the query of a server's URL, if that has one."""
    query = urlsplit(url).query if target.socket_path(url) is None else ""
    return f"{path}?{query}" if query else path


def ask(line: http.client.HTTPConnection, path: str, told: Mapping[str, str]) -> Reply:
    """Ask one question, and read the answer to its end.

    Args:
        line: The connection; it is closed if this fails: what is left of the answer would be taken for the next one's.
        path: What is asked for.
        told: The request's headers.

    Raises:
        OSError: If the server can't be reached, the connection breaks, the answer is too long, or it isn't HTTP/1.1.
    """
    try:
        # In UTF-8, as the engine sends them; texts would be Latin-1, or an error that shows the value.
        line.request("GET", path, headers={name: value.encode() for name, value in told.items()})
        with line.getresponse() as response:
            return _reply(response)
    except (OSError, http.client.HTTPException) as error:
        line.close()
        raise _named(error) from None


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def models_in(body: bytes) -> tuple[str, ...] | None:
    """Return the names of the models in an answer to ``/v1/models``, in its order; ``None`` where it is no such list.

    Args:
        body: The answer's.
    """
    try:
        return tuple(model.id for model in msgspec.json.decode(body, type=_Models).data)
    except (msgspec.DecodeError, RecursionError):
        return None


def _named(error: OSError | http.client.HTTPException) -> OSError:
    """Return what an exception of the client's means."""
    if isinstance(error, http.client.IncompleteRead):
        return ConnectionResetError("the answer ended too early")
    if isinstance(error, http.client.RemoteDisconnected):
        return ConnectionResetError("the connection was closed before an answer")
    if isinstance(error, http.client.HTTPException):
        return ConnectionError("it does not speak HTTP/1.1")
    return error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _reply(response: http.client.HTTPResponse) -> Reply:
    said = response.getheader("content-length")
    if said is not None and not (_DIGITS.fullmatch(said) and int(said) <= _MOST_BODY):
        raise ConnectionError(f"the answer's length {said[:20]!r} is none, or above {_MOST_BODY >> 20} MiB")
    body = response.read(_MOST_BODY + 1)
    if said is not None and len(body) < int(said):
        raise ConnectionResetError("the answer ended too early")
    if len(body) > _MOST_BODY:
        raise ConnectionError(f"the answer is longer than {_MOST_BODY >> 20} MiB")
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
