"""Batches without an event loop of the caller's, and callables that block: threads, interrupts, what never returns."""

import asyncio
import functools
import os
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import loadgen
from loadgen import _core
from loadgen.dispatch import attempt, running
from loadgen.dispatch import strategy as strategies
from loadgen.dispatch.callee import Callee
from loadgen.dispatch.classify import Classifier
from loadgen.dispatch.driver import Driver
from loadgen.dispatch.limits import TimeLimits
from loadgen.dispatch.work import BatchWork

WAIT_S = 20.0


def test_a_blocking_callable_is_called_on_threads_of_its_own() -> None:
    here = threading.get_ident()
    together = threading.Barrier(4)

    def call(item: int) -> tuple[int, bool]:
        together.wait(WAIT_S)  # all four at once, or none
        return item, threading.get_ident() == here

    done = loadgen.Dispatcher("parallel", workers=4).run(call, range(8))
    assert done.values == tuple((item, False) for item in range(8))


def test_an_async_callable_runs_without_a_loop_of_the_callers() -> None:
    async def call(item: int) -> int:
        await asyncio.sleep(0)
        return item + 1

    assert loadgen.Dispatcher("parallel").map(call, [1, 2]).values == (2, 3)


def test_inside_a_running_loop_the_sync_call_says_what_to_await() -> None:
    async def main() -> None:
        dispatcher = loadgen.Dispatcher("parallel")
        with pytest.raises(loadgen.DispatchError, match=r"await dispatcher\.arun"):
            dispatcher.run(str, [1])
        with pytest.raises(loadgen.DispatchError, match=r"await dispatcher\.agrid"):
            dispatcher.grid(max, [1], [2])
        assert (await dispatcher.amap(str, [1])).values == ("1",)

    asyncio.run(main())


def test_blocking_callables_leave_the_callers_loop_free() -> None:
    async def main() -> None:
        release = threading.Event()

        def call(item: int) -> int:
            assert release.wait(WAIT_S)
            return item

        running = asyncio.ensure_future(loadgen.Dispatcher("parallel").arun(call, range(2)))
        await asyncio.sleep(0.01)
        release.set()  # only a loop that goes on gets here
        assert (await running).values == (0, 1)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["lambda", "partial", "object", "method"])
def test_async_is_seen_behind_lambdas_partials_and_objects(how: str) -> None:
    class Model:
        async def ask(self, item: int) -> int:
            assert threading.current_thread() is threading.main_thread()
            return item * 2

        async def __call__(self, item: int) -> int:
            return await self.ask(item)

    model = Model()
    call: Any = {
        "lambda": lambda item: model.ask(item + 0),
        "partial": functools.partial(Model.ask, model),
        "object": model,
        "method": model.ask,
    }[how]
    assert loadgen.Dispatcher("parallel").run(call, range(5)).values == (0, 2, 4, 6, 8)


def test_what_cannot_be_called_with_an_item_is_said_before_anything_is_called() -> None:
    def generator(item: int) -> Any:
        yield item

    async def stream(item: int) -> Any:
        yield item

    dispatcher = loadgen.Dispatcher("parallel")
    for call in (generator, stream):
        with pytest.raises(loadgen.ConfigError, match="is a generator: a call has one value"):
            dispatcher.run(call, [1])
    with pytest.raises(loadgen.ConfigError, match="int can't be called"):
        dispatcher.run(3, [1])  # type: ignore[call-overload]


def test_a_blocking_callable_that_never_returns_ends_at_its_time_out_and_is_counted() -> None:
    release = threading.Event()

    def call(item: int) -> int:
        if item == 1:
            release.wait(WAIT_S)
        return item

    done = loadgen.Dispatcher("parallel", workers=2, attempt_timeout=0.05, retry=1).run(call, range(3))
    release.set()
    assert (done.values[0], done.values[2]) == (0, 2)
    assert isinstance(done.errors[1], loadgen.CallTimeoutError)
    assert done.abandoned == 1


def test_abandoned_threads_are_bounded_and_every_call_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "bounds", lambda _: running.Bounds(threads=3, limits=TimeLimits()))
    release = threading.Event()
    begun: list[int] = []

    def call(item: int) -> None:
        begun.append(item)
        release.wait(WAIT_S)

    done = loadgen.Dispatcher("parallel", attempt_timeout=0.01, retry=1).run(call, range(8))
    release.set()
    assert {type(error) for error in done.errors.values()} == {loadgen.CallTimeoutError}
    assert len(done.errors) == 8
    assert (begun, done.abandoned) == ([0, 1, 2], 3)


def test_there_are_threads_for_what_is_in_flight_and_as_many_for_what_was_abandoned() -> None:
    def most(strategy: str, **options: int) -> int:
        return running.bounds(strategies.read(strategy, options).config(500))["threads"]

    assert (most("sequential"), most("parallel", workers=20), most("hedged", max_concurrency=64)) == (9, 40, 128)


def test_a_thread_sees_the_callers_context_and_its_attempt() -> None:
    import contextvars

    seen = contextvars.ContextVar("seen", default="nothing")
    seen.set("the caller's")

    def call(item: int) -> tuple[str, str]:
        attempt().first_byte()
        return seen.get(), attempt().kind

    done = loadgen.Dispatcher("parallel").run(call, range(2))
    assert done.values == (("the caller's", "first"),) * 2
    assert all(stats is not None and stats.first_byte is not None for stats in done.stats)


def test_what_a_thread_told_is_heard_before_its_value_comes() -> None:
    """The loop is held up until both calls are over; the second told its first byte when the first was over."""

    async def main() -> None:
        options = strategies.read("parallel", {})
        config = options.config(2)
        begun, go = threading.Barrier(3), threading.Event()

        def wait_for_ended(count: int) -> None:
            until = time.monotonic() + WAIT_S
            while len(driver._threads._ended) < count and time.monotonic() < until:
                time.sleep(0.001)

        def call(item: int) -> None:
            begun.wait(WAIT_S)
            go.wait(WAIT_S)
            if item == 1:
                wait_for_ended(1)
                attempt().first_byte()

        policy = _core.Policy(config)
        work = BatchWork(Callee(call), range(2), options)
        driver = Driver(policy, work, Classifier(), **running.bounds(config))
        work.queue(driver)
        await asyncio.sleep(0)  # the calls begin
        begun.wait(WAIT_S)
        go.set()
        wait_for_ended(2)
        await work.done()
        await driver.leave()
        assert [policy.attempts_of(item)[0][6] is not None for item in range(2)] == [False, True]

    asyncio.run(main())


def test_an_attempt_is_only_known_inside_a_dispatched_call() -> None:
    with pytest.raises(loadgen.DispatchError, match="this isn't a dispatched call"):
        attempt()


def _script(tmp_path: Path, code: str, **env: str) -> "subprocess.Popen[str]":
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(code))
    return subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, **env},
    )


def test_the_interpreter_does_not_wait_for_an_abandoned_thread(tmp_path: Path) -> None:
    code = """
        import threading, loadgen
        def call(item):
            threading.Event().wait() if item else None
            return item
        done = loadgen.Dispatcher("parallel", attempt_timeout=0.05, retry=1).run(call, [0, 1])
        print(done.values[0], type(done.errors[1]).__name__, done.abandoned, flush=True)
    """
    process = _script(tmp_path, code)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "0 CallTimeoutError 1\n", "")


def test_an_interpreter_ends_quietly_after_a_task_that_ignored_its_cancellation(tmp_path: Path) -> None:
    code = """
        import asyncio, loadgen
        async def call(item):
            while item:
                try:
                    await asyncio.get_running_loop().create_future()
                except asyncio.CancelledError:
                    pass
            return item
        done = loadgen.Dispatcher("parallel", attempt_timeout=0.05, retry=1).run(call, [0, 1])
        print(done.values[0], type(done.errors[1]).__name__, done.abandoned, flush=True)
    """
    process = _script(tmp_path, code)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "0 CallTimeoutError 1\n", "")


def test_ctrl_c_cancels_the_calls_keeps_the_journal_whole_and_calls_nothing_twice(tmp_path: Path) -> None:
    code = """
        import asyncio, os, loadgen
        async def call(item):
            with open("called", "a") as file:
                file.write(f"{item}\\n")
            if item >= 3 and os.environ["STOP"] == "yes":
                try:
                    print("waiting", flush=True)
                    await asyncio.sleep(3600)
                finally:
                    print("cancelled", flush=True)
            return item * item
        try:
            done = loadgen.Dispatcher("parallel", workers=2, journal="batch.jsonl").run(call, range(8))
            print(done.values, done.totals["restored"], flush=True)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    process = _script(tmp_path, code, STOP="yes")
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == ["waiting\n", "waiting\n"]
    process.send_signal(2)
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "cancelled\ncancelled\ninterrupted\n", "")
    process = _script(tmp_path, code, STOP="no")
    out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (0, "(0, 1, 4, 9, 16, 25, 36, 49) 3\n", "")
    assert sorted((tmp_path / "called").read_text().split()) == sorted(
        ["0", "1", "2", "3", "4", "3", "4", "5", "6", "7"]
    )


def test_a_value_that_the_journal_cannot_hold_ends_the_batch(tmp_path: Path) -> None:
    with pytest.raises(loadgen.DispatchError, match="can't hold a value of type object"):
        loadgen.Dispatcher("parallel", journal=tmp_path / "batch.jsonl").run(lambda item: object(), range(3))


def test_an_item_that_the_journal_cannot_name_is_said_before_anything_is_called(tmp_path: Path) -> None:
    called: list[object] = []
    with pytest.raises(loadgen.ConfigError, match="an item of type object has no key for the journal"):
        loadgen.Dispatcher("parallel", journal=tmp_path / "batch.jsonl").run(called.append, ["fine", object()])
    assert not called


def test_time_passes_by_the_loops_clock() -> None:
    before = time.monotonic()
    done = loadgen.Dispatcher("parallel").run(lambda item: time.sleep(0.001), range(2))
    assert 0.001 <= done.wall_s <= time.monotonic() - before
