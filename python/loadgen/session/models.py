"""Asking a server which models it serves, over the same kind of connection that the run will use."""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
from urllib.parse import unquote, urlsplit

import msgspec

from loadgen.config import Config
from loadgen.errors import TargetError

_MOST = 4 << 20
_ENDPOINTS = ("/chat/completions", "/completions", "/embeddings")
_OLLAMAS = ("/api/chat", "/api/generate", "/api/embed")


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


def url_of(url: str) -> str:
    """Return where a target lists its models; its path follows the rule for base URLs.

    Args:
        url: The target, ``http://``, ``https://`` or ``unix:``.
    """
    if url.startswith("unix:"):
        return "/v1/models"
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    for endpoint in _OLLAMAS:
        if path.endswith(endpoint):
            return f"{path.removesuffix(endpoint)}/v1/models"
    for endpoint in _ENDPOINTS:
        if path.endswith(endpoint):
            return f"{path.removesuffix(endpoint)}/models"
    return f"{path}/models" if path.endswith("/v1") else f"{path}/v1/models"


def ask(config: Config, api_key: str | None) -> list[str]:
    """Ask the target for the names of its models.

    Args:
        config: The run's options; its URL is a real one, not ``mock:``.
        api_key: The key to show, if there is one.

    Returns:
        The names, in the server's order.

    Raises:
        TargetError: If it can't be reached, refuses, or answers something else than a list of models.
    """
    path = url_of(config.url)
    shown = (config.url if config.url.startswith("unix:") else _origin(config.url)) + path
    try:
        connection = _connect(config)
        try:
            connection.request("GET", _request_target(config, path), headers=_headers(config, api_key))
            response = connection.getresponse()
            body = response.read(_MOST + 1)
        finally:
            connection.close()
    except ssl.SSLError as error:
        raise TargetError(
            f"no secure connection to {shown}: {getattr(error, 'verify_message', '') or error.reason}"
        ) from None
    except TimeoutError:
        raise TargetError(f"{shown} did not answer within {min(config.connect_timeout, 10):g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise TargetError(f"can't ask {shown}: {_reason(error)}") from None
    if response.status != 200:
        refused = response.status in (401, 403)
        key = "check the API key: --api-key-env NAME or --api-key-file FILE" if refused else ""
        raise TargetError(f"{shown} answered {response.status}", key)
    try:
        return [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except (msgspec.DecodeError, RecursionError):
        raise TargetError(f"{shown} did not answer with a list of models") from None


def only(config: Config, api_key: str | None, server: str = "the server") -> str:
    """Return the target's model where it serves exactly one.

    Args:
        config: The run's options.
        api_key: The key to show, if there is one.
        server: What an error calls it.

    Raises:
        TargetError: If it can't be asked, or doesn't serve exactly one; the way out is to name it.
    """
    try:
        names = ask(config, api_key)
    except TargetError as error:
        way_out = error.way_out or "is the URL right? Else name it: --model"
        raise TargetError(error.message, f"no model was named, so the server was asked; {way_out}") from None
    if len(names) == 1:
        return names[0]
    if not names:
        raise TargetError(f"{server} lists no model", "name the one to ask for: --model NAME")
    listed = ", ".join(names[:8]) + (f", and {len(names) - 8} more" if len(names) > 8 else "")
    raise TargetError(f"{server} has {len(names)} models: {listed}", f"name the one to ask for: --model {names[0]}")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _reason(error: Exception) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "host name not found"
    if isinstance(error, http.client.HTTPException):
        return "it does not speak HTTP/1.1"
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__


def _headers(config: Config, api_key: str | None) -> dict[str, str]:
    got = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "loadgen"}
    username = None if config.url.startswith("unix:") else urlsplit(config.url).username
    if username is not None:
        got["Authorization"] = _basic(config.url)
    if api_key is not None:
        got["Authorization"] = f"Bearer {api_key}"
    for header in config.header:
        got = {name: value for name, value in got.items() if name.lower() != header.name.lower()}
        got[header.name] = header.value
    if config.proxy is not None and config.url.startswith("http:") and urlsplit(config.proxy).username is not None:
        got["Proxy-Authorization"] = _basic(config.proxy)
    return got


def _basic(url: str) -> str:
    parts = urlsplit(url)
    pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _request_target(config: Config, path: str) -> str:
    if config.url.startswith("unix:"):
        return path
    query = urlsplit(config.url).query
    path = f"{path}?{query}" if query else path
    return f"{_origin(config.url)}{path}" if config.proxy is not None and config.url.startswith("http:") else path


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connect(config: Config) -> http.client.HTTPConnection:
    timeout = min(config.connect_timeout, 10.0)
    if config.url.startswith("unix:"):
        return _Unix(config.url.removeprefix("unix:").removeprefix("//"), timeout)
    target = urlsplit(config.url)
    via = urlsplit(config.proxy) if config.proxy is not None else target
    host = via.hostname or ""
    if target.scheme == "http":
        return http.client.HTTPConnection(host, via.port or 80, timeout=timeout)
    connection = http.client.HTTPSConnection(
        host, via.port or (443 if config.proxy is None else 80), timeout=timeout, context=_context(config)
    )
    if config.proxy is not None:
        headers = {"Proxy-Authorization": _basic(config.proxy)} if via.username is not None else {}
        connection.set_tunnel(target.hostname or "", target.port or 443, headers)
    return connection


def _context(config: Config) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.cacert)
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.cert is not None:
        context.load_cert_chain(config.cert, config.key)
    return context
