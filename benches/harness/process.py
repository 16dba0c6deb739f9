"""Child processes whose cost is measured: CPU of the whole tree, peak memory, and the moments of start and end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import BenchError

_LAUNCH = Path(__file__).with_name("launch.py")
_TAIL = 500

Command = Sequence["str | Path"]
"""A command: an absolute path, and its arguments."""


@dataclass(frozen=True)
class Finished:
    """A command that ended by itself.

    Args:
        status: Its exit status; negative for a signal.
        began_ns: Monotonic moment just before it was spawned.
        ended_ns: Monotonic moment just after it was gone.
        cpu_s: CPU seconds, user and system, of it and of every child it waited for.
        peak_bytes: Its peak resident memory.
        stdout: What it printed.
        stderr: What it complained of.
    """

    status: int
    began_ns: int
    ended_ns: int
    cpu_s: float
    peak_bytes: int
    stdout: str
    stderr: str

    @property
    def wall_s(self) -> float:
        """Seconds from spawn to end."""
        return (self.ended_ns - self.began_ns) / 1e9


def run(
    command: Command,
    *,
    timeout_s: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    watch: Callable[[int], None] | None = None,
    every_s: float = 0.1,
    tree: bool = False,
) -> Finished:
    """Run a command to its end, and measure it.

    Args:
        command: An absolute path, and arguments.
        timeout_s: Seconds after which it is killed.
        env: Its environment; `None` for ours.
        cwd: Where it runs; `None` for where we do.
        watch: Called with its pid now and then while it runs.
        every_s: Seconds between these calls.
        tree: Count also the CPU of processes that outlive whoever started them, and wait for these; Linux only.

    Raises:
        BenchError: If it took longer, or could not be started.
    """
    receive, send = os.pipe()
    with (
        os.fdopen(receive, "rb", buffering=0) as told,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        try:
            child = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_LAUNCH), str(send), "tree" if tree else "alone", *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=env,
                cwd=cwd,
                pass_fds=[send],
                start_new_session=True,
            )
        finally:
            os.close(send)
        try:
            lines = _lines(told.fileno(), time.monotonic() + timeout_s, watch, every_s)
            if lines is not None:
                child.wait(timeout=10)
        finally:
            _end_group(child)
        out.seek(0)
        err.seek(0)
        stdout, stderr = out.read().decode(errors="replace"), err.read().decode(errors="replace")
    if lines is None:
        raise BenchError(f"{_name(command)} took longer than {timeout_s:g} s and was killed: {_last_words(stderr)}")
    if len(lines) < 2:
        raise BenchError(f"{_name(command)} could not be started: {_last_words(stderr)}")
    measured = json.loads(lines[1])
    return Finished(stdout=stdout, stderr=stderr, **measured)


def checked(finished: Finished, command: Command) -> Finished:
    """Return a command's end if it was a good one.

    Raises:
        BenchError: With what the command said, if its status is not 0.
    """
    if finished.status != 0:
        said = _last_words(finished.stderr) or _last_words(finished.stdout)
        raise BenchError(f"{_name(command)} ended with status {finished.status}: {said}")
    return finished


def _last_words(said: str) -> str:
    """The last lines of what was said: those that give the reason."""
    return " ".join(line.strip() for line in said.splitlines()[-3:])[-_TAIL:]


def _name(command: Command) -> str:
    return " ".join([Path(command[0]).name, *map(str, command[1:3])])


def _lines(fd: int, deadline: float, watch: Callable[[int], None] | None, every_s: float) -> list[bytes] | None:
    """Read what the launcher tells until it closes; `None` if that takes too long."""
    got = b""
    while (left := deadline - time.monotonic()) > 0:
        ready, _, _ = select.select([fd], [], [], min(left, every_s) if watch is not None else left)
        if ready:
            piece = os.read(fd, 4096)
            if not piece:
                return got.splitlines()
            got += piece
        elif watch is not None and b"\n" in got:
            watch(int(got.split(b"\n", 1)[0]))
    return None


def _end_group(child: subprocess.Popen[bytes]) -> None:
    """Leave nothing behind: the launcher's group, and what of its tree has left it, is reached and nothing else."""
    if child.poll() is None:
        left = descendants(child.pid)
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def descendants(pid: int) -> list[int]:
    """Return the processes below one, by what Linux tells of them; none where there is no /proc."""
    found, ahead = [], [pid]
    while ahead:
        for children in Path(f"/proc/{ahead.pop()}/task").glob("*/children"):  # of each thread its own
            with contextlib.suppress(OSError):  # it has ended since
                below = [int(child) for child in children.read_text().split()]
                found += below
                ahead += below
    return found
