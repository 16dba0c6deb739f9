"""Where answers go: a file that is sure before anything is sent and replaced as a whole, or standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from loadgen.errors import ConfigError, DispatchError


class Replaced:
    """A private file that takes its name, and the place of one that has it, when it is written; use it in a ``with``.

    What isn't a plain file, such as ``/dev/null`` or a pipe, keeps its place and is written to.

    Args:
        path: The file; None for none.
        flag: How the user gives it.

    Raises:
        ConfigError: On entering, if it can't be made.
    """

    def __init__(self, path: str | None, flag: str) -> None:
        self._path = None if path is None else Path(path)
        self._flag = flag
        self._temporary: Path | None = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        if self._path.is_dir():
            raise ConfigError(f"{self._flag} {self._path} is a directory", "name a file in it")
        if self._path.exists() and not self._path.is_file():
            return self
        place = self._path.resolve()  # of a link, what it names is replaced
        temporary = place.with_name(f".{place.name}.{os.getpid()}")
        try:
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise ConfigError(
                f"can't write {self._flag} {self._path}: {error.strerror or error}", "name another file"
            ) from None
        self._temporary = temporary
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)

    def put(self, pieces: Iterable[bytes]) -> None:
        """Write the file, all of it, and give it its name.

        Raises:
            DispatchError: If the disk refuses; the file that had the name is still there.
        """
        assert self._path is not None
        try:
            if self._temporary is None:
                with self._path.open("wb") as file:
                    file.writelines(pieces)
                return
            with self._temporary.open("wb") as file:
                file.writelines(pieces)
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self._path.resolve())
        except OSError as error:
            raise DispatchError(
                f"can't write {self._flag} {self._path}: {error.strerror or error}",
                "the answers are in the journal, if one was kept",
            ) from None
        self._temporary = None


def to_stdout(pieces: Iterable[bytes]) -> None:
    """Write to standard output; unbuffered it takes as much at a time as a pipe holds.

    Raises:
        OSError: If the reader is gone.
    """
    for piece in pieces:
        left = memoryview(piece)
        while left:
            left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()
