"""The loads of a phase, as the engine is told them and as a report says them."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from loadgen.config import Config


class Arrival(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the gaps of an open loop spread; every kind has the mean ``1 / rate``.

    Args:
        kind: The distribution.
        burstiness: Shape of gamma gaps: 1 is Poisson, below 1 burstier.
        low: Shortest uniform gap, as a share of the mean.
        high: Longest uniform gap, as a share of the mean.
    """

    kind: Literal["constant", "poisson", "gamma", "uniform"]
    burstiness: float | None = None
    low: float | None = None
    high: float | None = None


class Concurrency(msgspec.Struct, frozen=True):
    """Closed loop: exactly ``n`` requests in flight."""

    n: int

    @property
    def max_concurrency(self) -> None:
        """No cap: the load is exact."""

    def load(self) -> dict[str, Any]:
        """Return the load as the engine is told it (``Load`` of ``rust/src/schedule/load.rs``)."""
        return {"kind": "concurrency", "n": self.n}

    @property
    def words(self) -> str:
        """The load as a report says it."""
        return f"closed loop, {self.n:,} in flight"


class Rate(msgspec.Struct, frozen=True):
    """Open loop on an absolute schedule, ``rate`` requests a second, at most ``max_concurrency`` in flight."""

    rate: float
    arrival: Arrival
    max_concurrency: int | None = None

    def load(self) -> dict[str, Any]:
        """Return the load as the engine is told it."""
        return {"kind": "rate", "rate": self.rate, "arrival": msgspec.to_builtins(self.arrival)}

    @property
    def words(self) -> str:
        """The load as a report says it."""
        shape = {"poisson": "Poisson", "constant": "constant", "uniform": "uniform", "gamma": "gamma"}[
            self.arrival.kind
        ]
        burstiness = f" (burstiness {self.arrival.burstiness:g})" if self.arrival.burstiness is not None else ""
        return f"{shape}{burstiness} {self.rate:,g} req/s"


class Stage(msgspec.Struct, frozen=True, rename={"start": "from", "end": "to"}):
    """One stage of an open loop: the rate runs linearly from ``start`` to ``end`` requests a second."""

    start: float
    end: float
    seconds: float

    @property
    def words(self) -> str:
        """The stage as a report says it."""
        rate = f"{self.start:g}" if self.start == self.end else f"{self.start:g} → {self.end:g}"
        return f"{rate}/s for {self.seconds:g} s"


class Stages(msgspec.Struct, frozen=True):
    """Open loop whose rate changes, at most ``max_concurrency`` in flight."""

    stages: tuple[Stage, ...]
    arrival: Arrival
    max_concurrency: int | None = None

    def load(self) -> dict[str, Any]:
        """Return the load as the engine is told it."""
        stages = [msgspec.to_builtins(stage) for stage in self.stages]
        return {"kind": "stages", "stages": stages, "arrival": msgspec.to_builtins(self.arrival)}

    @property
    def words(self) -> str:
        """The load as a report says it."""
        shown = ", ".join(stage.words for stage in self.stages[:4])
        more = f", and {len(self.stages) - 4} more stages" if len(self.stages) > 4 else ""
        return f"{'Poisson' if self.arrival.kind == 'poisson' else 'constant'} {shown}{more}"


class Burst(msgspec.Struct, frozen=True):
    """``n`` requests at once."""

    n: int
    max_concurrency: int | None = None

    def load(self) -> dict[str, Any]:
        """Return the load as the engine is told it."""
        return {"kind": "burst", "n": self.n}

    @property
    def words(self) -> str:
        """The load as a report says it."""
        return f"burst of {self.n:,}"


Load: TypeAlias = Concurrency | Rate | Stages | Burst


def of(config: Config) -> Load:
    """Return the load that a run's options ask for; they have been checked to ask for exactly one."""
    if config.concurrency is not None:
        return Concurrency(config.concurrency)
    if config.rate is not None:
        return Rate(config.rate, _arrival(config), config.max_concurrency)
    if config.stages is not None:
        stages = tuple(Stage(*stage) for stage in config.stages)
        return Stages(stages, _arrival(config), config.max_concurrency)
    if config.burst is not None:
        return Burst(config.burst, config.max_concurrency)
    raise AssertionError("checked options hold a load")


def warmup_of(load: Load, requests: int | None) -> Load:
    """Return the load that warms a server up for ``load``: the same, but never all at once, and never rising.

    Args:
        load: The measured load.
        requests: How many requests the warm-up has; ``None`` where its duration ends it.
    """
    if isinstance(load, Burst):
        return Concurrency(max(1, min(load.n, requests or load.n, 64)))
    if isinstance(load, Stages):
        first = next(stage for stage in load.stages if stage.start > 0 or stage.end > 0)
        return Rate(max(first.start, first.end), load.arrival, load.max_concurrency)
    return load


def _arrival(config: Config) -> Arrival:
    if config.arrival == "gamma":
        return Arrival("gamma", burstiness=1.0 if config.burstiness is None else config.burstiness)
    if config.arrival == "uniform":
        return Arrival("uniform", low=0.0, high=2.0)
    return Arrival(config.arrival)
