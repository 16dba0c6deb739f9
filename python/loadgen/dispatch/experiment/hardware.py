"""What a process tree uses while a grid is worked off: cores, memory and threads, sampled from /proc."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import msgspec

PROC = Path("/proc")
EVERY_S = 0.5


class Used(msgspec.Struct, frozen=True):
    """One quantity over the samples.

    Args:
        samples: How many there were.
        mean: Their mean.
        max: The largest.
    """

    samples: int
    mean: float
    max: float


class Hardware(msgspec.Struct, frozen=True):
    """What the tree used.

    Args:
        cpu: Cores: CPU seconds a second, between one sample and the next.
        rss: Resident bytes; pages shared by several processes count for each.
        threads: Threads.
        interval_s: Seconds between samples.
    """

    cpu: Used
    rss: Used
    threads: Used
    interval_s: float


class _Process(NamedTuple):
    parent: int
    ticks: int
    threads: int
    pages: int


class Sampler:
    """Samples a process tree from its own thread until it is left.

    Args:
        root: The process at the top of the tree.
        with_root: Whether that process counts; else only what it started.
        every_s: Seconds between samples.
        proc: Where processes are listed.
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        root: int,
        *,
        with_root: bool = True,
        every_s: float = EVERY_S,
        proc: Path = PROC,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = root
        self._with_root = with_root
        self._every_s = every_s
        self._proc = proc
        self._clock = clock
        self._before: tuple[float, dict[int, int]] | None = None
        self._cpu: list[float] = []
        self._rss: list[float] = []
        self._threads: list[float] = []
        self._left = threading.Event()
        self._thread = threading.Thread(target=self._go, name="loadgen-hardware", daemon=True)

    def __enter__(self) -> Self:
        self.sample()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._left.set()
        self._thread.join()
        self.sample()

    def sample(self) -> None:
        """Look once."""
        now, tree = self._clock(), self._tree()
        ticks = {pid: process.ticks for pid, process in tree.items()}
        if self._before is not None and tree:
            then, before = self._before
            # Of a process that is new all its time is of this interval; what has gone took its last ticks with it.
            spent = sum(count - before.get(pid, 0) for pid, count in ticks.items())
            if now > then:
                self._cpu.append(spent / os.sysconf("SC_CLK_TCK") / (now - then))
        if tree:
            self._rss.append(sum(process.pages for process in tree.values()) * os.sysconf("SC_PAGE_SIZE"))
            self._threads.append(sum(process.threads for process in tree.values()))
        self._before = (now, ticks)

    def result(self) -> Hardware | None:
        """Return what was used; ``None`` where nothing could be seen, as on a system without /proc."""
        if not self._cpu:
            return None
        return Hardware(_used(self._cpu), _used(self._rss), _used(self._threads), self._every_s)

    def _go(self) -> None:
        while not self._left.wait(self._every_s):
            self.sample()

    def _tree(self) -> dict[int, _Process]:
        """Return the processes of the tree."""
        every = _processes(self._proc)
        found = {self._root} & every.keys()
        grew = bool(found)
        while grew:
            children = {pid for pid, process in every.items() if process.parent in found} - found
            found |= children
            grew = bool(children)
        return {pid: every[pid] for pid in found if self._with_root or pid != self._root}


def children(parent: int, proc: Path = PROC) -> set[int]:
    """Return the processes that one has started and that are still there."""
    return {pid for pid, process in _processes(proc).items() if process.parent == parent}


def _processes(proc: Path) -> dict[int, _Process]:
    return {
        int(path.name): process
        for path in (proc.iterdir() if proc.is_dir() else ())
        if path.name.isdigit() and (process := _read(path)) is not None
    }


def _read(path: Path) -> _Process | None:
    """Read ``/proc/PID/stat`` (proc_pid_stat(5)); ``None`` for a process that has gone."""
    try:
        text = (path / "stat").read_text()
    except OSError:
        return None
    # The name stands in parentheses and may hold anything, parentheses too.
    words = text.rpartition(")")[2].split()
    return _Process(int(words[1]), int(words[11]) + int(words[12]), int(words[17]), int(words[21]))


def _used(values: list[float]) -> Used:
    return Used(len(values), sum(values) / len(values), max(values))
