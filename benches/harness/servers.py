"""The servers that are measured against, each a process of its own, and what each says it did."""

from __future__ import annotations

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self
from urllib.parse import urlsplit

from harness.errors import BenchError

_MOCK = Path(__file__).with_name("mock_process.py")
_START_S = 20.0
_ANSWER_S = 60.0


@dataclass(frozen=True)
class Rows:
    """What a server did: a value per request that it answered, in monotonic nanoseconds of this machine."""

    arrival_ns: Sequence[int]
    first_token_ns: Sequence[int]
    last_token_ns: Sequence[int]
    done_ns: Sequence[int]

    @property
    def ttft_ms(self) -> list[float]:
        """Milliseconds from each arrival to its first token."""
        return [(first - came) / 1e6 for came, first in zip(self.arrival_ns, self.first_token_ns, strict=True)]

    @property
    def latency_ms(self) -> list[float]:
        """Milliseconds from each arrival to its last token."""
        return [(last - came) / 1e6 for came, last in zip(self.arrival_ns, self.last_token_ns, strict=True)]


class Server(Protocol):
    """A server that tells what it did."""

    @property
    def url(self) -> str:
        """Where to reach it."""

    def reset(self) -> None:
        """Let it forget what it did."""

    def rows(self) -> Rows:
        """Return what it did since the last reset, once nothing is in flight any more."""


class Process:
    """A server process whose first line ends in its URL. It is ended by the end of its standard input, and by SIGTERM.

    Args:
        script: The Python file that serves.
        arguments: Its arguments.
    """

    def __init__(self, script: Path, *arguments: str) -> None:
        self._name = script.name
        # A group of its own: Ctrl-C is for the harness, which then ends its servers in order.
        self._child = subprocess.Popen(
            [sys.executable, "-P", str(script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            self.url = self._line(_START_S).split()[-1]
        except BaseException:
            self.end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()

    def ask(self) -> str:
        """Send an empty line, and return the line that comes back.

        Raises:
            BenchError: If it has ended, or says nothing in time.
        """
        assert self._child.stdin is not None
        self._child.stdin.write("\n")
        self._child.stdin.flush()
        return self._line(_ANSWER_S)

    def _line(self, timeout_s: float) -> str:
        assert self._child.stdout is not None
        ready, _, _ = select.select([self._child.stdout], [], [], timeout_s)
        got = self._child.stdout.readline() if ready else ""
        if not got:
            raise BenchError(f"the server {self._name} did not answer")
        return got

    def end(self) -> None:
        """End it, and wait until it is gone; by force if it doesn't follow."""
        child = self._child
        if child.stdin is not None and not child.stdin.closed:
            child.stdin.close()
        child.terminate()
        try:
            child.wait(timeout=5)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if child.stdout is not None:
            child.stdout.close()

    def get(self, path: str, method: str = "GET") -> Any:
        """Ask the server itself, and return the JSON that it answers.

        Raises:
            BenchError: If it doesn't answer with status 200.
        """
        where = urlsplit(self.url)
        connection = http.client.HTTPConnection(where.hostname or "127.0.0.1", where.port, timeout=_ANSWER_S)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise BenchError(f"{method} {self.url}{path}: {error}") from None
        finally:
            connection.close()
        if answer.status != 200:
            raise BenchError(f"{method} {self.url}{path} was answered with status {answer.status}")
        return json.loads(body)


class Mock(Process):
    """The project's own mock.

    Args:
        config: Keys of `loadgen mock`'s configuration.
    """

    def __init__(self, **config: Any) -> None:
        super().__init__(_MOCK, json.dumps(config))

    def cpu_s(self) -> float:
        """Return the CPU seconds that it has used."""
        return float(self.ask())

    def reset(self) -> None:
        """Let it forget what it did."""
        self.settled()
        self.get("/truth/reset", "POST")

    def settled(self) -> dict[str, Any]:
        """Return `/truth`, once nothing is in flight any more.

        Raises:
            BenchError: If something still is after a minute.
        """
        until = time.monotonic() + _ANSWER_S
        while True:
            truth: dict[str, Any] = self.get("/truth")
            if truth["in_flight"] == 0:
                return truth
            if time.monotonic() > until:
                raise BenchError(f"the mock still has {truth['in_flight']} requests in flight after {_ANSWER_S:g} s")
            time.sleep(0.05)

    def rows(self) -> Rows:
        """Return what it did since the last reset, once nothing is in flight any more."""
        self.settled()
        rows = self.get("/truth?rows=1")["rows"]
        return Rows(*(rows[f"{name}_ns"] for name in ("arrival", "first_token", "last_token", "done")))


class AsyncioServer(Process):
    """The server of the tests that shares no code with ours, and stamps its own writes.

    Args:
        root: The project's root.
        ttft_ms: Milliseconds to the first token.
        gap_ms: Milliseconds between tokens.
        tokens: Tokens of an answer.
    """

    def __init__(self, root: Path, *, ttft_ms: float, gap_ms: float, tokens: int) -> None:
        script = root / "tests" / "servers" / "asyncio_sse.py"
        pace = {"--ttft": ttft_ms, "--gap": gap_ms, "--chunks": tokens}
        super().__init__(script, *(str(word) for pair in pace.items() for word in pair))

    def reset(self) -> None:
        """Let it forget what it did."""
        self.get("/stamps")

    def rows(self) -> Rows:
        """Return what it did since the last reset, and let it forget that.

        Raises:
            BenchError: If a client left before an answer's end.
        """
        stamps = self.get("/stamps")
        if not all(stamp["finished"] for stamp in stamps):
            raise BenchError("the asyncio server did not finish every answer")
        return Rows(
            [stamp["arrived_ns"] for stamp in stamps],
            [stamp["writes_ns"][0] for stamp in stamps],
            [stamp["writes_ns"][-1] for stamp in stamps],
            [stamp["writes_ns"][-1] for stamp in stamps],
        )
