"""A phase, as the engine is told it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from loadgen.config import Config
from loadgen.config.nodes import balance_of
from loadgen.dataset import Dataset
from loadgen.session import scoring
from loadgen.session.adaptive import AdaptiveStrategy
from loadgen.session.order import name_of
from loadgen.session.phase import PhaseConfig, PhaseType, load_of, words_of
from loadgen.session.settings import differing, request_of
from loadgen.session.strategy import is_planned


class PhasePlan(msgspec.Struct, frozen=True, kw_only=True, rename={"kind": "type"}):
    """One phase, in the engine's words (``PhaseConfig`` of ``rust/src/engine/config.rs``).

    Args:
        name: Unique in the run.
        kind: What it is for.
        load: When requests start.
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
        request: How its requests differ from the run's; it may hold secrets.
        balance: How its requests are spread over several nodes; ``None`` where there is one, or a policy decides.
        completions: What Python is told of each request's end.
        place: Its number and how many there are, where a session was given as a list of phases; not the engine's.
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
    request: dict[str, Any] | None = None
    balance: dict[str, Any] | None = None
    completions: Literal["none", "ids", "answers"] = "none"
    place: tuple[int, int] | None = None

    @property
    def words(self) -> str:
        """The load as a report says it."""
        return str(self.meta["load"]["words"])

    @property
    def most_requests(self) -> int | None:
        """How many requests it sends at most; ``None`` where only time or its strategy bounds it."""
        return int(self.load["n"]) if self.load["kind"] == "burst" else self.requests

    @property
    def longest_s(self) -> float | None:
        """How many seconds requests start for at most; ``None`` where only their number or its strategy bounds it."""
        if self.duration_s is None and self.load["kind"] == "stages":
            return float(sum(stage["seconds"] for stage in self.load["stages"]))
        return self.duration_s

    def json(self) -> str:
        """Return the phase as the engine reads it."""
        told = msgspec.to_builtins(self)
        del told["place"]
        for name in ("request", "balance"):
            if told[name] is None:
                del told[name]
        if self.completions == "none":
            del told["completions"]
        return msgspec.json.encode(told).decode()

    def __repr__(self) -> str:
        return f"PhasePlan({self.name!r}, {self.kind.value}, {self.words})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # the request may hold secrets
        return [("name", self.name), ("type", self.kind.value), ("load", self.words)]


def plan_of(
    phase: PhaseConfig,
    run: Config,
    dataset: dict[str, Any],
    place: tuple[int, int] | None = None,
    *,
    occupies: bool = False,
) -> PhasePlan:
    """Return a phase in the engine's words.

    Args:
        phase: The phase.
        run: The run's options.
        dataset: Name, sha256 and number of samples, for the report.
        place: Its number and how many there are, where a list of phases was given; its report then says what differs.
        occupies: Whether what it hands over occupies slots of a strategy of the user's own, which hears of the ends.
    """
    settings = phase.options(run)
    load, cap = _load(phase, settings)
    needs_ids = occupies or not is_planned(phase.strategy)
    warmup = phase.kind is PhaseType.WARMUP
    meta = {
        "load": {**load, "words": words_of(phase.strategy), "max_concurrency": cap},
        "dataset": dataset,
        "seed": phase.seed,
    }
    if phase.kind is PhaseType.ACCURACY:
        path = None if isinstance(phase.dataset, Dataset) else phase.dataset
        meta["scoring"] = scoring.described(
            phase.scorer, path, prompt_field=settings.prompt_field, target_field=phase.settings.target_field
        )
    if place is not None:
        meta["settings"] = differing(settings, run)
    return PhasePlan(
        name=phase.name,
        kind=phase.kind,
        load=load,
        max_concurrency=cap,
        requests=None if load["kind"] == "burst" else phase.limits.samples,
        duration_s=phase.limits.duration_s,
        drain=phase.drains,
        drain_timeout_s=float(phase.drain.timeout),
        order=name_of(phase.order),
        # Another seed, so that the measured phase doesn't begin with the very prompts that the warm-up has sent.
        seed=phase.seed ^ (1 << 62) if warmup else phase.seed,
        unique_prompts=settings.unique_prompts,
        stop_early=True,
        meta=meta,
        request=request_of(settings, run),
        balance=balance_of(settings) if load["kind"] != "dispatch" else None,
        completions="answers" if phase.handler is not None else "ids" if needs_ids else "none",
        place=place,
    )


def _load(phase: PhaseConfig, settings: Config) -> tuple[dict[str, Any], int | None]:
    """Return a phase's load as the engine is told it, and how many requests it may have in flight beside that."""
    if not is_planned(phase.strategy):
        return load_of(phase.strategy), None
    if isinstance(phase.strategy, AdaptiveStrategy):
        # Its policy says how many are in flight; how long an attempt may take, the phase.
        load = phase.strategy.load_of(
            stream=settings.stream,
            timeout_s=settings.timeout,
            stall_timeout_s=settings.stall_timeout,
            nodes=len(settings.urls),
        )
        return load, None
    return load_of(phase.strategy), getattr(phase.strategy, "max_concurrency", None)
