"""Receives a run's snapshots; by default only the newest counts."""

from __future__ import annotations

import asyncio
import time
from typing import Self

from loadgen.event.context import ManagedZMQContext
from loadgen.event.message import SubscriberStats
from loadgen.event.zmq_subscriber import ZmqMessageSubscriber
from loadgen.metrics.snapshot import MetricsSnapshot
from loadgen.metrics.wire import TOPIC, SnapshotCodec


class MetricsSnapshotSubscriber:
    """Receives the snapshots of a :class:`MetricsPublisher`. Made, used and closed on one thread.

    Args:
        ctx: Owns its socket.
        address: The publisher's.
        conflate: Keep only the newest one that was not received yet; what it replaces counts as dropped.
        rcvhwm: Snapshots kept until they are received, where ``conflate`` is off.

    Raises:
        ConfigError: If the address is none of this machine.
    """

    def __init__(self, ctx: ManagedZMQContext, address: str, *, conflate: bool = True, rcvhwm: int = 1000) -> None:
        self._subscriber = ZmqMessageSubscriber(
            ctx, address, SnapshotCodec(), topics=(TOPIC,), conflate=conflate, rcvhwm=rcvhwm
        )
        self._latest: MetricsSnapshot | None = None
        self._complete: MetricsSnapshot | None = None

    @property
    def latest(self) -> MetricsSnapshot | None:
        """The newest snapshot received; ``None`` before the first."""
        return self._latest

    @property
    def complete(self) -> MetricsSnapshot | None:
        """The final snapshot, complete or interrupted, once it was received; nothing replaces it."""
        return self._complete

    @property
    def greeting(self) -> bytes:
        """What tells its publisher that this very subscriber is connected; not of one that conflates."""
        return self._subscriber.greeting

    @property
    def stats(self) -> SubscriberStats:
        """What was received, and what was sent and never came."""
        return self._subscriber.stats

    def receive(self, timeout: float | None = None) -> MetricsSnapshot | None:
        """Wait for the next snapshot.

        Args:
            timeout: Seconds to wait at most; ``None`` for as long as it takes.

        Returns:
            The snapshot; ``None`` if the time was up.

        Raises:
            EventError: After :meth:`close`.
        """
        found = self._subscriber.receive(timeout)
        return self._kept(found[-1]) if found else None

    async def areceive(self, timeout: float | None = None) -> MetricsSnapshot | None:  # noqa: ASYNC109  as its sync twin
        """Do what :meth:`receive` does without blocking the event loop.

        Args:
            timeout: As there.

        Raises:
            EventError: As there.
        """
        found = await self._subscriber.areceive(timeout)
        return self._kept(found[-1]) if found else None

    def wait_for_complete(self, timeout: float = 2.0) -> MetricsSnapshot | None:
        """Wait for the final snapshot.

        Args:
            timeout: Seconds to wait at most.

        Returns:
            The snapshot; ``None`` if it didn't come in time: :attr:`latest` then is all there is.
        """
        deadline = time.monotonic() + timeout
        while self._complete is None and self.receive(max(0.0, deadline - time.monotonic())) is not None:
            pass
        return self._complete

    async def await_for_complete(self, timeout: float = 2.0) -> MetricsSnapshot | None:  # noqa: ASYNC109  as its sync twin
        """Do what :meth:`wait_for_complete` does without blocking the event loop.

        Args:
            timeout: As there.
        """
        deadline = asyncio.get_running_loop().time() + timeout
        while self._complete is None:
            if await self.areceive(max(0.0, deadline - asyncio.get_running_loop().time())) is None:
                break
        return self._complete

    def close(self) -> None:
        """Close its socket. What was received stays readable. May be called again."""
        self._subscriber.close()

    def _kept(self, snapshot: MetricsSnapshot) -> MetricsSnapshot:
        self._latest = snapshot
        if snapshot.state.is_last and self._complete is None:
            self._complete = snapshot
        return snapshot

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
