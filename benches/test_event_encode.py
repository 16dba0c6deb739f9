"""What recording an event costs a Python caller: a mark in the core's batch, beside a record encoded with msgspec.

The baseline builds a frozen Struct of the record's ten fields and encodes it into a buffer that is there already, the
quickest way that msgspec has; it neither batches by topic nor numbers the records, which the core's way does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from loadgen import _core

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

CALLS = 10_000  # a round: long enough that its own start and end don't matter
ROUNDS = 200
RECV_FIRST = 17


class Record(msgspec.Struct, frozen=True, array_like=True):
    """The ten fields of an event's record."""

    type: int
    ns: int
    request: int | None = None
    session: str | None = None
    conversation: str | None = None
    turn: int | None = None
    data: dict[str, int] | None = None
    finish_reason: str | None = None
    source: int = 0
    seq: int = 0


def _record(batch: _core.EventBatch, ns: int) -> None:
    record = batch.record
    for request in range(1_000_000, 1_000_000 + CALLS):
        if record(RECV_FIRST, request, ns):
            batch.take()


def _encode(encoder: msgspec.msgpack.Encoder, buffer: bytearray, ns: int) -> None:
    encode_into = encoder.encode_into
    for request in range(1_000_000, 1_000_000 + CALLS):
        encode_into(Record(RECV_FIRST, ns, request, None, None, None, None, None, 32_768, request), buffer)


@pytest.mark.benchmark(group="one event, 10,000 a round")
def test_record(benchmark: BenchmarkFixture) -> None:
    batch, ns = _core.EventBatch(32_768), _core.now_ns()
    benchmark.pedantic(_record, (batch, ns), rounds=ROUNDS, warmup_rounds=5)  # type: ignore[no-untyped-call]


@pytest.mark.benchmark(group="one event, 10,000 a round")
def test_msgspec(benchmark: BenchmarkFixture) -> None:
    encoder, buffer, ns = msgspec.msgpack.Encoder(), bytearray(64), _core.now_ns()
    benchmark.pedantic(_encode, (encoder, buffer, ns), rounds=ROUNDS, warmup_rounds=5)  # type: ignore[no-untyped-call]


@pytest.mark.benchmark(group="one event, 10,000 a round")
def test_the_loop_alone(benchmark: BenchmarkFixture) -> None:
    def loop() -> None:
        for _ in range(1_000_000, 1_000_000 + CALLS):
            pass

    benchmark.pedantic(loop, rounds=ROUNDS, warmup_rounds=5)  # type: ignore[no-untyped-call]
