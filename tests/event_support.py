"""What the tests of events share: a codec, records, and waiting for what comes."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from loadgen import _core
from loadgen.event import (
    EventPublisherService,
    EventRecord,
    EventType,
    ManagedZMQContext,
    MessageCodec,
    ZmqMessageSubscriber,
)

WAIT_S = 20.0  # what never comes is a failure; nothing is this slow

ISSUED, FIRST, COMPLETE = EventType.SAMPLE_ISSUED, EventType.SAMPLE_RECV_FIRST, EventType.SAMPLE_COMPLETE
FAILED, STARTED, ENDED = EventType.ERROR_CLIENT, EventType.SESSION_STARTED, EventType.SESSION_ENDED

Contexts = Callable[[], ManagedZMQContext]
Subscriber = ZmqMessageSubscriber[EventRecord]


class Text(MessageCodec[tuple[str, bytes]]):
    """A codec of a user's own: a topic and bytes. It can't decode ``bad``, and ``worse`` ends it."""

    def encode(self, item: tuple[str, bytes]) -> tuple[str, bytes]:
        return item

    def decode(self, payload: bytes | memoryview) -> tuple[str, bytes]:
        if payload in (b"bad", b"worse"):
            raise ValueError(bytes(payload).decode())
        return "", bytes(payload)

    def on_decode_error(self, payload: bytes | memoryview, exc: Exception) -> tuple[str, bytes] | None:
        if payload == b"worse":
            raise exc
        return None


def received(subscriber: ZmqMessageSubscriber[EventRecord], count: int) -> list[EventRecord]:
    """Wait for this many records."""
    got: list[EventRecord] = []
    while len(got) < count:
        items = subscriber.receive(WAIT_S)
        assert items, f"{len(got)} of {count} records came"
        got += items
    return got


def until(what: Callable[[], bool]) -> None:
    """Wait, within bounds, for something to become true."""
    deadline = time.monotonic() + WAIT_S
    while not what():
        assert time.monotonic() < deadline, "it never came about"
        time.sleep(0.001)


def event(kind: EventType, request: int | None = None, ns: int | None = None) -> EventRecord:
    return EventRecord(kind, _core.now_ns() if ns is None else ns, request)


class HandQueue:
    """An engine's queue of frames that a test fills by hand; its descriptor is readable while it holds any."""

    def __init__(self) -> None:
        self._frames: list[bytes] = []
        self._reads, self._writes = os.pipe()
        self.dropped = 0

    def put(self, *frames: bytes) -> None:
        self._frames += frames
        os.write(self._writes, b"!")

    def fileno(self) -> int:
        return self._reads

    def take(self, limit: int = 256) -> list[bytes]:
        taken, self._frames = self._frames[:limit], self._frames[limit:]
        if taken and not self._frames:
            os.read(self._reads, 4096)
        return taken

    def close(self) -> None:
        os.close(self._reads)
        os.close(self._writes)


def frames_of(source: int, *records: EventRecord) -> list[bytes]:
    """Return the frames that an engine's worker would make of records."""
    batch = _core.EventBatch(source)
    for record in records:
        batch.publish(record.type, record.ns, record.request)
    return batch.take()


@contextmanager
def isolated(ctx: ManagedZMQContext, **arguments: Any) -> Iterator[EventPublisherService]:
    """A service whose records never age unless a test wants it."""
    with EventPublisherService(ctx, isolated_event_loop=True, **{"max_age": 3600, **arguments}) as service:
        yield service
