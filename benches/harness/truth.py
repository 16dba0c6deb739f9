"""Truth: what the client reports, against what the server did, by stamps of the same clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.bench import Bench
from harness.clients import Run
from harness.figures import Spread, gap_cv, number, off_grid_us, percentile
from harness.servers import AsyncioServer, Mock, Rows, Server
from harness.table import Baseline, Line, Mark

_TTFT_MS, _GAP_MS, _TOKENS = 50, 10, 32
_BURST_TOKENS = 300


def poisson(bench: Bench) -> Iterator[Line]:
    """TTFT 50 ms and 32 tokens of 10 ms, Poisson, against the mock's own stamps."""
    with Mock(ttft=_TTFT_MS, gap=_GAP_MS, output_tokens=_TOKENS) as mock:
        errors = _against(bench, mock, "the mock")
        late = mock.settled()["lateness_us"]["first_token"]
    yield from errors.lines("truth", "the mock")
    yield _server_late("truth", "the mock", late["p50"] / 1e3, late["p99"] / 1e3)


def independent(bench: Bench) -> Iterator[Line]:
    """The same against a server that shares no code with ours."""
    with AsyncioServer(bench.root, ttft_ms=_TTFT_MS, gap_ms=_GAP_MS, tokens=_TOKENS) as server:
        errors = _against(bench, server, "the asyncio server")
    yield from errors.lines("independent", "the asyncio server")


def at_once(bench: Bench) -> Iterator[Line]:
    """Many streams at the same time: 100,000 events a second at 1,000 streams."""
    streams = bench.size.at_once
    errors: list[float] = []
    tails: list[float] = []
    gaps: list[float] = []
    chunk_late: list[float] = []
    with Mock(ttft=_TTFT_MS, gap=_GAP_MS, output_tokens=_BURST_TOKENS) as mock:
        for repeat in range(bench.size.repeats):
            bench.say(f"at-once: {streams} streams, {repeat + 1} of {bench.size.repeats}")
            mock.reset()
            run = bench.loadgen.run(mock.url, "--burst", str(streams))
            rows = mock.rows()
            errors.append(_error(run, rows, 50))
            tails.append(_error(run, rows, 99))
            gaps.append(run.value("metrics", "icl", "p99"))
            chunk_late.append(mock.settled()["lateness_us"]["chunk"]["p99"] / 1e3)
    own = Spread.of([_GAP_MS + late for late in chunk_late])
    note = f"p99 {Spread.of(tails)} ms"
    yield Line(
        "at-once",
        f"{streams:,} streams at once: error of median TTFT",
        "ms",
        Spread.of(errors),
        Mark(15.0, -15.0),
        note=note,
    )
    note = "the baseline is the gap plus how late the server's own writes were at p99: what the shared cores allow"
    yield Line(
        "at-once",
        f"{streams:,} streams at once: p99 gap",
        "ms",
        Spread.of(gaps),
        Mark(11.3),
        Baseline("server", own),
        note=note,
    )


def send_lateness(bench: Bench) -> Iterator[Line]:
    """How late requests leave at twice the rate, with streams on the same thread."""
    rate = 2 * bench.size.rate
    medians: list[float] = []
    tails: list[float] = []
    off_grid: list[float] = []
    with Mock(ttft=_TTFT_MS, gap=_GAP_MS, output_tokens=_TOKENS) as mock:
        for repeat in range(bench.size.repeats):
            bench.say(f"late: {rate}/s, {repeat + 1} of {bench.size.repeats}")
            mock.reset()
            seconds = max(1, bench.size.truth_s // 2)
            run = bench.loadgen.run(mock.url, "--rate", str(rate), "--arrival", "constant", "--duration", f"{seconds}s")
            medians.append(run.value("trust", "send_lateness_us", "p50"))
            tails.append(run.value("trust", "send_lateness_us", "p99"))
            off_grid.append(off_grid_us(mock.rows().arrival_ns, rate))
    note = f"p99 {Spread.of(tails)} µs; the server saw them a median of {Spread.of(off_grid)} µs off their grid"
    yield Line("late", f"{rate:,}/s with streams: send lateness", "µs", Spread.of(medians), Mark(5.0), note=note)


@dataclass
class _Errors:
    """What the runs against one server gave, a value a run."""

    rate: int
    median: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)
    cv: list[float] = field(default_factory=list)

    def lines(self, family: str, server: str) -> Iterator[Line]:
        what = f"{self.rate}/s, {server}"
        yield Line(family, f"{what}: error of median TTFT", "ms", Spread.of(self.median), Mark(0.5, -0.5))
        yield Line(family, f"{what}: error of p99 TTFT", "ms", Spread.of(self.p99), Mark(3.0, -3.0))
        yield Line(family, f"{what}: CV of arrivals (Poisson: 1)", "", Spread.of(self.cv), Mark(1.1, 0.9))


def _against(bench: Bench, server: Server, name: str) -> _Errors:
    errors = _Errors(bench.size.rate)
    for repeat in range(bench.size.repeats):
        bench.say(
            f"truth: {name}, {bench.size.rate}/s for {bench.size.truth_s} s, {repeat + 1} of {bench.size.repeats}"
        )
        server.reset()
        load = ("--rate", str(bench.size.rate), "--duration", f"{bench.size.truth_s}s", "--seed", str(repeat))
        run = bench.loadgen.run(server.url, *load)
        rows = server.rows()
        errors.median.append(_error(run, rows, 50))
        errors.p99.append(_error(run, rows, 99))
        errors.cv.append(gap_cv(rows.arrival_ns))
    return errors


def _error(run: Run, rows: Rows, percent: int) -> float:
    """Milliseconds between the client's percentile of TTFT and the server's own."""
    return run.value("metrics", "ttft", f"p{percent}") - percentile(rows.ttft_ms, percent)


def _server_late(family: str, name: str, median_ms: float, p99_ms: float) -> Line:
    note = f"p99 {number(p99_ms)} ms: how late its writes were; nothing of this is the client's error"
    return Line(family, f"{name}'s own first tokens, lateness", "ms", Spread.of([median_ms]), note=note)
