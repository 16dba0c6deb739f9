"""Reading the target's URL: what may be asked, and what a mistyped one probably meant."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

_NAMED = 2


MOST = 64
"""Nodes of one run (`MOST_NODES` of rust/src/engine/nodes.rs)."""


def urls(value: Any) -> tuple[str, ...]:
    """Read one target, or a list of them.

    Args:
        value: What the user gave.

    Returns:
        The URLs in order, at least one.

    Raises:
        ValueError: With the rule that was broken; never with credentials in it.
    """
    if not isinstance(value, (list, tuple)):
        return (url(value),)
    if not value:
        raise ValueError("must be a URL, or a list of them, and the list is empty")
    if len(value) > MOST:
        raise ValueError(f"are {len(value)} URLs; a run has at most {MOST}")
    return tuple(url(one) for one in value)


def words(urls: str | Sequence[str]) -> str:
    """Return the targets of a run in a few words.

    Args:
        urls: One, or several, fit to be shown.
    """
    if isinstance(urls, str):
        return urls
    return ", ".join(urls) if len(urls) <= _NAMED else f"{', '.join(urls[:_NAMED])} and {len(urls) - _NAMED} more"


def url(value: Any) -> str:
    """Read a target: ``http://``, ``https://``, ``unix:PATH`` or ``mock:``.

    Args:
        value: What the user gave.

    Returns:
        The URL as it was given, without blanks around it.

    Raises:
        ValueError: With the rule that was broken; never with credentials in it.
    """
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a URL, such as http://127.0.0.1:8000")
    got = value.strip()
    if any(ord(c) <= 32 or ord(c) == 127 for c in got):
        raise ValueError("must not hold blanks or control characters")
    scheme, colon, rest = got.partition(":")
    if scheme == "unix" and colon:
        if not rest.lstrip("/"):
            raise ValueError("needs the socket's path, such as unix:/run/server.sock")
    elif scheme == "mock" and colon:
        if rest and not rest.startswith("?"):
            raise ValueError("takes options behind a question mark, such as mock:?ttft=50ms&gap=10ms")
    elif scheme in ("http", "https") and rest.startswith("//"):
        _web(got)
    elif "://" in got:
        raise ValueError("must begin with http://, https://, unix: or mock:")
    else:
        raise ValueError(f"must be a whole URL; perhaps http://{got.rpartition('@')[2].lstrip('/')}")
    return got


def _web(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("has a host or port that is none") from None
    if not parts.hostname:
        raise ValueError("names no host")
    if port == 0:
        raise ValueError("has port 0, which nobody listens on")
    if parts.fragment:
        raise ValueError("must not have a fragment (#…)")


def readable(file: str, what: str) -> None:
    """Raise ``ValueError`` unless ``file`` is a file that this process can read.

    Args:
        file: The path.
        what: What it should be, in words.
    """
    if Path(file).is_dir():
        raise ValueError(f"names a directory, where {what} is wanted")
    try:
        with Path(file).open("rb"):
            pass
    except OSError as error:
        raise ValueError(f"names {what} that can't be read: {error.strerror or error}") from None
