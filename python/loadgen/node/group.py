"""Texts that wait for one node, sent together: a request carries as many as are there when the node is free for it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loadgen.errors import RequestError
from loadgen.node.node import Node

Send = Callable[[Node, Sequence[str]], Awaitable[list[Any]]]

_OF_WHAT_WAS_SENT = frozenset({400, 413, 422, 507})
"""Statuses that speak of what was sent: of how many texts there were, or of one alone."""

_TOO_MUCH = re.compile(r"out of memory|too (?:large|many|long)|batch size|exceed|allocat", re.IGNORECASE)
"""Words of a server that fails for the same reason."""


class _Waiting:
    """One text on its way."""

    __slots__ = ("answer", "text")

    def __init__(self, text: str, answer: asyncio.Future[Any]) -> None:
        self.text = text
        self.answer = answer


class Groups:
    """Groups the texts for each node.

    Args:
        send: Sends some texts in one request, and gives a value for each.
        bound: Told, within a call to a node, how many texts that takes at most at the same time, once it has refused
            more.
    """

    def __init__(self, send: Send, bound: Callable[[int], object]) -> None:
        self._send = send
        self._bound = bound
        self._most: dict[Node, int] = {}  # where that is less than what was said
        self._waiting: dict[Node, list[_Waiting]] = {}
        self._under_way: dict[Node, dict[asyncio.Task[bool], list[_Waiting]]] = {}

    async def ask(self, node: Node, text: str) -> Any:
        """Have a text sent with those that wait for the same node.

        Cancelling it leaves the others alone; a request that nobody waits for any more is cut off.

        Args:
            node: Where.
            text: The text.

        Raises:
            RequestError: As the node answers it.
            OSError: As the request ends.
        """
        loop = asyncio.get_running_loop()
        one = _Waiting(text, loop.create_future())
        self._waiting.setdefault(node, []).append(one)
        loop.call_soon(self._begin, node)  # what is started in the same turn goes along
        try:
            return await one.answer
        except asyncio.CancelledError:
            self._gone(node, one)
            raise

    def _begin(self, node: Node) -> None:
        """Send what waits, in as many requests as the node takes at once."""
        waiting, under_way = self._waiting[node], self._under_way.setdefault(node, {})
        most = self._most.get(node, node.most_batch)
        while waiting and len(under_way) < _at_once(node):
            group, waiting[:] = waiting[:most], waiting[most:]
            task = asyncio.get_running_loop().create_task(self._carry(node, group))
            under_way[task] = group
            task.add_done_callback(lambda done: self._ended(node, done))

    async def _carry(self, node: Node, group: list[_Waiting]) -> bool:
        """Send some texts. What is refused is sent in halves: that shows whether it was their number, or one of them.

        Returns:
            Whether all got a value.
        """
        group = [one for one in group if not one.answer.done()]
        try:
            values = await self._send(node, [one.text for one in group]) if group else []
            answered = list(zip(group, values, strict=True))
        except Exception as error:  # noqa: BLE001 - the task's edge: whoever waits is told
            if len(group) > 1 and _is_of_what_was_sent(error):
                half = -(-len(group) // 2)
                are_whole = [await self._carry(node, part) for part in (group[:half], group[half:])]
                if all(are_whole):
                    self._take_no_more(node, half)
                return all(are_whole)
            for one in group:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return False
        for one, value in answered:
            if not one.answer.done():
                one.answer.set_result(value)
        return True

    def _take_no_more(self, node: Node, most: int) -> None:
        """Send no more texts at once than a node has shown to take."""
        if most < self._most.get(node, node.most_batch):
            self._most[node] = most
            self._bound(most * _at_once(node))

    def _ended(self, node: Node, task: asyncio.Task[bool]) -> None:
        del self._under_way[node][task]
        self._begin(node)

    def _gone(self, node: Node, one: _Waiting) -> None:
        """Take out a text that nobody waits for, and the request that carried it alone."""
        if one in self._waiting[node]:
            self._waiting[node].remove(one)
        for task, group in self._under_way.get(node, {}).items():
            if one in group and all(other.answer.done() for other in group):
                task.cancel()


def _at_once(node: Node) -> int:
    """Return how many requests a node works on at the same time."""
    return max(1, (node.capacity or 1) // node.most_batch)


def _is_of_what_was_sent(error: Exception) -> bool:
    """Whether a node failed for what it was sent: another one, or less of it, may do."""
    if not isinstance(error, RequestError):
        return False
    return error.status in _OF_WHAT_WAS_SENT or (error.status >= 500 and _TOO_MUCH.search(str(error)) is not None)
