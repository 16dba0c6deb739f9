"""A second reader of events.log, made from docs/formats.md alone: it shares no code and no language with the first."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from runlog_reader import HEAD, MOST_PAYLOAD, Bytes, header

EVENTS = 5
FRAME = struct.Struct("<34sBBHIQ")


class Event(NamedTuple):
    """A record and what its frame says of it."""

    topic: str
    topic_seq: int
    type: int
    ns: int
    request: int | None
    session: str | None
    conversation: str | None
    turn: int | None
    data: Any
    finish_reason: str | None
    source: int
    seq: int


def read(path: Path) -> Iterator[Event]:
    """Yield all events of a log."""
    for frame in frames(path):
        yield from events(frame)


def frames(path: Path) -> Iterator[bytes]:
    """Yield the frames of all whole blocks."""
    data = path.read_bytes()
    _, sync = header(data)
    marker, at = struct.pack("<Q", sync), 256
    while at + 48 <= len(data):
        head = data[at : at + 48]
        fields = HEAD.unpack(head)
        found, kind, length, crc = fields[0] == sync, fields[1], fields[4], fields[9]
        if not found or length > MOST_PAYLOAD or zlib.crc32(head[:44]) != fields[10]:
            at = data.find(marker, at + 1)
            if at < 0:
                return
            continue
        payload = data[at + 48 : at + 48 + length]
        at += 48 + length
        if len(payload) == length and kind == EVENTS and zlib.crc32(payload) == crc:
            rest = Bytes(payload)
            while rest:
                yield rest.take(rest.varint())


def events(frame: bytes) -> Iterator[Event]:
    """Yield the events of one frame."""
    topic, version, flags, source, count, topic_seq = FRAME.unpack(frame[: FRAME.size])
    assert (version, flags) == (1, 0)
    # The records are so many arrays one after the other; together they are one array without its head.
    records = msgspec.msgpack.decode(b"\xdd" + struct.pack(">I", count) + frame[FRAME.size :])
    for i, record in enumerate(records):
        assert record[8] == source
        yield Event(topic.rstrip(b"\0").decode(), topic_seq + i, *record)
