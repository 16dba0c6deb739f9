"""What every family is given: the clients, and how much to run."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

from harness.clients import Loadgen, Wrk


@dataclass(frozen=True)
class Size:
    """How much to run. Seconds are whole, as wrk takes them.

    Args:
        pairs: Pairs of client and baseline.
        short_s: Length of the short run of a slope.
        long_s: Length of the long run of a slope.
        rounds: Streams one after the other on each connection, in the short and in the long run of a slope whose
            streams last 1.3 seconds whatever the client does.
        repeats: Repetitions of what isn't paired.
        starts: Repetitions of what only starts.
        truth_s: Length of a run against the truth.
        rate: Requests per second against the truth.
        at_once: Streams at once.
        streams: Streams for the time from the last answer to the end.
        many: Requests for the peak of memory.
        rows: Requests for the size of the log.
        events: Events published.
    """

    pairs: int
    short_s: int
    long_s: int
    rounds: tuple[int, int]
    repeats: int
    starts: int
    truth_s: int
    rate: int
    at_once: int
    streams: int
    many: int
    rows: int
    events: int


FULL = Size(
    pairs=5,
    short_s=1,
    long_s=4,
    rounds=(2, 8),
    repeats=3,
    starts=20,
    truth_s=20,
    rate=500,
    at_once=1_000,
    streams=100_000,
    many=1_000_000,
    rows=200_000,
    events=1_000_000,
)
QUICK = Size(
    pairs=1,
    short_s=1,
    long_s=2,
    rounds=(1, 2),
    repeats=1,
    starts=2,
    truth_s=1,
    rate=100,
    at_once=100,
    streams=1_000,
    many=5_000,
    rows=2_000,
    events=20_000,
)


@dataclass(frozen=True)
class Bench:
    """One run of the benches.

    Args:
        root: The project's root.
        loadgen: What is measured.
        wrk: What it is measured against; `None` where it isn't installed.
        size: How much to run.
        quick: Whether figures are only a check that everything runs.
    """

    root: Path
    loadgen: Loadgen
    wrk: Wrk | None
    size: Size
    quick: bool

    def say(self, what: str) -> None:
        """Tell how far it is, on standard error."""
        print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)
