"""Publishes events, as fast as it can (rate 0) or at a rate, and says what that cost: `events.py`'s publisher.

usage: event_publisher.py DIRECTORY GREETING SEND_THRESHOLD EVENTS RATE SNDHWM

Prints one JSON object. CPU is that of the whole process, so of the caller, the loop and ZMQ's own threads, until
everything was delivered; that of the bare loop that calls is told beside it.
"""

from __future__ import annotations

import itertools
import json
import sys
import time

from loadgen.event import EventPublisherService, EventRecord, EventType, ManagedZMQContext

_TICK_S = 0.001
_ISSUED = int(EventType.SAMPLE_ISSUED)


def main(directory: str, greeting: str, threshold: str, events: str, rate: str, sndhwm: str) -> None:
    count = int(events)
    context = ManagedZMQContext(directory)
    service = EventPublisherService(
        context, isolated_event_loop=True, send_threshold=int(threshold), max_bytes=1 << 20, sndhwm=int(sndhwm)
    )
    if not service.wait_for(bytes.fromhex(greeting), 30.0):
        sys.exit("the subscriber did not come")
    bare = _bare(count)
    began, cpu = time.monotonic_ns(), time.process_time_ns()
    if int(rate):
        _at_rate(service, count, int(rate))
    else:
        record, ns = service.record, time.monotonic_ns()
        for n in range(count):
            record(_ISSUED, n, ns)
    service.flush()
    wall = time.monotonic_ns() - began
    service.publish(EventRecord(EventType.SESSION_ENDED, time.monotonic_ns()))
    service.close()
    taken = context.close()
    stats = service.stats
    cpu = time.process_time_ns() - cpu
    told = {"cpu_ns": cpu, "bare_ns": bare, "wall_ns": wall, "sent": stats.sent, "dropped": stats.dropped}
    print(json.dumps({**told, "taken": taken}), flush=True)


def _bare(count: int) -> int:
    cpu = time.process_time_ns()
    for _ in range(count):
        pass
    return time.process_time_ns() - cpu


def _at_rate(service: EventPublisherService, count: int, rate: int) -> None:
    """Record in steps of a millisecond, each record with its own moment."""
    step = max(1, int(rate * _TICK_S))
    begun = time.monotonic()
    for first in itertools.count(0, step):
        if first >= count:
            return
        for n in range(first, min(first + step, count)):
            service.record(_ISSUED, n, time.monotonic_ns())
        time.sleep(max(0.0, begun + (first + step) / rate - time.monotonic()))


if __name__ == "__main__":
    main(*sys.argv[1:])
