"""Follows a session by its events, in this process or another, and publishes its metrics until they are final."""

from __future__ import annotations

import os
import threading
import time
from typing import Self

from loadgen.errors import EventError, LoadgenError, MetricsError
from loadgen.event.codec import EventCodec
from loadgen.event.context import ManagedZMQContext, wait_at_most
from loadgen.event.record import EventRecord
from loadgen.event.zmq_subscriber import ZmqMessageSubscriber
from loadgen.metrics.aggregate import Aggregate
from loadgen.metrics.final import FinalPublished
from loadgen.metrics.publisher import MetricsPublisher
from loadgen.metrics.registry import MetricsRegistry
from loadgen.metrics.snapshot import SessionState

_LOOKS_EVERY_S = 0.05
_STARTS_WITHIN_S = 10.0


class MetricsAggregatorService:
    """Feeds a registry from a session's events, on a thread of its own, and publishes its snapshots.

    The session is live until ``session.ended``; then requests in flight have some time to end, the final snapshot is
    published and stored, and the service is over. Leaving the ``with`` block closes it.

    Args:
        address: That of the session's :class:`EventPublisherService`. For whole numbers have that wait for
            :attr:`greeting` before its first event.
        registry: Where the numbers go; ``None`` for one of its own.
        refresh_hz: Snapshots a second.
        linger: Seconds for which the final one is repeated.
        store: The file or directory to store the final one in; ``None`` to store none.
        drain_timeout: Seconds that requests in flight have after ``session.ended``.
        rcvhwm: Frames of events kept until they are counted; what comes on top is dropped and shows in
            :attr:`missing`. 0: no bound.

    Raises:
        ValueError: If an argument is out of range.
        ConfigError: If the address is none of this machine.
    """

    def __init__(
        self,
        address: str,
        *,
        registry: MetricsRegistry | None = None,
        refresh_hz: float = 4.0,
        linger: float = 10.0,
        store: str | os.PathLike[str] | None = None,
        drain_timeout: float = 30.0,
        rcvhwm: int = 100_000,
    ) -> None:
        if not 0 <= drain_timeout <= 3600:
            raise ValueError(f"drain_timeout ({drain_timeout}) must be 0 to 3600 seconds")
        self._registry = registry or MetricsRegistry()
        self._owns_registry = registry is None
        self._aggregate = Aggregate(self._registry)
        self._publisher = MetricsPublisher(
            self._registry, refresh_hz=refresh_hz, linger=linger, store=store, pending=lambda: self._aggregate.pending
        )
        self._drain_timeout = drain_timeout
        self._greeting = b""
        self._outcome: FinalPublished | None = None
        self._problem: LoadgenError | None = None
        self._ready, self._ended = threading.Event(), threading.Event()
        self._is_stopping = self._is_closed = self._gives_up = False
        self._pid = os.getpid()
        self._thread = threading.Thread(
            target=self._serve, args=(address, rcvhwm), name="loadgen-aggregator", daemon=True
        )
        self._thread.start()
        if not self._ready.wait(_STARTS_WITHIN_S) or self._problem is not None:
            self.close()
            raise self._problem or MetricsError("the thread that counts events did not start in time")

    @property
    def registry(self) -> MetricsRegistry:
        """Its registry."""
        return self._registry

    @property
    def address(self) -> str:
        """What a :class:`MetricsSnapshotSubscriber` connects to."""
        return self._publisher.address

    @property
    def greeting(self) -> bytes:
        """What tells the events' publisher that this very service is connected: ``events.wait_for(greeting)``."""
        return self._greeting

    @property
    def in_flight_count(self) -> int:
        """Requests that were issued and whose end is awaited."""
        return self._aggregate.in_flight_count

    @property
    def missing(self) -> int:
        """Events that were sent and never came: what the numbers may lack; 0 says that they are whole."""
        return self._registry.missing

    @property
    def protocol_errors(self) -> int:
        """Events that contradict those before them, such as an error after its request was complete."""
        return self._aggregate.protocol_errors

    @property
    def unmatched(self) -> int:
        """Events of requests whose issue was never heard of: dropped, or before this service was there."""
        return self._aggregate.unmatched

    @property
    def uncounted_phases(self) -> int:
        """Tracked phases that the registry had no room for: they are in no number."""
        return self._aggregate.uncounted_phases

    def cancel_all(self) -> None:
        """Wait for no request's end any more; those in flight stay pending in the final snapshot."""
        self._gives_up = True

    def wait(self, timeout: float | None = None) -> FinalPublished | None:
        """Wait until the session has ended and its final snapshot is out.

        Args:
            timeout: Seconds to wait at most; ``None`` for as long as it takes.

        Returns:
            What became of the final snapshot; ``None`` if the time was up.

        Raises:
            MetricsError: If the events could not be followed to their end.
        """
        self._ended.wait(timeout)
        if self._problem is not None:
            raise self._problem
        return self._outcome

    def close(self) -> None:
        """End: a session that has not ended by then is published as interrupted. May be called again.

        It waits for the final snapshot's repeats while anybody listens.
        """
        if self._is_closed or self._pid != os.getpid():
            return
        self._is_closed = self._is_stopping = True
        try:
            wait_at_most(self._ended, self._drain_timeout + _STARTS_WITHIN_S)
        finally:
            self._publisher.close()
            if self._owns_registry:
                self._registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- on its thread

    def _serve(self, address: str, rcvhwm: int) -> None:
        try:
            with ManagedZMQContext() as ctx:
                subscriber = ZmqMessageSubscriber(ctx, address, EventCodec(), rcvhwm=rcvhwm, from_start=True)
                self._greeting = subscriber.greeting
                self._ready.set()
                try:
                    self._follow(subscriber)
                finally:
                    subscriber.close()
        except LoadgenError as error:
            self._problem = error
        except Exception as error:  # noqa: BLE001  the edge of a thread: whoever waits gets it
            self._problem = MetricsError(f"the session's events could not be followed: {error!r}")
        finally:
            try:
                self._publish_final()
            finally:
                self._ready.set()
                self._ended.set()

    def _follow(self, subscriber: ZmqMessageSubscriber[EventRecord]) -> None:
        deadline = None
        while True:
            is_last_look = self._is_stopping
            records = subscriber.receive(0 if is_last_look else _LOOKS_EVERY_S)
            self._aggregate.feed(records)
            self._registry.missing = subscriber.stats.dropped
            if self._gives_up:
                self._aggregate.cancel_all()
            if self._aggregate.is_ended:
                now = time.monotonic()
                deadline = now + self._drain_timeout if deadline is None else deadline
                if self._aggregate.in_flight_count == 0 or now >= deadline:
                    return
            if is_last_look and not records:
                return

    def _publish_final(self) -> None:
        is_whole = self._aggregate.is_ended and self._problem is None
        try:
            self._outcome = self._publisher.publish_final(
                SessionState.COMPLETE if is_whole else SessionState.INTERRUPTED
            )
        except (EventError, MetricsError) as error:
            self._problem = self._problem or error
