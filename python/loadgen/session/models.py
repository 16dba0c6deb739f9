"""Asking a server which models it serves, over the same kind of connection that the run will use."""

from __future__ import annotations

import http.client
import socket
import ssl
import warnings
from urllib.parse import urlsplit

from loadgen import http_get
from loadgen.config import Config, known, secret, target
from loadgen.errors import ConfigError, TargetError
from loadgen.speech import option

_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}
"""What OpenSSL calls an answer that is no TLS."""


def url_of(url: str) -> str:
    """Return where a target lists its models; its path follows the rule for base URLs.

    Args:
        url: The target, ``http://``, ``https://`` or ``unix:``.
    """
    if url.startswith("unix:"):
        return "/v1/models"
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    for endpoint in target.PATHS.values():
        own = endpoint.removeprefix("/v1")
        if path.endswith(own):
            return path.removesuffix(own) + ("/models" if endpoint.startswith("/v1") else "/v1/models")
    return f"{path}/models" if path.endswith("/v1") else f"{path}/v1/models"


def ask(config: Config, api_key: str | None) -> tuple[str, ...]:
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
        connection = _connection(config)
        try:
            reply = http_get.ask(connection, _asked_for(config, path), _headers(config, api_key))
        finally:
            connection.close()
    except ssl.SSLError as error:
        words = getattr(error, "verify_message", "") or error.reason or str(error)
        words = "the server does not speak TLS on this port" if error.reason in _NO_TLS else words
        unverified = isinstance(error, ssl.SSLCertVerificationError)
        raise TargetError(
            f"no secure connection to {shown}: {words}", insecure(config, unverified=unverified)
        ) from None
    except TimeoutError:
        words = f"{shown} did not answer within {min(config.connect_timeout, 10):g} s"
        raise TargetError(words, silent(config)) from None
    except OSError as error:
        raise TargetError(f"can't ask {shown}: {_reason(error)}", unreachable(config)) from None
    if reply.status != 200:
        refused = reply.status in (401, 403)
        key = (
            f"check the API key: {option('api_key_env', 'NAME')} or {option('api_key_file', 'FILE')}" if refused else ""
        )
        raise TargetError(f"{shown} answered {reply.status}", key)
    names = http_get.models_in(reply.body)
    if names is None:
        raise TargetError(f"{shown} did not answer with a list of models")
    return names


def unreachable(config: Config) -> str:
    """Return what to look at where no connection can be made.

    Args:
        config: The run's options.
    """
    if config.proxy is not None:
        return f"is the proxy {secret.shown_url(config.proxy)} up, and the server behind it?"
    return "is the server up, and the URL right?"


def silent(config: Config) -> str:
    """Return what to look at where nothing came in time: a server without TLS may wait for more of what it took.

    Args:
        config: The run's options.
    """
    if config.url.startswith("https:") and config.proxy is None:
        return "is the server up, and does it speak TLS there? Else the URL begins with http://"
    return unreachable(config)


def insecure(config: Config, *, unverified: bool) -> str:
    """Return what to do where no secure connection can be made.

    Args:
        config: The run's options.
        unverified: Whether it is the server's certificate that isn't trusted.
    """
    if unverified:
        return f"{option('cacert', 'FILE')} trusts its authority, {option('insecure')} any certificate"
    if config.http2:
        return f"does it speak HTTP/2? Without {option('http2')} it is asked for HTTP/1.1"
    return "does it speak TLS there? Else the URL begins with http://"


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
        way_out = error.way_out or f"is the URL right? Else name it: {option('model')}"
        raise TargetError(error.message, f"no model was named, so the server was asked; {way_out}") from None
    if len(names) == 1:
        return names[0]
    if not names:
        raise TargetError(f"{server} lists no model", f"name the one to ask for: {option('model', 'NAME')}")
    raise TargetError(
        f"{server} has {len(names)} models: {known.listed(names)}",
        f"name the one to ask for: {option('model', value=names[0])}",
    )


def warn_if_unlisted(config: Config, model: str, api_key: str | None) -> None:
    """Ask the target whether it has a model, and warn where it lists others only.

    It is no error: some servers answer for models that they don't list. One that can't be asked, or lists none, is left
    to its answers. What follows a colon is a variant, which a target may know without listing it, as Ollama does with
    ``:latest``; and one that lists a pattern has more than it lists.

    Args:
        config: The run's options.
        model: The model.
        api_key: The key to show, if there is one.
    """
    try:
        names = ask(config, api_key)
    except TargetError:
        return
    bare = {name.partition(":")[0] for name in names}
    if not names or model.partition(":")[0] in bare or any("*" in name for name in names):
        return
    close = known.nearest(model, names)
    way_out = f"perhaps {option('model', value=close)}?" if close else f"it lists {known.listed(names)}"
    words = f"the server lists no model {model}, and may refuse every call\n{way_out}"
    warnings.warn(words, RuntimeWarning, stacklevel=3)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _reason(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, socket.gaierror):
        return "host name not found"
    return error.strerror or str(error) or type(error).__name__


def _headers(config: Config, api_key: str | None) -> dict[str, str]:
    got = http_get.headers(config.url, api_key)
    for header in config.header:
        got = {name: value for name, value in got.items() if name.lower() != header.name.lower()}
        got[header.name] = header.value
    if config.proxy is not None and config.url.startswith("http:"):
        got |= _to_proxy(config.proxy)
    return got


def _to_proxy(proxy: str) -> dict[str, str]:
    basic = http_get.basic_of(proxy)
    return {} if basic is None else {"Proxy-Authorization": basic}


def _asked_for(config: Config, path: str) -> str:
    path = http_get.with_query(config.url, path)
    return f"{_origin(config.url)}{path}" if config.proxy is not None and config.url.startswith("http:") else path


def _connection(config: Config) -> http.client.HTTPConnection:
    timeout_s = min(config.connect_timeout, 10.0)
    if config.proxy is None:
        return http_get.connection(config.url, timeout_s, lambda: _context(config))
    if config.url.startswith("http:"):
        return http_get.connection(config.proxy, timeout_s)
    to, via = urlsplit(config.url), urlsplit(config.proxy)
    connection = http.client.HTTPSConnection(
        via.hostname or "", via.port or 80, timeout=timeout_s, context=_context(config)
    )
    connection.set_tunnel(to.hostname or "", to.port or 443, _to_proxy(config.proxy))
    return connection


def _context(config: Config) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=config.cacert)
    except ssl.SSLError:
        raise ConfigError(
            f"{option('cacert')} {config.cacert} holds no certificate", "name a file with one in PEM"
        ) from None
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.cert is not None:
        context.load_cert_chain(config.cert, config.key)
    return context
