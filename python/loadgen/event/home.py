"""The thread that has a socket, and its event loop: calls from other threads go there."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Callable
from typing import TypeVar

from loadgen.errors import EventError

R = TypeVar("R")

_ANSWERS_WITHIN_S = 60.0
_AFTER_INTERRUPT_S = 2.0


class Home:
    """Where a socket lives: nowhere yet, on a loop that somebody runs, or on a loop and thread of its own."""

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._ident = 0
        self._own: tuple[asyncio.AbstractEventLoop, threading.Thread] | None = None

    def settle(self, loop: asyncio.AbstractEventLoop) -> None:
        """Live on this thread from now on.

        Args:
            loop: The loop that runs here.
        """
        self.loop = loop
        self._ident = threading.get_ident()

    def isolate(self, begin: Callable[[asyncio.AbstractEventLoop], None]) -> None:
        """Live on a new thread with a loop of its own, which ends with :meth:`leave`.

        Args:
            begin: Called there first; what it raises is raised here, and the thread ends.
        """
        loop = asyncio.new_event_loop()
        ready = threading.Event()

        def serve() -> None:
            loop.call_soon(ready.set)
            try:
                loop.run_forever()
            finally:
                loop.close()

        async def settle() -> None:
            self.settle(loop)
            begin(loop)

        thread = threading.Thread(target=serve, name="loadgen-events", daemon=True)
        thread.start()
        self._own = loop, thread
        ready.wait()
        try:
            asyncio.run_coroutine_threadsafe(settle(), loop).result()
        except BaseException:
            self.leave()
            raise

    def is_here(self) -> bool:
        """Return whether this is its thread."""
        return self.loop is not None and self._ident == threading.get_ident()

    def tell(self, call: Callable[[], object]) -> None:
        """Have something called on its loop soon; not at all if that has ended.

        Args:
            call: What to call.
        """
        loop = self.loop
        if loop is None:
            return
        try:
            loop.call_soon_threadsafe(call)
        except RuntimeError:
            if not loop.is_closed():
                raise

    def ask(self, call: Callable[[], R], within: float = _ANSWERS_WITHIN_S) -> R:
        """Have something called on its thread, and return what it returns.

        Args:
            call: What to call. It is called here if this is the thread, or if no loop runs there that could: nobody
                else uses the socket then.
            within: Seconds that the loop has for it.

        Raises:
            EventError: If the loop doesn't come round to it in that time.
        """
        loop = self.loop
        if loop is None or self.is_here() or not loop.is_running():
            return call()

        async def called() -> R:
            return call()

        answer = asyncio.run_coroutine_threadsafe(called(), loop)
        try:
            return answer.result(within)
        except KeyboardInterrupt:
            concurrent.futures.wait([answer], _AFTER_INTERRUPT_S)
            raise
        except concurrent.futures.TimeoutError:
            raise EventError(
                f"the event loop that sends events did not answer within {within:g} s",
                "don't block the loop, or use isolated_event_loop=True",
            ) from None

    def leave(self) -> None:
        """End the thread, if it has one of its own."""
        if self._own is None:
            return
        (loop, thread), self._own = self._own, None
        loop.call_soon_threadsafe(loop.stop)
        if not self.is_here():
            thread.join(_ANSWERS_WITHIN_S)
