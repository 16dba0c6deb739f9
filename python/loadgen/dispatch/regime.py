"""Services to simulate: the experiment's regimes by name, ones written down in short, and what a run has measured."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec

from loadgen import _core
from loadgen.config import values
from loadgen.errors import ConfigError

_T = TypeVar("_T")
_EXAMPLE = "lognormal:3s,0.35;stall=0.085:20s..90s;slots=24;rate=5/s,20"


class Service(msgspec.Struct, frozen=True):
    """Who is called in a simulation.

    Args:
        name: What people call it.
        described: ``Service`` of ``rust/src/sim/service.rs`` as plain values; seconds.
        items: Calls that belong to it; ``None`` where nothing says how many.
    """

    name: str
    described: dict[str, Any]
    items: int | None = None

    @property
    def json(self) -> str:
        """The service as the core takes it."""
        return json.dumps(self.described)


def named(name: str) -> Service:
    """Return a regime of the published experiment, ``R0`` to ``R6``.

    Args:
        name: Its name.

    Raises:
        ConfigError: If there is none of that name.
    """
    try:
        items, described = _core.regime(name)
    except ValueError as error:
        raise ConfigError(str(error), f"or describe one, such as {_EXAMPLE!r}") from None
    return Service(name.upper(), _plain(described), items)


def drawn(seed: int) -> Service:
    """Return a service drawn at random: stalls up to 15 %, capacity 4 to 200, half of them with a limit of rate.

    Args:
        seed: The same seed gives the same service.
    """
    items, described = _core.random_regime(seed)
    return Service(f"random {seed}", _plain(described), items)


def _plain(described: str) -> dict[str, Any]:
    """Return a service as the core describes it as plain values.

    Args:
        described: Its JSON.
    """
    found: dict[str, Any] = json.loads(described)
    return found


def read(text: str) -> Service:
    """Read a service that is written down in short.

    It begins with a regime's name, or with how long an ordinary call takes: ``lognormal:MEDIAN,SIGMA``,
    ``uniform:LOW..HIGH`` or ``constant:TIME``. What follows, each after a semicolon, is added to it:
    ``stall=SHARE:LOW..HIGH`` (``,SHARE`` of which belong to the item), ``error=SHARE``, ``slots=N`` served at once,
    ``most=N`` in flight before it refuses, ``rate=N/s,BURST``, ``outage=FROM..TO``.

    Args:
        text: Such as ``R0``, ``R0;slots=24`` or ``lognormal:3s,0.35;stall=0.085:20s..90s``.

    Raises:
        ConfigError: If it can't be read; says which part and why.
    """
    first, *parts = [part.strip() for part in text.strip().split(";")]
    kind, colon, rest = first.partition(":")
    service = Service(text, {"latency": _latency(kind, rest)}) if colon else named(first)
    for part in parts:
        _add(service.described, part)
    return msgspec.structs.replace(service, name=text.strip()) if parts else service


def measured(name: str, latencies_s: Sequence[float], failures: Sequence[tuple[int, float]] = ()) -> Service:
    """Return the service that a run has met: each call takes as long as one of its requests did.

    Args:
        name: What people call it.
        latencies_s: Seconds of each request that was answered.
        failures: Status (0 for none) and seconds of each that failed.

    Raises:
        ConfigError: If no request was answered.
    """
    if not latencies_s:
        raise ConfigError(f"{name} has no answered request to draw latencies from")
    described: dict[str, Any] = {"latency": {"kind": "recorded", "seconds": list(latencies_s)}}
    total = len(latencies_s) + len(failures)
    if failures:
        described["error"] = {
            "share": len(failures) / total,
            "after_s": statistics.median(seconds for _, seconds in failures),
            "status": Counter(status or 500 for status, _ in failures).most_common(1)[0][0],
        }
    return Service(name, described, total)


def _latency(kind: str, text: str) -> dict[str, Any]:
    if kind == "lognormal":
        median, sigma = _two(kind, text, ",")
        return {"kind": kind, "median_s": _duration(kind, median), "sigma": _take(kind, sigma, values.number)}
    if kind == "uniform":
        return {"kind": kind, **_range(kind, text)}
    if kind == "constant":
        return {"kind": kind, "seconds": _duration(kind, text)}
    raise ConfigError(f"no latency is called {kind!r}", "there are lognormal:3s,0.35, uniform:2s..4s and constant:3s")


def _add(described: dict[str, Any], part: str) -> None:
    name, _, text = (piece.strip() for piece in part.partition("="))
    if name == "stall":
        share, times = _two(name, text, ":")
        times, _, of_item = times.partition(",")
        described[name] = {"share": _take(name, share, values.share), **_range(name, times)}
        if of_item:
            described[name]["of_item"] = _take(name, of_item, values.share)
    elif name == "error":
        described[name] = {"share": _take(name, text, values.share)}
    elif name in ("slots", "most"):
        described[name] = _take(name, text, values.count32)
    elif name == "rate":
        rate, burst = _two(name, text, ",")
        described[name] = {
            "per_s": _take(name, rate.removesuffix("/s"), values.positive),
            "burst": _take(name, burst, values.positive),
        }
    elif name == "outage":
        window = _range(name, text)
        described.setdefault("outages", []).append({"from_s": window["low_s"], "to_s": window["high_s"]})
    else:
        raise ConfigError(
            f"a service has no part {part!r}", f"it has stall, error, slots, most, rate and outage: {_EXAMPLE!r}"
        )


def _range(name: str, text: str) -> dict[str, float]:
    low, high = _two(name, text, "..")
    return {"low_s": _take(name, low, values.duration_or_zero), "high_s": _duration(name, high)}


def _duration(name: str, text: str) -> float:
    return _take(name, text, values.duration)


def _two(name: str, text: str, between: str) -> tuple[str, str]:
    one, found, other = text.partition(between)
    if not found:
        raise ConfigError(f"{name} {text!r} needs two values with {between!r} between them", f"such as {_EXAMPLE!r}")
    return one.strip(), other.strip()


def _take(name: str, text: str, reader: Callable[[Any], _T]) -> _T:
    try:
        return reader(text)
    except ValueError as error:
        raise ConfigError(f"{name} {text!r} {error}", f"a service is written such as {_EXAMPLE!r}") from None
