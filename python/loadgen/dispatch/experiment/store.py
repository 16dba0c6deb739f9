"""An experiment's directory: what it measures, and a line for each run, written by any number of processes at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from loadgen.dispatch.experiment.record import Cell, Record
from loadgen.errors import ConfigError, DispatchError

RUNS, MANIFEST, CLAIMS = "runs.jsonl", "experiment.json", ".claims"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Record)


class Store:
    """The records of one experiment on one callee. Open it with :meth:`open`.

    Args:
        directory: Where they are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._runs = directory / RUNS
        self.damaged = 0
        """Lines that could not be read, the last time that all were."""

    @classmethod
    def open(cls, directory: Path, manifest: Mapping[str, Any]) -> Store:
        """Open a directory for records, making it if it isn't there.

        Args:
            directory: Where they go.
            manifest: What decides what is measured; records of another experiment are never added to.

        Raises:
            ConfigError: If it can't be written, or holds another experiment: the keys that differ are named.
        """
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(directory / MANIFEST) as file:
                kept = file.read()
                if not kept:
                    _write(file, msgspec.json.format(_encoder.encode(manifest)) + b"\n")
                    return cls(directory)
        except OSError as error:
            raise ConfigError(f"can't write the experiment to {directory}: {error.strerror or error}") from None
        try:
            before = msgspec.json.decode(kept, type=dict[str, Any])
        except msgspec.DecodeError as error:
            raise ConfigError(
                f"{directory / MANIFEST} can't be read: {error}", "move the directory away, or name another: --out DIR"
            ) from None
        now = msgspec.json.decode(_encoder.encode(manifest), type=dict[str, Any])
        if differ := sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)):
            raise ConfigError(
                f"{directory} holds another experiment: {', '.join(_difference(key, before, now) for key in differ)}",
                "go on as it began, or name another directory: --out DIR",
            )
        return cls(directory)

    def append(self, record: Record) -> None:
        """Add a record as one line, on disk when this returns.

        Raises:
            DispatchError: If it can't be written; the file then ends where it did.
        """
        line = _encoder.encode(record) + b"\n"
        try:
            with _locked(self._runs) as file:
                end = _whole(file)
                try:
                    file.seek(end)
                    _write(file, line)
                    os.fsync(file.fileno())
                except OSError:
                    file.truncate(end)
                    raise
        except OSError as error:
            raise DispatchError(
                f"can't add {record.cell} to {self._runs}: {error.strerror or error}",
                "what is in it is whole: make room, and run the same command again",
            ) from None

    def records(self) -> list[Record]:
        """Return the records, the first of each cell, in the order they were written.

        A line without its end, of a process that was killed while it wrote, is passed over; one that is no record is
        passed over and counted.
        """
        found: dict[Cell, Record] = {}
        self.damaged = 0
        for line in self._lines():
            try:
                record = _decoder.decode(line)
            except msgspec.DecodeError:
                self.damaged += 1
            else:
                found.setdefault(record.cell, record)
        return list(found.values())

    def done(self) -> set[Cell]:
        """Return the cells that have a record."""
        return {record.cell for record in self.records()}

    @contextmanager
    def claimed(self, number: int) -> Iterator[bool]:
        """Claim a cell by its number in the experiment, and tell whether it is ours; if not, another process is at it.

        A claim is a lock on one byte (fcntl(2), record locks), so it goes with its process, whatever ends that.
        """
        with os.fdopen(_open(self.directory / CLAIMS), "r+b", buffering=0) as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
            except (BlockingIOError, PermissionError):
                yield False
            else:
                yield True

    def _lines(self) -> Iterator[bytes]:
        try:
            with _locked(self._runs) as file:
                content = file.read()
        except OSError as error:
            raise DispatchError(f"can't read {self._runs}: {error.strerror or error}") from None
        whole, _, _ = content.rpartition(b"\n")
        return (line for line in whole.split(b"\n") if line)


@contextmanager
def _locked(path: Path) -> Iterator[BinaryIO]:
    """Open a file that other processes write too, held by this one alone for as long as it is open."""
    with os.fdopen(_open(path), "r+b", buffering=0) as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # freed with the descriptor, also by a kill
        yield file


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _write(file: BinaryIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _whole(file: BinaryIO) -> int:
    """Return where the last whole line ends, having cut off what comes after it."""
    size = file.seek(0, os.SEEK_END)
    end = size
    while end > 0:
        start = max(0, end - 65536)
        file.seek(start)
        piece = file.read(end - start)
        if (newline := piece.rfind(b"\n")) >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        file.truncate(end)
    return end


def _difference(key: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    shown = [msgspec.json.encode(side.get(key)).decode() for side in (before, now)]
    return f"{key} was {shown[0]} and is {shown[1]}" if sum(map(len, shown)) < 120 else key
