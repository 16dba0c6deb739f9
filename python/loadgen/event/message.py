"""Publishers and subscribers of messages, whatever carries them: the verbs, and what each counts."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Generic, Self

import msgspec

from loadgen.event.codec import MessageCodec, T
from loadgen.event.frame import FrameError, unpack
from loadgen.event.gaps import Gaps

_log = logging.getLogger("loadgen.event")


class PublisherStats(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the records given to a publisher: each is counted in one of the first four.

    Args:
        buffered: Not yet in a frame.
        pending: In frames that the transport has not taken yet.
        sent: Taken by the transport, which may drop them for a subscriber that is too slow: that one counts it.
        dropped: Given up: there was no room to keep them, or the end came first.
        bytes: Of the frames that were sent.
    """

    buffered: int = 0
    pending: int = 0
    sent: int = 0
    dropped: int = 0
    bytes: int = 0


class SubscriberStats(msgspec.Struct, frozen=True, kw_only=True):
    """What came to a subscriber.

    Args:
        records: Records received.
        frames: Frames that held them.
        bytes: Of these frames.
        dropped: Records that were sent and never came, told by the numbers of those that did. What is missing at the
            very end shows when a later record of its topic comes.
        corrupt: Frames that could not be decoded; the records in them show as dropped.
    """

    records: int = 0
    frames: int = 0
    bytes: int = 0
    dropped: int = 0
    corrupt: int = 0


class MessagePublisher(ABC, Generic[T]):
    """Publishes items of one type. A context manager: leaving it closes it."""

    @abstractmethod
    def send(self, item: T) -> None:
        """Publish an item.

        Args:
            item: The item; it is encoded at once, so it may change afterwards.

        Raises:
            EventError: After :meth:`close`.
        """

    @abstractmethod
    def close(self) -> None:
        """Send what is left, and end. May be called again."""

    @property
    @abstractmethod
    def stats(self) -> PublisherStats:
        """The counters as they are now; they stay readable after :meth:`close`."""

    def flush(self) -> None:
        """Send what is buffered. Does nothing where nothing is ever buffered."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class MessageSubscriber(ABC, Generic[T]):
    """Receives items of one type. A context manager: leaving it closes it.

    Args:
        codec: Decodes them.
        from_start: Whether it was there before the first message, so that whatever it lacks was dropped.
    """

    def __init__(self, codec: MessageCodec[T], *, from_start: bool = False) -> None:
        self._codec = codec
        self._gaps = Gaps(from_start=from_start)
        self._records = self._frames = self._bytes = self._corrupt = 0

    @abstractmethod
    def receive(self, timeout: float | None = None) -> Sequence[T]:
        """Wait for the next items and return them: those of one frame.

        Args:
            timeout: Seconds to wait at most; ``None`` for as long as it takes.

        Returns:
            At least one item; none if the time was up.

        Raises:
            EventError: After :meth:`close`.
            Exception: What the codec made of an error, which ends this subscriber.
        """

    @abstractmethod
    def close(self) -> None:
        """End. May be called again."""

    @property
    def stats(self) -> SubscriberStats:
        """The counters as they are now; they stay readable after :meth:`close`."""
        return SubscriberStats(
            records=self._records,
            frames=self._frames,
            bytes=self._bytes,
            dropped=self._gaps.missing,
            corrupt=self._corrupt,
        )

    def _items(self, message: bytes) -> Sequence[T]:
        """Return the items of a message, and count it; a corrupt one gives what the codec makes of it, or nothing."""
        try:
            frame = unpack(message)
        except FrameError as error:
            self._say_corrupt(message, error)
            return ()
        try:
            items = self._codec.decode_batch(frame.payload, frame.records)
        except Exception as error:  # noqa: BLE001  a codec is anybody's: it says itself what its errors mean
            self._say_corrupt(message, error)
            stand_in = self._codec.on_decode_error(frame.payload, error)
            return () if stand_in is None else (stand_in,)
        self._frames += 1
        self._records += frame.records
        self._bytes += len(message)
        if self._gaps.seen(frame) and _log.isEnabledFor(logging.DEBUG):
            _log.debug("records of %s are missing before number %d", frame.topic, frame.topic_seq)
        return items

    def _say_corrupt(self, message: bytes, error: Exception) -> None:
        self._corrupt += 1
        _log.warning("dropped a corrupt frame of %d bytes: %s", len(message), error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[T]:
        """Yield items one by one, for as long as it takes."""
        while True:
            yield from self.receive()
