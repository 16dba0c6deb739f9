"""A subscriber over ZMQ: blocking, or on an event loop."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence

import zmq

from loadgen.errors import EventError
from loadgen.event.codec import MessageCodec, T
from loadgen.event.context import ManagedZMQContext, Socket
from loadgen.event.frame import subscription
from loadgen.event.message import MessageSubscriber
from loadgen.event.zmq_sender import GREETING

_LARGEST_FRAME = 64 << 20


class ZmqMessageSubscriber(MessageSubscriber[T]):
    """Receives the frames of a publisher. Made, used and closed on one thread.

    Args:
        ctx: Owns its socket.
        address: The publisher's.
        codec: Decodes the items.
        topics: What to receive: a topic for exactly that, a category with its dot (``sample.``) for all of it, an
            empty text for everything. The publisher never sends it anything else.
        rcvhwm: Frames kept here until they are received; 0 for no bound.
        linger: Seconds to go on at the end; a subscriber has nothing to deliver.
        conflate: Keep only the newest frame, of one topic. What it replaces counts as dropped. Its publisher can't be
            asked to wait for it, as ZMQ conflates what it says of itself, too.
        from_start: Whether the publisher waits for this subscriber before its first message, so that whatever is
            lacking was dropped; else a source's records count from the first one that comes.

    Raises:
        ValueError: If a topic is none, or none that the codec knows, ``rcvhwm`` is below 0, or several topics are to be
            conflated.
        ConfigError: If the address is none of this machine.
    """

    def __init__(
        self,
        ctx: ManagedZMQContext,
        address: str,
        codec: MessageCodec[T],
        *,
        topics: Sequence[str] = ("",),
        rcvhwm: int = 1000,
        linger: float = 0.0,
        conflate: bool = False,
        from_start: bool = False,
    ) -> None:
        super().__init__(codec, from_start=from_start)
        if isinstance(topics, str):
            raise ValueError(f"topics are a sequence of texts, and {topics!r} is one text")  # noqa: TRY004  one rule
        if rcvhwm < 0:
            raise ValueError(f"rcvhwm ({rcvhwm}) must be 0 (no mark) or more frames")
        if conflate and len(topics) != 1:
            raise ValueError(f"conflate keeps the newest frame of one topic, and these are {len(topics)}")
        for topic in topics:
            codec.check_topic(topic)
        self._ctx = ctx
        self._linger = linger
        self._is_conflating = conflate
        self._waiter: asyncio.Future[None] | None = None
        self._greeting = GREETING + secrets.token_bytes(16)
        options = {"maxmsgsize": _LARGEST_FRAME, **({"conflate": 1} if conflate else {"rcvhwm": rcvhwm})}
        # The greeting last: who has seen it has seen the topics.
        asked = (*map(subscription, topics), *(() if conflate else (self._greeting,)))
        self._socket: Socket | None = ctx.connect(zmq.SUB, address, subscribe=asked, **options)

    @property
    def greeting(self) -> bytes:
        """What tells its publisher that this very subscriber is connected: ``publisher.wait_for(greeting)``.

        Raises:
            EventError: Of one that conflates.
        """
        if self._is_conflating:
            raise EventError("a subscriber that conflates can't be waited for", "wait for its first record")
        return self._greeting

    def receive(self, timeout: float | None = None) -> Sequence[T]:
        """Wait for the next items and return them: those of one frame.

        Args:
            timeout: Seconds to wait at most; ``None`` for as long as it takes.

        Returns:
            At least one item; none if the time was up.

        Raises:
            EventError: After :meth:`close`.
            Exception: What the codec made of an error; this subscriber is closed then.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (items := self._next()):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self._open().poll(None if left is None else max(1, round(left * 1000)))
        return items or ()

    async def areceive(self, timeout: float | None = None) -> Sequence[T]:  # noqa: ASYNC109  as its sync twin
        """Do what :meth:`receive` does without blocking the event loop.

        Args:
            timeout: As there.

        Raises:
            EventError: After :meth:`close`, also by one that comes during the wait.
            Exception: As there.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while not (items := self._next()):
            left = None if deadline is None else deadline - time.monotonic()
            if (left is not None and left <= 0) or not await self._readable(left):
                break
        return items or ()

    def _next(self) -> Sequence[T] | None:
        """Return the items of the next frame, none for a corrupt one; ``None`` where no frame waits."""
        socket = self._open()
        while True:
            try:
                message = socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return None
            try:
                items = self._items(message)
            except BaseException:
                self.close()
                raise
            if items:
                return items

    async def _readable(self, seconds: float | None) -> bool:
        """Wait for news of the socket. ZMQ's descriptor tells of changes only: this follows a look that found none."""
        loop = asyncio.get_running_loop()
        if self._waiter is not None:
            raise EventError("another task waits for this subscriber's records already", "give each task its own")
        waiter = self._waiter = loop.create_future()
        descriptor = self._open().FD
        loop.add_reader(descriptor, _wake, waiter)
        try:
            await asyncio.wait_for(waiter, seconds)
        except asyncio.TimeoutError:  # noqa: UP041  another name for the builtin one
            return False
        finally:
            self._waiter = None
            if self._socket is not None:
                loop.remove_reader(descriptor)
        return True

    def _open(self) -> Socket:
        if self._socket is None:
            raise EventError("this subscriber is closed", "make another")
        return self._socket

    async def __aiter__(self) -> AsyncIterator[T]:
        """Yield items one by one until it is closed."""
        while True:
            try:
                items = await self.areceive()
            except EventError:
                if self._socket is not None:
                    raise
                return
            for item in items:
                yield item

    def close(self) -> None:
        """Close the socket; a task that waits for records is told. May be called again."""
        if self._socket is None:
            return
        socket, self._socket = self._socket, None
        if self._waiter is not None:
            self._waiter.get_loop().remove_reader(socket.FD)  # before the number is another's
            _wake(self._waiter)
        self._ctx.close_socket(socket, self._linger)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
