"""Where answers go: a file that is sure before anything is sent and replaced as a whole, or standard output."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

from loadgen import private_file
from loadgen.errors import ConfigError, DispatchError


def check_apart(read: Mapping[str, str | None], written: Mapping[str, str | None]) -> None:
    """Check that nothing written takes the place of what is read, or of something else that is written.

    Args:
        read: Files by how the user gives them; ``None`` where one isn't given.
        written: Likewise.

    Raises:
        ConfigError: If something would.
    """
    whose = {os.path.realpath(path): flag for flag, path in read.items() if path is not None}
    for flag, path in written.items():
        if path is None or (Path(path).exists() and not Path(path).is_file()):
            continue  # a device or a pipe takes all that comes
        if (other := whose.setdefault(os.path.realpath(path), flag)) != flag:
            raise ConfigError(f"{flag} {path} is {other} too, which it would overwrite", "name another file")


class Replaced:
    """A private file that takes its name, and the place of one that has it, when it is written; use it in a ``with``.

    What isn't a plain file, such as ``/dev/null`` or a pipe, keeps its place and is written to. Until then it is called
    ``.NAME.`` and something, and locked: what a killed process left isn't, and is removed by who writes the file next.

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
        self._handle = -1

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        if self._path.is_dir():
            raise ConfigError(f"{self._flag} {self._path} is a directory", "name a file in it")
        if self._path.exists() and not self._path.is_file():
            return self
        place = self._path.resolve()  # of a link, what it names is replaced
        _remove_left(place)
        try:
            self._temporary, self._handle = _locked(place)
        except OSError as error:
            raise ConfigError(
                f"can't write {self._flag} {self._path}: {error.strerror or error}", "name another file"
            ) from None
        return self

    def __exit__(self, *_: object) -> None:
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)
        self._unlock()

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
            with os.fdopen(os.dup(self._handle), "wb") as file:
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
        self._unlock()

    def _unlock(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def _locked(place: Path) -> tuple[Path, int]:
    """Make and lock the temporary file beside a place; its path, and its descriptor, which holds the lock."""
    while True:
        temporary, handle = private_file.made_beside(place)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.fstat(handle).st_nlink > 0
        except BlockingIOError:
            is_ours = False
        except OSError:
            is_ours = True  # a file system without locks: then nobody removes it
        if is_ours:
            return temporary, handle
        os.close(handle)  # another process took it for left over before it was locked, and removes it


def _remove_left(place: Path) -> None:
    """Remove what killed processes left beside a place: files of a temporary's name that nobody has locked."""
    with suppress(OSError):  # a directory that can be written to, but not read
        for left in private_file.all_beside(place):
            with suppress(OSError):  # locked: its process goes on
                handle = os.open(left, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    left.unlink()
                finally:
                    os.close(handle)


def to_stdout(pieces: Iterable[bytes]) -> None:
    """Write to standard output; unbuffered (``PYTHONUNBUFFERED``) it takes as much at a time as a pipe holds.

    Raises:
        OSError: If the reader is gone.
    """
    for piece in pieces:
        left = memoryview(piece)
        while left:
            left = left[sys.stdout.buffer.write(left) :]
    sys.stdout.buffer.flush()
