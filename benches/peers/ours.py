"""This project's client, as a user starts it, with its default outputs on."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from typing import ClassVar

import loadgen
from harness.errors import BenchError
from harness.package import brought_along
from harness.process import Command
from peers.peer import CONNECTIONS, Job, Peer, Ttft, told, value
from peers.recipe import tree_bytes


class Here:
    """The command beside this Python, and what an install of it takes: the package, and all that it needs."""

    what = f"loadgen=={importlib.metadata.version('loadgen')}"
    is_here = True

    def make(self, home: Path, python: str | None, timeout_s: float) -> tuple[int, int]:  # noqa: ARG002
        """Link to it."""
        command = Path(sys.executable).with_name("loadgen")
        if not command.is_file():
            raise BenchError(
                f"{command} isn't there: run this with the Python that loadgen is installed for (make build)"
            )
        (home / "bin").mkdir()
        (home / "bin" / "loadgen").symlink_to(command)
        packages = brought_along()
        files = [file.locate() for name in packages for file in importlib.metadata.files(name) or []]
        others = sum(Path(str(file)).lstat().st_blocks * 512 for file in files if Path(str(file)).is_file())
        return tree_bytes(Path(loadgen.__file__).parent) + others, 1 + len(packages)


class Ours(Peer):
    """`loadgen run`, with one worker as in all benches."""

    name = "loadgen"
    sees = "events"
    recipe = Here()
    lengths: ClassVar = {"A": (50_000, 300_000), "B": (10_000, 60_000)}
    is_paced = True

    def closed(self, job: Job, length: int, connections: int = CONNECTIONS) -> Command:
        """A number of requests at a concurrency."""
        return [*self._any(job), "--concurrency", str(connections), "--requests", str(length)]

    def paced(self, job: Job, rate: int, seconds: int) -> Command:
        """For a time."""
        return [*self._any(job), "--rate", str(rate), "--duration", f"{seconds}s"]

    def ttft(self, job: Job) -> Ttft:
        """From report.json, in milliseconds."""
        report = told(job.out / "run" / "report.json")
        phase = next((phase for phase in report.get("phases", []) if phase["type"] == "performance"), None)
        return Ttft(value(phase, "metrics", "ttft", "p50"), value(phase, "metrics", "ttft", "p99"))

    def _any(self, job: Job) -> Command:
        streaming = [] if job.streamed else ["--no-stream"]
        return [
            *(self.binary("loadgen"), "run", job.url, "--model", "mock", "--workers", "1"),
            *("--out", job.out / "run"),
            *streaming,
        ]
