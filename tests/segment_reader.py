"""Reads a segment of live metrics by what docs/formats.md says, and shares no code with loadgen's own reader.

It reads a segment at rest: sequence numbers must be even, and it takes no second look.
"""

import struct
import sys
from pathlib import Path
from typing import Any

HEADER = 4096
ENTRY = 256
NONE = 2**64 - 1
STATES = ("live", "draining", "complete", "interrupted")


def read_segment(path: Path) -> dict[str, Any]:
    """Return the run's id, state and phase, and its counters and series with their numbers and occupied buckets."""
    data = path.read_bytes()
    if data[:8] != b"\x89LGSER\r\n":
        raise ValueError(f"{path} is no segment")
    order, version, pid = struct.unpack_from("=QQQ", data, 8)
    if order != 0x0102030405060708 or version != 1:
        raise ValueError(f"{path} has byte order {order:#x} and version {version}")
    size, entries, state, phase = struct.unpack_from("=QQQQ", data, 6 * 8)
    if size > len(data):
        raise ValueError(f"{path} was cut")
    found = [_entry(data, HEADER + index * ENTRY) for index in range(entries)]
    return {
        "id": _text(data[16 * 8 : 24 * 8]),
        "pid": pid,
        "state": STATES[state],
        "phase": None if phase == NONE else phase,
        "counters": [entry for entry in found if "value" in entry],
        "series": [entry for entry in found if "count" in entry],
    }


def _entry(data: bytes, at: int) -> dict[str, Any]:
    generation, phase, kind, offset, shards, stride, low, high, digits = struct.unpack_from("=9Q", data, at)
    if generation % 2:
        raise ValueError("an entry is being given to another phase")
    entry: dict[str, Any] = {
        "name": _text(data[at + 72 : at + 136]),
        "unit": _text(data[at + 136 : at + 152]),
        "help": _text(data[at + 152 : at + 256]),
        "phase": None if phase == NONE else phase,
    }
    places = [offset + shard * stride for shard in range(shards)]
    if kind == 0:
        return entry | {"value": sum(struct.unpack_from("=Q", data, place + 8)[0] for place in places)}
    return entry | {"low": low, "high": high} | _series(data, places, (stride - 128) // 8, low, digits)


def _series(data: bytes, places: list[int], buckets: int, low: int, digits: int) -> dict[str, Any]:
    stats = [struct.unpack_from("=10Q", data, place) for place in places]
    if any(stat[0] % 2 for stat in stats):
        raise ValueError("a writer was killed in the middle of a change")
    used = [stat for stat in stats if stat[1]]
    counts: dict[int, int] = {}
    for place in places:
        for index, count in enumerate(struct.unpack_from(f"={buckets}Q", data, place + 128)):
            if count:
                counts[_highest(index, low, digits)] = counts.get(_highest(index, low, digits), 0) + count
    return {
        "count": sum(stat[1] for stat in stats),
        "total": sum(stat[2] + (stat[3] << 64) for stat in stats),
        "min": min((NONE - stat[4] for stat in used), default=None),
        "max": max((stat[5] for stat in used), default=None),
        "squares": sum(stat[6] + (stat[7] << 64) for stat in stats),
        "below": sum(stat[8] for stat in stats),
        "above": sum(stat[9] for stat in stats),
        "counts": sorted(counts.items()),
    }


def _highest(index: int, low: int, digits: int) -> int:
    """Return a bucket's highest value, by HDR's rule: two halves of fine buckets, then a coarser half an octave."""
    half: int = 1 << (2 * 10**digits - 1).bit_length() - 1
    octave = max(index // half - 1, 0)
    shift = octave + low.bit_length() - 1
    return ((index - octave * half + 1) << shift) - 1


def _text(padded: bytes) -> str:
    return padded.rstrip(b"\0").decode()


if __name__ == "__main__":
    print(read_segment(Path(sys.argv[1])))
