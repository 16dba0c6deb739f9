"""Weight: memory for a million requests, bytes of log, the wheel, and what an install brings along."""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from harness import process
from harness.bench import Bench
from harness.figures import Spread
from harness.servers import Mock
from harness.table import Baseline, Line, Mark

_EVENTS = 128
_BUILD_S = 1_800.0


def memory(bench: Bench) -> Iterator[Line]:
    """The peak of the whole command, report included, beside that of a run of ten requests."""
    shapes = (
        ("A, small JSON answers", ("--no-stream",), {"output_tokens": 16}),
        ("B, SSE of 128 events", (), {"output_tokens": _EVENTS, "coalesce": True}),
    )
    for what, flags, server in shapes:
        with Mock(truth_rows=0, **server) as mock:
            peaks = []
            for requests in (10, bench.size.many):
                bench.say(f"memory: {what}, {requests:,} requests")
                load = ("--concurrency", str(min(64, requests)), "--requests", str(requests))
                run = bench.loadgen.run(mock.url, *load, *flags, timeout_s=900.0)
                peaks.append(run.finished.peak_bytes / 1e6)
        few, many = (Spread.of([peak]) for peak in peaks)
        yield Line("memory", f"{bench.size.many:,} requests, {what}", "MB", many, Mark(60.0), Baseline("10 requests", few))


def ending(bench: Bench) -> Iterator[Line]:
    """From the server's last write to the end of the process: the report, for many streams."""
    shapes = (
        ("coalesced", {"coalesce": True}, bench.size.repeats),
        # Every event in a write of its own makes the log long: the hard case, and a slow one to run.
        ("a write each", {}, 1),
    )
    for what, server, repeats in shapes:
        waits = []
        sizes = []
        with Mock(truth_rows=1_000, output_tokens=_EVENTS, **server) as mock:
            for repeat in range(repeats):
                bench.say(f"end: {bench.size.streams:,} streams, {what}, {repeat + 1} of {repeats}")
                mock.reset()
                load = ("--concurrency", "64", "--requests", str(bench.size.streams))
                run = bench.loadgen.run(mock.url, *load, timeout_s=600.0)
                waits.append((run.finished.ended_ns - max(mock.rows().done_ns)) / 1e9)
                sizes.append(run.log_bytes / 1e6)
        note = f"the log has {Spread.of(sizes)} MB"
        what = f"{bench.size.streams:,} streams of {_EVENTS} events, {what}: last answer to exit"
        yield Line("end", what, "s", Spread.of(waits), Mark(1.0), note=note)


def log(bench: Bench) -> Iterator[Line]:
    """Bytes of log per request and per chunk, and the CPU of the thread that writes it."""
    with Mock(truth_rows=0, output_tokens=16) as mock:
        sizes = []
        for requests in (bench.size.rows // 10, bench.size.rows):
            bench.say(f"log: {requests:,} small answers")
            writer = _Writer()
            load = ("--concurrency", "64", "--requests", str(requests), "--no-stream")
            sizes.append((requests, bench.loadgen.run(mock.url, *load, watch=writer).log_bytes))
    yield Line("log", "bytes a request", "B", Spread.of([_slope(sizes)]), Mark(110.0))
    yield writer.line("small answers")
    with Mock(truth_rows=0, output_tokens=_EVENTS, gap=10) as mock:
        sizes = []
        for streams in (bench.size.rows // 200, bench.size.rows // 50):
            bench.say(f"log: {streams:,} streams, a write for each event")
            writer = _Writer()
            load = ("--concurrency", str(min(streams, 640)), "--requests", str(streams))
            sizes.append((streams * _EVENTS, bench.loadgen.run(mock.url, *load, watch=writer).log_bytes))
    yield Line("log", "bytes a chunk, its share of the row included, an event each 10 ms", "B", Spread.of([_slope(sizes)]), Mark(8.0))
    yield writer.line("an event each 10 ms")


def _slope(sizes: list[tuple[int, int]]) -> float:
    (few, small), (many, big) = sizes
    return (big - small) / (many - few)


class _Writer:
    """Watches a run's threads, and keeps the last that was seen of the log writer's CPU and of all."""

    def __init__(self) -> None:
        self._seen: tuple[int, int] | None = None

    def __call__(self, pid: int) -> None:
        try:
            spent = {task: _thread(task) for task in Path(f"/proc/{pid}/task").iterdir()}
        except OSError:
            return  # it ended while it was looked at: what was seen before stands
        writer = sum(ns for name, ns in spent.values() if name == "loadgen-log")
        self._seen = (writer, sum(ns for _, ns in spent.values()))

    def line(self, what: str) -> Line:
        """Its share of the process's CPU."""
        name = f"the log writer's share of the CPU, {what}"
        if self._seen is None:
            return Line("log", name, "%", None, note="no /proc to read it from, or the run was too short")
        writer, everything = self._seen
        note = "the process's start is among the CPU" if writer else "no CPU was seen on a thread named loadgen-log"
        figure = Spread.of([100 * writer / everything]) if writer else None
        return Line("log", name, "%", figure, Mark(4.0), note=note)


def _thread(task: Path) -> tuple[str, int]:
    """A thread's name, and its CPU nanoseconds."""
    return (task / "comm").read_text().strip(), int((task / "schedstat").read_text().split()[0])


def wheel(bench: Bench) -> Iterator[Line]:
    """The size of the wheel, built as it would be published."""
    if bench.quick:
        yield Line("wheel", "wheel", "MB", None, note="not built by --quick")
        return
    bench.say("wheel: building it")
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "maturin", "build", "--release", "--manifest-path", bench.root / "Cargo.toml", "--out", out]
        process.checked(process.run(command, timeout_s=_BUILD_S), command)
        (built,) = Path(out).glob("*.whl")
        yield Line("wheel", "wheel", "MB", Spread.of([built.stat().st_size / 1e6]), Mark(15.0), note=built.name)


def dependencies(bench: Bench) -> Iterator[Line]:
    """The packages that an install needs at run time."""
    direct = _needed("loadgen")
    everything: set[str] = set()
    rest = list(direct)
    while rest:
        name = rest.pop()
        if name not in everything:
            everything.add(name)
            rest.extend(_needed(name))
    note = f"{', '.join(sorted(direct))}; {len(everything)} with theirs"
    yield Line("deps", "run-time dependencies", "", Spread.of([len(direct)]), Mark(6.0), note=note)


def _needed(package: str) -> set[str]:
    """What a package requires on this machine, extras apart; a requirement for other machines isn't installed here."""
    names = set()
    for requirement in importlib.metadata.requires(package) or []:
        name = re.match(r"[\w.-]+", requirement)
        if name is None or "extra ==" in requirement or not _installed(name[0]):
            continue
        names.add(name[0].lower())
    return names


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


Family = Callable[[Bench], Iterator[Line]]
