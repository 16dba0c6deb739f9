"""Publishes a run's metrics some times a second off the hot threads, and its final numbers so that they arrive."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol, Self

import msgspec

from loadgen.errors import EventError
from loadgen.event.context import ManagedZMQContext, wait_at_most
from loadgen.event.home import Home
from loadgen.event.message import PublisherStats
from loadgen.event.zmq_publisher import ZmqMessagePublisher
from loadgen.metrics import SNAPSHOT, final
from loadgen.metrics.final import FinalPublished
from loadgen.metrics.registry import MetricsRegistry
from loadgen.metrics.snapshot import MetricsSnapshot, SessionState, SnapshotSource
from loadgen.metrics.wire import SnapshotCodec

_log = logging.getLogger("loadgen.metrics")

_ANSWERS_WITHIN_S = 5.0
_LEAVES_WITHIN_S = 2.0
_REPEATED_S = 0.25


class SnapshotTransport(Protocol):
    """What takes the snapshots: :class:`loadgen.event.ZmqMessagePublisher`."""

    @property
    def address(self) -> str:
        """What a subscriber connects to."""

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody listens."""

    @property
    def stats(self) -> PublisherStats:
        """What was sent."""

    def send(self, item: MetricsSnapshot) -> None:
        """Publish a snapshot."""

    def close(self) -> None:
        """End."""


class MetricsPublisher:
    """Publishes snapshots from when it is made until :meth:`publish_final`, which no live one ever follows.

    A tick that fails is logged and counted, and the next one comes all the same. Leaving the ``with`` block closes it.

    Args:
        source: Where snapshots are from.
        ctx: Owns the socket; ``None`` for a context of its own. A given one must not be used by another thread than
            the publisher's.
        refresh_hz: Snapshots a second, 0.01 to 1000.
        sndhwm: Snapshots that ZMQ keeps for each subscriber; what comes on top is dropped for that one.
        linger: Seconds for which the final snapshot is repeated after :meth:`publish_final`, so that a slow reader or
            one that keeps only the newest can't miss it; :meth:`close` waits for their end while anybody listens.
        store: The file, or the directory, to store the final snapshot in; ``None`` to store none.
        pending: Tells how many tasks are under way; ``None`` leaves it to the counters.
        isolated_event_loop: Whether it runs on a thread of its own, off a loop that is busy; else on the event loop
            that runs where it is made.
        transport: Makes what takes the snapshots, on the publisher's thread, in place of a socket.

    Raises:
        ValueError: If an argument is out of range.
        EventError: If no event loop runs here where one is needed, or the address can't be listened at.
    """

    def __init__(  # noqa: PLR0913  the contract's knobs, each by its name
        self,
        source: SnapshotSource,
        ctx: ManagedZMQContext | None = None,
        *,
        refresh_hz: float = 4.0,
        sndhwm: int = 4,
        linger: float = 10.0,
        store: str | os.PathLike[str] | None = None,
        pending: Callable[[], int] | None = None,
        isolated_event_loop: bool = True,
        transport: Callable[[], SnapshotTransport] | None = None,
    ) -> None:
        if not 0.01 <= refresh_hz <= 1000:
            raise ValueError(f"refresh_hz ({refresh_hz}) must be 0.01 to 1000 snapshots a second")
        if not 0 <= linger <= 3600:
            raise ValueError(f"linger ({linger}) must be 0 to 3600 seconds")
        if sndhwm < 1:
            raise ValueError(f"sndhwm ({sndhwm}) must be 1 or more snapshots")
        self._source = source
        self._period = 1 / refresh_hz
        self._linger = linger
        self._store = _file(store)
        self._pending = pending
        self._own_ctx = ManagedZMQContext() if ctx is None and transport is None else None
        self._transport_of = transport or self._zmq(ctx or self._own_ctx, sndhwm)
        self._transport: SnapshotTransport | None = None
        self._closed_stats: PublisherStats | None = None
        self._home = Home()
        self._timer: asyncio.Handle | None = None
        self._ticks = self._failed = 0
        self._ending = threading.RLock()
        self._is_ending = False
        self._outcome: FinalPublished | None = None
        self._final: MetricsSnapshot | None = None
        self._repeats_until = 0.0
        self._has_lingered = threading.Event()
        self._is_closed = False
        self._pid = os.getpid()
        self._latest: MetricsSnapshot | None = None
        try:
            self._settle(isolated_event_loop)
        except BaseException:
            if self._own_ctx is not None:
                self._own_ctx.close(0)
            raise

    @staticmethod
    def _zmq(ctx: ManagedZMQContext | None, sndhwm: int) -> Callable[[], SnapshotTransport]:
        def make() -> SnapshotTransport:
            assert ctx is not None, "a context was made where none was given"
            return ZmqMessagePublisher(ctx, SnapshotCodec(), name="metrics", sndhwm=sndhwm, linger=_LEAVES_WITHIN_S)

        return make

    def _settle(self, isolated: bool) -> None:
        if isolated:
            self._home.isolate(self._begin)
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            raise EventError(
                "snapshots are sent by an event loop, and none runs here",
                "make it within a coroutine, or with isolated_event_loop=True",
            ) from None
        self._home.settle(loop)
        self._begin(loop)

    # --- what callers do

    @property
    def address(self) -> str:
        """What a subscriber connects to."""
        assert self._transport is not None, "it is made with the publisher"
        return self._transport.address

    @property
    def ticks(self) -> int:
        """Snapshots that ticks have published."""
        return self._ticks

    @property
    def failed_ticks(self) -> int:
        """Ticks that could not publish one."""
        return self._failed

    @property
    def latest(self) -> MetricsSnapshot | None:
        """The newest snapshot that was published; ``None`` before the first."""
        return self._latest

    @property
    def stats(self) -> PublisherStats:
        """What the socket took; it stays readable after :meth:`close`."""
        assert self._transport is not None, "it is made with the publisher"
        return self._closed_stats or self._transport.stats

    def publish_final(self, state: SessionState = SessionState.COMPLETE) -> FinalPublished:
        """End the ticks, and publish and store the final snapshot. Called again, it returns what the first call did.

        The two ways are independent: what goes wrong on one is logged and returned, and the other is gone all the same.

        Args:
            state: How the session ended: ``COMPLETE`` or ``INTERRUPTED``. A registry is advanced to it.

        Raises:
            ValueError: If the state isn't a last one.
            MetricsError: If there is no snapshot to be had.
            EventError: After a fork, in the child; or from within itself.
        """
        if self._pid != os.getpid():
            raise EventError("metrics can't be published after a fork", "make a publisher in the child")
        if not state.is_last:
            raise ValueError(f"a final snapshot is complete or interrupted, not {state.value}")
        with self._ending:
            if self._outcome is None:
                if self._is_ending:  # by this very thread: from a transport's send, or from what tells what is pending
                    raise EventError("the final snapshot is being published", "don't publish it from within itself")
                self._is_ending = True
                try:
                    self._outcome = self._publish_final(state)
                finally:
                    self._is_ending = False
            return self._outcome

    def _publish_final(self, state: SessionState) -> FinalPublished:
        problems: list[str] = []
        if isinstance(self._source, MetricsRegistry) and not self._source.state.is_last:
            self._source.advance(state)
        snapshot, is_published = self._announced(state, problems)
        stored = None
        if self._store is not None:
            try:
                final.store(self._store, snapshot)
                stored = self._store
            except OSError as error:
                problems.append(f"the final snapshot could not be stored in {self._store}: {error.strerror or error}")
        for problem in problems:
            _log.warning("%s", problem)
        return FinalPublished(snapshot, is_published, stored, tuple(problems))

    def _announced(self, state: SessionState, problems: list[str]) -> tuple[MetricsSnapshot, bool]:
        """Take the final snapshot and publish it where the socket lives; without that, it is taken here."""
        try:
            return self._home.ask(lambda: self._announce(state, problems), _ANSWERS_WITHIN_S)
        except EventError as error:
            problems.append(f"the final snapshot could not be published: {error.message}")
            return self._last(state, problems), False

    def close(self) -> None:
        """End: wait for the final snapshot's repeats while anybody listens, and close the socket. May be called again.

        On the thread of its event loop it doesn't wait: see :meth:`aclose`.
        """
        if self._pid != os.getpid():
            return  # a child has neither its thread nor its socket
        with self._ending:
            if self._is_closed:
                return
            self._is_closed = True
        try:
            if self._outcome is not None and not self._home.is_here():
                self._home.tell(self._leave_unheard)
                wait_at_most(self._has_lingered, self._linger + 2 * _REPEATED_S)
        finally:
            self._end()

    async def aclose(self) -> None:
        """Do what :meth:`close` does without blocking the event loop."""
        if not self._home.is_here():
            await asyncio.to_thread(self.close)
            return
        while self._lingers():  # noqa: ASYNC110  nothing tells of a subscriber that leaves
            await asyncio.sleep(_REPEATED_S / 10)
        self.close()

    def _lingers(self) -> bool:
        assert self._transport is not None, "it is made with the publisher"
        return self._outcome is not None and not self._has_lingered.is_set() and self._transport.has_subscribers

    def _end(self) -> None:
        try:
            self._home.ask(self._finish)
        finally:
            self._home.leave()
            if self._own_ctx is not None:
                self._own_ctx.close(_LEAVES_WITHIN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- on the loop's thread

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = self._transport_of()
        self._timer = loop.call_soon(self._tick, loop.time())

    def _tick(self, due: float) -> None:
        if self._final is not None or self._is_closed:
            return
        try:
            snapshot = self._with_pending(self._source.snapshot())
            if self._final is None:  # taking it, or telling what is pending, may have ended it all
                self._send(snapshot)
                self._ticks += 1
        except Exception:  # noqa: BLE001  the edge of a task: whatever it was, the next tick comes
            self._failed += 1
            _log.warning("a snapshot could not be published", exc_info=self._failed == 1)
        if self._final is None:
            self._again(self._tick, due + self._period)

    def _again(self, call: Callable[[float], None], due: float) -> None:
        """Call again when it is due; what was missed meanwhile is left out."""
        loop = self._home.loop
        assert loop is not None, "a timer called this"
        due = max(due, loop.time())
        self._timer = loop.call_at(due, call, due)

    def _with_pending(self, snapshot: MetricsSnapshot) -> MetricsSnapshot:
        return snapshot if self._pending is None else msgspec.structs.replace(snapshot, pending=self._pending())

    def _last(self, state: SessionState, problems: list[str]) -> MetricsSnapshot:
        """Take the final snapshot; where what is pending can't be had, the counters tell it."""
        snapshot = self._source.snapshot()
        if not snapshot.state.is_last:
            snapshot = msgspec.structs.replace(snapshot, state=state)
        try:
            return self._with_pending(snapshot)
        except Exception as error:  # noqa: BLE001  who tells it is anybody's, and the numbers must not be lost for it
            problems.append(f"what is pending is as the counters tell it: {type(error).__name__}: {error}")
            return snapshot

    def _send(self, snapshot: MetricsSnapshot) -> None:
        assert self._transport is not None, "it is made before the first tick"
        self._transport.send(snapshot)
        self._latest = snapshot

    def _announce(self, state: SessionState, problems: list[str]) -> tuple[MetricsSnapshot, bool]:
        if self._timer is not None:
            self._timer.cancel()
        loop = self._home.loop
        assert loop is not None, "it has one from when it is made"
        # Set before it is sent: a send that calls back here finds the ticks ended.
        self._final = snapshot = self._last(state, problems)
        now = loop.time()
        self._repeats_until = now + self._linger
        is_published = self._repeated(snapshot, problems)
        self._again(self._repeat, now + _REPEATED_S)
        return snapshot, is_published

    def _repeat(self, due: float) -> None:
        loop, snapshot = self._home.loop, self._final
        assert loop is not None, "a timer called this"
        assert snapshot is not None, "publish_final started the timer"
        self._repeated(snapshot, [])
        self._leave_unheard()
        if loop.time() >= self._repeats_until:
            self._has_lingered.set()
        else:
            self._again(self._repeat, due + _REPEATED_S)

    def _leave_unheard(self) -> None:
        """Let whoever closes it go when nobody listens."""
        if self._is_closed and self._transport is not None and not self._transport.has_subscribers:
            self._has_lingered.set()

    def _repeated(self, snapshot: MetricsSnapshot, problems: list[str]) -> bool:
        try:
            self._send(snapshot)
        except Exception as error:  # noqa: BLE001  a transport is anybody's: the other way, and the next repeat, go on
            problems.append(f"the final snapshot could not be published: {type(error).__name__}: {error}")
            return False
        return True

    def _finish(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._has_lingered.set()
        if self._transport is not None:
            self._transport.close()
            self._closed_stats = self._transport.stats


def _file(store: str | os.PathLike[str] | None) -> Path | None:
    if store is None:
        return None
    path = Path(store)
    return path / SNAPSHOT if path.is_dir() else path
