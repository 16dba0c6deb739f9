"""Files of their owner alone, there in full or not at all: a temporary one takes the name once it is on the disk."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def write(path: Path, content: bytes) -> None:
    """Write a file in full or not at all.

    Args:
        path: The file, in a directory that exists; one that is there is replaced.
        content: What it shall hold.

    Raises:
        OSError: If the disk refuses. What was there stays as it was.
    """
    with writing(path) as file:
        file.write(content)


@contextmanager
def writing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write to, which takes its name when all of it is on the disk, and else is gone.

    Until then it is called ``.NAME.`` and something: what a killed process left is known by that.

    Args:
        path: As for :func:`write`.

    Raises:
        OSError: As :func:`write`.
    """
    temporary, handle = made_beside(path)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def made_beside(path: Path) -> tuple[Path, int]:
    """Make an empty file beside another, called ``.NAME.`` and sixteen hexadecimal digits; return it, open for writing.

    Args:
        path: The other, in a directory that exists.

    Raises:
        OSError: If it can't be made.
    """
    # By chance: two threads may write one file, and after a kill a process of the same number may be here.
    temporary = path.with_name(f".{path.name}.{os.urandom(8).hex()}")
    return temporary, os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def all_beside(path: Path) -> list[Path]:
    """Return the files that :func:`made_beside` made for another and that are still there, whoever made them.

    Args:
        path: The other.

    Raises:
        OSError: If the directory can't be read.
    """
    named = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{16}}")
    return [found for found in path.parent.iterdir() if named.fullmatch(found.name)]
