"""The run log: its bytes per request and per chunk, and the CPU of the thread that writes it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.bench import Bench
from harness.figures import Spread
from harness.servers import Mock
from harness.table import Line, Mark

_EVENTS = 128


def log(bench: Bench) -> Iterator[Line]:
    """Bytes of log per request, and per chunk where each chunk was a read of its own."""
    rows = bench.size.rows
    with Mock(truth_rows=0, output_tokens=16) as mock:
        sizes, writer = _log_bytes(bench, mock, (rows // 10, rows), 64, "--no-stream")
    yield Line("log", "bytes a request", "B", Spread.of([_slope(sizes)]), Mark(110.0))
    yield writer.line("small answers")
    with Mock(truth_rows=0, output_tokens=_EVENTS, gap=10) as mock:
        sizes, writer = _log_bytes(bench, mock, (rows // 200, rows // 50), 640)
    per_chunk = Spread.of([_slope(sizes) / _EVENTS])
    yield Line("log", "bytes a chunk, its share of the row included", "B", per_chunk, Mark(8.0))
    yield writer.line("10 ms gaps")


def _log_bytes(
    bench: Bench, mock: Mock, requests: tuple[int, int], connections: int, *flags: str
) -> tuple[list[tuple[int, int]], _Writer]:
    """Run a short and a long load; return requests and bytes of each, and what the long one's writer spent."""
    sizes = []
    for count in requests:
        bench.say(f"log: {count:,} requests")
        writer = _Writer()
        load = ("--concurrency", str(min(connections, count)), "--requests", str(count))
        sizes.append((count, bench.loadgen.run(mock.url, *load, *flags, watch=writer).log_bytes))
    return sizes, writer


def _slope(sizes: list[tuple[int, int]]) -> float:
    (few, small), (many, big) = sizes
    return (big - small) / (many - few)


class _Writer:
    """Watches a run's threads, and keeps the last that was seen of each one's CPU, also of those that ended since."""

    def __init__(self) -> None:
        self._spent: dict[str, tuple[str, int]] = {}

    def __call__(self, pid: int) -> None:
        try:
            self._spent |= {task.name: _thread(task) for task in Path(f"/proc/{pid}/task").iterdir()}
        except OSError:
            return  # something ended while it was looked at: what was seen before stands

    def line(self, what: str) -> Line:
        """The log writer's share of the CPU of all."""
        figure = f"log writer's share of CPU, {what}"
        writer = sum(ns for name, ns in self._spent.values() if name == "loadgen-log")
        if not writer:
            return Line("log", figure, "%", None, note="no CPU was seen on a thread named loadgen-log")
        share = 100 * writer / sum(ns for _, ns in self._spent.values())
        note = "the start of the process is among the CPU"
        return Line("log", figure, "%", Spread.of([share]), Mark(4.0), note=note)


def _thread(task: Path) -> tuple[str, int]:
    """A thread's name, and its CPU nanoseconds."""
    return (task / "comm").read_text().strip(), int((task / "schedstat").read_text().split()[0])
