"""What it costs to watch: CPU of `loadgen top`, drawn on a terminal, during a run of 24 series."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import tempfile
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.bench import Bench
from harness.errors import BenchError
from harness.figures import Spread
from harness.servers import Mock
from harness.table import Line, Mark

_BEFORE_S = 6.0
_TERMINALS = ((80, 24), (200, 60))


def watching(bench: Bench) -> Iterator[Line]:
    """CPU of `loadgen top` at 4 Hz while a run of three phases goes on, on a small and on a large terminal."""
    watched_s = 3.0 if bench.quick else 20.0
    with tempfile.TemporaryDirectory(prefix="loadgen-top-") as made, Mock() as mock:
        work = Path(made)
        for columns, rows in _TERMINALS:
            shares, sent = [], []
            for repeat in range(bench.size.repeats):
                bench.say(f"top: {columns} × {rows}, {repeat + 1} of {bench.size.repeats}")
                with _run(bench, mock.url, work, _BEFORE_S + watched_s + 10):
                    share, rate = _watch(bench, work, (columns, rows), watched_s)
                shares.append(share * 100)
                sent.append(rate)
            note = f"over {watched_s:g} s, after its start; it writes {Spread.of(sent)} bytes/s to the terminal"
            yield Line(
                "top", f"`loadgen top`, {columns} × {rows}", "% of a core", Spread.of(shares), Mark(2.0), note=note
            )


@contextmanager
def _run(bench: Bench, url: str, work: Path, seconds: float) -> Iterator[None]:
    """A run of two short phases and a long one, so that it has 24 series."""
    short = {"concurrency": 4, "requests": 200}
    phases = [{"name": "low", **short}, {"name": "high", **short}, {"name": "long", "rate": 200, "duration": seconds}]
    config = work / "run.yaml"
    config.write_text(json.dumps({"url": url, "model": "mock", "output_tokens": 16, "phases": phases}))
    command = [str(bench.loadgen.path), "run", "--config", str(config), "--ui", "none", "--json"]
    child = subprocess.Popen(command, cwd=work, env=_environment(work), stdout=subprocess.DEVNULL)
    try:
        yield
    finally:
        child.send_signal(signal.SIGINT)
        child.wait(60)


def _watch(bench: Bench, work: Path, size: tuple[int, int], seconds: float) -> tuple[float, float]:
    """Return the share of a core that `loadgen top` takes, and the bytes a second that it writes."""
    command = [str(bench.loadgen.path), "top"]
    end = time.monotonic() + _BEFORE_S
    pid, master = pty.fork()
    if pid == 0:
        _become(command, work, size)
    try:
        _read(master, end)
        used, began = _cpu_s(pid), time.monotonic()
        count = _read(master, began + seconds)
        took = time.monotonic() - began
        return (_cpu_s(pid) - used) / took, count / took
    finally:
        os.kill(pid, signal.SIGTERM)
        os.close(master)
        os.waitpid(pid, 0)


def _become(command: list[str], work: Path, size: tuple[int, int]) -> None:
    """Be the command, once there is a run to watch: nothing of the wait is measured."""
    columns, rows = size
    termios.tcsetwinsize(0, (rows, columns))
    while not (found := list((work / "loadgen").glob("*.series"))):
        time.sleep(0.05)
    time.sleep(1.0)  # until its short phases are over
    # By its name: there may be other runs on this machine.
    os.execve(command[0], [*command, found[0].stem], _environment(work))


def _environment(work: Path) -> dict[str, str]:
    """Let the run's metrics lie where no other run's do."""
    return {**os.environ, "XDG_RUNTIME_DIR": str(work), "TERM": "xterm-256color"}


def _read(master: int, until: float) -> int:
    """Take what is drawn until that moment; how many bytes it was."""
    count = 0
    while (left := until - time.monotonic()) > 0:
        if select.select([master], [], [], left)[0]:
            try:
                count += len(os.read(master, 65_536))
            except OSError:
                raise BenchError("`loadgen top` ended before its run") from None
    return count


def _cpu_s(pid: int) -> float:
    """CPU seconds that a process has used, as Linux tells of one that runs."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        raise BenchError("the CPU of a running process can't be had here: there is no /proc") from None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
