"""Nodes that were left out of a batch are looked at again while it runs: who is back, works."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping

from loadgen.dispatch.running import Rooms
from loadgen.node.health import Health
from loadgen.node.memory import Seen

log = logging.getLogger("loadgen.node")

AGAIN_S = 5.0
"""How long after a look comes the next."""


class Absent:
    """The nodes of a batch that were left out of it, by their number in the policy.

    Args:
        nodes: What is known of each.
        slots: How many items each takes at the same time.
        model: What it has to have.
        check: Asks one how it is.
    """

    def __init__(
        self,
        nodes: Mapping[int, Seen],
        slots: Mapping[int, int],
        model: str,
        check: Callable[[Seen], Awaitable[Health]],
    ) -> None:
        self._nodes = dict(nodes)
        self._slots = slots
        self._model = model
        self._check = check

    async def watch(self, rooms: Rooms) -> None:
        """Keep them out, look at them from time to time, and let each in that can be asked; until all are there.

        Args:
            rooms: What spreads the batch.
        """
        for number in self._nodes:
            rooms.room(number, 0)
        while self._nodes:
            await asyncio.sleep(AGAIN_S)
            numbers = list(self._nodes)
            found = await asyncio.gather(*(self._check(self._nodes[number]) for number in numbers))
            for number, health in zip(numbers, found, strict=True):
                self._take(number, health, rooms)

    def _take(self, number: int, health: Health, rooms: Rooms) -> None:
        seen = self._nodes[number]
        seen.take(health)
        if health.lacks(self._model):
            return
        del self._nodes[number]
        log.info("%s is back", seen.node.name)
        rooms.room(number, self._slots[number])
