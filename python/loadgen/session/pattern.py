"""Which load strategy is asked for: by a pattern and its fields, by a run's options, or to warm a server up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from loadgen.config import Config
from loadgen.config.known import did_you_mean
from loadgen.session.adaptive import AdaptiveStrategy
from loadgen.session.arrival import KINDS, Stage
from loadgen.session.strategy import BurstStrategy, ConcurrencyStrategy, PlannedStrategy, TimedIssueStrategy

_PATTERNS: dict[str, tuple[type[PlannedStrategy], tuple[str, ...]]] = {
    "concurrency": (ConcurrencyStrategy, ("n",)),
    "rate": (TimedIssueStrategy, ("rate", "arrival", "burstiness", "max_concurrency")),
    "stages": (TimedIssueStrategy, ("stages", "arrival", "burstiness", "max_concurrency")),
    "burst": (BurstStrategy, ("n",)),
    "adaptive": (AdaptiveStrategy, ("max_concurrency", "strategy", "policy")),
}
"""Each pattern's strategy and its fields; the first is needed."""


def create_load_strategy(config: Mapping[str, Any] | msgspec.Struct) -> PlannedStrategy:
    """Make the strategy that a configuration describes; what :meth:`~ConcurrencyStrategy.load` returns is one.

    Args:
        config: ``pattern`` (or ``kind``) is ``concurrency``, ``rate``, ``stages``, ``burst`` or ``adaptive``; the other
            fields are the strategy's arguments. A field that is ``None`` counts as left out.

    Raises:
        ValueError: If the pattern is missing or unknown, or a field is missing, unknown or out of bounds.
    """
    given = msgspec.to_builtins(config) if isinstance(config, msgspec.Struct) else dict(config)
    fields = {name: value for name, value in given.items() if value is not None}
    pattern, kind = fields.pop("pattern", None), fields.pop("kind", None)
    if pattern is not None and kind is not None and pattern != kind:
        raise ValueError(f"a load has one pattern, and this has {pattern!r} and the kind {kind!r}")
    made, known = _pattern(kind if pattern is None else pattern)
    for name in fields:
        if name not in known:
            raise ValueError(
                f"a load of this pattern has no {name!r}{did_you_mean(name, known)}: it has {', '.join(known)}"
            )
    if known[0] not in fields:
        raise ValueError(f"a load of this pattern needs {known[0]!r}: it has {', '.join(known)}")
    return made(**fields)


def strategy_of(config: Config) -> PlannedStrategy:
    """Return the strategy that a run's options ask for; they have been checked to ask for exactly one.

    Args:
        config: The options.
    """
    if config.concurrency is not None:
        return ConcurrencyStrategy(config.concurrency)
    if config.burst is not None:
        return BurstStrategy(config.burst)
    return TimedIssueStrategy(
        config.rate,
        stages=config.stages,
        arrival=config.arrival,
        burstiness=config.burstiness,
        max_concurrency=config.max_concurrency,
    )


def warmup_of(strategy: PlannedStrategy, requests: int | None) -> PlannedStrategy:
    """Return what warms a server up for a strategy: the same load, but never all at once, and never rising.

    Args:
        strategy: The measured load.
        requests: How many requests the warm-up has; ``None`` where its duration ends it.
    """
    if isinstance(strategy, BurstStrategy):
        return ConcurrencyStrategy(max(1, min(strategy.n, requests or strategy.n, 64)))
    if isinstance(strategy, TimedIssueStrategy) and strategy.stages is not None:
        first: Stage = next(stage for stage in strategy.stages if stage.start > 0 or stage.end > 0)
        rate = max(first.start, first.end)
        return TimedIssueStrategy(rate, arrival=strategy.arrival, max_concurrency=strategy.max_concurrency)
    return strategy


def _pattern(name: Any) -> tuple[type[PlannedStrategy], tuple[str, ...]]:
    choices = ", ".join(_PATTERNS)
    if name is None:
        raise ValueError(f"a load needs a pattern: one of {choices}")
    word = getattr(name, "value", name)  # an enum's
    if word in KINDS:
        raise ValueError(f"{word!r} is how gaps spread: the pattern is rate or stages, with the arrival {word}")
    if not isinstance(word, str) or word not in _PATTERNS:
        raise ValueError(f"there is no load pattern {name!r}{did_you_mean(word, _PATTERNS)}: take one of {choices}")
    return _PATTERNS[word]
