"""A journal's file: locked, read up to its last whole line, and appended to by a thread that syncs in batches."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec

from loadgen.errors import ConfigError, JournalError

FORMAT = 1
_SEAL = b',"crc":'
_HEAD = b'{"loadgen_journal":'
_SYNC_S = 0.1
_LENGTH = 32  # bits of a place that hold the line's length


class Head(msgspec.Struct, omit_defaults=True):
    """The first line: what the file is, and what decided the values in it."""

    loadgen_journal: int
    version: str = ""
    config_sha256: str = ""
    config: dict[str, Any] = {}


class Line(msgspec.Struct, omit_defaults=True):
    """One call that ended: with a value, or with an error."""

    key: str
    value: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: str | None = None
    stats: dict[str, Any] | None = None


_encode = msgspec.json.Encoder().encode
_head = msgspec.json.Decoder(Head)
_line = msgspec.json.Decoder(Line)


def seal(record: Head | Line) -> bytes:
    """Return a record's line: its JSON with a CRC-32 of what stands before it, so that a flipped bit is noticed."""
    body = _encode(record)[:-1]
    return b"%b%b%d}\n" % (body, _SEAL, zlib.crc32(body))


def _unsealed(line: bytes) -> bytes | None:
    """Return a line's JSON without its seal; None where the seal doesn't fit, or there is none."""
    body, found, crc = line.rstrip(b"\n").rpartition(_SEAL)
    if not found or crc != b"%d}" % zlib.crc32(body):
        return None
    return body + b"}"


def open_locked(path: Path) -> int:
    """Open a journal for reading and writing, made with nobody's but the user's access, and lock it.

    Args:
        path: A regular file, or none yet; its directory exists.

    Returns:
        The descriptor; closing it gives the lock back.

    Raises:
        ConfigError: If it can't be opened, isn't a regular file, or somebody else writes it.
    """
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise ConfigError(f"can't write the journal {path}: {error.strerror or error}", "name another file") from None
    why = _unusable(handle)
    if why:
        os.close(handle)
        raise ConfigError(f"the journal {path} {why}", "name another file")
    return handle


def _unusable(handle: int) -> str:
    """Lock a file, or say why it can't be a journal; an empty string where it can."""
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        return "is not a regular file"
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return "is being written by another batch"
    except OSError as error:
        return f"can't be locked: {error.strerror or error}"
    return ""


def put(handle: int, data: bytes, at: int) -> Iterator[int]:
    """Write bytes at a place of a file, yielding how many were written each time: a full disk takes the first part.

    Raises:
        OSError: If the disk refuses.
    """
    left = memoryview(data)
    while left:
        sent = os.pwrite(handle, left, at)
        yield sent
        at, left = at + sent, left[sent:]


class Reader:
    """Reads a journal once, from its head to its last whole line.

    Args:
        handle: The open file, at its beginning.
        path: What errors call it.

    Raises:
        ConfigError: If it isn't a journal, or one of a newer version.
    """

    def __init__(self, handle: int, path: Path) -> None:
        self._handle = handle
        self._path = path
        self.damaged = 0
        """Lines within the file that can't be read; what they tell of is unknown, so its calls are made again."""
        self.end = 0
        """Where the last whole line ends, in bytes; what stands behind it is the rest of a write that was cut short."""
        self._file: BufferedReader = os.fdopen(handle, "rb", closefd=False)
        self.head = self._read_head()
        """The first line; None for a file in which nothing stands yet."""

    def _read_head(self) -> Head | None:
        line = self._file.readline()
        if not line.endswith(b"\n"):
            # Killed while the first line was written, before anything was called.
            if not line or line.startswith(_HEAD) or _HEAD.startswith(line):
                return None
            raise self._foreign()
        body = _unsealed(line)
        if not line.startswith(_HEAD):
            raise self._foreign()
        try:
            head = _head.decode(body if body is not None else line)
        except (msgspec.DecodeError, ValueError, RecursionError):
            head = None
        if head is not None and head.loadgen_journal > FORMAT:
            raise ConfigError(
                f"the journal {self._path} has format {head.loadgen_journal}; this version reads {FORMAT}",
                "use the newer version of loadgen that wrote it",
            )
        if head is None or body is None:
            raise ConfigError(
                f"the first line of the journal {self._path} is damaged", "start anew: name another file, or remove it"
            )
        self.end = len(line)
        return head

    def _foreign(self) -> ConfigError:
        return ConfigError(f"{self._path} is not a journal, and is left as it is", "name another file")

    def lines(self) -> Iterator[tuple[Line, int]]:
        """Yield what ended, in the order in which it did, and where its line stands (for :func:`line_at`).

        Raises:
            ConfigError: If the disk fails.
        """
        at = self.end
        try:
            for raw in self._file if self.head is not None else ():
                at += len(raw)
                line = _decoded(raw)
                if line is not None:
                    yield line, (at - len(raw)) << _LENGTH | len(raw)
                    self.end = at
                    continue
                if raw.endswith(b"\n"):
                    self.damaged += 1
                    self.end = at
        except OSError as error:
            raise ConfigError(f"can't read the journal {self._path}: {error.strerror or error}") from None

    @property
    def lacks_break(self) -> bool:
        """Whether the last whole line was cut right before its line break; asked when all lines are read."""
        return self.end > 0 and os.pread(self._handle, 1, self.end - 1) != b"\n"


def line_at(handle: int, place: int) -> Line:
    """Read a line again.

    Args:
        handle: The open file.
        place: Where it stands, as :meth:`Reader.lines` told.

    Raises:
        OSError: If the disk fails.
    """
    line = _decoded(os.pread(handle, place & ((1 << _LENGTH) - 1), place >> _LENGTH))
    if line is None:
        raise OSError(errno.EIO, "a line isn't what it was a moment ago")
    return line


def _decoded(raw: bytes) -> Line | None:
    body = _unsealed(raw)
    try:
        return None if body is None else _line.decode(body)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


class Writer:
    """Appends lines on a thread of its own: each is written at once, and synced with others ten times a second.

    Whoever appends never waits for the disk. When the disk refuses, the file is cut back to its last synced line.

    Args:
        handle: The open, locked file.
        path: What errors call it.
        at: Where to go on, in bytes.
    """

    def __init__(self, handle: int, path: Path, at: int) -> None:
        self._handle = handle
        self._path = path
        self._synced = at
        self._more = threading.Condition()
        self._waiting: list[bytes] = []
        self._written: list[bytes] = []  # not synced yet
        self._length = 0  # of what is written and not synced, in bytes
        self._error: OSError | None = None
        self._is_closing = False
        self.on_failure: Callable[[], None] | None = None
        """Called once, from the writer's thread, when the disk refuses."""
        # A daemon: a caller that never closes must not keep the interpreter. What it was given is written by then.
        self._thread = threading.Thread(target=self._work, name="loadgen-journal", daemon=True)
        self._thread.start()

    def append(self, line: bytes) -> None:
        """Have a line written; returns at once.

        Raises:
            JournalError: If the disk has refused before, or the writer is closed.
        """
        with self._more:
            if self._error is None and not self._is_closing:
                self._waiting.append(line)
                self._more.notify()
                return
            if self._error is not None:
                self._waiting.append(line)  # it may yet find room when the journal is closed
        self.check()
        raise JournalError(f"the journal {self._path} is closed", "append before it is closed")

    def check(self) -> None:
        """Raise if the disk has refused.

        Raises:
            JournalError: With the lines that aren't on the disk.
        """
        with self._more:
            error, lines = self._error, (*self._written, *self._waiting)
        if error is None:
            return
        lost = (
            f"all but {len(lines):,} of the calls that ended are in it" if lines else "all calls that ended are in it"
        )
        raise JournalError(
            f"can't write the journal {self._path}: {error.strerror or error}",
            f"make room and run it again: {lost}, and what finished is not called again",
            lines,
        ) from error

    def close(self) -> None:
        """Write and sync what is left, and end the thread. The file stays open.

        Raises:
            JournalError: If the disk has refused, even if it had room again for what was left.
        """
        with self._more:
            self._is_closing = True
            self._more.notify()
        self._thread.join()
        if self._written or self._waiting:  # the disk refused; it may have room again
            try:
                self._put_back()
                self._sync()
            except OSError as error:
                self._refused(error)
        self.check()

    def _put_back(self) -> None:
        self._waiting, self._written, self._length = [*self._written, *self._waiting], [], 0
        self._write(self._take())

    def _take(self) -> list[bytes]:
        with self._more:
            lines, self._waiting = self._waiting, []
            self._written += lines
        return lines

    def _work(self) -> None:
        due = 0.0
        try:
            while True:
                with self._more:
                    left = max(0.0, due - time.monotonic()) if self._written else None
                    self._more.wait_for(lambda: self._waiting or self._is_closing, left)
                    closing = self._is_closing
                    if closing and not self._waiting and not self._written:
                        return
                if not self._written:
                    due = time.monotonic() + _SYNC_S
                self._write(self._take())
                if self._written and (closing or time.monotonic() >= due):
                    self._sync()
        except OSError as error:
            self._refused(error)
            if self.on_failure is not None:
                self.on_failure()

    def _write(self, lines: list[bytes]) -> None:
        for sent in put(self._handle, b"".join(lines), self._synced + self._length):
            self._length += sent

    def _sync(self) -> None:
        os.fsync(self._handle)
        self._synced += self._length
        self._length = 0
        with self._more:
            self._written = []

    def _refused(self, error: OSError) -> None:
        with self._more:
            self._error = error
        try:
            os.ftruncate(self._handle, self._synced)
        except OSError:
            return  # a half line stays at the end; the next reader passes over it
