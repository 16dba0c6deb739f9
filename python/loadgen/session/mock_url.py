"""The target ``mock:``: a mock server within this process, told by the URL's query what to be."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl

import msgspec

from loadgen.errors import ConfigError


def config_of(url: str) -> dict[str, Any]:
    """Return the mock server's configuration that a ``mock:`` URL holds.

    Args:
        url: ``mock:`` alone, or with options: ``mock:?ttft=50ms&gap=10ms&faults=crlf``. A value is read as JSON where
            it is JSON (``capacity=8``, ``ttft={"uniform":[10,20]}``), and as text otherwise; a name that is given
            several times, and ``faults`` and ``models``, hold lists.

    Raises:
        ConfigError: If the query isn't one.
    """
    _, _, query = url.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ConfigError(f"{url}: the options must look like ttft=50ms&gap=10ms") from None
    got: dict[str, Any] = {}
    for name, value in pairs:
        name = name.replace("-", "_")
        for one in value.split(",") if name in ("faults", "models") and not value.startswith(("[", "{")) else [value]:
            read = _value(one)
            if name not in ("faults", "models"):
                if name in got:
                    raise ConfigError(f"{url}: {name} is given twice")
                got[name] = read
            elif isinstance(read, list):
                got.setdefault(name, []).extend(read)
            else:
                got.setdefault(name, []).append(one if name == "models" else read)
    return got


def _value(raw: str) -> Any:
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError:
        return raw
