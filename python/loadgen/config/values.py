"""Readers of single values: from what a user typed, or a file or a caller gave, to one typed value.

Each takes a string or the plain value and raises ``ValueError`` with the rule that was broken; the caller adds the
option's name and the value. Numbers in strings are decimal; durations are seconds.
"""

import math
import os
import re
from pathlib import Path
from typing import Any

from loadgen.config import elsewhere

_UNITS = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d+)?|\.\d+)\s*(us|µs|ms|s|min|m|h)")
_LONGEST_S = 365 * 86400.0

SLO_METRICS = ("ttfb", "ttft", "ttfo", "tpot", "ntpot", "latency")


def text(value: Any) -> str:
    """Read a non-empty string without control characters."""
    if not isinstance(value, str):
        raise ValueError("must be text")
    if not value.strip():
        raise ValueError("must not be empty")
    if any(ord(c) < 32 or ord(c) == 127 for c in value):
        raise ValueError("must not hold control characters")
    return value


def path(value: Any) -> str:
    """Read a path: a non-empty string or an ``os.PathLike``; ``~`` is the home directory."""
    raw = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError("must be a path")
    if not raw.startswith("~"):
        return raw
    try:
        return str(Path(raw).expanduser())
    except RuntimeError:
        raise ValueError("names a home directory that nobody has") from None


def number(value: Any) -> float:
    """Read a finite number."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ValueError("must be a number")
    try:
        got = float(value)
    except (ValueError, OverflowError):
        raise ValueError("must be a number") from None
    if not math.isfinite(got):
        raise ValueError("must be a finite number")
    return got


def positive(value: Any) -> float:
    """Read a number above 0."""
    got = number(value)
    if got <= 0:
        raise ValueError("must be above 0")
    return got


def whole(value: Any) -> int:
    """Read a whole number of at least 0."""
    got = _integer(value)
    if not 0 <= got < 2**63:
        raise ValueError("must be 0 or more" if got < 0 else "is too large")
    return got


def _integer(value: Any) -> int:
    if isinstance(value, str):
        try:
            value = int(value.strip())
        except ValueError:
            raise ValueError("must be a whole number") from None
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number")
    return value


def count(value: Any) -> int:
    """Read a whole number of at least 1."""
    if _integer(value) < 1:
        raise ValueError("must be 1 or more")
    return whole(value)


def count32(value: Any) -> int:
    """Read a whole number from 1 to 2**32 - 1."""
    got = count(value)
    if got >= 2**32:
        raise ValueError("is too large")
    return got


def flag(value: Any) -> bool:
    """Read a truth value; only real ones, so that YAML's ``stream: "no"`` is not taken for true."""
    if not isinstance(value, bool):
        raise ValueError("must be true or false")
    return value


def port(value: Any) -> int:
    """Read a TCP port."""
    got = count(value)
    if got > 65535:
        raise ValueError("must be a port, 1 to 65535")
    return got


def host(value: Any) -> str:
    """Read an address to listen at: a name or a number, without a port."""
    if not isinstance(value, str) or not value or any(c.isspace() or c in "/[]" for c in value):
        raise ValueError("must be an address such as 127.0.0.1, ::1 or 0.0.0.0")
    return value


def events(value: Any) -> str | None:
    """Read which events are told: true for each request's, ``chunks`` for those of an answer's chunks as well."""
    if isinstance(value, bool):
        return "requests" if value else None
    if value not in ("requests", "chunks"):
        raise ValueError("must be true, false or chunks")
    return str(value)


def duration(value: Any) -> float:
    """Read a duration above 0, in seconds: a number, or text such as ``250ms``, ``2m``, ``1m30s``."""
    got = _seconds(value)
    if got <= 0:
        raise ValueError("must be above 0")
    return got


def duration_or_zero(value: Any) -> float:
    """Read a duration of 0 or more, in seconds."""
    got = _seconds(value)
    if got < 0:
        raise ValueError("must be 0 or more")
    return got


def _seconds(value: Any) -> float:
    words = 'must be a duration: seconds, or text such as "250ms", "30s", "2m"'
    if isinstance(value, str):
        raw = value.strip()
        try:
            got = float(raw)
        except ValueError:
            got, end = 0.0, 0
            while end < len(raw):
                part = _PART.match(raw, end)
                if not part:
                    raise ValueError(words) from None
                got += float(part[1]) * _UNITS[part[2]]
                end = part.end()
            if end == 0:
                raise ValueError(words) from None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            got = float(value)
        except OverflowError:
            raise ValueError(words) from None
    else:
        raise ValueError(words)
    if not math.isfinite(got):
        raise ValueError(words)
    if got > _LONGEST_S:
        raise ValueError("is longer than a year")
    return got


def share(value: Any) -> float:
    """Read a share from 0 to 1: a number, or text such as ``10%``."""
    raw = value.strip() if isinstance(value, str) else value
    got = number(raw[:-1]) / 100 if isinstance(raw, str) and raw.endswith("%") else number(raw)
    if not 0 <= got <= 1:
        raise ValueError('must be a share: from 0 to 1, or text such as "10%"')
    return got


def warmup(value: Any) -> int | float:
    """Read a warm-up: a whole number is requests (``int``), anything with a unit a duration (``float`` seconds)."""
    if isinstance(value, str) and not value.strip().lstrip("+").isdigit():
        if _is_number(value):
            raise ValueError('must be a number of requests, or a duration with its unit, such as "5s"')
        return duration(value)
    if isinstance(value, float) and not value.is_integer():
        raise ValueError('must be a number of requests, or a duration with its unit, such as "5s"')
    return count(value)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def percentiles(value: Any) -> tuple[float, ...]:
    """Read percentiles, separated by commas or as a list: above 0, below 100; sorted, without repeats."""
    parts = value.split(",") if isinstance(value, str) else value
    if isinstance(parts, (int, float)) and not isinstance(parts, bool):
        parts = [parts]
    if not isinstance(parts, (list, tuple)) or not parts:
        raise ValueError("must be percentiles separated by commas, such as 50,90,99")
    got = set()
    for part in parts:
        raw = part.strip().removeprefix("p") if isinstance(part, str) else part
        try:
            one = number(raw)
        except ValueError:
            raise ValueError("must be percentiles separated by commas, such as 50,90,99") from None
        if not 0 < one < 100:
            raise ValueError(f"must be above 0 and below 100, not {one:g}")
        if round(one, 6) != one:
            raise ValueError(f"must have at most 6 decimals, not {one!r}")
        got.add(one)
    return tuple(sorted(got))


def weights(value: Any) -> tuple[int, ...]:
    """Read whole numbers of at least 1, separated by commas or as a list."""
    parts = value.split(",") if isinstance(value, str) else value
    words = "must be whole numbers of at least 1 separated by commas, such as 3,1"
    if not isinstance(parts, (list, tuple)) or not parts:
        raise ValueError(words)
    try:
        return tuple(count32(part) for part in parts)
    except ValueError:
        raise ValueError(words) from None


_DOUBTFUL_S = 10
"""From here on a number without a unit is more often meant in milliseconds, as other load generators have them."""


def slo(value: Any) -> dict[str, float]:
    """Read objectives such as ``ttft:200ms`` (one, several, or a mapping) into metric → milliseconds."""
    if isinstance(value, dict):
        pairs = list(value.items())
    else:
        parts = [value] if isinstance(value, str) else value
        if not isinstance(parts, (list, tuple)):
            raise ValueError('must look like "ttft:200ms"')
        pairs = [pair for part in parts for pair in _objectives(part)]
    got: dict[str, float] = {}
    for name, limit in pairs:
        if name not in SLO_METRICS:
            here = elsewhere.metric(str(name))
            rule = f"here it is {here}" if here else f"it judges each request by {', '.join(SLO_METRICS)}"
            raise ValueError(f"knows no metric {name!r}; {rule}")
        if name in got:
            raise ValueError(f"gives {name} twice")
        if isinstance(limit, str) and _is_number(limit):
            raise ValueError(f'needs a unit, such as "{name}:{limit.strip()}ms"')
        if isinstance(limit, (int, float)) and limit >= _DOUBTFUL_S:
            raise ValueError(f'for {name} takes a number as seconds: write "{limit:g}ms", or "{limit:g}s" if so many')
        try:
            got[name] = round(duration(limit) * 1e3, 6)
        except ValueError as error:
            raise ValueError(f"for {name} {error}") from None
    return got


def _objectives(part: Any) -> list[tuple[str, str]]:
    pieces = re.split(r"[\s,]+", part.strip()) if isinstance(part, str) else [part]
    wrong = next((piece for piece in pieces if not isinstance(piece, str) or piece.count(":") != 1), None)
    if wrong is not None:
        raise ValueError(f'must look like "ttft:200ms", not {wrong!r}')
    return [(piece.partition(":")[0], piece.partition(":")[2]) for piece in pieces]


_STAGE = re.compile(r"\s*([0-9.]+)(?:\s*/s)?(?:\s*(?:-|\.\.)\s*([0-9.]+))?\s*(?:/s)?\s*:\s*(\S+)\s*")


def stages(value: Any) -> tuple[tuple[float, float, float], ...]:
    """Read stages such as ``10/s:30s,10-50/s:1m`` into (rate at the start, rate at the end, seconds)."""
    parts = value.split(",") if isinstance(value, str) else value
    words = 'must look like "10/s:30s,10-50/s:1m" (a step, or a ramp from one rate to another)'
    if not isinstance(parts, (list, tuple)) or not parts:
        raise ValueError(words)
    got = []
    for part in parts:
        match = _STAGE.fullmatch(part) if isinstance(part, str) else None
        if not match:
            raise ValueError(words)
        try:
            start = number(match[1])
            end = number(match[2]) if match[2] else start
            got.append((start, end, duration(match[3])))
        except ValueError:
            raise ValueError(words) from None
    if all(start == 0 and end == 0 for start, end, _ in got):
        raise ValueError("must have a rate above 0 in one stage at least")
    return tuple(got)


def choice(*names: str) -> Any:
    """Return a reader that takes one of ``names``."""

    def read(value: Any) -> str:
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return str(value)

    read.choices = names  # type: ignore[attr-defined]
    return read
