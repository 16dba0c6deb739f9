"""Starts the real servers once a session, and runs `loadgen run` against them as a user would."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SERVERS = ROOT / "tests" / "servers"
LLAMACPP = ROOT / ".venvs" / "llamacpp"
LITELLM = ROOT / ".venvs" / "litellm"
GSM8K = ROOT.parent / "shared" / "data" / "gsm8k_test.jsonl"

START_S = 180.0
RUN_S = 180.0
"""Nothing waits so long that goes on at all: with both cores busy otherwise, a gateway needs half a minute to start."""

FIGURES: pytest.StashKey[list[str]] = pytest.StashKey()


@dataclass(frozen=True)
class Server:
    """A server that is up.

    Args:
        url: Its base address.
        process: The process to end early in a test that wants that.
    """

    url: str
    process: subprocess.Popen[str]

    def get(self, path: str) -> bytes:
        """Fetch ``path``."""
        with urllib.request.urlopen(self.url + path, timeout=10) as answer:
            body: bytes = answer.read()
        return body

    def counters(self) -> dict[str, float]:
        """Read llama.cpp's own counters, by their name without prefix."""
        found = re.findall(r"^llamacpp:(\w+) (\S+)$", self.get("/metrics").decode(), re.MULTILINE)
        return {name: float(value) for name, value in found}


@dataclass
class Ended:
    """A `loadgen run` that has ended."""

    status: int
    stdout: str
    stderr: str
    folder: Path
    report: dict[str, Any] = field(default_factory=dict)

    @property
    def phase(self) -> dict[str, Any]:
        """The report's last phase."""
        phase: dict[str, Any] = self.report["phases"][-1]
        return phase

    def metric(self, name: str) -> dict[str, float]:
        """One metric of the phase: its unit, count, mean and percentiles."""
        metric: dict[str, float] = self.phase["metrics"][name]
        return metric


class Loadgen:
    """Runs the command line in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[str]] = []

    def start(self, url: str, *options: str, **environment: str) -> tuple[subprocess.Popen[str], Path]:
        """Start a run; return its process and its run directory."""
        out = self._folder / f"run-{len(self._started) + 1}"
        command = [sys.executable, "-m", "loadgen", "run", url, "--json", "--out", str(out), *options]
        child = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={**os.environ, **environment},
        )
        self._started.append(child)
        return child, out

    def end(self) -> None:
        """End what a test that failed has left: it would go on beside all that follow."""
        for child in self._started:
            if child.returncode is None:
                child.kill()
                child.communicate()

    def finish(self, child: subprocess.Popen[str], out: Path) -> Ended:
        """Wait for a run, and read its report where it wrote one."""
        try:
            stdout, stderr = child.communicate(timeout=RUN_S)
        except subprocess.TimeoutExpired:
            child.kill()
            stdout, stderr = child.communicate()
            pytest.fail(f"loadgen did not end within {RUN_S} s\n{stdout}\n{stderr}")
        report = json.loads(stdout) if stdout.strip() else {}
        return Ended(child.returncode, stdout, stderr, out, report)

    def __call__(self, url: str, *options: str, status: int = 0, **environment: str) -> Ended:
        """Run to the end and check the exit status."""
        ended = self.finish(*self.start(url, *options, **environment))
        assert ended.status == status, f"exit status {ended.status}, not {status}\n{ended.stderr}\n{ended.stdout}"
        return ended


@pytest.fixture
def loadgen(tmp_path: Path) -> Iterator[Loadgen]:
    """The command line, with a fresh folder to run in."""
    runs = Loadgen(tmp_path)
    yield runs
    runs.end()


@pytest.fixture(scope="session")
def llamacpp() -> Iterator[Server]:
    """The real llama.cpp server with a tiny model, shared by the tests."""
    with serve_llamacpp() as server:
        yield server


@contextmanager
def serve_llamacpp(*key: str, **environment: str) -> Iterator[Server]:
    """Serve the tiny model, to anybody or to who has the key; ``EMBEDDINGS="1"`` for its vectors."""
    command = [LLAMACPP / "bin" / "python", SERVERS / "serve_llamacpp.py", LLAMACPP / "model" / "tiny.gguf"]
    with started([*map(str, command), *key], r"READY (\S+)", **environment) as server:
        yield server


@contextmanager
def serve_asyncio(*options: str) -> Iterator[Server]:
    """Serve with the asyncio server that stamps its writes."""
    command = [sys.executable, str(SERVERS / "asyncio_sse.py"), *options]
    with started(command, r"READY (\S+)") as server:
        yield server


@contextmanager
def started(command: list[str], ready: str, **environment: str) -> Iterator[Server]:
    """Start a server, wait for the line that says it is up, and end it when the test is done with it.

    Args:
        command: What to run.
        ready: A pattern to find in that line; its first group is the server's address. It need not begin the line: a
            server's log shares the pipe, and writes of both may meet in one line.
        environment: Set for the server.
    """
    up = threading.Event()
    lines: list[str] = []
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, **environment}
    )

    def read() -> None:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append(line)
            if re.search(ready, line):
                up.set()
        up.set()

    reader = threading.Thread(target=read)
    reader.start()
    try:
        up.wait(START_S)
        found = next((found for line in lines if (found := re.search(ready, line))), None)
        if found is None:
            pytest.fail(f"{command[1]} did not start:\n{''.join(lines[-20:])}")
        yield Server(found[1], child)
    finally:
        child.terminate()
        try:
            child.wait(10)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        reader.join()
        assert child.stdout is not None
        child.stdout.close()


@contextmanager
def silent_port() -> Iterator[int]:
    """Hold a port that nobody listens on, nor can while it is held: others on this machine take free ones as well."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def gsm8k() -> Path:
    """The real dataset; skips where it is absent."""
    if not GSM8K.exists():
        pytest.skip(f"{GSM8K} is not there: it is no part of this repository")
    return GSM8K


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes a measured figure, shown at the end of the session: shown, never asserted."""
    noted: list[str] = request.config.stash.setdefault(FIGURES, [])
    return noted.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the figures that tests noted."""
    if noted := config.stash.get(FIGURES, []):
        terminalreporter.section("measured against real servers")
        for line in noted:
            terminalreporter.line(line)
