"""How the gaps of an open loop spread, and how its rate changes: the engine's words, checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

import msgspec

from loadgen.config import values
from loadgen.config.options import ArrivalKind

T = TypeVar("T")

KINDS: tuple[ArrivalKind, ...] = get_args(ArrivalKind)


class Arrival(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the gaps of an open loop spread; every kind has the mean ``1 / rate``.

    Args:
        kind: The distribution.
        burstiness: Shape of gamma gaps: 1 (where it is left out) is Poisson, below 1 burstier.
        low: Shortest uniform gap, in mean gaps; 0 where both are left out.
        high: Longest uniform gap, in mean gaps: 2 minus low.

    Raises:
        ValueError: If a parameter is none of its kind's, or out of bounds.
    """

    kind: ArrivalKind
    burstiness: float | None = None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"there is no arrival {self.kind!r}: take one of {', '.join(KINDS)}")
        if self.burstiness is not None:
            if self.kind != "gamma":
                raise ValueError(f"burstiness shapes gamma arrivals, and these are {self.kind}")
            valid("burstiness", self.burstiness, values.positive)
        if (self.low, self.high) == (None, None):
            return
        if self.kind != "uniform":
            raise ValueError(f"low and high bound uniform gaps, and these are {self.kind}")
        low, high = valid("low", self.low, values.number), valid("high", self.high, values.number)
        if not (0 <= low <= high and abs(low + high - 2) < 1e-9):
            raise ValueError(
                f"uniform gaps must satisfy 0 <= low ({low}) <= high ({high}) and low + high = 2, in mean gaps"
            )

    def told(self) -> dict[str, Any]:
        """Return it as the engine is told it, with nothing left out."""
        told: dict[str, Any] = {"kind": self.kind}
        if self.kind == "gamma":
            told["burstiness"] = 1.0 if self.burstiness is None else float(self.burstiness)
        if self.kind == "uniform":
            told["low"] = 0.0 if self.low is None else float(self.low)
            told["high"] = 2.0 if self.high is None else float(self.high)
        return told

    @property
    def words(self) -> str:
        """The arrival as a report says it."""
        name = "Poisson" if self.kind == "poisson" else self.kind
        return f"{name} (burstiness {self.told()['burstiness']:g})" if self.kind == "gamma" else name


class Stage(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """One stage of an open loop: the rate runs linearly from ``start`` to ``end`` requests a second.

    Args:
        start: Requests a second at its start, 0 or more.
        end: Requests a second at its end; equal to ``start`` for a step.
        seconds: Its length, above 0.

    Raises:
        ValueError: If a number is out of bounds.
    """

    start: float
    end: float
    seconds: float

    def __post_init__(self) -> None:
        for field in ("start", "end"):
            rate = getattr(self, field)
            read = valid(f"a stage's rate at its {field}", rate, values.number)
            if read < 0:
                raise ValueError(f"a stage's rate at its {field} must be 0 or more, not {rate!r}")
            msgspec.structs.force_setattr(self, field, read)
        msgspec.structs.force_setattr(self, "seconds", valid("a stage's seconds", self.seconds, values.positive))

    @property
    def words(self) -> str:
        """The stage as a report says it."""
        rate = f"{self.start:g}" if self.start == self.end else f"{self.start:g} → {self.end:g}"
        return f"{rate}/s for {self.seconds:g} s"


def arrival_of(value: str | Arrival | Mapping[str, Any], burstiness: float | None) -> Arrival:
    """Read an arrival: its kind, the mapping that the engine is told, or an :class:`Arrival`.

    Args:
        value: What was given.
        burstiness: The shape of gamma gaps, where it was given beside the kind.

    Raises:
        ValueError: If it can't be read, or the shape was given twice.
    """
    if isinstance(value, str):
        return Arrival(value, burstiness=burstiness)  # type: ignore[arg-type]  # it checks the kind itself
    if burstiness is not None:
        raise ValueError(f"burstiness {burstiness!r} stands beside an arrival that has its own: give it once")
    return value if isinstance(value, Arrival) else _converted(value, Arrival, "an arrival")


def stages_of(value: Any) -> tuple[Stage, ...]:
    """Read stages: text such as ``10/s:30s,10-50/s:1m``, or a list of such texts, triples, mappings and stages.

    Args:
        value: What was given.

    Raises:
        ValueError: If one can't be read, or all of them rest.
    """
    parts = [value] if isinstance(value, (str, Stage)) else value
    if not isinstance(parts, (list, tuple)) or not parts:
        raise ValueError(f"stages must be text such as '10/s:30s,10-50/s:1m', or a list of stages, not {value!r}")
    stages = tuple(stage for part in parts for stage in _stages(part))
    if all(stage.start == 0 and stage.end == 0 for stage in stages):
        raise ValueError("stages must have a rate above 0 in one of them at least")
    return stages


def valid(name: str, value: Any, read: Callable[[Any], T]) -> T:
    """Read a value, and name it where it breaks its rule.

    Args:
        name: What the value is.
        value: What was given.
        read: One of :mod:`loadgen.config.values`.

    Raises:
        ValueError: With name, rule and value.
    """
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name} {error}, not {value!r}") from None


def _stages(part: Any) -> list[Stage]:
    if isinstance(part, Stage):
        return [part]
    if isinstance(part, str):
        return [Stage(*stage) for stage in valid("stages", part, values.stages)]
    if isinstance(part, Mapping):
        return [_converted(part, Stage, "a stage")]
    if isinstance(part, (list, tuple)) and len(part) == 3:
        return [Stage(*part)]
    raise ValueError(
        f"a stage is (rate at its start, rate at its end, seconds) or text such as '10/s:30s', not {part!r}"
    )


def _converted(value: Any, kind: type[T], name: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ValueError(f"{name} can't be {value!r}: {error}") from None
