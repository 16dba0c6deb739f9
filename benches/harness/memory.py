"""Memory: the peak of a whole run of very many requests, report included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.bench import Bench
from harness.figures import Spread
from harness.servers import Mock
from harness.table import Baseline, Line, Mark

_EVENTS = 128


def memory(bench: Bench) -> Iterator[Line]:
    """The peak of the whole command, report included, beside that of a run of ten requests."""
    shapes: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
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
        yield Line(
            "memory", f"{bench.size.many:,} requests, {what}", "MB", many, Mark(60.0), Baseline("10 requests", few)
        )
