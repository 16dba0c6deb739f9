"""Events over ZMQ: what publishing one costs, what batching is worth, and that none is lost."""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness import process
from harness.bench import Bench
from harness.errors import BenchError
from harness.event_counting import counting
from harness.figures import Spread
from harness.table import Line, Mark

_PUBLISHER = Path(__file__).with_name("event_publisher.py")
_WAIT_S = 240.0
_THRESHOLDS = (1, 10, 100, 1000)
_PACED = 10_000
_KEPT_UP_WITH = 1_000_000
_MARKS = 1000  # frames: what a publisher and a subscriber have unless told otherwise
_CALLS = re.compile(r"^100\.00 .*?(\d+)(?:\s+\d+)? total$", re.MULTILINE)


def publishing(bench: Bench) -> Iterator[Line]:
    """`record()` and its share of a batch of 1,000, with one subscriber in another process that counts."""
    costs = []
    for repeat in range(bench.size.pairs):
        bench.say(f"events: {repeat + 1} of {bench.size.pairs}")
        costs.append(_cost_ns(_stream(1000, bench.size.events)))
    note = "caller, loop and ZMQ's threads, all delivered and counted in another process"
    yield Line("events", "publish, batches of 1,000, CPU an event", "ns", Spread.of(costs), Mark(150.0), note=note)


def batching(bench: Bench) -> Iterator[Line]:
    """What `send_threshold` is worth: events a second, CPU, system calls and age."""
    for threshold in _THRESHOLDS[:: 3 if bench.quick else 1]:
        bench.say(f"event-batch: {threshold}")
        count = max(bench.size.events // (50 if threshold == 1 else 5), 1000)
        runs = [_stream(threshold, count) for _ in range(bench.size.repeats)]
        name = f"send_threshold {threshold}"
        yield Line("event-batch", f"{name}, events", "M/s", Spread.of([_rate(run) for run in runs]))
        yield Line("event-batch", f"{name}, CPU an event", "ns", Spread.of([_cost_ns(run) for run in runs]))
        yield _system_calls(name, threshold, count)
        paced = _stream(threshold, max(_PACED * bench.size.truth_s // 10, 1000), rate=_PACED)
        age = Spread.of([paced["age_p99_ns"] / 1e6])
        yield Line("event-batch", f"{name}, p99 age at {_PACED:,} events a second", "ms", age)


def lossless(bench: Bench) -> Iterator[Line]:
    """Many events at a rate that a reader can keep up with: each is counted."""
    count = 10 * bench.size.events
    bench.say(f"event-loss: {count:,} events")
    told = _stream(1000, count, rate=_KEPT_UP_WITH, marks=_MARKS)
    lost = count + 1 - told["records"]
    note = (
        f"{told['records'] - 1:,} of {count:,} came; the numbers of those that came say {told['missing']} are missing"
    )
    yield Line(
        "event-loss",
        f"events lost of {count:,} at {_KEPT_UP_WITH:,} a second",
        "",
        Spread.of([lost]),
        Mark(0.0),
        note=note,
    )


def _system_calls(name: str, threshold: int, count: int) -> Line:
    what = f"{name}, system calls an event"
    strace = shutil.which("strace")
    if strace is None:
        return Line("event-batch", what, "", None, note="strace is not installed")
    few, many = (_calls(strace, threshold, n) for n in (count // 10, count))
    return Line("event-batch", what, "", Spread.of([(many - few) / (count - count // 10)]))


def _calls(strace: str, threshold: int, count: int) -> int:
    with tempfile.NamedTemporaryFile("r") as told:
        _stream(threshold, count, around=(strace, "-f", "-c", "-o", told.name))
        found = _CALLS.search(told.read())
    if found is None:
        raise BenchError("strace told no total")
    return int(found[1])


def _cost_ns(told: dict[str, Any]) -> float:
    return float(told["cpu_ns"] - told["bare_ns"]) / float(told["sent"])


def _rate(told: dict[str, Any]) -> float:
    return float(told["sent"]) / float(told["wall_ns"]) * 1e3


def _stream(threshold: int, count: int, *, rate: int = 0, around: Sequence[str] = (), marks: int = 0) -> dict[str, Any]:
    """Run a publisher and a counter to their end, and return what both told.

    Args:
        threshold: `send_threshold`.
        count: Events.
        rate: Events a second; 0 for as many as there can be.
        around: A command that runs the publisher.
        marks: Frames at which ZMQ begins to drop, on both sides; 0 for never: then anything lost is an error.
    """
    with tempfile.TemporaryDirectory(prefix="lg-") as made:
        directory = Path(made) / "ipc"
        with counting(directory, marks=marks, timeout_s=_WAIT_S) as counter:
            numbers = map(str, (threshold, count, rate, marks))
            command = [*around, sys.executable, str(_PUBLISHER), str(directory), counter.greeting, *numbers]
            told = json.loads(process.checked(process.run(command, timeout_s=_WAIT_S), command).stdout)
            told |= counter.told()
    if not marks and told["records"] != count + 1:
        raise BenchError(f"{count + 1 - told['records']:,} of {count:,} events were lost")
    return dict(told)
