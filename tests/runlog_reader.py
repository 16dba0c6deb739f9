"""A second reader of run.log, made from docs/formats.md alone: it shares no code and no language with the first."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MAGIC = b"\x89LGLOG\r\n"
HEADER = struct.Struct("<8sHHIQQQH82sI")
HEAD = struct.Struct("<QBBHIIIQQII")
MOST_PAYLOAD = 65_536 - 48
META, ROWS, READS, TEXT = 1, 2, 3, 4
STAMPS = ("planned", "free", "issued", "sent", "first_byte", "first_token", "first_output", "last_token", "done")
NOT_A_BASE = ("free", "first_output")
MASK = (1 << 64) - 1


class NotALogError(Exception):
    """The file has no readable header."""


class TooNewError(Exception):
    """The file's major version is not ours."""


@dataclass
class Row:
    """A finished request: its fields by the names of ``read_rows``, its reads and attempts as tuples."""

    fields: dict[str, int | None]
    reads: list[tuple[int, int, int, int]]
    attempts: list[tuple[int, ...]]
    whole: bool = True


@dataclass
class Log:
    """Everything that a log holds."""

    session: str
    mono_ns: int
    wall_ns: int
    minor: int
    rows: list[Row] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    texts: list[tuple[int, str, bytes]] = field(default_factory=list)
    counters: dict[int, tuple[int, int]] = field(default_factory=dict)
    lost: list[tuple[int, int]] = field(default_factory=list)
    torn: int = 0


class Bytes:
    """A cursor over the numbers of a payload."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def __bool__(self) -> bool:
        return self.at < len(self.data)

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def take(self, length: int) -> bytes:
        self.at += length
        if self.at > len(self.data):
            raise ValueError("ends too early")
        return self.data[self.at - length : self.at]

    def varint(self) -> int:
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def delta(self, base: int) -> int:
        coded = self.varint()
        return (base + ((coded >> 1) ^ -(coded & 1))) & MASK


class Column:
    """One column of a block of rows; zeros where the block has none."""

    def __init__(self, data: bytes | None) -> None:
        self.bytes = Bytes(data or b"")
        self.absent = data is None
        self.value = 0
        self.left = 0

    def plain(self) -> int:
        return 0 if self.absent else self.bytes.varint()

    def delta(self, base: int) -> int:
        return base if self.absent else self.bytes.delta(base)

    def run(self) -> int:
        if self.absent:
            return 0
        if self.left == 0:
            self.left, self.value = self.bytes.varint(), self.bytes.varint()
        self.left -= 1
        return self.value


def read(path: Path) -> Log:
    """Read a whole log."""
    data = path.read_bytes()
    log, sync = header(data)
    document = b""
    spilled: dict[int, list[tuple[int, int, int, int]]] = {}
    texts: dict[int, bytes] = {}
    for head, payload in blocks(data, sync, log):
        _, kind, flags, worker, _, rows, _, issued, in_flight, _, _ = head
        if kind == META:
            document += payload
            if not flags & 1:
                log.events.append(json.loads(document))
                document = b""
            continue
        if kind in (ROWS, READS, TEXT):
            log.counters[worker] = (issued, in_flight)
        entries = Bytes(payload)
        if kind == ROWS:
            log.rows.extend(rows_of(payload, rows, worker, spilled))
        for _ in range(rows if kind in (READS, TEXT) else 0):
            request = entries.varint()
            if kind == READS:
                entries.varint()
                count = entries.varint()
                found = list(reads_of(entries.take(entries.varint())))
                assert len(found) == count
                spilled.setdefault(request, []).extend(found)
            else:
                which, more = entries.byte(), entries.byte()
                texts[request] = texts.get(request, b"") + entries.take(entries.varint())
                if not more:
                    log.texts.append((request, ("error", "answer", "reasoning", "unkept")[which], texts.pop(request)))
    return log


def header(data: bytes) -> tuple[Log, int]:
    """Read the header from whichever of its two copies is whole."""
    for copy in (data[:128], data[128:256]):
        if len(copy) < 128 or zlib.crc32(copy[:124]) != struct.unpack("<I", copy[124:])[0]:
            continue
        magic, major, minor, order, mono, wall, sync, length, session, _ = HEADER.unpack(copy)
        if magic != MAGIC or order != 0x0A0B0C0D:
            continue
        if major > 1:
            raise TooNewError(f"{major}.{minor}")
        return Log(session[:length].decode(), mono, wall, minor), sync
    raise NotALogError


def blocks(data: bytes, sync: int, log: Log) -> Iterator[tuple[tuple[int, ...], bytes]]:
    """Yield every whole block's head and payload; note what is lost in ``log``."""
    at = min(256, len(data))
    marker = struct.pack("<Q", sync)
    while at < len(data):
        head = head_at(data, at, sync)
        if head is None:
            start, at = at, data.find(marker, at + 1)
            while at >= 0 and head_at(data, at, sync) is None:
                at = data.find(marker, at + 1)
            if at < 0:
                log.torn = len(data) - start
                return
            log.lost.append((start, at))
            continue
        end = at + 48 + head[4]
        if end > len(data):
            log.torn = len(data) - at
            return
        payload = data[at + 48 : end]
        if zlib.crc32(payload) == head[9]:
            yield head, payload
        else:
            log.lost.append((at, end))
        at = end


def head_at(data: bytes, at: int, sync: int) -> tuple[int, ...] | None:
    """Return the head at an offset, or ``None`` where there is no right one."""
    if len(data) - at < 48:
        return None
    head = HEAD.unpack_from(data, at)
    right = head[0] == sync and head[4] <= MOST_PAYLOAD and zlib.crc32(data[at : at + 44]) == head[10]
    return head if right else None


def rows_of(
    payload: bytes, count: int, worker: int, spilled: dict[int, list[tuple[int, int, int, int]]]
) -> Iterator[Row]:
    """Yield the rows of a ROWS payload."""
    parts: dict[int, bytes] = {}
    rest = Bytes(payload)
    while rest:
        number = rest.byte()
        parts[number] = rest.take(rest.varint())
    column = {number: Column(parts.get(number)) for number in range(1, 33)}
    last = dict.fromkeys((1, 3, 20, 21, 22, 24, 25), 0)
    base = 0

    def delta(number: int) -> int:
        last[number] = column[number].delta(last[number])
        return last[number]

    for _ in range(count):
        found: dict[str, int | None] = {"id": delta(1), "sample": delta(3), "worker": worker}
        found["phase"] = column[2].run()
        node = column[32].run()
        bits = column[4].run()
        found["node"] = None if bits >> 14 & 1 else node
        at, first = base, None
        for i, name in enumerate(STAMPS):
            if not bits >> i & 1:
                found[f"{name}_ns"] = None
                continue
            stamp = column[5 + i].delta(at)
            found[f"{name}_ns"] = stamp
            if name not in NOT_A_BASE:
                at = stamp
                first = stamp if first is None else first
        base = base if first is None else first
        found["connect_ns"] = column[14].plain() if bits >> 9 & 1 else 0
        found["status"] = column[15].run() or None
        for number, name in enumerate(("failure", "detail", "finish", "token_source"), 16):
            found[name] = column[number].run()
        found["tokens_in"] = delta(20) if bits >> 10 & 1 else None
        found["tokens_out"] = delta(21) if bits >> 11 & 1 else None
        found["streamed"] = bits >> 12 & 1
        found["stamp_source"] = bits >> 13 & 1
        found["events"] = delta(22)
        found["chunks"] = column[23].delta(last[22])
        found["bytes_in"], found["bytes_out"] = delta(24), delta(25)
        own, length, early = column[26].plain(), column[27].plain(), column[28].run()
        late = list(reads_of(column[31].bytes.take(length)))
        assert len(late) == own
        before = spilled.pop(int(found["id"] or 0), []) if early else []
        found["attempt_count"] = attempt_count = column[29].run()
        sent = found["sent_ns"] or 0
        attempts = [attempt_of(column[30].bytes, sent) for _ in range(min(attempt_count, 256))]
        yield Row(found, before + late, attempts, whole=len(before) == early)


def reads_of(data: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (ns since the read before, events, chunks, tokens) of encoded reads."""
    rest = Bytes(data)
    while rest:
        gap, tag = rest.varint(), rest.varint()
        events = tag >> 1
        chunks, tokens = (rest.varint(), rest.varint()) if tag & 1 else (events, 0)
        yield gap, events, chunks, tokens


def attempt_of(rest: Bytes, row_sent: int) -> tuple[int, ...]:
    """Return (kind, node, sent, first_byte, done, status, outcome) of the next attempt."""
    kind, outcome, node, status = rest.byte(), rest.byte(), rest.varint(), rest.varint()
    sent = rest.delta(row_sent)
    return kind, node, sent, rest.delta(sent), rest.delta(sent), status, outcome
