"""The final snapshot: on disk in full or not at all, whatever becomes of the process or the machine."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from loadgen.errors import MetricsError
from loadgen.metrics.snapshot import MetricsSnapshot

FILE = "metrics.snapshot"
"""What the final snapshot is called in a run's directory."""


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
    """Store a snapshot: a temporary file, fsync, rename, fsync of the directory.

    Args:
        path: The file; one that is there is replaced.
        snapshot: The snapshot.

    Raises:
        OSError: If the disk refuses. What was there stays as it was.
    """
    content = msgspec.msgpack.encode(snapshot)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)  # a killed process of this number left it
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
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
