"""What a peer is: how it is installed, and the commands that make it do each load."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from harness.errors import BenchError
from harness.process import Command
from harness.request import Request
from peers.recipe import Installed, Recipe

Shape = Literal["A", "B"]
"""A: a small JSON answer. B: a stream of 128 events, many to a read."""

CONNECTIONS = 64


@dataclass(frozen=True)
class Job:
    """One run of a client.

    Args:
        url: The server's base.
        out: An empty directory of its own.
        tokenizer: A directory with a tokenizer, for those that can't go without.
        request: What loadgen sends, for those that send what they are given.
        streamed: Whether answers are to be streams.
    """

    url: str
    out: Path
    tokenizer: Path
    request: Request
    streamed: bool

    @property
    def target(self) -> str:
        """Where the request goes."""
        return self.url + self.request.path

    def body(self) -> Path:
        """Write the request's body into a file."""
        path = self.out / "body.json"
        path.write_bytes(self.request.body)
        return path


@dataclass(frozen=True)
class Ttft:
    """What a client says of the time to the first token, in milliseconds."""

    p50: float
    p99: float


class Peer(ABC):
    """A client.

    Args:
        installed: Where it is.
    """

    name: ClassVar[str]
    sees: ClassVar[str]
    """What it looks at: the meaning of its cost in B."""
    recipe: ClassVar[Recipe]
    by_time: ClassVar[bool] = False
    """Its length is given in seconds, not in requests."""
    lengths: ClassVar[Mapping[Shape, tuple[int, int]]]
    """A short and a long run: seconds or requests, so that start and end cancel out."""
    needs_tokenizer: ClassVar[bool] = False
    is_paced: ClassVar[bool] = False
    """It can send by a Poisson process and tells TTFT."""
    env: ClassVar[Mapping[str, str]] = {"DO_NOT_TRACK": "1"}
    """Telemetry off, nothing looked up on the network."""

    def __init__(self, installed: Installed) -> None:
        self.installed = installed

    def binary(self, name: str) -> Path:
        """A command of its environment."""
        return self.installed.home / "bin" / name

    @abstractmethod
    def closed(self, job: Job, length: int, connections: int = CONNECTIONS) -> Command:
        """Return the command for a closed loop.

        Args:
            job: The run.
            length: Requests, or seconds where it counts by time.
            connections: Requests in flight.
        """

    def paced(self, job: Job, rate: int, seconds: int) -> Command:
        """Return the command for Poisson arrivals.

        Args:
            job: The run.
            rate: Requests a second.
            seconds: How long.
        """
        raise BenchError(
            f"{self.name} has no Poisson arrivals, or tells no TTFT, for {job.url} at {rate}/s, {seconds} s"
        )

    def ttft(self, job: Job) -> Ttft:
        """Return what it reported after a run.

        Raises:
            BenchError: If its report isn't there, or has changed.
        """
        raise BenchError(f"{self.name} tells no TTFT in {job.out}")


def told(file: Path) -> Any:
    """Read a report.

    Raises:
        BenchError: If it isn't there or is no JSON.
    """
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise BenchError(f"the report {file.name} can't be read: {error}") from None


def value(report: Any, *path: str | int) -> float:
    """Return a number of a report.

    Raises:
        BenchError: If it has none there.
    """
    found = report
    for key in path:
        try:
            found = found[key]
        except (KeyError, IndexError, TypeError):
            raise BenchError(f"the report has nothing at {'.'.join(map(str, path))}") from None
    if not isinstance(found, int | float):
        raise BenchError(f"the report has {found!r} at {'.'.join(map(str, path))}, not a number")
    return float(found)


def only(directory: Path, pattern: str) -> Path:
    """Return the one file of that pattern below a directory.

    Raises:
        BenchError: If there is none, or more than one.
    """
    found = sorted(directory.rglob(pattern))
    if len(found) != 1:
        raise BenchError(f"{len(found)} files {pattern} below {directory.name}, not one")
    return found[0]
