"""The final snapshot: on disk in full or not at all, whatever becomes of the process or the machine."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from loadgen import private_file
from loadgen.errors import MetricsError
from loadgen.metrics.snapshot import MetricsSnapshot


class FinalPublished(msgspec.Struct, frozen=True):
    """What became of a final snapshot.

    Args:
        snapshot: The snapshot.
        published: Whether it was handed to subscribers.
        stored: The file that it was stored in; ``None`` where it was not, or was not to be.
        problems: What went wrong on either way, in sentences.
    """

    snapshot: MetricsSnapshot
    published: bool
    stored: Path | None
    problems: tuple[str, ...] = ()


def store(path: Path, snapshot: MetricsSnapshot) -> None:
    """Store a snapshot, and its name too, on the disk.

    Args:
        path: The file; one that is there is replaced.
        snapshot: The snapshot.

    Raises:
        OSError: If the disk refuses. What was there stays as it was.
    """
    private_file.write(path, msgspec.msgpack.encode(snapshot))
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)  # the name is safe only with this
    finally:
        os.close(directory)


def load(path: str | os.PathLike[str]) -> MetricsSnapshot:
    """Return the snapshot in a file.

    Args:
        path: The file.

    Raises:
        MetricsError: If it can't be read, or holds none.
    """
    try:
        return msgspec.msgpack.decode(Path(path).read_bytes(), type=MetricsSnapshot)
    except OSError as error:
        raise MetricsError(f"can't read {os.fspath(path)}: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise MetricsError(f"{os.fspath(path)} holds no snapshot of this version: {error}") from None
