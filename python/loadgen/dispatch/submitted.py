"""Calls that come one by one, through one policy for all of them: what `submit` and `wrap` stand on."""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

from loadgen import _core
from loadgen.dispatch.classify import Classifier
from loadgen.dispatch.coalesce import Flight
from loadgen.dispatch.driver import Driver
from loadgen.dispatch.running import bounds, learned
from loadgen.dispatch.work import mark_of, tokens_of

if TYPE_CHECKING:
    from loadgen.dispatch.callee import Callee
    from loadgen.dispatch.strategy import Options

FORGOTTEN_EVERY = 4_096
"""Calls after which the policy forgets those that are over: nobody asks what they met, and they may be endless."""

ROTATED_AT = 1 << 31
"""Calls after which an idle one begins anew, with what it has learned: its policy numbers them in 32 bits."""


class Submitted:
    """The submitted calls of one dispatcher on one loop.

    Args:
        options: How they are made.
    """

    def __init__(self, options: Options) -> None:
        self._options = options
        self._flights: dict[int, tuple[Callee, Any, contextvars.Context, Flight, Any]] = {}
        self._by_key: dict[Any, Flight] = {}
        self._begin(None)

    def submit(self, callee: Callee, item: Any, same: Any = None) -> asyncio.Future[Any]:
        """Have a call made.

        Args:
            callee: What is called.
            item: With what.
            same: Calls with the same one, unless it is ``None``, are one while it is in flight.

        Returns:
            A future of the value. Cancelling it gives the call up, unless somebody else waits for it.
        """
        flight = self._by_key.get(same) if same is not None else None
        if flight is None:
            flight = self._fly(callee, item, same)
        future = flight.join()
        future.add_done_callback(lambda done: self._gone(flight) if done.cancelled() else None)
        return future

    def totals(self) -> dict[str, Any]:
        """Return the counts since it began, or began anew."""
        return dict(self._policy.totals())

    def take(self, item: int) -> tuple[Callee, Any, contextvars.Context]:
        """Return what an attempt at an item calls, with what, and a context of its own."""
        callee, argument, context, _, _ = self._flights[item]
        return callee, argument, context.copy()

    def settle(self, item: int, value: Any, error: BaseException | None) -> None:
        """Give an item's value, or why it has none, to whoever waits for it."""
        _, _, _, flight, same = self._flights.pop(item)
        if same is not None and self._by_key.get(same) is flight:
            del self._by_key[same]
        flight.land(value, error)
        if not self._flights and self._queued >= ROTATED_AT:
            self._driver.close()
            self._begin(learned(self._policy))

    def broken(self, error: BaseException) -> None:
        """Give everybody the error, and begin anew with the next call."""
        flights, self._flights = list(self._flights.values()), {}
        self._by_key.clear()
        for *_, flight, _ in flights:
            flight.land(None, error)
        self._begin(None)

    def _begin(self, remembered: dict[str, float] | None) -> None:
        config = self._options.config(None, remembered)
        self._queued = 0
        self._policy = _core.Policy(config, self._options.seed)
        self._keys: dict[Any, int] = {}
        self._driver = Driver(self._policy, self, Classifier(self._options.push_back), **bounds(config))

    def _fly(self, callee: Callee, item: Any, same: Any) -> Flight:
        options = self._options
        key, tokens = mark_of(options.key, self._keys, item), tokens_of(options.tokens, item)
        flight = Flight(self._queued)
        self._flights[self._queued] = callee, item, contextvars.copy_context(), flight, same
        self._queued += 1
        if not self._queued % FORGOTTEN_EVERY:
            self._driver.forget()
        if same is not None:
            self._by_key[same] = flight
        self._driver.queue(1, key, tokens)
        return flight

    def _gone(self, flight: Flight) -> None:
        if flight.item in self._flights and self._flights[flight.item][3] is flight and not flight.is_wanted():
            same = self._flights[flight.item][4]
            if same is not None and self._by_key.get(same) is flight:
                del self._by_key[same]  # who asks from now on makes a call of their own
            self._driver.cancel(flight.item)
