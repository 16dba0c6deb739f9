"""Single flight: who asks for what is being asked already waits for that answer, and makes no call of their own."""

from __future__ import annotations

import asyncio
from typing import Any


class Flight:
    """One call and everybody who waits for it.

    Args:
        item: Its number in the policy.
    """

    __slots__ = ("item", "waiting")

    def __init__(self, item: int) -> None:
        self.item = item
        self.waiting: list[asyncio.Future[Any]] = []

    def join(self) -> asyncio.Future[Any]:
        """Wait for the call, each with a future of their own: who leaves takes nothing from the others."""
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future

    def is_wanted(self) -> bool:
        """Whether anybody still waits."""
        return any(not future.done() for future in self.waiting)

    def land(self, value: Any, error: BaseException | None) -> None:
        """Give everybody the value, or the error."""
        for future in self.waiting:
            if future.done():
                continue
            if error is None:
                future.set_result(value)
            elif isinstance(error, asyncio.CancelledError):
                future.cancel()
            elif isinstance(error, StopIteration):  # a future takes none: a generator would swallow it
                made = RuntimeError("the call raised StopIteration")
                made.__cause__ = error
                future.set_exception(made)
            else:
                future.set_exception(error)
