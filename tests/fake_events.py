"""A stand-in for ``_core.EventBatch`` in Python, and an engine's queue that a test fills by hand."""

import os
import struct
from typing import Any

import msgspec

from loadgen.event import EventType
from loadgen.event.frame import pack, topic_frame


class FakeBatch:
    def __init__(
        self, source: int, *, send_threshold: int = 1000, max_age_ns: int = 10_000_000, max_bytes: int = 65536
    ) -> None:
        self._source, self._threshold, self._max_bytes = source, send_threshold, max_bytes
        self._topics: dict[EventType, list[bytes]] = {}
        self._seqs: dict[EventType, int] = {}
        self._seq = self.buffered = self.buffered_bytes = 0
        self.oldest_ns: int | None = None

    def record(self, kind: int, request: int, ns: int) -> bool:
        return self.publish(kind, ns, request)

    def publish(self, kind: int, ns: int, request: Any = None, *rest: Any, data: bytes | None = None) -> bool:
        session, conversation, turn, told, finish = (*rest, *[None] * 5)[:5]
        raw = told if told is not None else data
        body = [int(kind), ns, request, session, conversation, turn]
        body += [None if raw is None else msgspec.Raw(raw), finish, self._source, self._seq]
        made = msgspec.msgpack.encode(body)
        self._topics.setdefault(EventType(kind), []).append(made)
        self._seq += 1
        self.buffered += 1
        self.buffered_bytes += len(made)
        self.oldest_ns = ns if self.oldest_ns is None else self.oldest_ns
        return kind < 16 or self.buffered >= self._threshold or self.buffered_bytes >= self._max_bytes

    def take(self) -> list[bytes]:
        frames = []
        for kind in sorted(self._topics, key=lambda kind: (kind < 16, kind < 32, kind)):
            records = self._topics[kind]
            first = self._seqs.get(kind, 0)
            self._seqs[kind] = first + len(records)
            frames.append(pack(topic_frame(kind.topic), self._source, len(records), first, b"".join(records)))
        self._topics = {}
        self.buffered = self.buffered_bytes = 0
        self.oldest_ns = None
        return frames


class HandQueue:
    """A queue of frames whose descriptor is readable while it holds any."""

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


def header(frame: bytes) -> tuple[int, int, int, int, int]:
    """Read a frame's header by other code than the package's: version, flags, source, count, topic_seq."""
    version, flags, source, count, topic_seq = struct.unpack("<BBHIQ", frame[34:50])
    return version, flags, source, count, topic_seq
