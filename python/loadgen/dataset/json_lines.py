"""JSON datasets: one object a line, or one list of them (as ShareGPT's collections are)."""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from io import BufferedReader
from typing import Any

import msgspec

from loadgen.dataset.lines import BOM, Lines
from loadgen.errors import DatasetError


def json_lines(lines: Lines, name: str) -> Iterator[tuple[str, Any]]:
    """Yield ``(place, value)`` of a file with a JSON value on each line; blank lines are left out.

    Args:
        lines: The file's lines.
        name: What errors call the file.
    Raises:
        DatasetError: If a line isn't JSON, with its number.
    """
    decoder = msgspec.json.Decoder()
    for number, line in lines:
        if line.strip():
            yield f"line {number}", _decode(decoder, line, f"{name}, line {number}")


def json_list(file: BufferedReader, name: str) -> Iterator[tuple[str, Any]]:
    """Yield ``(place, value)`` of a file that is one JSON list, decoding one entry at a time over the mapped file.

    Args:
        file: An open file that isn't empty.
        name: What errors call the file.
    Raises:
        DatasetError: If the file isn't a list, or an entry isn't JSON.
    """
    # The entries are views into the mapped file, so a large collection isn't held twice. The last view frees the map:
    # closing it here would fail while an error's traceback still holds one.
    entries = _entries(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), name)
    decoder = msgspec.json.Decoder()
    for number, entry in enumerate(entries, 1):
        yield f"entry {number}", _decode(decoder, entry, f"{name}, entry {number}")


def sha256(file: BufferedReader) -> str:
    """Return the hex digest of a whole open file."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def _entries(mapped: mmap.mmap, name: str) -> list[msgspec.Raw]:
    start = len(BOM) if mapped[: len(BOM)] == BOM else 0
    try:
        return msgspec.json.decode(memoryview(mapped)[start:], type=list[msgspec.Raw])
    except (msgspec.DecodeError, RecursionError) as error:
        raise DatasetError(f"{name} is not a JSON list: {error}") from error


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes | msgspec.Raw, where: str) -> Any:
    try:
        return decoder.decode(data)
    except UnicodeDecodeError as error:
        raise DatasetError(f"{where} is not UTF-8 text") from error
    except RecursionError as error:
        raise DatasetError(f"{where} is nested too deep") from error
    except msgspec.DecodeError as error:
        raise DatasetError(f"{where} is not valid JSON: {error}") from error
