"""Which nodes a batch may use where tokens cost money: the cheapest in time, or the fastest within a budget."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from loadgen.errors import ConfigError
from loadgen.node.estimate import makespan
from loadgen.node.node import Node

REASONS = ("cheapest_in_time", "fastest_in_budget")
"""The words for it, as a decision's reason."""


class Objective(msgspec.Struct, frozen=True):
    """What a batch is to keep to; one of the two.

    Args:
        deadline_s: Seconds within which it should be done, as cheaply as possible.
        budget: What it may cost, in the currency of the nodes' ``cost``, and be done as soon as possible.
    """

    deadline_s: float | None = None
    budget: float | None = None

    @property
    def spare(self) -> float:
        """How much of what they promised the chosen nodes do at most, as a share, before the others help.

        For a deadline what is missing is soon too late; a budget is only broken when nobody else is left.
        """
        return 0.0 if self.deadline_s is None else 0.7

    @property
    def reason(self) -> str:
        """The word for it, as a decision's reason."""
        return REASONS[self.deadline_s is None]


class Affordable(msgspec.Struct, frozen=True):
    """Which nodes are used.

    Args:
        nodes: The nodes.
        detail: Why, in a sentence.
        cost: What the batch is expected to cost.
        seconds: How long it is expected to take.
    """

    nodes: tuple[Node, ...]
    detail: str
    cost: float
    seconds: float


def choose(
    objective: Objective,
    nodes: Sequence[Node],
    times: Sequence[float],
    slots: Sequence[int],
    batch: int,
    tokens: float,
) -> Affordable:
    """Return which nodes a batch may use.

    Nodes are added from the cheapest on until the deadline is kept; or taken out from the dearest on until the budget
    is. What can't be kept at all is said: the deadline by all nodes, the budget by the cheapest one.

    Args:
        objective: What is to be kept to.
        nodes: The nodes that are up.
        times: Seconds that each takes for an item.
        slots: How many items each works on at the same time.
        batch: How many items there are.
        tokens: Tokens of an item.

    Raises:
        ConfigError: If a node's cost isn't known.
    """
    for node in nodes:
        if node.cost is None:
            raise ConfigError(f"the node {node.name} has no cost", "say what a million tokens cost there: cost: 0.2")
    order = sorted(range(len(nodes)), key=lambda place: (nodes[place].cost, times[place]))
    counts = range(1, len(order) + 1) if objective.deadline_s is not None else range(len(order), 0, -1)
    found = None
    for count in counts:
        chosen = order[:count]
        found = _expected(nodes, times, slots, chosen, batch, tokens)
        if objective.deadline_s is not None and found.seconds <= objective.deadline_s:
            break
        if objective.budget is not None and found.cost <= objective.budget:
            break
    assert found is not None
    return msgspec.structs.replace(found, detail=_words(objective, found, len(nodes)))


def _expected(
    nodes: Sequence[Node],
    times: Sequence[float],
    slots: Sequence[int],
    chosen: Sequence[int],
    batch: int,
    tokens: float,
) -> Affordable:
    """What a batch on some nodes takes and costs, if each does its share by speed."""
    rates = [slots[place] / times[place] for place in chosen]
    prices = [rate / sum(rates) * (nodes[place].cost or 0.0) for rate, place in zip(rates, chosen, strict=True)]
    seconds = makespan([times[place] for place in chosen], [slots[place] for place in chosen], batch)
    return Affordable(tuple(nodes[place] for place in chosen), "", batch * tokens * sum(prices) / 1e6, seconds)


def _words(objective: Objective, found: Affordable, nodes: int) -> str:
    used = f"{len(found.nodes)} of {nodes} nodes: about {found.seconds:.3g} s, and {found.cost:.3g} for the tokens"
    if objective.deadline_s is not None:
        kept = "The cheapest" if found.seconds <= objective.deadline_s else "No way"
        return f"{kept} in {objective.deadline_s:g} s - {used}"
    assert objective.budget is not None
    kept = "The fastest" if found.cost <= objective.budget else "No way"
    return f"{kept} for {objective.budget:g} - {used}"
