"""Reading the target's URL: what may be asked, and what a mistyped one probably meant."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MOST = 64
"""Nodes of one run, or of a pool (`MOST` of rust/src/engine/nodes.rs): a call remembers in a word of bits those that it
was sent to."""

PATHS = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "ollama_chat": "/api/chat",
    "ollama_generate": "/api/generate",
    "ollama_embed": "/api/embed",
}
"""Where each API is, from a server's base (`Api::path` of rust/src/endpoint/api.rs)."""

BEGINNINGS = ("http://", "https://", "unix:", "mock:")
"""How a target begins."""

_NAMED = 2
_MOCK = "mock:"
_SCHEME = "http://"
_PORTS = {"http": 80, "https": 443}
_LABEL = re.compile("[a-z0-9_-]{1,63}")
"""Between two dots of a host name, in small letters."""
_HOST_MOST = 253


def check_count(listed: Sequence[Any]) -> None:
    """Check how many targets there are.

    Args:
        listed: What the user gave.

    Raises:
        ValueError: With the rule that was broken.
    """
    if not listed:
        raise ValueError("must be a URL, or a list of them, and the list is empty")
    if len(listed) > MOST:
        raise ValueError(f"are {len(listed)} URLs; a run has at most {MOST}")


def server(url: str) -> tuple[str, ...]:
    """Return what two spellings of one target have in common: ``http://h``, ``http://H:80/`` and ``http://h/v1``.

    Args:
        url: The target, valid.
    """
    if not url.startswith("http"):
        return place(url)
    parts = urlsplit(url)
    return *place(url), parts.netloc.rpartition("@")[0], parts.query


def place(url: str) -> tuple[str, ...]:
    """Return where a target is, whoever asks for it and with which query.

    Args:
        url: The target, valid.
    """
    path = socket_path(url)
    if path is not None:
        return "unix", path
    if not url.startswith("http"):
        return (url,)
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    return parts.scheme, parts.hostname or "", str(port), parts.path.rstrip("/").removesuffix("/v1")


def socket_path(url: str) -> str | None:
    """Return the path of the socket that a target is; ``None`` of one that is none."""
    return url.removeprefix("unix:").removeprefix("//") if url.startswith("unix:") else None


def api_of(url: str) -> str:
    """Return the API whose path a target ends in; empty where it is a base.

    Args:
        url: The target, valid.
    """
    path = urlsplit(url).path.rstrip("/") if url.startswith("http") else ""
    named = [api for api, endpoint in PATHS.items() if path.endswith(endpoint.removeprefix("/v1"))]
    return max(named, key=lambda api: len(PATHS[api]), default="")  # of .../chat/completions, chat


def words(urls: str | Sequence[str]) -> str:
    """Return the targets of a run in a few words.

    Args:
        urls: One, or several, fit to be shown.
    """
    if isinstance(urls, str):
        return urls
    listed = names(urls)
    more = f" and {len(urls) - _NAMED} more" if len(urls) > _NAMED else ""
    return ", ".join(listed[:_NAMED]) + more


def names(urls: Sequence[str]) -> list[str]:
    """Return what a person calls each target of a run, no two of them the same.

    Several servers of the mock are numbered, in front of what tells them apart, which may be long or nothing:
    ``mock 1``, ``mock 2 ttft=20ms``. Any other target is its URL; those that differ only in what isn't shown are
    numbered, too.

    Args:
        urls: All of the run's, in their order, fit to be shown.
    """
    mocks = [at for at, url in enumerate(urls) if url.startswith(_MOCK)]
    found: list[str] = []
    for at, url in enumerate(urls):
        if len(mocks) > 1 and at in mocks:
            found.append(f"mock {mocks.index(at) + 1} {url.removeprefix(_MOCK).removeprefix('?')}".rstrip())
        elif urls.count(url) > 1:
            found.append(f"{url} #{urls[: at + 1].count(url)}")
        else:
            found.append(url)
    return found


def bare(named: Sequence[str]) -> list[str]:
    """Return names without the scheme, where all have the same and it tells none from another.

    Args:
        named: What targets are called.
    """
    alike = all(name.startswith(_SCHEME) for name in named)
    return [name.removeprefix(_SCHEME) if alike else name for name in named]


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
        raise ValueError(f"must begin with {', '.join(BEGINNINGS[:-1])} or {BEGINNINGS[-1]}")
    elif "${" in got:
        raise ValueError('takes no ${ENV}: give it in front of --config, as in loadgen run "$SERVER" --config run.yaml')
    else:
        raise ValueError(f"must be a whole URL; perhaps http://{got.rpartition('@')[2].lstrip('/')}")
    return got


def remote(value: Any) -> str:
    """Read a target that isn't within this process.

    Args:
        value: What the user gave.

    Returns:
        The URL as :func:`url` returns it.

    Raises:
        ValueError: With the rule that was broken; never with credentials in it.
    """
    got = url(value)
    if got.startswith(_MOCK):
        raise ValueError("is no server: start one with `loadgen mock`, and give its URL")
    return got


def proxy(value: Any) -> str:
    """Read a proxy: ``http://``, with a user and password where it wants them.

    Args:
        value: What the user gave.

    Returns:
        The URL, without blanks around it.

    Raises:
        ValueError: With the rule that was broken; never with credentials in it.
    """
    if not isinstance(value, str) or not value.strip().startswith(_SCHEME):
        raise ValueError("must begin with http://: no proxy is reached in another way")
    return url(value)


def _web(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("has a host or port that is none") from None
    if not parts.hostname:
        raise ValueError("names no host")
    if not _is_host(parts.hostname):
        raise ValueError("has a host that is none: it takes letters of ASCII, digits and hyphens between its dots")
    odd = next((c for c in parts.path + parts.query if not c.isascii()), "")
    if odd:
        raise ValueError(f"holds a character that must be percent-encoded: {odd!r}")
    if port == 0:
        raise ValueError("has port 0, which nobody listens on")
    if parts.fragment:
        raise ValueError("must not have a fragment (#…)")


def _is_host(name: str) -> bool:
    """Whether somebody can be asked for the address of a name, or it is one."""
    if ":" in name:
        return True  # an address of IPv6, which stood in brackets
    return len(name) <= _HOST_MOST and all(_LABEL.fullmatch(label) for label in name.removesuffix(".").split("."))


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
