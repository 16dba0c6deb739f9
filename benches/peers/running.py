"""Runs a peer once: its command in a directory of its own, with the whole tree of its processes counted."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import process
from harness.errors import BenchError
from harness.process import Command, Finished
from harness.request import Request
from peers.peer import Job, Peer

_PSS = re.compile(r"^Pss:\s+(\d+) kB", re.MULTILINE)
_SAMPLE_S = 0.25


@dataclass
class Memory:
    """The most that a tree of processes held at once: proportional shares, so that what is shared counts once."""

    peak_bytes: int = field(default=0)

    def look(self, pid: int) -> None:
        """Look at a process and all below its parent, the launcher, which takes in those that lose theirs."""
        try:
            launcher = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:  # it has just ended
            return
        held = sum(_pss_bytes(each) for each in process.descendants(launcher))
        self.peak_bytes = max(self.peak_bytes, held)


def _pss_bytes(pid: int) -> int:
    try:
        found = _PSS.search(Path(f"/proc/{pid}/smaps_rollup").read_text())
    except OSError:  # it has ended, or is about to
        return 0
    return int(found[1]) * 1024 if found else 0


@dataclass(frozen=True)
class Client:
    """A peer, and what all its runs have in common.

    Args:
        peer: The client.
        work: Where its runs go; each is removed once it is read.
        tokenizer: A directory with a tokenizer.
        requests: What loadgen sends, plain and streamed.
        timeout_s: Seconds after which a run is killed.
    """

    peer: Peer
    work: Path
    tokenizer: Path
    requests: dict[bool, Request]
    timeout_s: float

    @contextmanager
    def job(self, url: str, *, streamed: bool) -> Iterator[Job]:
        """A run to be made, with a directory that is gone after it."""
        with tempfile.TemporaryDirectory(prefix=f"{self.peer.name}-", dir=self.work) as made:
            yield Job(url, Path(made), self.tokenizer, self.requests[streamed], streamed)

    def run(self, job: Job, command: Callable[[Job], Command]) -> tuple[Finished, Memory]:
        """Run it to its end.

        Raises:
            BenchError: If it failed or took too long.
        """
        memory = Memory()
        words = command(job)
        # What they keep for the next time (compiled code, fonts) stays theirs; what they write here is thrown away.
        home = self.peer.installed.home / "home"
        home.mkdir(exist_ok=True)
        finished = process.run(
            words,
            timeout_s=self.timeout_s,
            env={**os.environ, **self.peer.env, "HOME": str(home)},
            cwd=job.out,
            watch=memory.look,
            every_s=_SAMPLE_S,
            tree=True,
        )
        return process.checked(finished, words), memory


def counted(truth: Mapping[str, Any], *, streamed: bool) -> int:
    """Return the units of work that a server did: events with tokens, or whole answers.

    Raises:
        BenchError: If it did none, or answered with an error.
    """
    refused = {status: count for status, count in truth["statuses"].items() if status != "200" and count}
    if refused:
        raise BenchError(f"the server refused requests: {refused}")
    units = int(truth["chunks" if streamed else "finished"])
    if not units:
        raise BenchError("no request reached the server")
    return units
