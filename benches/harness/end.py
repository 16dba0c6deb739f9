"""The end: from the server's last write to the end of the process, while the report is made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.bench import Bench
from harness.figures import Spread
from harness.servers import Mock
from harness.table import Line, Mark

_EVENTS = 128


def ending(bench: Bench) -> Iterator[Line]:
    """From the server's last write to the end of the process: the report, for many streams."""
    shapes: tuple[tuple[str, dict[str, Any], int], ...] = (
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
        figure = f"{bench.size.streams:,} × {_EVENTS} events, {what}: last to exit"
        yield Line("end", figure, "s", Spread.of(waits), Mark(1.0), note=note)
