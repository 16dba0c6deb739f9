"""The clients that are measured: `loadgen run` as a user starts it, and wrk with the request that loadgen sends."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import process
from harness.errors import BenchError
from harness.figures import Work
from harness.process import Finished
from harness.request import Catcher, Request

_PROMPT = "A train leaves at nine and runs for three hours at eighty miles an hour. How far does it get, and when?"


@dataclass(frozen=True)
class Run:
    """One `loadgen run` of which every request succeeded.

    Args:
        finished: What it cost.
        report: Its report.json.
        log_bytes: The size of its run log.
    """

    finished: Finished
    report: dict[str, Any]
    log_bytes: int

    @property
    def phase(self) -> dict[str, Any]:
        """The performance phase."""
        phase: dict[str, Any] = next(phase for phase in self.report["phases"] if phase["type"] == "performance")
        return phase

    def value(self, *path: str) -> float:
        """Return a number of the performance phase, such as `metrics`, `ttft`, `p50`.

        Raises:
            BenchError: If the report doesn't have it.
        """
        found: Any = self.phase
        for key in path:
            found = found.get(key) if isinstance(found, dict) else None
        if not isinstance(found, int | float):
            raise BenchError(f"report.json has no number at {'.'.join(path)}")
        return found


class Loadgen:
    """The installed `loadgen`, with its default outputs on and one worker.

    Args:
        path: The command.
        work: Where its runs go; each is removed once it is read.
    """

    def __init__(self, path: Path, work: Path) -> None:
        self._path = path
        self._work = work
        self._prompts = work / "prompts.jsonl"
        self._prompts.write_text(json.dumps({"prompt": _PROMPT}) + "\n")

    @property
    def path(self) -> Path:
        """The command."""
        return self._path

    def run(
        self,
        url: str,
        *flags: str,
        timeout_s: float = 120.0,
        bare: bool = False,
        watch: Callable[[int], None] | None = None,
    ) -> Run:
        """Run a load to its end.

        Args:
            url: The target.
            flags: The load and its stop.
            timeout_s: Seconds after which it is killed.
            bare: Leave model and dataset to it, as somebody does who only gives a URL.
            watch: Called with its pid now and then while it runs.

        Raises:
            BenchError: If it fails, or any of its requests did.
        """
        out = Path(tempfile.mkdtemp(prefix="run-", dir=self._work)) / "run"
        given = [] if bare else ["--model", "mock", "--dataset", str(self._prompts)]
        command: process.Command = [self._path, "run", url, *given, *flags, "--workers", "1", "--out", out]
        try:
            finished = process.checked(process.run(command, timeout_s=timeout_s, watch=watch), command)
            report = json.loads((out / "report.json").read_bytes())
            run = Run(finished, report, (out / "run.log").stat().st_size)
        except FileNotFoundError as error:
            raise BenchError(f"loadgen run left no {error.filename}") from None
        finally:
            shutil.rmtree(out.parent)
        counts = run.phase["counts"]
        if counts["ok"] != counts["issued"]:
            raise BenchError(f"not every request succeeded: {counts}, {run.phase.get('failures')}")
        return run

    def request(self, *flags: str) -> Request:
        """Return the request that it sends, by catching one.

        Args:
            flags: Those that shape the request.
        """
        with Catcher() as catcher:
            self.run(catcher.url, "--concurrency", "1", "--requests", "1", *flags, timeout_s=30.0)
        return catcher.caught()


class Wrk:
    """wrk with one thread.

    Args:
        path: The command.
        work: Where its scripts go.
    """

    def __init__(self, path: Path, work: Path) -> None:
        self._path = path
        self._work = work

    def run(self, url: str, request: Request, connections: int, seconds: int) -> Work:
        """Run a closed loop, and return its cost and its count of requests.

        Args:
            url: The target's base.
            request: What to send.
            connections: Its connections.
            seconds: How long.

        Raises:
            BenchError: If it fails, or any of its requests did.
        """
        script = self._work / "post.lua"
        script.write_text(request.lua())
        command: process.Command = [
            self._path,
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "60s",
            "-s",
            script,
            url + request.path,
        ]
        finished = process.checked(process.run(command, timeout_s=seconds + 60.0), command)
        counted = json.loads(finished.stdout.splitlines()[-1])
        if counted["failed"]:
            raise BenchError(f"{counted['failed']} of wrk's requests failed")
        return Work(finished.cpu_s, counted["requests"])
