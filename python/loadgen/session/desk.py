"""The event loop's part of a run: where strategies issue, and the ends of requests come in.

A run is driven on a thread of its own (:class:`loadgen.session.runner.Run`), and what the user brought runs on the
loop of whoever awaits the session. The thread waits for the loop at the borders of phases; the loop never waits for
the thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from loadgen import _core
from loadgen.errors import RunError
from loadgen.session.prepare import PreparedPhase
from loadgen.session.running_phase import Failed, RunningPhase

if TYPE_CHECKING:
    from loadgen.event import EventPublisherService

_T = TypeVar("_T")

_LOOK_S = 0.5
"""How often the thread looks whether the loop it waits for is still running."""

_ANSWER_S = 60.0
"""So long the loop may take to answer once the run is to end at once: an interrupt may have hit what it was asked."""


class Desk(ABC):
    """What a run calls at the borders of its phases. All but :meth:`stop` are called on the run's thread.

    Args:
        loop: The loop of whoever awaits the session.
        publisher: Publishes the core's events, if anybody does.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, publisher: EventPublisherService | None = None) -> None:
        self._loop = loop
        self._publisher = publisher
        self._queue: _core.EventQueue | None = None
        self._failed: Failed | None = None
        self._closed = False
        self._running: RunningPhase | None = None
        self._begun: list[RunningPhase] = []
        self._handed_over: set[RunningPhase] = set()
        self._stopping: float | None = None
        self._dropped: _core.Counter | None = None
        self._dropped_before = 0

    @property
    @abstractmethod
    def core(self) -> _core.Engine | _core.Sink:
        """What carries the run out."""

    @abstractmethod
    def _open(self, told: str) -> None:
        """Make the core."""

    @abstractmethod
    async def _listen(self) -> None:
        """Begin to hear of ends, before the first phase."""

    @abstractmethod
    async def _begin(self, running: RunningPhase, phase: PreparedPhase) -> None:
        """Let a phase's strategy issue, if it is Python that does."""

    @abstractmethod
    async def _hear(self) -> None:
        """Take in what has ended by now."""

    @abstractmethod
    async def _close(self) -> None:
        """Hear no more, and let go of what the user brought."""

    def answer_to(self, failed: Failed) -> None:
        """Take up the work of a run.

        Args:
            failed: Told of what the user's own raise.
        """
        self._failed = failed

    def open(self, told: str) -> _core.Engine | _core.Sink:
        """Make the core of a run, and return it.

        Args:
            told: The run, as the core is told it.

        Raises:
            ValueError: If the run can't be made as it was told.
            OSError: If its log can't.
        """
        self._open(told)
        if self._publisher is not None:
            self._dropped = self.core.segment().counter("events_dropped", "events", "Events that nobody was sent.")
            self._dropped_before = self._publisher.stats.dropped
        try:
            self._on_loop(self._enlist())
        except RuntimeError:  # a publisher that is closed, a loop that has gone
            self.core.finish("failed", "the event loop's part could not begin")
            raise
        return self.core

    def begun(self, phase: PreparedPhase) -> None:
        """Do the loop's part of a phase that has begun.

        Args:
            phase: The phase.
        """
        assert self._failed is not None
        running = RunningPhase(phase, self._failed)
        self._on_loop(self._enter(running, phase))

    def going(self) -> None:
        """Let the live metrics tell of dropped events; called now and then while a phase goes on."""
        if self._publisher is None or self._dropped is None:
            return
        dropped = self._publisher.stats.dropped
        self._dropped.increment(max(0, dropped - self._dropped_before))
        self._dropped_before = max(dropped, self._dropped_before)

    def ended(self) -> None:
        """Do the loop's part of the end of the phase: it has drained, or hands over what it has in flight."""
        self._on_loop(self._leave())
        self.going()

    @property
    def publishes(self) -> bool:
        """Whether somebody will take the core's events."""
        return self._publisher is not None

    def stop(self, grace: float) -> None:
        """Issue nothing more. From any thread.

        Args:
            grace: Seconds for what is in flight; 0 also cancels the strategy.
        """
        self._stopping = grace
        with contextlib.suppress(RuntimeError):  # the loop has closed: nothing issues any more
            self._loop.call_soon_threadsafe(self._stop, grace)

    def close(self) -> None:
        """Do the loop's part of the run's end, before the core's; also where no core was made. Again does no harm."""
        if not self._closed:
            self._closed = True
            self._on_loop(self._end())

    def finished(self) -> None:
        """Let the publisher have the last events, once the core has told of the run's end."""
        if self._publisher is not None and self._queue is not None:
            self._on_loop(self._discharge(self._publisher, self._queue))

    def stop_phase(self, index: int) -> None:
        """Issue nothing more in one phase, whether it is the current one or not any more. From any thread.

        Args:
            index: The phase's index in the session.
        """
        with contextlib.suppress(RuntimeError):  # as in stop
            self._loop.call_soon_threadsafe(self._stop_phase, index)

    def fail(self, what: str, problem: Exception | None) -> None:
        """Something of the user's has raised, or gone.

        Args:
            what: Who raised it.
            problem: What was raised.
        """
        assert self._failed is not None
        self._failed(what, problem)

    def _ended_in(self, running: RunningPhase) -> bool:
        """Return whether what has ended of ``running`` leaves its slot to the current phase."""
        return running is not self._running and running in self._handed_over

    async def _enter(self, running: RunningPhase, phase: PreparedPhase) -> None:
        if self._running is not None and not self._running.drains:
            self._handed_over.add(self._running)
        self._running = running
        self._begun.append(running)
        await self._begin(running, phase)
        if self._stopping is not None:  # it came before there was a phase to tell
            running.stop(now=self._stopping == 0)

    async def _enlist(self) -> None:
        self._queue = self.core.event_queue()
        if self._publisher is not None and self._queue is not None:
            self._publisher.start()
            self._publisher.attach(self._queue)
        await self._listen()

    async def _discharge(self, publisher: EventPublisherService, queue: _core.EventQueue) -> None:
        publisher.detach(queue)

    async def _end(self) -> None:
        if self._running is not None:  # it has ended, unless the core broke down
            await self._running.end()
        await self._close()

    async def _leave(self) -> None:
        await self._hear()
        if self._running is not None:
            await self._running.end()

    def _stop_phase(self, index: int) -> None:
        if index < len(self._begun):  # else its strategy is told when it begins: the core takes no more of it
            self._begun[index].stop(now=False)

    def _stop(self, grace: float) -> None:
        if self._running is not None:
            self._running.stop(now=grace == 0)

    def _on_loop(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Have the loop do something, and wait for it."""
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise RunError(
                "the event loop of the session was closed while it ran", "keep it until arun returns"
            ) from None
        waited = 0.0
        while True:
            try:
                return future.result(_LOOK_S)
            except concurrent.futures.TimeoutError:
                if future.done():
                    return future.result()
                if not self._loop.is_running():
                    raise RunError(
                        "the event loop of the session was stopped while it ran", "keep it running until arun returns"
                    ) from None
                waited = waited + _LOOK_S if self._stopping == 0 else 0.0
                if waited >= _ANSWER_S:
                    future.cancel()  # nobody else holds it: left alone it would be collected unfinished
                    raise RunError(
                        f"the event loop of the session didn't answer for {waited:g} s after the run was stopped",
                        "nothing that a strategy, a handler or an issuer does may block it",
                    ) from None
