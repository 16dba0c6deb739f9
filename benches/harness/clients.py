"""The clients that are measured: `loadgen run` as a user starts it, and wrk with the very request that loadgen sends."""

from __future__ import annotations

import http.server
import json
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import process
from harness.errors import BenchError
from harness.figures import Work
from harness.process import Finished

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

    @property
    def ok(self) -> int:
        """Requests that succeeded."""
        return int(self.phase["counts"]["ok"])

    def metric(self, name: str, statistic: str) -> float:
        """Return a statistic of a metric, in the metric's unit.

        Raises:
            BenchError: If the report doesn't have it.
        """
        found = (self.phase["metrics"].get(name) or {}).get(statistic)
        if found is None:
            raise BenchError(f"report.json has no {name}.{statistic}")
        return float(found)


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

    def run(
        self, url: str, *flags: str, timeout_s: float = 120.0, bare: bool = False, watch: Callable[[int], None] | None = None
    ) -> Run:
        """Run a load to its end.

        Args:
            url: The target.
            flags: The load and its stop.
            timeout_s: Seconds after which it is killed.
            bare: Leave model and dataset to it, as somebody does who only gives a URL.
            watch: As `process.run` has it.

        Raises:
            BenchError: If it fails, or any of its requests did.
        """
        out = Path(tempfile.mkdtemp(prefix="run-", dir=self._work)) / "run"
        given = [] if bare else ["--model", "mock", "--dataset", str(self._prompts)]
        command = [self._path, "run", url, *given, *flags, "--workers", "1", "--out", str(out)]
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
        with _Catcher() as catcher:
            self.run(catcher.url, "--concurrency", "1", "--requests", "1", *flags, timeout_s=30.0)
        return catcher.caught()


@dataclass(frozen=True)
class Request:
    """One request as it was sent."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def lua(self) -> str:
        """Write the script that lets wrk send the same, and print what it counted as one line of JSON."""
        own = ("host", "content-length")  # wrk makes them itself
        headers = "".join(
            f"wrk.headers[{_lua(name.encode())}] = {_lua(value.encode())}\n"
            for name, value in self.headers
            if name.lower() not in own
        )
        return f'wrk.method = "POST"\n{headers}wrk.body = {_lua(self.body)}\n{_LUA_DONE}'


_LUA_DONE = """
function done(summary, latency, requests)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('{"requests": %d, "bytes": %d, "failed": %d}\\n', summary.requests, summary.bytes, failed))
end
"""


def _lua(text: bytes) -> str:
    """Write a Lua string; what isn't plain ASCII, or is special, as three decimal digits."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in text)
    return f'"{"".join(plain)}"'


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
        command = [self._path, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "60s", "-s", script, url + request.path]
        finished = process.checked(process.run(command, timeout_s=seconds + 60.0), command)
        counted = json.loads(finished.stdout.splitlines()[-1])
        if counted["failed"]:
            raise BenchError(f"{counted['failed']} of wrk's requests failed")
        return Work(finished.cpu_s, counted["requests"])


class _Catcher:
    """Answers one request with the least that is an answer, and keeps it."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> _Catcher:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def caught(self) -> Request:
        """Return the request.

        Raises:
            BenchError: If none came.
        """
        if not self._requests:
            raise BenchError("loadgen sent no request to the catcher")
        return self._requests[0]

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        requests = self._requests

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append(Request(self.path, tuple(self.headers.items()), body))
                kind, answer = _answer(bool(json.loads(body).get("stream")))
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
                """Say nothing."""

        return Handler


def _answer(streamed: bool) -> tuple[str, bytes]:
    if streamed:
        event = '{"choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":"stop"}]}'
        return "text/event-stream", f"data: {event}\n\ndata: [DONE]\n\n".encode()
    return "application/json", (
        b'{"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
    )
