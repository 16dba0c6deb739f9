"""The core in many threads, and on a Python without its lock: what is shared is exact, nothing turns it on again."""

import json
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from loadgen import _core

THREADS = 8
CALLS = 2_000
LIMIT_S = 60

EVERYTHING = """
import pkgutil, sys
import loadgen, loadgen._core, zmq, msgspec, yaml, rich, click

for module in pkgutil.walk_packages(loadgen.__path__, "loadgen."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
print(sys._is_gil_enabled())
"""

# Where an object is made, Python may collect garbage, and a finalizer may do anything: also what is under way.
FINALIZER_ASKS = """
import gc
from loadgen import _core

policy = _core.Policy(_core.policy_config("parallel", 4))

class Asks:
    asked = 0
    def __init__(self):
        self.itself = self
    def __del__(self):
        policy.totals()
        Asks.asked += 1

kept = []  # so that each dict is a new one, and not one that was there
for every in range(1, 12):
    gc.set_threshold(every)
    for _ in range(200):
        Asks()
        kept.append(policy.totals())
gc.collect()
assert Asks.asked == 11 * 200, Asks.asked
"""


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has its lock")
def test_importing_all_of_loadgen_leaves_the_lock_off() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EVERYTHING], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_a_finalizer_may_ask_the_policy_whose_totals_are_being_made() -> None:
    done = subprocess.run([sys.executable, "-c", FINALIZER_ASKS], capture_output=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def together(work: Callable[[int], None]) -> None:
    """Do something in as many threads, all begun at once; raise what one of them raised."""
    begin = threading.Barrier(THREADS)
    raised: list[BaseException] = []

    def run(thread: int) -> None:
        try:
            begin.wait(LIMIT_S)
            work(thread)
        except BaseException as error:
            raised.append(error)
            raise

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert not any(thread.is_alive() for thread in threads)
    assert raised == []


def test_threads_that_record_into_one_series_lose_nothing(tmp_path: Path) -> None:
    segment = _core.Segment.create("threads", [tmp_path / "segments"])
    counter, series = segment.counter("calls"), segment.series("times")

    def record(thread: int) -> None:
        for call in range(CALLS):
            counter.increment()
            series.record(1_000_000 + thread * CALLS + call)

    together(record)
    seen = json.loads(segment.snapshot())
    (counted,), (recorded,) = seen["counters"], seen["series"]
    every = range(1_000_000, 1_000_000 + THREADS * CALLS)
    assert counted["value"] == THREADS * CALLS
    assert (recorded["count"], recorded["total"]) == (len(every), sum(every))


def test_threads_that_record_into_one_batch_lose_nothing() -> None:
    batch = _core.EventBatch(32_768, send_threshold=64)
    frames: list[bytes] = []

    def record(thread: int) -> None:
        for call in range(CALLS):
            if batch.record(17, thread * CALLS + call, 1):
                frames.extend(batch.take())

    together(record)
    frames.extend(batch.take())
    assert batch.buffered == 0
    assert sum(len(frame) for frame in frames) > THREADS * CALLS


def test_threads_that_take_from_one_iterator_get_each_value_once() -> None:
    order = _core.SampleOrder("sequential", THREADS * CALLS)
    taken: list[list[int]] = [[] for _ in range(THREADS)]

    def take(thread: int) -> None:
        taken[thread].extend(next(order) for _ in range(CALLS))

    together(take)
    assert sorted(sample for one in taken for sample in one) == list(range(THREADS * CALLS))


def test_threads_that_drive_one_policy_resolve_each_item_once() -> None:
    policy = _core.Policy(_core.policy_config("parallel", THREADS))
    resolved: list[list[int]] = [[] for _ in range(THREADS)]

    def drive(thread: int) -> None:
        policy.queue(0, 100)
        actions = policy.poll(1)
        while actions:
            more = []
            for kind, attempt, item, *_ in actions:
                if kind == 0:
                    more += policy.ended_poll(2, attempt)
                    policy.totals()
                elif kind == 2:
                    resolved[thread].append(item)
            actions = more

    together(drive)
    # Actions go to whoever polls: all of them were somebody's.
    assert sorted(item for one in resolved for item in one) == list(range(THREADS * 100))
    assert policy.totals()["ok"] == THREADS * 100
