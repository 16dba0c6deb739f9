"""A subscriber in a process of its own that counts the events of a stream."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import BenchError

_COUNTER = Path(__file__).with_name("event_counter.py")


class Counting:
    """One that is listening.

    Args:
        process: It.
        timeout_s: Seconds that it may take for its count.
    """

    def __init__(self, process: subprocess.Popen[str], timeout_s: float) -> None:
        self._process = process
        self._timeout_s = timeout_s
        assert process.stdout is not None
        self.greeting = process.stdout.readline().strip()
        """What it greets a publisher with."""

    def told(self) -> dict[str, Any]:
        """Wait for its end, and return what it counted."""
        counted: dict[str, Any] = json.loads(self._process.communicate(timeout=self._timeout_s)[0])
        return counted


@contextmanager
def counting(directory: Path, *, marks: int, timeout_s: float) -> Iterator[Counting]:
    """Start one; it is gone afterwards.

    Args:
        directory: Where the publisher's sockets will be.
        marks: Frames at which ZMQ begins to drop; 0 for never.
        timeout_s: Seconds that it may take for its count.

    Raises:
        BenchError: If it, or what is told within, isn't over in time or is no JSON.
    """
    command = [sys.executable, str(_COUNTER), f"ipc://{directory / 'events'}", str(marks)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield Counting(process, timeout_s)
    except (subprocess.TimeoutExpired, json.JSONDecodeError) as error:
        raise BenchError(f"the counting subscriber did not end well: {error}") from None
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
