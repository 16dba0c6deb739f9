"""A batch's statistics as the policy keeps them: columns in the core, read one call at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loadgen import _core
from loadgen.dispatch.result import CallStats


class PolicyColumns:
    """The columns of a policy, by the positions of a batch.

    Args:
        policy: The policy that ran it.
        called: The position of each of the policy's items, in order.
        twins: From a position to those that shared its call.
    """

    def __init__(self, policy: _core.Policy, called: Sequence[int], twins: Mapping[int, Sequence[int]]) -> None:
        self._policy = policy
        self._called = called
        self._leaders = {twin: leader for leader, others in twins.items() for twin in others}
        self._items: dict[int, int] | None = None  # from position to item, where they aren't the same

    def stats(self, position: int) -> CallStats | None:
        """Return what the call at a position met; ``None`` where it needed no call."""
        item = self._item(self._leaders.get(position, position))
        return None if item is None else self._of(item)

    def totals(self) -> dict[str, Any]:
        """Return the counts of the batch."""
        return dict(self._policy.totals())

    def trace(self) -> dict[str, list[float]]:
        """Return how limit, rate, calls in flight and hedges changed over time."""
        return dict(self._policy.trace())

    def _item(self, position: int) -> int | None:
        if isinstance(self._called, range):
            return position
        if self._items is None:
            self._items = {called: item for item, called in enumerate(self._called)}
        return self._items.get(position)
