"""A metric's summary, and whatever has some: a phase, or one of its nodes."""

from __future__ import annotations

import math
from typing import Any

import msgspec


class Metric:
    """One metric's summary over a phase. Times are milliseconds.

    A value that does not exist is ``nan``: no comparison with it is true, so ``metric.p99 < 200`` fails where nothing
    was measured. Any percentile that the report holds is an attribute: ``p50``, ``p99``, ``p99_9``.

    Args:
        name: Its name in the report.
        data: Its object in the report.
    """

    __slots__ = ("_data", "name")

    def __init__(self, name: str, data: dict[str, Any] | None) -> None:
        self.name = name
        self._data = data or {}

    @property
    def unit(self) -> str:
        """The unit of its values."""
        return str(self._data.get("unit", "ms"))

    @property
    def count(self) -> int:
        """How many values it summarises."""
        return int(self._data.get("count") or 0)

    @property
    def ci95(self) -> dict[str, tuple[float, float]]:
        """95 % confidence intervals of percentiles, where the sample supports one: ``{"p50": (low, high)}``."""
        found = self._data.get("ci95") or {}
        return {name: (bounds[0], bounds[1]) for name, bounds in found.items() if bounds and None not in bounds}

    @property
    def unsupported(self) -> tuple[str, ...]:
        """Percentiles that so few values can't support."""
        return tuple(self._data.get("unsupported") or ())

    @property
    def percentiles(self) -> tuple[float, ...]:
        """The percentiles that the report holds, ascending: ``(50.0, 99.9)``."""
        keys = (key for key in self._data if key[0] == "p" and key[1:2].isdigit())
        return tuple(sorted(float(key[1:].replace("_", ".")) for key in keys))

    def is_only_extreme(self, percent: float) -> bool:
        """Return whether an unsupported percentile is so far out that it is but the greatest value.

        Args:
            percent: Its number, such as 99.9.
        """
        # Rounded, as ranks are: 100 - 99.9 is a little less than 0.1.
        return percentile_key(percent) in self.unsupported and self.count * round(100 - percent, 6) < 100

    def percentile(self, percent: float) -> float:
        """Return a percentile, ``nan`` where the report doesn't hold it.

        Args:
            percent: Its number: 99.9 for the value that 99.9 % of all are below.
        """
        return self._value(percentile_key(percent))

    def _value(self, name: str) -> float:
        value = self._data.get(name)
        return math.nan if value is None else float(value)

    @property
    def mean(self) -> float:
        """Arithmetic mean."""
        return self._value("mean")

    @property
    def std(self) -> float:
        """Standard deviation of the sample."""
        return self._value("std")

    @property
    def min(self) -> float:
        """Smallest value."""
        return self._value("min")

    @property
    def max(self) -> float:
        """Largest value."""
        return self._value("max")

    def __getattr__(self, name: str) -> float:
        if name.startswith("p") and name[1:2].isdigit():
            if name in self._data or self._data == {}:
                return self._value(name)
            raise AttributeError(f"the report holds no {name} of {self.name}; ask for it with percentiles=…")
        raise AttributeError(f"a metric has no {name}")

    def __bool__(self) -> bool:
        return self.count > 0

    def __repr__(self) -> str:
        middle, far = self._value("p50"), self._value("p99")
        return f"Metric({self.name}: n={self.count}, p50={middle:.6g}, p99={far:.6g} {self.unit})"


def percentile_key(percent: float) -> str:
    """Return the report's key of a percentile: ``p50``, ``p99_9``."""
    return "p" + f"{percent:.6f}".rstrip("0").rstrip(".").replace(".", "_")


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """What has metrics by name.

    Args:
        report: Its part of ``report.json``.
    """

    report: dict[str, Any]

    def metric(self, name: str) -> Metric:
        """Return a metric by its name in the report; one without values where it wasn't measured."""
        return Metric(name, self.report["metrics"].get(name))

    @property
    def ttfb(self) -> Metric:
        """Time to the first byte, from sent."""
        return self.metric("ttfb")

    @property
    def ttft(self) -> Metric:
        """Time to the first token, from sent."""
        return self.metric("ttft")

    @property
    def ttfo(self) -> Metric:
        """Time to the first output that is not reasoning, from sent."""
        return self.metric("ttfo")

    @property
    def tpot(self) -> Metric:
        """Time per output token after the first."""
        return self.metric("tpot")

    @property
    def itl(self) -> Metric:
        """Time between tokens, where the server tells how many tokens a chunk holds."""
        return self.metric("itl")

    @property
    def icl(self) -> Metric:
        """Time between chunks that carry tokens, pooled over requests."""
        return self.metric("icl")

    @property
    def ntpot(self) -> Metric:
        """Latency per output token."""
        return self.metric("ntpot")

    @property
    def latency(self) -> Metric:
        """Time to the last token (streamed) or the end of the answer, from sent."""
        return self.metric("latency")

    @property
    def connect(self) -> Metric:
        """Time to connect, of the requests that did."""
        return self.metric("connect")

    @property
    def send_lateness(self) -> Metric:
        """How long after its time a request was sent."""
        return self.metric("send_lateness")

    @property
    def response_ttft(self) -> Metric:
        """Time to the first token, from planned."""
        return self.metric("response_ttft")

    @property
    def response_latency(self) -> Metric:
        """Time to the last token or the end of the answer, from planned."""
        return self.metric("response_latency")
