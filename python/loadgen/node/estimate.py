"""How long a batch takes in each mode, from the times that its nodes were measured at.

All of it is arithmetic on means: noise, failures and the network's moods aren't in it.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import msgspec


class Estimate(msgspec.Struct, frozen=True):
    """Seconds that a batch takes in each mode."""

    auto: float
    """Each item goes where it is done soonest: the best that whole items allow."""
    sequential: float
    """One item at a time on the fastest node."""
    parallel: float
    """The same number of items on every node."""
    hybrid: float
    """The fastest few pull from one line."""

    @property
    def saved(self) -> float:
        """Seconds that ``auto`` is ahead of the best of the others."""
        return max(0.0, min(self.sequential, self.parallel, self.hybrid) - self.auto)


def estimate(times: Sequence[float], slots: Sequence[int], batch: int, *, top_k: int = 3) -> Estimate:
    """Return how long a batch takes in each mode.

    Args:
        times: Seconds that each node takes for an item.
        slots: How many items each node works on at the same time.
        batch: How many items there are.
        top_k: How many nodes ``hybrid`` takes.
    """
    order = sorted(range(len(times)), key=lambda node: times[node])
    few = order[:top_k]
    return Estimate(
        auto=makespan(times, slots, batch),
        sequential=batch * times[order[0]],
        parallel=_even(times, slots, batch),
        hybrid=_pulled([times[node] for node in few], [slots[node] for node in few], batch),
    )


def makespan(times: Sequence[float], slots: Sequence[int], batch: int) -> float:
    """Return the least time in which ``batch`` whole items can be done, in seconds.

    Giving each item to the slot that would have it done first is optimal where all items are alike.

    Args:
        times: Seconds that each node takes for an item.
        slots: How many items each node works on at the same time.
        batch: How many items there are.
    """
    # A slot's k-th item ends at k × time: a product rounds once, where a sum of k rounds k times and could end up
    # above what the other modes are said to take.
    ends = [(time, 1, time) for time, many in zip(times, slots, strict=True) for _ in range(many)]
    heapq.heapify(ends)
    last = 0.0
    for _ in range(batch):
        last, items, time = ends[0]
        heapq.heapreplace(ends, ((items + 1) * time, items + 1, time))
    return last


def _even(times: Sequence[float], slots: Sequence[int], batch: int) -> float:
    """The same number of items for each node, whatever it takes; those left over go to the fastest ones."""
    share, over = divmod(batch, len(times))
    order = sorted(range(len(times)), key=lambda node: times[node])
    return max(-(-(share + (rank < over)) // slots[node]) * times[node] for rank, node in enumerate(order))


def _pulled(times: Sequence[float], slots: Sequence[int], batch: int) -> float:
    """Whoever is free takes the next item, however slow it is."""
    # Where several are free at once, the fastest takes it.
    free = [(0.0, time, 0) for time, many in zip(times, slots, strict=True) for _ in range(many)]
    heapq.heapify(free)
    last = 0.0
    for _ in range(batch):
        _, time, items = free[0]
        end = (items + 1) * time
        last = max(last, end)
        heapq.heapreplace(free, (end, time, items + 1))
    return last
