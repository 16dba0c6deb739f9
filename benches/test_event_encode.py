"""What recording an event costs a Python caller: a mark in the core's batch, beside a record encoded with msgspec.

The baseline builds a frozen Struct of the record's ten fields and encodes it into a buffer that is there already, the
quickest way that msgspec has; it neither batches by topic nor numbers the records, which the core's way does.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.micro import CALLS, measure
from loadgen import _core

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

RECV_FIRST = 17

pytestmark = pytest.mark.benchmark(group="event recorded")


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


def _msgspec(encoder: msgspec.msgpack.Encoder, buffer: bytearray, ns: int) -> None:
    encode_into = encoder.encode_into
    for request in range(1_000_000, 1_000_000 + CALLS):
        encode_into(Record(RECV_FIRST, ns, request, None, None, None, None, None, 32_768, request), buffer)


def _json(ns: int) -> None:
    for request in range(1_000_000, 1_000_000 + CALLS):
        json.dumps({"type": RECV_FIRST, "ns": ns, "request": request, "source": 32_768, "seq": request}).encode()


def _loop() -> None:
    for _ in range(1_000_000, 1_000_000 + CALLS):
        pass


def test_record(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _record, _core.EventBatch(32_768), _core.now_ns())


def test_msgspec(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _msgspec, msgspec.msgpack.Encoder(), bytearray(64), _core.now_ns(), role="baseline")


def test_json(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _json, _core.now_ns(), role="baseline")


def test_the_loop_alone(benchmark: BenchmarkFixture) -> None:
    measure(benchmark, _loop, role="empty")
