"""Codecs: between an item and the bytes of a frame's payload; the events' own codec decodes a batch in one call."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Generic, TypeVar

import msgspec

from loadgen.event.record import TOPICS, EventRecord, EventType

T = TypeVar("T")


class MessageCodec(ABC, Generic[T]):
    """Turns items of one type into payloads and back."""

    topics: ClassVar[Sequence[str] | None] = None
    """What items are published under, where it is known: then nobody can ask for anything else."""

    @abstractmethod
    def encode(self, item: T) -> tuple[str, bytes]:
        """Return the topic that an item is published under, and its payload.

        Args:
            item: The item.
        """

    @abstractmethod
    def decode(self, payload: bytes | memoryview) -> T:
        """Return the one item of a payload. May raise; :meth:`on_decode_error` then says what becomes of it.

        Args:
            payload: What :meth:`encode` returned, or what somebody else sent in its place.
        """

    def check_topic(self, asked: str) -> None:
        """Refuse a topic that no item has: whoever asks for it would wait for ever.

        Args:
            asked: A topic, a category with its dot, or nothing for everything.

        Raises:
            ValueError: If it is none of these.
        """
        if not asked or self.topics is None or asked in self.topics:
            return
        categories = dict.fromkeys(f"{topic.partition('.')[0]}." for topic in self.topics)
        if asked in categories:
            return
        known = (*self.topics, *categories)
        from loadgen.config.known import nearest  # only a mistake needs it

        close = nearest(asked, known)
        way_out = f"perhaps {close!r}?" if close else f"there are {', '.join(known)}"
        raise ValueError(f"there is no topic {asked!r}; {way_out}")

    def decode_batch(self, payload: bytes | memoryview, count: int) -> Sequence[T]:
        """Return the items of a frame.

        Args:
            payload: As for :meth:`decode`, ``count`` of them one after the other.
            count: How many the frame says it holds.

        Raises:
            ValueError: If there are several: a codec whose payloads can be put one after the other overrides this.
        """
        if count != 1:
            raise ValueError(f"this codec decodes one item a frame, and this one holds {count}")
        return [self.decode(payload)]

    def on_decode_error(self, payload: bytes | memoryview, exc: Exception) -> T | None:  # noqa: ARG002
        """Say what becomes of a payload that could not be decoded.

        Args:
            payload: The payload.
            exc: What was raised. Raised again, it ends the subscriber.

        Returns:
            What the subscriber gets in its place; ``None`` to drop it. It is logged and counted either way.
        """
        return None


class EventCodec(MessageCodec[EventRecord]):
    """The events' codec: msgpack arrays, as ``rust/src/event/encode.rs`` writes them.

    Args:
        errors_as_records: Whether a batch that can't be decoded becomes an ``error.generic`` record that says so;
            else it is dropped.
    """

    topics = TOPICS

    def __init__(self, *, errors_as_records: bool = False) -> None:
        self._errors_as_records = errors_as_records
        self._one = msgspec.msgpack.Decoder(EventRecord)
        self._many = msgspec.msgpack.Decoder(list[EventRecord])
        self._encoder = msgspec.msgpack.Encoder()

    def encode(self, item: EventRecord) -> tuple[str, bytes]:
        """Return an event's topic, and its record as msgpack.

        Args:
            item: The event.
        """
        return item.type.topic, self._encoder.encode(item)

    def decode(self, payload: bytes | memoryview) -> EventRecord:
        """Return the record of a payload.

        Args:
            payload: One msgpack array.

        Raises:
            msgspec.DecodeError: If it is anything else.
        """
        return self._one.decode(payload)

    def decode_batch(self, payload: bytes | memoryview, count: int) -> Sequence[EventRecord]:
        """Return the records of a frame, decoded as the one array that a head in front makes of them.

        Args:
            payload: Msgpack arrays, one after the other.
            count: How many.

        Raises:
            msgspec.DecodeError: If these are not exactly ``count`` records.
        """
        return self._many.decode(as_array(payload, count))

    def on_decode_error(self, payload: bytes | memoryview, exc: Exception) -> EventRecord | None:
        """Drop what msgspec refused, or make a record of it; anything else is a fault of ours and is raised again.

        Args:
            payload: The payload.
            exc: What was raised.
        """
        if not isinstance(exc, msgspec.DecodeError):
            raise exc
        if not self._errors_as_records:
            return None
        data = {"detail": f"a batch could not be decoded: {exc}", "bytes": len(payload)}
        return EventRecord(EventType.ERROR_GENERIC, time.monotonic_ns(), data=data)


def as_array(payload: bytes | memoryview, count: int) -> bytes:
    """Return msgpack values that stand one after the other as one array of them.

    Args:
        payload: The values.
        count: How many.
    """
    return b"".join((b"\xdd", count.to_bytes(4, "big"), payload))
