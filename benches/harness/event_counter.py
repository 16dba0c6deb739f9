"""Counts the records of a stream of events until its session has ended: the subscriber of `events.py`, by itself.

usage: event_counter.py ADDRESS RCVHWM

Prints its greeting, then one JSON object: how many records came, how many are missing, and the 99th percentile of their
age in nanoseconds where their stamps are of this machine's clock.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Sequence

from loadgen.event import EventType, ManagedZMQContext, MessageCodec, ZmqMessageSubscriber

_ENDED = EventType.SESSION_ENDED
_NS = struct.Struct(">Q")
_WAIT_S = 60.0


class _Counting(MessageCodec[int]):
    """Makes of a frame the stamp of its first record: enough to count, and to judge ages."""

    def encode(self, item: int) -> tuple[str, bytes]:
        raise NotImplementedError

    def decode(self, payload: bytes | memoryview) -> int:
        # An array of ten, the type, then the moment as a 64-bit integer: as the core writes it.
        return -1 if payload[1] == _ENDED else int(_NS.unpack_from(payload, 3)[0])

    def decode_batch(self, payload: bytes | memoryview, count: int) -> Sequence[int]:  # noqa: ARG002
        return (self.decode(payload),)


def main(address: str, rcvhwm: str) -> None:
    ages: list[int] = []
    ended = False
    with (
        ManagedZMQContext() as context,
        ZmqMessageSubscriber(context, address, _Counting(), from_start=True, rcvhwm=int(rcvhwm)) as subscriber,
    ):
        print(subscriber.greeting.hex(), flush=True)
        while not ended:
            stamps = subscriber.receive(_WAIT_S)
            now = time.monotonic_ns()
            if not stamps:
                sys.exit("the stream fell silent")
            ended = stamps[0] < 0
            ages.append(now - stamps[0])
        stats = subscriber.stats
    ages = sorted(ages[:-1]) or [0]
    told = {"records": stats.records, "missing": stats.dropped, "age_p99_ns": ages[int(0.99 * (len(ages) - 1))]}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
