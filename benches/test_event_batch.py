"""What an event costs from the caller to ZMQ: recorded, batched by 1,000 and sent, beside the same with msgspec.

All of it is on the calling thread. The socket hands each message to ZMQ's own thread, which isn't counted; what came is
taken out between the rounds, and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import msgspec
import pytest
import zmq

from harness.micro import CALLS, measure
from loadgen import _core
from test_event_encode import RECV_FIRST, Record

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

BATCH = 1_000
Send = Callable[[bytes], object]

pytestmark = pytest.mark.benchmark(group="event recorded, batched and sent")


class _Wire:
    """A publisher's socket, and a subscriber's that can hold whatever a round sends."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._publisher, self._subscriber = self._context.socket(zmq.XPUB), self._context.socket(zmq.SUB)
        for socket in (self._publisher, self._subscriber):
            socket.setsockopt(zmq.SNDHWM, 0)
            socket.setsockopt(zmq.RCVHWM, 0)
            socket.setsockopt(zmq.LINGER, 0)
        port = self._publisher.bind_to_random_port("tcp://127.0.0.1")
        self._subscriber.connect(f"tcp://127.0.0.1:{port}")
        self._subscriber.subscribe(b"")
        assert self._publisher.recv() == b"\x01"  # the subscription is there, so nothing that is sent is lost
        self.sent = 0

    def send(self, message: bytes) -> None:
        self._publisher.send(message)
        self.sent += 1

    def drain(self) -> None:
        """Take out what was sent."""
        while self.sent:
            self._subscriber.recv()
            self.sent -= 1

    def close(self) -> None:
        self._context.destroy(linger=0)


@pytest.fixture
def wire() -> Iterator[_Wire]:
    wire = _Wire()
    yield wire
    wire.drain()
    wire.close()


def _batched(batch: _core.EventBatch, send: Send, ns: int) -> None:
    record = batch.record
    for request in range(CALLS):
        if record(RECV_FIRST, request, ns):
            for frame in batch.take():
                send(frame)


def _msgspec_batched(encoder: msgspec.msgpack.Encoder, send: Send, ns: int) -> None:
    buffered: list[Record] = []
    add = buffered.append
    for request in range(CALLS):
        add(Record(RECV_FIRST, ns, request, None, None, None, None, None, 32_768, request))
        if len(buffered) == BATCH:
            send(b"sample.recv_first\0" + encoder.encode(buffered))
            buffered.clear()


def _msgspec_each(encoder: msgspec.msgpack.Encoder, send: Send, ns: int) -> None:
    encode = encoder.encode
    for request in range(CALLS):
        send(
            b"sample.recv_first\0"
            + encode(Record(RECV_FIRST, ns, request, None, None, None, None, None, 32_768, request))
        )


def test_batched(benchmark: BenchmarkFixture, wire: _Wire) -> None:
    batch = _core.EventBatch(32_768, send_threshold=BATCH, max_age_ns=1 << 62, max_bytes=1 << 20)
    measure(benchmark, _batched, batch, wire.send, _core.now_ns(), setup=wire.drain)
    assert wire.sent == CALLS // BATCH
    assert batch.buffered == 0


def test_msgspec_batched(benchmark: BenchmarkFixture, wire: _Wire) -> None:
    encoder = msgspec.msgpack.Encoder()
    measure(benchmark, _msgspec_batched, encoder, wire.send, _core.now_ns(), setup=wire.drain, role="baseline")
    assert wire.sent == CALLS // BATCH


def test_msgspec_each_by_itself(benchmark: BenchmarkFixture, wire: _Wire) -> None:
    encoder = msgspec.msgpack.Encoder()
    measure(benchmark, _msgspec_each, encoder, wire.send, _core.now_ns(), setup=wire.drain, role="baseline")
    assert wire.sent == CALLS
