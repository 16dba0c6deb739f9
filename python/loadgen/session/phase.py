"""A phase as the engine is told it, and the phases that a run's options ask for."""

from __future__ import annotations

import enum
from typing import Any

import msgspec

from loadgen.config import Config
from loadgen.session import strategy as strategies
from loadgen.session.strategy import BurstStrategy, PlannedStrategy


class PhaseType(enum.Enum):
    """What a phase is for."""

    WARMUP = "warmup"
    """Heats the server up; not part of any result. What is in flight at its end is handed over."""
    PERFORMANCE = "performance"
    """Measured: it has a report."""
    ACCURACY = "accuracy"
    """Its answers are kept and scored."""


class PhasePlan(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "type"}):
    """One phase, in the engine's words (``PhaseConfig`` of ``rust/src/engine/config.rs``).

    Args:
        name: Unique in the run.
        kind: What it is for.
        load: When requests start: a strategy's ``load()``.
        max_concurrency: At most this many in flight, on top of an open loop.
        requests: Stop after this many.
        duration_s: Stop after this many seconds.
        drain: Wait for what is in flight at its end.
        drain_timeout_s: Seconds that wait may take.
        order: How samples are drawn.
        seed: Seed of order and arrivals.
        unique_prompts: Put a different marker into every prompt.
        stop_early: Stop when the first answers are all refusals.
        meta: What the report must know of the phase.
    """

    name: str
    kind: PhaseType
    load: dict[str, Any]
    max_concurrency: int | None
    requests: int | None
    duration_s: float | None
    drain: bool
    drain_timeout_s: float
    order: str
    seed: int
    unique_prompts: bool
    stop_early: bool
    meta: dict[str, Any]

    def json(self) -> str:
        """Return the phase as the engine reads it."""
        return msgspec.json.encode(self).decode()


def phases_of(config: Config, dataset: dict[str, Any]) -> list[PhasePlan]:
    """Return the phases of a run: a warm-up where one is asked for, and the measured one.

    Args:
        config: The run's options.
        dataset: Name, sha256 and number of samples, for the report.
    """
    measured = strategies.of(config)
    plans = []
    if config.warmup is not None:
        requests = config.warmup if isinstance(config.warmup, int) else None
        plans.append(
            _plan(
                config,
                dataset,
                PhaseType.WARMUP,
                strategies.warmup_of(measured, requests),
                requests,
                None if requests is not None else config.warmup,
            )
        )
    requests = None if isinstance(measured, BurstStrategy) else config.requests
    plans.append(_plan(config, dataset, PhaseType.PERFORMANCE, measured, requests, config.duration))
    return plans


def _plan(
    config: Config,
    dataset: dict[str, Any],
    kind: PhaseType,
    strategy: PlannedStrategy,
    requests: int | None,
    duration: float | None,
) -> PhasePlan:
    warmup = kind is PhaseType.WARMUP
    return PhasePlan(
        name=kind.value,
        kind=kind,
        load=strategy.load(),
        max_concurrency=strategy.max_concurrency,
        requests=requests,
        duration_s=duration,
        drain=not warmup,
        drain_timeout_s=config.drain,
        order="without_replacement",
        # Another seed, so that the measured phase doesn't begin with the very prompts that the warm-up has sent.
        seed=config.seed ^ (1 << 62) if warmup else config.seed,
        unique_prompts=config.unique_prompts,
        stop_early=True,
        meta={
            "load": {**strategy.load(), "words": strategy.words, "max_concurrency": config.max_concurrency},
            "dataset": dataset,
            "seed": config.seed,
        },
    )
