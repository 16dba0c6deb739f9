"""A phase's plan: when each request is due and which sample it sends, as the engine's workers compute it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from loadgen import _core

_BLOCK = 256


class Plan:
    """When each request of a load is due, and which sample it sends: a function of the seed and the request's index.

    Iterating gives pairs of offset and sample, without end where the load has none; the offset is in nanoseconds after
    the phase's start, and ``None`` for a closed loop, which sends when it may.

    Args:
        load: The load as the engine is told it.
        seed: Seed of arrivals and order.
        samples: How many samples there are, at least 1.
        order: The order in the engine's words.

    Raises:
        ValueError: If the load or the order has no plan.
    """

    def __init__(self, load: dict[str, Any], *, seed: int, samples: int, order: str) -> None:
        self._plan = _core.Plan(msgspec.json.encode(load).decode(), order, samples, seed)

    @property
    def length(self) -> int | None:
        """How many requests it has; ``None`` where it has no end. Stages are walked to theirs at each call."""
        return self._plan.length

    def block(self, start: int, count: int) -> tuple[memoryview[int] | None, memoryview[int]]:
        """Return the requests from ``start`` on, fewer than asked for where the plan ends before.

        Args:
            start: Index of the first; going back costs a walk from 0.
            count: How many, at most 2**20.

        Returns:
            Offsets in nanoseconds, ``None`` for a closed loop, and samples.

        Raises:
            ValueError: If the block is too long.
        """
        offsets, samples = self._plan.block(start, count)
        return (None if offsets is None else memoryview(offsets).cast("Q"), memoryview(samples).cast("Q"))

    def offsets(self) -> Iterator[int]:
        """Return the nanoseconds after the start at which each request is due.

        Raises:
            ValueError: If the plan is of a closed loop.
        """
        if self._plan.block(0, 0)[0] is None:
            raise ValueError("a closed loop has no times: it sends when one in flight has ended")
        return (offset for offset, _ in self if offset is not None)

    def __iter__(self) -> Iterator[tuple[int | None, int]]:
        start = 0
        while True:
            offsets, samples = self.block(start, _BLOCK)
            if offsets is None:
                yield from ((None, sample) for sample in samples)
            else:
                yield from zip(offsets, samples, strict=True)
            if len(samples) < _BLOCK:
                return
            start += _BLOCK
