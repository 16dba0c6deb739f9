"""A phase, as a session is told it."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import msgspec

from loadgen.config import OPTIONS, Config, PhaseOptions
from loadgen.dataset import Dataset
from loadgen.errors import ConfigError
from loadgen.session import scoring
from loadgen.session.order import SampleOrder, name_of
from loadgen.session.pattern import strategy_of, warmup_of
from loadgen.session.settings import PhaseSettings, stored_settings
from loadgen.session.strategy import LoadStrategy, PlannedStrategy, is_planned

__all__ = [
    "MOST",
    "Drain",
    "Limits",
    "PhaseConfig",
    "PhaseSettings",
    "PhaseType",
    "check",
    "load_of",
    "most_in_flight",
    "phases_of",
    "stored",
    "words_of",
]

Order: TypeAlias = str | SampleOrder | type[SampleOrder]

MOST = 65_535
"""How many phases a session may have: the log numbers them in 16 bits."""


class PhaseType(enum.Enum):
    """What a phase is for."""

    WARMUP = "warmup"
    """Heats the server up; not part of any result. What is in flight at its end is handed over."""
    PERFORMANCE = "performance"
    """Measured: it has a report."""
    ACCURACY = "accuracy"
    """Its answers are kept and scored."""


def _read(struct: Any, field: str, option: str) -> None:
    """Read a field as the option of that name is read, and keep the typed value."""
    value = getattr(struct, field)
    if value is None:
        return
    try:
        msgspec.structs.force_setattr(struct, field, OPTIONS[option].read(value))
    except ValueError as error:
        raise ConfigError(f"{field} {value!r} {error}") from None


class Limits(msgspec.Struct, frozen=True):
    """When a phase stops issuing, whichever comes first.

    Args:
        samples: After this many requests.
        duration: After this long from its start: seconds, or text such as ``"60s"``.

    Raises:
        ConfigError: If a value can't be used.
    """

    samples: int | None = None
    duration: float | str | None = None

    def __post_init__(self) -> None:
        _read(self, "samples", "requests")
        _read(self, "duration", "duration")

    @property
    def duration_s(self) -> float | None:
        """The duration in seconds."""
        return None if self.duration is None else float(self.duration)


class Drain(msgspec.Struct, frozen=True):
    """What becomes of the requests in flight at a phase's end.

    Args:
        enabled: Wait for them; ``None`` does so but for a warm-up, which hands them over to the next phase.
        timeout: Longest wait, after which they are cancelled and counted: seconds, or text such as ``"2m"``.

    Raises:
        ConfigError: If the timeout can't be used.
    """

    enabled: bool | None = None
    timeout: float | str = 240.0

    def __post_init__(self) -> None:
        _read(self, "timeout", "drain")


class PhaseConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One phase of a session.

    Args:
        name: Unique in the session.
        type: What it is for; its word will do.
        strategy: When requests start.
        dataset: Its prompts: a file, or ready ones; ``None`` makes synthetic ones.
        order: How samples are drawn: ``without_replacement``, ``sequential``, ``with_replacement`` or ``single``, or a
            class of :mod:`loadgen.session.order`.
        settings: What it sends and how, where it differs from the run.
        handler: Called with each completed request of this phase, in place of the session's own.
        limits: When it stops; a burst, stages and a strategy of the user's own end by themselves.
        drain: What becomes of the requests in flight at its end.
        seed: Seed of order, arrivals and synthetic prompts.
        scorer: What scores the answers of an accuracy phase, as :func:`loadgen.session.scoring.scorer_of` reads it.

    Raises:
        ConfigError: If a value can't be used, or nothing would ever end the phase.
    """

    name: str
    type: PhaseType | str = PhaseType.PERFORMANCE
    strategy: PlannedStrategy | LoadStrategy
    dataset: Dataset | str | os.PathLike[str] | None = None
    order: Order = "without_replacement"
    settings: PhaseSettings = PhaseSettings()
    handler: Callable[..., Any] | None = None
    limits: Limits = Limits()
    drain: Drain = Drain()
    seed: int = 0
    scorer: Any = None

    def __post_init__(self) -> None:
        _read(self, "name", "model")  # any text without control characters
        _check_strategy(self)
        if not isinstance(self.type, PhaseType):
            known = [kind.value for kind in PhaseType]
            if self.type not in known:
                raise ConfigError(f"phase {self.name}: type {self.type!r} must be one of {', '.join(known)}")
            msgspec.structs.force_setattr(self, "type", PhaseType(self.type))
        _read(self, "seed", "seed")
        try:
            msgspec.structs.force_setattr(self, "order", name_of(self.order))
        except ValueError as error:
            raise ConfigError(f"phase {self.name}: {error}") from None
        _check_end(self)
        _check_scorer(self)

    @property
    def drains(self) -> bool:
        """Whether it waits for what is in flight at its end."""
        return self.kind is not PhaseType.WARMUP if self.drain.enabled is None else self.drain.enabled

    @property
    def kind(self) -> PhaseType:
        """Its type, never as a word."""
        return PhaseType(self.type)

    def options(self, run: Config) -> Config:
        """Return the run's options with the phase's settings in place of its own; their load is not the phase's.

        Args:
            run: The run's options.
        """
        options = self.settings.applied(run)
        # There is nothing to score without the answers.
        return msgspec.structs.replace(
            options, save_responses=options.save_responses or self.kind is PhaseType.ACCURACY
        )


def _check_strategy(phase: PhaseConfig) -> None:
    if isinstance(phase.strategy, type) or not callable(getattr(phase.strategy, "execute", None)):
        raise ConfigError(
            f"phase {phase.name}: {phase.strategy!r} is no load strategy",
            "give it one, such as ConcurrencyStrategy(8), or any object with async execute(issuer)",
        )


def _check_end(phase: PhaseConfig) -> None:
    load = load_of(phase.strategy)
    limits = phase.limits
    if load["kind"] in ("concurrency", "rate", "dispatch") and limits.samples is None and limits.duration is None:
        raise ConfigError(
            f"phase {phase.name} has no end: after how many requests, or how long, does it stop?",
            "give it limits: Limits(samples=1000), say, or Limits(duration='60s')",
        )
    if load["kind"] == "burst" and limits.samples not in (None, load["n"]):
        raise ConfigError(
            f"phase {phase.name}: a burst of {load['n']:,} and a limit of {limits.samples:,} requests contradict each "
            "other",
            "leave the limit out",
        )


def _check_scorer(phase: PhaseConfig) -> None:
    if phase.kind is not PhaseType.ACCURACY:
        name = "scorer" if phase.scorer is not None else "target_field"
        if phase.scorer is not None or phase.settings.target_field is not None:
            raise ConfigError(
                f"phase {phase.name} is a {phase.kind.value} phase, and {name} is for accuracy phases",
                "give it type: accuracy, or leave it out",
            )
        return
    if phase.scorer is None:
        raise ConfigError(
            f"phase {phase.name} is an accuracy phase without a scorer", "give it one: scorer: numeric, say"
        )
    try:
        msgspec.structs.force_setattr(phase, "scorer", scoring.scorer_of(phase.scorer))
    except ConfigError as error:
        raise ConfigError(f"phase {phase.name}: {error.message}", error.way_out) from None


def load_of(strategy: PlannedStrategy | LoadStrategy) -> dict[str, Any]:
    """Return a strategy's load as the engine is told it; one that issues by itself has the load ``manual``.

    Args:
        strategy: A load strategy.
    """
    return strategy.load() if is_planned(strategy) else {"kind": "manual"}


def words_of(strategy: PlannedStrategy | LoadStrategy) -> str:
    """Return a strategy's load as a report says it; a user's own may have ``words``, else it goes by its class.

    Args:
        strategy: A load strategy.
    """
    return str(getattr(strategy, "words", type(strategy).__name__))


def most_in_flight(strategy: PlannedStrategy | LoadStrategy) -> tuple[str, int] | None:
    """Return the most requests that a strategy has in flight, with the option that says so; ``None`` for no bound.

    Args:
        strategy: A load strategy.
    """
    load, cap = load_of(strategy), getattr(strategy, "max_concurrency", None)
    if load["kind"] == "concurrency":
        return "concurrency", load["n"]
    if cap is not None:
        return "max_concurrency", int(cap)
    return ("burst", load["n"]) if load["kind"] == "burst" else None


def refuse_one(phases: object) -> None:
    """Refuse a single phase where a list of them belongs, before anything goes through it.

    Args:
        phases: What a caller gave.

    Raises:
        ConfigError: If it is one phase.
    """
    if isinstance(phases, PhaseConfig):
        raise ConfigError("phases is PhaseConfig, one phase", "give a list of phases")


def check(phases: Sequence[PhaseConfig]) -> None:
    """Check the phases of a session against each other.

    Args:
        phases: In their order.

    Raises:
        ConfigError: If there is none, or too many, two have the same name, or the last one is a warm-up.
    """
    if not phases:
        raise ConfigError("a session without phases", "give it one phase at least")
    if len(phases) > MOST:
        raise ConfigError(f"{len(phases):,} phases; a session has at most {MOST:,}", "make several runs of them")
    seen: set[str] = set()
    for phase in phases:
        if phase.name in seen:
            raise ConfigError(f"two phases are named {phase.name}", "results go by the name: give each its own")
        seen.add(phase.name)
    if phases[-1].kind is PhaseType.WARMUP:
        raise ConfigError(
            f"the last phase, {phases[-1].name}, is a warm-up: nothing follows that it warms up for",
            "put a performance phase behind it",
        )


def phases_of(config: Config) -> list[PhaseConfig]:
    """Return the phases of a run's options: those listed, else a warm-up where one is asked for, and the measured one.

    Args:
        config: The run's options.
    """
    if config.phases:
        return [_listed(phase) for phase in config.phases]
    measured = strategy_of(config)
    phases = []
    if config.warmup is not None:
        requests = config.warmup if isinstance(config.warmup, int) else None
        limits = Limits(requests, None if requests is not None else config.warmup)
        phases.append(_phase(config, PhaseType.WARMUP, warmup_of(measured, requests), limits))
    phases.append(_phase(config, PhaseType.PERFORMANCE, measured, Limits(config.requests, config.duration)))
    return phases


def _phase(options: Config, kind: PhaseType, strategy: PlannedStrategy, limits: Limits, **own: Any) -> PhaseConfig:
    told: dict[str, Any] = {"name": kind.value, "settings": PhaseSettings.of(options)}
    told["drain"] = Drain(timeout=options.drain)
    return PhaseConfig(
        type=kind,
        dataset=options.dataset,
        strategy=strategy,
        order=options.order,
        limits=limits,
        seed=options.seed,
        **told | own,
    )


def _listed(phase: PhaseOptions) -> PhaseConfig:
    options = phase.options
    limits = Limits(options.requests, options.duration)
    return _phase(
        options,
        PhaseType(phase.type),
        strategy_of(options),
        limits,
        name=phase.name,
        settings=msgspec.structs.replace(PhaseSettings.of(options), target_field=phase.target_field),
        drain=Drain(phase.drains, options.drain),
        scorer=phase.scorer,
    )


def stored(phase: PhaseConfig, run: Config) -> dict[str, Any]:
    """Return a phase as it may be stored and shown: plain JSON values, no secrets, defaults included.

    Args:
        phase: The phase.
        run: The run's options.
    """
    source = phase.dataset.name if isinstance(phase.dataset, Dataset) else phase.dataset
    shown = {
        "name": phase.name,
        "type": phase.kind.value,
        "load": {**load_of(phase.strategy), "words": words_of(phase.strategy)},
        "max_concurrency": getattr(phase.strategy, "max_concurrency", None),
        "requests": phase.limits.samples,
        "duration": phase.limits.duration_s,
        "dataset": None if source is None else os.fspath(source),
        "order": name_of(phase.order),
        "seed": phase.seed,
        "drain": float(phase.drain.timeout) if phase.drains else False,
        **stored_settings(phase.options(run)),
    }
    if phase.kind is PhaseType.ACCURACY:
        shown["scorer"] = None if phase.scorer is None else scoring.stored(phase.scorer)
        shown["target_field"] = phase.settings.target_field
    return shown
