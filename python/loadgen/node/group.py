"""Texts that wait for one node, sent together: a request carries as many as are there when the node is free for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from loadgen.errors import RequestError
from loadgen.node.node import Node

Send = Callable[[Node, Sequence[str]], Awaitable[list[Any]]]

_OF_A_TEXT = frozenset({400, 413, 422})
"""Statuses that speak of what was sent: of several texts, perhaps of one alone."""


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
    """

    def __init__(self, send: Send) -> None:
        self._send = send
        self._waiting: dict[Node, list[_Waiting]] = {}
        self._under_way: dict[Node, dict[asyncio.Task[None], list[_Waiting]]] = {}

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
        while waiting and len(under_way) < max(1, (node.capacity or 1) // node.batch):
            group, waiting[:] = waiting[: node.batch], waiting[node.batch :]
            task = asyncio.get_running_loop().create_task(self._carry(node, group))
            under_way[task] = group
            task.add_done_callback(lambda done: self._ended(node, done))

    async def _carry(self, node: Node, group: list[_Waiting]) -> None:
        try:
            values = await self._send(node, [one.text for one in group])
            for one, value in zip(group, values, strict=True):
                if not one.answer.done():
                    one.answer.set_result(value)
        except Exception as error:  # noqa: BLE001 - the task's edge: whoever waits is told
            if len(group) > 1 and isinstance(error, RequestError) and error.status in _OF_A_TEXT:
                for one in group:  # which of them it was, is found out one by one
                    if not one.answer.done():
                        await self._carry(node, [one])
                return
            for one in group:
                if not one.answer.done():
                    one.answer.set_exception(error)

    def _ended(self, node: Node, task: asyncio.Task[None]) -> None:
        del self._under_way[node][task]
        self._begin(node)

    def _gone(self, node: Node, one: _Waiting) -> None:
        """Take out a text that nobody waits for, and the request that carried it alone."""
        if one in self._waiting[node]:
            self._waiting[node].remove(one)
        for task, group in self._under_way.get(node, {}).items():
            if one in group and all(other.answer.done() for other in group):
                task.cancel()
