"""A file's lines: bounded, numbered, and hashed on the way, so that the file is read once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from loadgen.errors import DatasetError

BOM = b"\xef\xbb\xbf"
"""The byte-order mark that some editors put at a file's start."""

MAX_LINE = 64 * 1024 * 1024
"""Longest line in bytes: a longer one isn't a prompt but a file of another kind."""

_BLOCK = 1024 * 1024


def open_file(path: Path) -> BufferedReader:
    """Open a dataset's file.

    Args:
        path: A regular file that isn't empty.
    Raises:
        DatasetError: If it can't be opened, is something else than a file, or is empty.
    """
    if path.is_dir():
        raise DatasetError(f"the dataset {path} is a directory", "name one file in it")
    if path.exists() and not path.is_file():
        raise DatasetError(f"the dataset {path} is not a regular file", "write it to a file first")
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise DatasetError(f"the dataset {path} does not exist", f"looked in {Path.cwd()}") from None
    except OSError as error:
        raise DatasetError(f"the dataset {path} can't be read: {error.strerror or error}") from error
    if path.stat().st_size == 0:
        file.close()
        raise DatasetError(f"the dataset {path} is empty")
    return file


class Lines:
    """Yields ``(number, line)`` of an open file, numbers from 1, without the line's end and a leading byte-order mark.

    Args:
        file: Opened by `open_file`; the caller closes it.
        name: What errors call it.
    """

    def __init__(self, file: BufferedReader, name: str) -> None:
        self._file = file
        self._name = name
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        number = 0
        while line := self._file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                raise DatasetError(f"{self._name}, line {number} is longer than {MAX_LINE // 1024**2} MiB")
            self._hash.update(line)
            if number == 1:
                line = line.removeprefix(BOM)
            yield number, line.rstrip(b"\r\n")

    def text(self) -> Iterator[tuple[int, str]]:
        """Yield ``(number, line)`` as text.

        Raises:
            DatasetError: If a line isn't UTF-8.
        """
        for number, line in self:
            try:
                yield number, line.decode()
            except UnicodeDecodeError as error:
                raise DatasetError(
                    f"{self._name}, line {number} is not UTF-8 text (byte {error.start} of the line)"
                ) from error

    def sha256(self) -> str:
        """Return the hex digest of the whole file; reads what is left of it."""
        while block := self._file.read(_BLOCK):
            self._hash.update(block)
        return self._hash.hexdigest()
