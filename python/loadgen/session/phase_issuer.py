"""A phase as its strategy sees it: the door through which requests are issued, and the news of their ends."""

from __future__ import annotations

import asyncio
from array import array
from collections import deque
from collections.abc import Callable

from loadgen import _core

_TURN = 16
"""So many waits for times that have passed are let through in a row; then answers are read."""


class PhaseIssuer:
    """What :meth:`LoadStrategy.execute` issues through; belongs to one phase, and to one event loop.

    Args:
        claim: Sends one request now: of this sample, planned for this moment; its id, or ``None`` when there is none.
        seed: The phase's seed.
        start_ns: When the phase started.
        occupied: Requests that an earlier phase handed over, which still occupy a slot each.
        clock: The time in monotonic nanoseconds.
    """

    def __init__(
        self,
        claim: Callable[[int | None, int | None], int | None],
        *,
        seed: int,
        start_ns: int,
        occupied: int = 0,
        clock: Callable[[], int] = _core.now_ns,
    ) -> None:
        self._claim = claim
        self._seed = seed
        self._start_ns = start_ns
        self._occupied = occupied
        self._clock = clock
        self._stopped = False
        self._has_left = False
        self._issued = 0
        self._ended = 0
        self._in_a_row = 0
        # Completions that nobody has asked for yet: eight bytes each, as a timed load never asks.
        self._news, self._next = array("Q"), 0
        self._waiting: deque[asyncio.Future[int | None]] = deque()
        self._sleeping: set[asyncio.Future[None]] = set()

    @property
    def in_flight(self) -> int:
        """Requests issued and not completed, those of an earlier phase that still occupy a slot included."""
        return self._issued - self._ended + self._occupied

    @property
    def issued(self) -> int:
        """Requests issued."""
        return self._issued

    @property
    def seed(self) -> int:
        """The phase's seed."""
        return self._seed

    @property
    def start_ns(self) -> int:
        """When the phase started, in monotonic nanoseconds."""
        return self._start_ns

    @property
    def stopped(self) -> bool:
        """Whether the phase takes no more requests."""
        return self._stopped

    def now_ns(self) -> int:
        """Return the time in monotonic nanoseconds."""
        return self._clock()

    def issue(self, sample: int | None = None, planned_ns: int | None = None) -> int | None:
        """Send a request now.

        Args:
            sample: Index of its sample; ``None`` takes the next of the phase's order.
            planned_ns: When it should have been sent; ``None`` is now.

        Returns:
            The request's id, or ``None`` where the phase takes no more: a limit is reached, or it was stopped.

        Raises:
            ValueError: If there is no such sample.
        """
        if self._stopped:
            return None
        request = self._claim(sample, planned_ns)
        if request is None:
            self.stop()
            return None
        self._issued += 1
        return request

    async def until(self, ns: int) -> bool:
        """Wait for a time; at once where it has passed. A loop's timers are about a millisecond coarse.

        Args:
            ns: The time in monotonic nanoseconds.

        Returns:
            ``False`` where the phase was stopped meanwhile.
        """
        loop = asyncio.get_running_loop()
        while not self._stopped and (left := ns - self._clock()) > 0:
            self._in_a_row = 0
            woken = loop.create_future()
            timer = loop.call_later(left / 1e9, _wake, woken)
            self._sleeping.add(woken)
            try:
                await woken
            finally:
                timer.cancel()
                self._sleeping.discard(woken)
        self._in_a_row += 1
        if self._in_a_row >= _TURN:
            self._in_a_row = 0
            await asyncio.sleep(0)
        return not self._stopped

    async def completed(self) -> int | None:
        """Wait for a completion that was not told yet, of this phase or of one that occupies its slots.

        Returns:
            The request's id, or ``None`` where the phase is stopped and none can come: all have ended, or are the next
            phase's.
        """
        if self._next < len(self._news):
            request = int(self._news[self._next])
            self._next += 1
            if self._next == len(self._news):
                del self._news[:]
                self._next = 0
            return request
        if self._stopped and self.in_flight == 0:
            return None
        waiter: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and (told := waiter.result()) is not None:
                self._tell(told)  # it was told to somebody who has gone
            raise

    def complete(self, request: int, *, occupied: bool = False) -> None:
        """Learn that a request has ended. For the session.

        Args:
            request: Its id.
            occupied: Whether an earlier phase had handed it over.
        """
        if self._has_left:
            return  # it is the next phase's
        if occupied:
            self._occupied -= 1
        else:
            self._ended += 1
        self._tell(request)
        self._release()

    def stop(self) -> None:
        """Take no more requests, and wake who waits for a time. For the session."""
        self._stopped = True
        for sleeper in self._sleeping:
            _wake(sleeper)
        self._release()

    def leave(self) -> None:
        """The phase is over and hands over what it has in flight, which counts as none of its own. For the session."""
        self._has_left = True
        self.close()

    def close(self) -> None:
        """Nothing more will complete: the phase is over. For the session."""
        self._occupied, self._ended = 0, self._issued
        self.stop()

    def _tell(self, request: int) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(request)
                return
        self._news.append(request)

    def _release(self) -> None:
        """Where none can come any more, those who wait for a completion are told so."""
        if self._stopped and self.in_flight == 0:
            while self._waiting:
                waiter = self._waiting.popleft()
                if not waiter.done():
                    waiter.set_result(None)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
