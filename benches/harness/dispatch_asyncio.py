"""What dispatching a Python callable costs: CPU a call, beside plain asyncio; memory of a million calls."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from harness import process
from harness.bench import Bench
from harness.errors import BenchError
from harness.figures import Spread, Work, slope_us
from harness.process import Finished
from harness.table import Baseline, Line, Mark

_CALLS = Path(__file__).with_name("dispatch_calls.py")
_WAIT_S = 300.0
_MARK_US = 12.0
_MARK_MB = 100.0


def calls(bench: Bench) -> Iterator[Line]:
    """CPU a call of a callable that does nothing, 256 in flight, all features on; and the same without a dispatcher."""
    few, many = (500, 2_000) if bench.quick else (10_000, 60_000)
    hows = ("auto", "hedged", "threads", "gather", "queue")
    costs: dict[str, list[float]] = {how: [] for how in hows}
    for repeat in range(bench.size.pairs):
        bench.say(f"dispatch-asyncio: {repeat + 1} of {bench.size.pairs}")
        for how in hows if repeat % 2 else reversed(hows):
            costs[how].append(slope_us(_work(how, few), _work(how, many)))
    seen = {how: Spread.of(values) for how, values in costs.items()}
    plain = Baseline("a task each and a semaphore", seen["gather"])
    note = f"a queue with 256 workers {seen['queue']}; neither retries, copies, limits or counts anything"
    yield Line("dispatch-asyncio", "auto, CPU a call", "µs", seen["auto"], Mark(_MARK_US), plain, note=note)
    yield Line("dispatch-asyncio", "hedged, CPU a call", "µs", seen["hedged"], Mark(_MARK_US), plain)
    yield Line("dispatch-asyncio", "a blocking callable on 16 threads, CPU a call", "µs", seen["threads"])


def memory(bench: Bench) -> Iterator[Line]:
    """The peak of a batch of very many calls, above that of ten and of the list of values that any batch has."""
    many = bench.size.many
    few_peak, peak = _run("hedged", 10).peak_bytes, _run("hedged", many).peak_bytes
    values = 8 * many + 32 * many  # a pointer each, and the integer behind it
    added = (peak - few_peak - values) / 1e6
    note = f"peak {peak / 1e6:.0f} MB; ten calls {few_peak / 1e6:.0f} MB; the values themselves {values / 1e6:.0f} MB"
    yield Line(
        "dispatch-memory", f"{many:,} calls add", "MB", Spread.of([added]), Mark(_MARK_MB * many / 1e6), note=note
    )


def _work(how: str, count: int) -> Work:
    return Work(_run(how, count).cpu_s, count)


def _run(how: str, count: int) -> Finished:
    command = [sys.executable, str(_CALLS), how, str(count)]
    finished = process.checked(process.run(command, timeout_s=_WAIT_S), command)
    if finished.stdout.strip() != str(count):
        raise BenchError(f"{how}: {finished.stdout.strip()[:200]} of {count:,} calls have a value")
    return finished
