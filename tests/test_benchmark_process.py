"""A session and the process around it: threads, signals, forks, and whoever uses it wrongly."""

import asyncio
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from loadgen import _core
from loadgen.errors import ConfigError, RunError
from loadgen.session.benchmark import BenchmarkSession
from loadgen.session.http_issuer import HttpIssuer
from loadgen.session.phase import Limits
from loadgen.session.query import Query, QueryResult
from loadgen.session.result import SessionResult
from loadgen.session.sink_desk import SinkDesk
from session_support import Script, counts, eventually, only_run, phase, short

pytest_plugins = ["surface_fixtures"]


def test_a_session_runs_in_a_thread_and_changes_no_signal_handler(here: Path) -> None:
    before = signal.getsignal(signal.SIGINT)
    during: list[Any] = []
    results: list[SessionResult] = []
    session = BenchmarkSession(
        HttpIssuer("mock:"), on_sample_complete=lambda result: during.append(signal.getsignal(signal.SIGINT))
    )
    thread = threading.Thread(target=lambda: results.append(session.run([phase(settings=short())])))
    thread.start()
    thread.join(60)
    assert counts(results[0]) == (20, 20, 0, 0)
    BenchmarkSession(HttpIssuer("mock:"), on_sample_complete=lambda r: during.append(signal.getsignal(2))).run(
        [phase()]
    )
    assert {before} == set(during) == {signal.getsignal(signal.SIGINT)}


def test_an_interrupt_of_a_sync_run_is_raised_after_the_report(here: Path) -> None:
    class Interrupting(Script):
        def __init__(self) -> None:
            super().__init__(Script.hold)

        def issue(self, query: Query) -> None:
            super().issue(query)
            if len(self.held) == 4:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        BenchmarkSession(Interrupting()).run([phase()])
    result = only_run(here)
    assert (result.status, result.reason) == ("interrupted", "interrupted")
    assert counts(result)[1:] == (0, 0, counts(result)[0])


def test_a_loop_that_lost_what_it_was_asked_holds_the_end_back_for_so_long_only(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interrupt between two lines of asyncio can take away a callback; the log must be closed all the same."""
    monkeypatch.setattr("loadgen.session.desk._LOOK_S", 0.01)
    monkeypatch.setattr("loadgen.session.desk._ANSWER_S", 0.05)

    async def never(desk: SinkDesk) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(SinkDesk, "_hear", never)

    async def main() -> None:
        session = BenchmarkSession(Script(), on_sample_complete=lambda result: session.stop())
        with pytest.raises(RunError, match=r"didn't answer for 0\.0\d s after the run was stopped"):
            await session.arun([phase(limits=Limits(samples=1_000_000))])
        await eventually(lambda: asyncio.all_tasks() == {asyncio.current_task()})

    asyncio.run(main())
    result = only_run(here)
    assert result.status == "interrupted"
    assert result.performance.counts.ok >= 1


def test_misuse_is_told_with_the_way_out(here: Path) -> None:
    async def inside() -> None:
        with pytest.raises(RunError, match=r"await session\.arun"):
            BenchmarkSession(HttpIssuer("mock:")).run([phase()])
        session = BenchmarkSession(Script())
        await session.arun([phase()])
        with pytest.raises(RunError, match="has run"):
            await session.arun([phase()])
        with pytest.raises(RunError, match="no phase is running"):
            session.stop_current_phase()

    asyncio.run(inside())

    async def handler(result: QueryResult) -> None: ...

    class Async(Script):
        async def issue(self, query: Query) -> None: ...  # type: ignore[override]

    with pytest.raises(ConfigError, match="must be a plain function, not async"):
        BenchmarkSession(HttpIssuer("mock:"), on_sample_complete=handler)
    with pytest.raises(ConfigError, match="must be a plain function, not async"):
        BenchmarkSession(HttpIssuer("mock:")).run([phase(handler=handler)])
    with pytest.raises(ConfigError, match=r"issue\(\) of Async is async"):
        BenchmarkSession(Async())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"object is no issuer: it has no issue\(\)"):
        BenchmarkSession(object())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="session_id 'a/b'"):
        BenchmarkSession(Script(), session_id="a/b")
    with pytest.raises(ConfigError, match="concurrency given to the session"):
        BenchmarkSession(HttpIssuer("mock:", concurrency=4))
    with pytest.raises(ConfigError, match="give the options to its HttpIssuer"):
        BenchmarkSession(HttpIssuer("mock:"), out="x")


def test_a_child_after_a_fork_is_told(here: Path) -> None:
    session = BenchmarkSession(HttpIssuer("mock:"))
    child = os.fork()
    if child == 0:
        try:
            session.run([phase()])
        except RunError as error:
            os._exit(7 if "belongs to the process that made it" in str(error) else 8)
        os._exit(9)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_a_stop_before_the_run_sends_nothing(here: Path) -> None:
    session = BenchmarkSession(HttpIssuer("mock:"))
    session.stop()
    with pytest.raises(RunError, match="stopped before anything was sent"):
        session.run([phase()])
    assert not list((here / "loadgen-runs").glob("*")) if (here / "loadgen-runs").exists() else True


def test_the_sinks_own_errors_reach_python(tmp_path: Path) -> None:
    told = (
        '{"url": "python:x", "timeout_s": 1, "connect_timeout_s": 1, "stall_timeout_s": 1, "workers": 1, '
        f'"dir": "{tmp_path}", "meta": {{"id": "x"}}}}'
    )
    sink = _core.Sink(told)
    with pytest.raises(RuntimeError, match="begin one first"):
        sink.issue()
    with pytest.raises(ValueError, match='unknown failure "odd": one of none, connect'):
        sink.complete(0, "odd")
    assert (sink.complete(0), sink.late, sink.body(0)) == (False, 1, None)
    sink.finish()
    sink.finish()
