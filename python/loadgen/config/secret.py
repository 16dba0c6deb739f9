"""What must never be stored or shown: keys, header values, credentials in URLs; and how references to them are read.

``${NAME}`` in a value stands for an environment variable and ``@FILE`` for a file's content. What is sent has them
filled in; what is stored keeps the reference.
"""

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

import msgspec

from loadgen.config import target, values
from loadgen.speech import option

HIDDEN = "[redacted]"
STREAM_KEYS = ("stream", "stream_options")
"""Fields of a body that the engine writes."""
_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Those that contradict the body or the connection's handling, as in rust/src/http/request.rs.
_OURS = frozenset(
    {"content-length", "transfer-encoding", "connection", "upgrade", "expect", "te", "trailer", "keep-alive"}
)
_SECRET_NAME = re.compile(r"authorization|cookie|api-?key|token|secret|password", re.IGNORECASE)
_MOST = 1 << 20


class Header(msgspec.Struct, frozen=True):
    """A request header. Its value is never shown; ``literal`` tells that it was typed as it is."""

    name: str
    value: str
    literal: bool = False

    def __repr__(self) -> str:
        return f"Header({self.name!r}, {HIDDEN})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # msgspec's own, which rich asks first, would give every field
        return [("name", self.name), ("value", HIDDEN)]

    @property
    def is_secret_in_the_open(self) -> bool:
        """Whether a secret seems to have been typed where a process list or a shell's history shows it."""
        return self.literal and _SECRET_NAME.search(self.name) is not None


class ExtraBody(msgspec.Struct, frozen=True):
    """Fields to add to each request's body: as they are sent, and as they may be stored (references not filled in)."""

    sent: dict[str, Any]
    stored: dict[str, Any]

    def __repr__(self) -> str:
        return f"ExtraBody({self.stored!r})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("stored", self.stored)]


def headers(value: Any) -> tuple[Header, ...]:
    """Read headers: ``Name: value`` texts, a mapping, or ready ones."""
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        pairs = []
        for item in [value] if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [None]:
            if isinstance(item, Header):
                pairs.append((item.name, item))
                continue
            if not isinstance(item, str) or ":" not in item:
                raise ValueError('must look like "Name: value"')
            name, _, content = item.partition(":")
            pairs.append((name, content))
    return tuple(_header(name, content) for name, content in pairs)


def _header(name: Any, content: Any) -> Header:
    if isinstance(content, Header):
        return content
    if not isinstance(name, str) or not _TOKEN.fullmatch(name.strip()):
        raise ValueError("has a header name that HTTP does not allow")
    name = name.strip()
    if name.lower() in _OURS:
        raise ValueError(f"may not set {name}: loadgen writes that header itself")
    if not isinstance(content, str):
        raise ValueError(f"needs text as the value of {name}")
    filled = fill(content.strip())
    if any((ord(c) < 32 and c != "\t") or ord(c) == 127 for c in filled):
        raise ValueError(f"has a control character (a line break, perhaps) in the value of {name}")
    return Header(name, filled, literal=filled == content.strip())


def extra_body(value: Any) -> ExtraBody | None:
    """Read additional body fields: a mapping, JSON text, ``@FILE`` with JSON, or several of them (later ones win)."""
    if isinstance(value, ExtraBody):
        return value
    sent: dict[str, Any] = {}
    stored: dict[str, Any] = {}
    for item in value if isinstance(value, (list, tuple)) else [value]:
        raw = _body_fields(item)
        for key in STREAM_KEYS:
            if key in raw:
                switch = f"{option('stream', value=True)} or {option('stream', value=False)}"
                raise ValueError(f'may not set "{key}": use {switch}')
        sent.update({key: _fill_all(field) for key, field in raw.items()})
        hide = isinstance(item, str) and item.startswith("@")
        stored.update({key: item if hide else field for key, field in raw.items()})
    return ExtraBody(sent, stored) if sent else None


def _body_fields(item: Any) -> dict[str, Any]:
    if isinstance(item, str):
        source = _read(item[1:]) if item.startswith("@") else item
        try:
            item = msgspec.json.decode(source)
        except msgspec.DecodeError as error:
            raise ValueError(f"is not JSON: {error}") from None
        except RecursionError:
            raise ValueError("is nested too deeply") from None
    if not isinstance(item, dict) or not all(isinstance(key, str) for key in item):
        raise ValueError('must be a JSON object, such as {"temperature": 0}')
    return item


def _fill_all(value: Any) -> Any:
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, list):
        return [_fill_all(item) for item in value]
    if isinstance(value, dict):
        return {key: _fill_all(item) for key, item in value.items()}
    return value


def fill(value: str) -> str:
    """Fill in the references of a value.

    Args:
        value: Text with any number of ``${NAME}``, or ``@FILE`` as a whole.

    Returns:
        The text with the variables' values, or the file's content without the line break at its end.

    Raises:
        ValueError: If a variable is not set, or the file can't be read.
    """
    if value.startswith("@"):
        return _read(value[1:]).rstrip("\r\n")

    def lookup(match: re.Match[str]) -> str:
        got = os.environ.get(match[1])
        if got is None:
            raise ValueError(f"names the environment variable {match[1]}, which is not set")
        return got

    return _REFERENCE.sub(lookup, value)


def _read(name: str) -> str:
    path = Path(values.path(name))
    try:
        with path.open(encoding="utf-8") as file:
            content = file.read(_MOST + 1)
    except OSError as error:
        raise ValueError(f"names the file {name}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"names the file {name}, which is not UTF-8 text") from None
    if len(content) > _MOST:
        raise ValueError(f"names the file {name}, which is larger than 1 MiB")
    return content


def key_from_env(name: str, *, needed: bool = False) -> str | None:
    """Return the API key held by an environment variable, or ``None`` where it isn't set or empty.

    Args:
        name: The variable's name.
        needed: Whether its absence is an error.

    Raises:
        ValueError: If it is needed and absent, or doesn't hold one key.
    """
    value = os.environ.get(name, "").strip()
    if needed and not value:
        raise ValueError(f"names the environment variable {name}, which is not set")
    return _key(value, f"in the environment variable {name}") if value else None


def key_from_file(name: str) -> str:
    """Return the API key that is the content of a file.

    Raises:
        ValueError: If the file can't be read, or doesn't hold one key.
    """
    value = _read(name).strip()
    if not value:
        raise ValueError(f"names the file {name}, which is empty")
    return _key(value, f"in {name}")


def _key(value: str, where: str) -> str:
    if any(not 33 <= ord(c) <= 126 for c in value):
        raise ValueError(f"has a key {where} with characters that no API key holds (a space or a line break, perhaps)")
    return value


def shown_url(url: str) -> str:
    """Return a URL without credentials: userinfo dropped, values of its query hidden (but for ``mock:``)."""
    if url.startswith(("mock:", "unix:")):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    host = parts.netloc.rpartition("@")[2]
    query = "&".join(f"{name}={HIDDEN}" for name, _ in parse_qsl(parts.query, keep_blank_values=True))
    return urlunsplit((parts.scheme, host, parts.path, query, ""))


def shown_endpoint(url: str, api: str) -> str:
    """Return where requests go, fit to be shown: a base with the API's path, as the core completes it.

    Args:
        url: The target as it was given.
        api: The API spoken.
    """
    shown, endpoint = shown_url(url), target.PATHS[api]
    if not shown.startswith("http") or shown.endswith(endpoint.removeprefix("/v1")):
        return shown
    return shown.rstrip("/").removesuffix("/v1") + endpoint
