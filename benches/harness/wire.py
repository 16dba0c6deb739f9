"""A, B1 and B2: what a request or an event costs on the wire, in CPU of the whole process tree, beside wrk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.bench import Bench
from harness.clients import Run, Wrk
from harness.errors import BenchError
from harness.figures import Spread, Work, ratios, slope_us, undisturbed
from harness.request import Request
from harness.servers import Mock
from harness.table import Baseline, Line, Mark

_EVENTS = 128
_CALIBRATE = 2_000
_MOST = 2_000_000
_NO_WRK = "wrk is not installed: no ratio"


@dataclass(frozen=True)
class Shape:
    """One shape of load, in a closed loop.

    Args:
        family: Its name in the table.
        connections: Requests in flight.
        flags: What shapes the request.
        server: The mock's configuration.
        streamed: Whether events are counted, not requests.
    """

    family: str
    connections: int
    flags: tuple[str, ...]
    server: dict[str, Any]
    streamed: bool


# No rows are kept of so many requests: the counts suffice here, and the server's memory stays out of the picture.
_A = Shape("A", 64, ("--no-stream",), {"truth_rows": 0, "output_tokens": 16}, streamed=False)
_B1 = Shape("B1", 64, (), {"truth_rows": 0, "output_tokens": _EVENTS, "coalesce": True}, streamed=True)
_FLUSHED = {"truth_rows": 0, "output_tokens": _EVENTS, "gap": 10}


def small_answers(bench: Bench) -> Iterator[Line]:
    """A: a small JSON answer."""
    with Mock(**_A.server) as mock:
        sizes = _calibrated(bench, _A, mock)
        costs = _Costs(bench, _A, mock, sizes, (bench.size.short_s, bench.size.long_s))
        costs.measure()
    yield costs.line("64 connections, small answer, CPU a request", Mark(1.15), judge_ratio=True)
    yield Line("A", "the mock's own CPU a request", "µs", costs.server, Mark(10.0))


def coalesced_events(bench: Bench) -> Iterator[Line]:
    """B1: streams whose events come many to a read."""
    with Mock(**_B1.server) as mock:
        sizes = _calibrated(bench, _B1, mock)
        costs = _Costs(bench, _B1, mock, sizes, (bench.size.short_s, bench.size.long_s))
        costs.measure()
    yield costs.line("64 connections, 128 events coalesced, CPU an event", Mark(0.15), judge_ratio=False)


def flushed_events(bench: Bench) -> Iterator[Line]:
    """B2: streams whose events come one by one, each 10 ms."""
    for connections in (64, 640):
        shape = Shape("B2", connections, (), _FLUSHED, streamed=True)
        short, long = bench.size.rounds
        with Mock(**shape.server) as mock:
            # A stream takes 1.27 s; wrk stops in the middle of one, so its events are those the server counts.
            seconds = (max(1, round(short * 1.3)), max(2, round(long * 1.3)))
            costs = _Costs(bench, shape, mock, (short * connections, long * connections), seconds)
            costs.measure()
        yield costs.line(f"{connections} streams, 10 ms gaps, CPU an event", Mark(1.15), judge_ratio=True)


class _Costs:
    """Slopes of both clients, taken in turns.

    Args:
        bench: The clients.
        shape: The load.
        mock: The server.
        requests: Of loadgen's short and long run.
        seconds: Of wrk's short and long run.
    """

    def __init__(
        self, bench: Bench, shape: Shape, mock: Mock, requests: tuple[int, int], seconds: tuple[int, int]
    ) -> None:
        self._bench = bench
        self._shape = shape
        self._mock = mock
        self._requests = requests
        self._seconds = seconds
        self._ours: list[float] = []
        self._theirs: list[float] = []
        self._server: list[float] = []

    def measure(self) -> None:
        """Take all pairs; every other one begins with wrk."""
        bench, wrk = self._bench, self._bench.wrk
        request = bench.loadgen.request(*self._shape.flags) if wrk is not None else None
        for pair in range(bench.size.pairs):
            bench.say(
                f"{self._shape.family}: pair {pair + 1} of {bench.size.pairs}, {self._shape.connections} connections"
            )
            clients: list[tuple[str, Callable[[int], Work]]] = [("ours", self._run_ours)]
            if wrk is not None and request is not None:
                clients.append(("wrk", lambda length: self._run_wrk(wrk, request, length)))
            if pair % 2:
                clients.reverse()
            got = {(name, length): run(length) for length in (0, 1) for name, run in clients}
            self._ours.append(slope_us(got["ours", 0], got["ours", 1]))
            if wrk is not None and request is not None:
                again = partial(self._wrk_again, wrk, request)
                self._theirs.append(slope_us(*undisturbed(got["wrk", 0], got["wrk", 1], again)))

    def line(self, what: str, mark: Mark, *, judge_ratio: bool) -> Line:
        """Return the line: the ratio to wrk is judged, or our own figure."""
        ours = Spread.of(self._ours)
        if not self._theirs:
            note = _NO_WRK
            return Line(self._shape.family, what, "µs", ours, None if judge_ratio else mark, note=note)
        theirs = Spread.of(self._theirs)
        ratio = ratios(ours, theirs)
        if judge_ratio:
            return Line(self._shape.family, what, "µs", ours, mark, Baseline("wrk", theirs), ratio)
        note = f"{ratio} × wrk, which looks at no event"
        return Line(self._shape.family, what, "µs", ours, mark, Baseline("wrk", theirs), note=note)

    @property
    def server(self) -> Spread:
        """The mock's CPU microseconds per request of our clients' runs, start and end of the client left out."""
        return Spread.of(self._server)

    def _run_ours(self, length: int) -> Work:
        requests, shape = self._requests[length], self._shape
        self._mock.reset()
        before = self._mock.cpu_s()
        run = _closed_loop(self._bench, shape, self._mock, requests)
        if length == 1:
            self._server.append((self._mock.cpu_s() - before) / requests * 1e6)
        return Work(run.finished.cpu_s, self._events(requests) if shape.streamed else requests)

    def _run_wrk(self, wrk: Wrk, request: Request, length: int) -> Work:
        self._mock.reset()
        work = wrk.run(self._mock.url, request, self._shape.connections, self._seconds[length])
        return Work(work.cpu_s, self._mock.settled()["chunks"]) if self._shape.streamed else work

    def _wrk_again(self, wrk: Wrk, request: Request) -> tuple[Work, Work]:
        self._bench.say(f"{self._shape.family}: wrk did no more in its long run than in its short one; both again")
        return self._run_wrk(wrk, request, 0), self._run_wrk(wrk, request, 1)

    def _events(self, streams: int) -> int:
        """The events with tokens, by the server's own count."""
        chunks = int(self._mock.settled()["chunks"])
        if chunks != streams * _EVENTS:
            raise BenchError(f"the mock sent {chunks:,} events in {streams:,} streams, not {_EVENTS} in each")
        return chunks


def _closed_loop(bench: Bench, shape: Shape, mock: Mock, requests: int) -> Run:
    load = ("--concurrency", str(shape.connections), "--requests", str(requests))
    return bench.loadgen.run(mock.url, *load, *shape.flags)


def _calibrated(bench: Bench, shape: Shape, mock: Mock) -> tuple[int, int]:
    """Return how many requests take as long as wrk's runs; the run that finds it out warms everything up as well."""
    rate = _closed_loop(bench, shape, mock, _CALIBRATE).value("throughput", "requests_per_s")
    short, long = (min(_MOST, max(_CALIBRATE, round(rate * s))) for s in (bench.size.short_s, bench.size.long_s))
    return short, max(long, 2 * short)
