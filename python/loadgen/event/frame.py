"""Frames: one ZMQ message each, and the unit of the event log: a topic, a header, and records of that topic."""

from __future__ import annotations

import struct
from typing import NamedTuple

from loadgen.event.record import TOPICS

TOPIC_FRAME_SIZE = max(map(len, TOPICS))
"""Bytes of a frame's topic, NUL-padded: those of the longest event's."""

_VERSION = 1
_HEADER = struct.Struct("<BBHIQ")  # version, flags, source, count, topic_seq
_COUNT = struct.Struct("<I")
_COUNT_AT = TOPIC_FRAME_SIZE + 4
_PAYLOAD_AT = TOPIC_FRAME_SIZE + _HEADER.size


class FrameError(ValueError):
    """Bytes that are no frame, or a frame of a version that isn't read here."""


class Frame(NamedTuple):
    """A frame, taken apart.

    Args:
        topic: What its records are published under.
        source: Who recorded them.
        records: How many it holds, at least 1.
        topic_seq: The first record's number among its source's records of this topic, from 0.
        payload: The records, one after the other.
    """

    topic: str
    source: int
    records: int
    topic_seq: int
    payload: memoryview


def topic_frame(topic: str) -> bytes:
    """Return a topic as a frame begins with it.

    Args:
        topic: Printable ASCII, not empty.

    Raises:
        ValueError: If it is longer than ``TOPIC_FRAME_SIZE``, or holds what a topic can't.
    """
    if not (topic.isascii() and topic.isprintable() and topic):
        raise ValueError(f"a topic is printable ASCII and not empty, not {topic!r}")
    if len(topic) > TOPIC_FRAME_SIZE:
        raise ValueError(f"a topic has at most {TOPIC_FRAME_SIZE} bytes, and {topic!r} has {len(topic)}")
    return topic.encode().ljust(TOPIC_FRAME_SIZE, b"\0")


def subscription(topic: str) -> bytes:
    """Return the prefix of the frames that a topic asks for.

    Args:
        topic: A topic for exactly that; a category with its dot (``sample.``) for all of it; empty for everything.

    Raises:
        ValueError: If it is none of these.
    """
    if not topic:
        return b""
    whole = topic_frame(topic)
    return topic.encode() if topic.endswith(".") else whole


def pack(topic: bytes, source: int, count: int, topic_seq: int, payload: bytes) -> bytes:
    """Return a frame.

    Args:
        topic: Made by :func:`topic_frame`.
        source: As in :class:`Frame`, like what follows.
        count: Records in the payload.
        topic_seq: Number of the first record.
        payload: The records.

    Raises:
        ValueError: If the topic has another size than ``TOPIC_FRAME_SIZE``.
    """
    if len(topic) != TOPIC_FRAME_SIZE:
        raise ValueError(f"a frame's topic has {TOPIC_FRAME_SIZE} bytes, not {len(topic)}")
    return b"".join((topic, _HEADER.pack(_VERSION, 0, source, count, topic_seq), payload))


def unpack(frame: bytes) -> Frame:
    """Take a frame apart. The payload is a view of it and is not looked into.

    Args:
        frame: What came; anybody may have sent it.

    Raises:
        FrameError: If it is no frame of this version.
    """
    if len(frame) <= _PAYLOAD_AT:
        raise FrameError(f"{len(frame)} bytes are too few for a frame")
    version, flags, source, count, topic_seq = _HEADER.unpack_from(frame, TOPIC_FRAME_SIZE)
    if version != _VERSION or flags != 0:
        raise FrameError(f"a frame of version {version} with flags {flags:#x}; this reads version {_VERSION} without")
    name = frame[:TOPIC_FRAME_SIZE].rstrip(b"\0")
    topic = name.decode("ascii", "replace")
    if not (name and topic.isascii() and topic.isprintable()):
        raise FrameError(f"{name[:TOPIC_FRAME_SIZE]!r} is no topic")
    if not 0 < count <= len(frame) - _PAYLOAD_AT:
        raise FrameError(f"{count} records can't lie in {len(frame) - _PAYLOAD_AT} bytes")
    return Frame(topic, source, count, topic_seq, memoryview(frame)[_PAYLOAD_AT:])


def count_of(frame: bytes) -> int:
    """Return how many records a frame of our own making holds, without taking it apart.

    Args:
        frame: A whole frame.
    """
    count: int = _COUNT.unpack_from(frame, _COUNT_AT)[0]
    return count
