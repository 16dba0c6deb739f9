"""Events: their types and topics, and the record that a subscriber gets of each."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec


class EventType(IntEnum):
    """What happened. The codes are those on the wire; a type's name is its topic's in capitals."""

    SESSION_STARTED = 0
    SESSION_START_PERFORMANCE_TRACKING = 1
    SESSION_STOP_PERFORMANCE_TRACKING = 2
    SESSION_STOP_LOADGEN = 3
    SESSION_ENDED = 4
    SAMPLE_ISSUED = 16
    SAMPLE_RECV_FIRST = 17
    SAMPLE_RECV_NON_FIRST = 18
    SAMPLE_COMPLETE = 19
    ERROR_GENERIC = 32
    ERROR_LOADGEN = 33
    ERROR_SESSION = 34
    ERROR_CLIENT = 35

    @property
    def topic(self) -> str:
        """What it is published under, such as ``sample.issued``; the part before the dot is its category."""
        return _TOPICS[self]


_TOPICS = {kind: kind.name.lower().replace("_", ".", 1) for kind in EventType}
TOPICS = tuple(_TOPICS.values())
CATEGORIES = tuple(dict.fromkeys(topic.partition(".")[0] + "." for topic in TOPICS))


class EventRecord(msgspec.Struct, frozen=True, array_like=True):
    """One event; on the wire a msgpack array of these ten, in this order.

    Args:
        type: What happened.
        ns: When, on the monotonic clock (``time.monotonic_ns``), in nanoseconds.
        request: The request's id, unique in the session.
        session: The session's id.
        conversation: The conversation that the request belongs to.
        turn: The request's place in its conversation, from 0.
        data: What else is known, by name; what each type tells stands in docs/events.md.
        finish_reason: Why the server ended its answer.
        source: Who recorded it: a worker's number, 65535 for the session, 32768 upward for a recorder in Python.
            A publisher that numbers its records (:class:`EventPublisherService`) sets it.
        seq: Its number among its source's records, from 0; set like ``source``.
    """

    type: EventType
    ns: int
    request: int | None = None
    session: str | None = None
    conversation: str | None = None
    turn: int | None = None
    data: dict[str, Any] | None = None
    finish_reason: str | None = None
    source: int = 0
    seq: int = 0


def order_of(record: EventRecord) -> tuple[int, int, int]:
    """Return the key that orders records over all sources.

    Args:
        record: The record.
    """
    return record.ns, record.source, record.seq
