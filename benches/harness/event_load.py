"""What a full stream of events, one for each chunk, adds to the load of B1: interleaved pairs with it and without."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from harness import process
from harness.bench import Bench
from harness.errors import BenchError
from harness.event_counting import counting
from harness.figures import Spread, Work, slope_us
from harness.servers import Mock
from harness.table import Line, Mark

_SESSION = Path(__file__).with_name("event_session.py")
_EVENTS = 128
_WAIT_S = 240.0


def added(bench: Bench) -> Iterator[Line]:
    """B1 with an event for every chunk, logged and published to a subscriber in another process, beside B1 without."""
    few, many = (200, 800) if bench.quick else (10_000, 60_000)
    differences, bare = [], []
    pairs = bench.size.pairs if bench.quick else max(10, bench.size.pairs)
    with Mock(truth_rows=0, output_tokens=_EVENTS, coalesce=True) as mock:
        for pair in range(pairs):
            bench.say(f"event-load: pair {pair + 1} of {pairs}")
            turns = (False, True) if pair % 2 else (True, False)
            # In nanoseconds: a slope between two lengths, so that starting and ending cancel out.
            costs = {
                streamed: slope_us(_work(mock, few, streamed=streamed), _work(mock, many, streamed=streamed)) * 1e3
                for streamed in turns
            }
            differences.append(costs[True] - costs[False])
            bare.append(costs[False])
    note = f"{Spread.of(bare)} ns without; logged, published, and counted by a subscriber of its own process"
    yield Line(
        "event-load",
        "B1 with an event for every chunk adds, CPU an event",
        "ns",
        Spread.of(differences),
        Mark(100.0),
        note=note,
    )


def _work(mock: Mock, requests: int, *, streamed: bool) -> Work:
    """Run one session to its end; its cost is that of its own process."""
    with tempfile.TemporaryDirectory(prefix="lg-") as made:
        out, directory = Path(made) / "run", Path(made) / "ipc"
        command = [sys.executable, str(_SESSION), mock.url, str(requests), str(out)]
        if not streamed:
            finished = process.checked(process.run(command, timeout_s=_WAIT_S), command)
            _told(finished.stdout, requests)
            return Work(finished.cpu_s, requests * _EVENTS)
        with counting(directory, marks=0, timeout_s=_WAIT_S) as counter:
            command += [str(directory), counter.greeting]
            finished = process.checked(process.run(command, timeout_s=_WAIT_S), command)
            told = _told(finished.stdout, requests)
            counted = counter.told()
    if told["missing"] or any(
        (told["dropped"] or {}).values() if isinstance(told["dropped"], dict) else [told["dropped"]]
    ):
        raise BenchError(f"events were lost: {told}")
    if counted["records"] != told["logged"]:
        raise BenchError(f"{counted['records']:,} events came of {told['logged']:,} that were logged")
    return Work(finished.cpu_s, requests * _EVENTS)


def _told(stdout: str, requests: int) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(stdout)
    if told["chunks"] != requests * _EVENTS:
        raise BenchError(f"{told['chunks']:,} chunks of {requests:,} streams, not {_EVENTS} of each")
    return told
