"""What an event of a stream costs in Python: the baseline of the decoder, which no Python ever calls.

The decoder's own figure is from `cargo bench --bench sse`, over the same bytes. Both go from bytes to what each event
carries: whether it has text, its reason to finish, its usage.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest

from harness.micro import measure

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

STREAM = (Path(__file__).parent / "answer.sse").read_bytes()
EVENTS = STREAM.count(b"data: ")

pytestmark = pytest.mark.benchmark(group="event of a stream decoded (Rust: cargo bench --bench sse)")


class Delta(msgspec.Struct):
    """What a chunk adds to the answer."""

    content: str | None = None


class Choice(msgspec.Struct):
    """One of a chunk's choices."""

    delta: Delta
    finish_reason: str | None = None


class Usage(msgspec.Struct):
    """What the server counted."""

    completion_tokens: int


class Chunk(msgspec.Struct):
    """An event of a chat completion's stream."""

    choices: list[Choice]
    usage: Usage | None = None


def _events(stream: bytes) -> Iterator[bytes]:
    """Split as clients do: by lines, an event's data until a blank one."""
    data: list[bytes] = []
    for line in stream.splitlines():
        if line.startswith(b"data:"):
            data.append(line[5:].lstrip())
        elif not line and data:
            yield b"\n".join(data)
            data.clear()


def _with_json() -> tuple[int, int]:
    chunks = tokens = 0
    for event in _events(STREAM):
        if event == b"[DONE]":
            break
        told = json.loads(event)
        chunks += any(choice["delta"].get("content") for choice in told["choices"])
        tokens = (told.get("usage") or {}).get("completion_tokens", tokens)
    return chunks, tokens


def _with_msgspec(decoder: msgspec.json.Decoder[Chunk]) -> tuple[int, int]:
    chunks = tokens = 0
    for event in _events(STREAM):
        if event == b"[DONE]":
            break
        told = decoder.decode(event)
        chunks += any(choice.delta.content for choice in told.choices)
        if told.usage is not None:
            tokens = told.usage.completion_tokens
    return chunks, tokens


def test_json(benchmark: BenchmarkFixture) -> None:
    assert measure(benchmark, _with_json, units=EVENTS, role="baseline") == (128, 128)


def test_msgspec(benchmark: BenchmarkFixture) -> None:
    assert measure(benchmark, _with_msgspec, msgspec.json.Decoder(Chunk), units=EVENTS, role="baseline") == (128, 128)
