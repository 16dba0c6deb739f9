"""Strategies in virtual time: what a batch would take, and cost, on a service that is known or imagined."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from loadgen import _core
from loadgen.dispatch.rank import percentile
from loadgen.dispatch.strategy import STRATEGIES, ceiling
from loadgen.errors import ConfigError
from loadgen.speech import option

if TYPE_CHECKING:
    from loadgen.dispatch.regime import Service

_NOTABLE = 1.02
"""A strategy that is better by less than this factor isn't spoken of."""


class Simulation(msgspec.Struct, frozen=True):
    """What one strategy came to, over many batches.

    Args:
        strategy: Its name.
        items: Calls of a batch.
        walls_s: Each batch's wall time, in the order of the seeds.
        requests: Requests that each sent, hedges and refused ones included.
        hedges: Copies among them.
        refused: Those that the service refused.
        failed: Items that got no answer.
    """

    strategy: str
    items: int
    walls_s: list[float]
    requests: list[int]
    hedges: list[int]
    refused: list[int]
    failed: list[int]

    @property
    def mean_s(self) -> float:
        """Mean wall time."""
        return statistics.fmean(self.walls_s)

    @property
    def requests_per_item(self) -> float:
        """Requests sent for each item, on the mean."""
        return statistics.fmean(self.requests) / self.items

    @property
    def failed_share(self) -> float:
        """Items without an answer, as a share."""
        return statistics.fmean(self.failed) / self.items

    def percentile_s(self, percent: float) -> float:
        """Return a percentile of the wall times: the smallest that so many per cent of the batches didn't exceed.

        Args:
            percent: Above 0, up to 100.
        """
        return percentile(sorted(self.walls_s), percent)


def simulate(
    service: Service,
    items: int | None = None,
    strategies: Sequence[str] = STRATEGIES,
    *,
    seeds: int = 200,
    first_seed: int = 0,
    max_concurrency: int | None = None,
    policy: str | None = None,
) -> list[Simulation]:
    """Make batches of calls in virtual time, by the policy that makes real ones.

    The same seed gives the same service to every strategy, call for call: what differs is the strategy.

    Args:
        service: Who is called.
        items: Calls of a batch; ``None`` for as many as belong to the service.
        strategies: Which; the order is kept.
        seeds: Batches of each strategy.
        first_seed: The first batch's seed.
        max_concurrency: Calls in flight at most; ``None`` for as many as a dispatcher allows.
        policy: A JSON object laid over each strategy's policy.

    Raises:
        ConfigError: If a strategy isn't known, or a number can't be.
    """
    items = service.items if items is None else items
    if items is None:
        raise ConfigError("nothing says how many calls a batch has", f"give {option('items', 'N')}")
    if seeds < 1:
        raise ConfigError(f"seeds must be at least 1, not {seeds}")
    batches = range(first_seed, first_seed + seeds)
    try:
        return [
            _simulation(
                name,
                items,
                _core.policy_config(name, ceiling(name, items) if max_concurrency is None else max_concurrency, policy),
                service,
                batches,
            )
            for name in strategies
        ]
    except (ValueError, OverflowError) as error:
        raise ConfigError(str(error)) from None


def _simulation(strategy: str, items: int, policy: str, service: Service, seeds: range) -> Simulation:
    batches = _core.simulate(policy, service.json, items, seeds)
    walls, requests, hedges, refused, failed, _ = zip(*batches, strict=True)
    return Simulation(
        strategy,
        items,
        [wall / 1e9 for wall in walls],
        list(requests),
        list(hedges),
        list(refused),
        list(failed),
    )


def advise(simulations: Sequence[Simulation]) -> str:
    """Say in one line which strategy to use, what it costs, and what the fastest and the cheapest would.

    Of those that answer as many items as any, it is the one whose time multiplied by its requests is least: who sends
    more must be faster by as large a factor.

    Args:
        simulations: All on the same service.
    """
    best, answering = best_of(simulations), _answering(simulations)
    said = f"use {best.strategy}: {best.mean_s:.1f} s on the mean, for {best.requests_per_item:.2f} requests an item"
    if best.failed_share > 0:
        said += f", though {best.failed_share:.1%} of the items get no answer from any strategy"
    fastest = min(answering, key=lambda one: one.mean_s)
    if fastest.mean_s * _NOTABLE < best.mean_s:
        faster = 1 - fastest.mean_s / best.mean_s
        said += f"; {fastest.strategy} is fastest, by {faster:.0%}, for {fastest.requests_per_item:.2f}"
    cheapest = min(answering, key=lambda one: (one.requests_per_item, one.mean_s))
    if cheapest.requests_per_item * _NOTABLE < best.requests_per_item:
        fewer = 1 - cheapest.requests_per_item / best.requests_per_item
        said += (
            f"; {cheapest.strategy} is cheapest, by {fewer:.0%}, and takes {_times(cheapest, best):.3g} times as long"
        )
    slowest = max(simulations, key=lambda one: one.mean_s)
    if slowest not in (best, cheapest) and slowest.mean_s > best.mean_s * _NOTABLE:
        said += f"; {slowest.strategy} takes {_times(slowest, best):.3g} times as long"
    return said


def best_of(simulations: Sequence[Simulation]) -> Simulation:
    """Return the one that :func:`advise` names.

    Args:
        simulations: All on the same service.
    """
    return min(_answering(simulations), key=lambda one: (one.mean_s * one.requests_per_item, one.mean_s))


def _times(slower: Simulation, faster: Simulation) -> float:
    return statistics.median(a / b for a, b in zip(slower.walls_s, faster.walls_s, strict=True))


def _answering(simulations: Sequence[Simulation]) -> list[Simulation]:
    least = min(one.failed_share for one in simulations)
    return [one for one in simulations if one.failed_share <= least]
