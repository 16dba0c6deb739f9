"""Start: from the start of a process to its first request, and what an import costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from harness import process
from harness.bench import Bench
from harness.errors import BenchError
from harness.figures import Spread
from harness.servers import Mock
from harness.table import Baseline, Line, Mark


def first_request(bench: Bench) -> Iterator[Line]:
    """`loadgen run URL`, with nothing said about model and prompts, until the request is at the server."""
    waits: list[float] = []
    bare: list[float] = []
    costs: list[float] = []
    with Mock() as mock:
        for repeat in range(bench.size.starts):
            bench.say(f"start: {repeat + 1} of {bench.size.starts}")
            bare.append(_python("pass"))
            mock.reset()
            run = bench.loadgen.run(mock.url, "--concurrency", "1", "--requests", "10", bare=True)
            waits.append((min(mock.rows().arrival_ns) - run.finished.began_ns) / 1e9)
            costs.append(run.finished.cpu_s)
    what, note = "`loadgen run` to its first request", f"10 requests cost {Spread.of(costs)} CPU s in all"
    yield Line("start", what, "s", Spread.of(waits), Mark(0.3), Baseline("python -c pass", Spread.of(bare)), note=note)


def imported(bench: Bench) -> Iterator[Line]:
    """`import loadgen`, less what Python itself takes to start."""
    pairs = []
    for repeat in range(bench.size.starts):
        bench.say(f"import: {repeat + 1} of {bench.size.starts}")
        pairs.append((_python("import loadgen"), _python("pass")))
    cost = Spread.of([(with_it - without) * 1e3 for with_it, without in pairs])
    own = Spread.of([without * 1e3 for _, without in pairs])
    yield Line("import", "`import loadgen`", "ms", cost, Mark(100.0), Baseline("python -c pass", own))


def _python(code: str) -> float:
    """Seconds that a Python process takes."""
    command: process.Command = [sys.executable, "-c", code]
    finished = process.checked(process.run(command, timeout_s=60.0), command)
    if finished.wall_s <= 0:
        raise BenchError(f"{code!r} took no time at all")
    return finished.wall_s
