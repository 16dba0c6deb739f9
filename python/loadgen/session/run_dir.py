"""A run's directory: made privately, locked while the run lasts, found again by its path, its id or its age."""

from __future__ import annotations

import datetime as dt
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from loadgen.config.known import listed
from loadgen.errors import ConfigError, ReportError
from loadgen.metrics import SNAPSHOT
from loadgen.speech import option

RUNS = Path("loadgen-runs")
LOG, REPORT, LOCK = "run.log", "report.json", ".lock"
ANSWERS, COUNTS, EVENTS = "answers.log", "tokens.bin", "events.log"
SCORES = "scores-"
"""How the names of files with a phase's scores begin."""
WIDTHS = {"C": "B", "S": "H", "I": "I", "L": "Q"}
"""The formats of a log's columns as Python's own modules name them."""


class RunDir:
    """A directory that one run writes to, for as long as it is open.

    Made by :func:`create`; use it as a context manager.
    """

    def __init__(self, path: Path, run_id: str, made: bool, lock: int) -> None:
        self.path = path
        self.id = run_id
        self._made = made
        self._lock = lock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock back."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def discard(self) -> None:
        """Remove what was made for a run that never began."""
        # No log was there when the lock was taken. Other files may have been, in a directory that isn't ours.
        for name in (LOG, ANSWERS, EVENTS, LOCK) if self._made else (LOG, LOCK):
            (self.path / name).unlink(missing_ok=True)
        self.close()
        if self._made:
            # Something else may have been put there meanwhile; it isn't ours to remove.
            for path in (self.path, self.path.parent) if self.path.parent == RUNS else (self.path,):
                try:
                    path.rmdir()
                except OSError:
                    return


def create(out: str | None, run_id: str | None = None) -> RunDir:
    """Make a run's directory, with nobody's but the user's access, and lock it.

    Args:
        out: Where; ``None`` for a new one below ``loadgen-runs``.
        run_id: What the run is called; ``None`` makes a name up.

    Returns:
        The directory, open.

    Raises:
        ConfigError: If it can't be made or written, or holds a run already.
    """
    run_id = run_id or _new_id(RUNS if out is None else None)
    path = Path(out) if out is not None else RUNS / f"{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%SZ}-{run_id}"
    try:
        made = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(
            f"can't write the run to {path}: a file stands in the way", "name another directory"
        ) from None
    except OSError as error:
        raise ConfigError(
            f"can't write the run to {path}: {error.strerror or error}",
            f"name another directory: {option('out', 'DIR')}",
        ) from None
    directory = RunDir(path, run_id, made, lock)
    if not _try_lock(lock):
        directory.close()
        raise ConfigError(
            f"{path} belongs to a run that is still going", f"name another directory: {option('out', 'DIR')}"
        )
    if (path / LOG).exists() or (path / REPORT).exists():
        directory.close()
        raise ConfigError(f"{path} holds a run already", "name another directory, or remove that run")
    return directory


def _new_id(runs: Path | None) -> str:
    taken = {run.name.rpartition("-")[2] for run in runs.iterdir()} if runs is not None and runs.is_dir() else set()
    while True:
        run_id = secrets.token_hex(2 if len(taken) < 1000 else 4)
        if run_id not in taken:
            return run_id


def _try_lock(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_run(path: Path) -> bool:
    """Return whether a directory holds a run: a real directory with a log, a report or a final snapshot in it."""
    return not path.is_symlink() and path.is_dir() and any(_is_file(path / name) for name in (LOG, REPORT, SNAPSHOT))


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def counts(path: Path) -> str | None:
    """Return the name of the file with a tokenizer's counts in a run's directory; ``None`` where it has none."""
    return COUNTS if (path / COUNTS).is_file() else None


def is_running(path: Path) -> bool:
    """Return whether the run in a directory is still going, told by its lock."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        return not _try_lock(lock)
    finally:
        os.close(lock)


def runs(below: Path = RUNS) -> Iterator[Path]:
    """Yield the runs below a directory, the newest first."""
    try:
        found = [path for path in below.iterdir() if is_run(path)]
    except OSError:
        return
    yield from sorted(found, key=lambda path: (_begun(path), path.name), reverse=True)


def _begun(path: Path) -> str:
    stamp = path.name[:16]
    if len(stamp) == 16 and stamp[8] == "T" and stamp.endswith("Z"):
        return stamp
    for name in (LOG, REPORT, SNAPSHOT):
        try:
            made = (path / name).stat().st_mtime
        except OSError:
            continue
        return f"{dt.datetime.fromtimestamp(made, dt.UTC):%Y%m%dT%H%M%SZ}"
    return ""


def find(run: str | None, below: Path = RUNS) -> Path:
    """Return the directory of a run.

    Args:
        run: A directory, the beginning of a run's id or directory name, or ``None`` for the newest run.
        below: Where runs are kept.

    Raises:
        ReportError: If there is none, or several.
    """
    if run is not None and (os.sep in run or run in (".", "..") or is_run(Path(run))):
        path = Path(run)
        if is_run(path):
            return path
        raise ReportError(f"{run} holds no run" if path.is_dir() else f"there is no directory {run}")
    found = list(runs(below))
    if run is None:
        if not found:
            raise ReportError(f"there is no run in {below}", "name its directory, or make one: loadgen run mock:")
        return found[0]
    matches = [path for path in found if path.name.startswith(run) or path.name.rpartition("-")[2].startswith(run)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        names = listed([path.name for path in matches], 4)
        raise ReportError(f"{len(matches)} runs begin with {run}: {names}", "give more of the id")
    raise ReportError(f"no run in {below} begins with {run}", "`loadgen ls` lists them")


_OURS = (LOG, REPORT, ANSWERS, COUNTS, EVENTS, SNAPSHOT, LOCK)
_HALF = (f".{REPORT}.", f".{COUNTS}.", f".{SCORES}", f".{SNAPSHOT}.")
_SCORED = re.compile(rf"{SCORES}[0-9]+\.jsonl")


def _files(path: Path) -> list[Path]:
    return [file for file in path.iterdir() if _is_ours(file.name) and _is_file(file)]


def _is_ours(name: str) -> bool:
    return name in _OURS or name.startswith(_HALF) or _SCORED.fullmatch(name) is not None


def size(path: Path) -> int:
    """Return how many bytes a run's own files hold."""
    return sum(file.lstat().st_size for file in _files(path))


def remove(path: Path) -> str:
    """Remove a run: the files that a run writes, and its directory if nothing else is in it.

    Args:
        path: The run's directory.

    Returns:
        Why it could not be removed in full; empty where it was.
    """
    if not is_run(path):
        return "it is no run"
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        return error.strerror or str(error)
    try:
        if not _try_lock(lock):
            return "it is still going"
        for file in _files(path):
            file.unlink()
        others = [file.name for file in path.iterdir()]
        if others:
            if len(others) == 1:
                return f"the run is gone; a file of somebody else's stays, {others[0]!r}"
            return f"the run is gone; {len(others):,} files of somebody else's stay, {others[0]!r} for one"
        path.rmdir()
    except OSError as error:
        return error.strerror or str(error)
    finally:
        os.close(lock)
    return ""
