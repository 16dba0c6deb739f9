"""Sessions whose user code misbehaves in ways that are easy to write: cancelled waits, late loops, exits."""

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

import loadgen
from event_support import WAIT_S, Contexts
from loadgen.errors import DatasetError, EventError, RunError
from loadgen.event import EventPublisherService
from loadgen.session.benchmark import BenchmarkSession
from loadgen.session.http_issuer import HttpIssuer
from loadgen.session.native_desk import NativeDesk
from loadgen.session.phase import Drain, Limits
from loadgen.session.query import Query, QueryResult
from loadgen.session.runner import Run
from loadgen.session.settings import PhaseSettings
from loadgen.session.sink_desk import SinkDesk
from loadgen.session.strategy import BurstStrategy, ConcurrencyStrategy, TimedIssueStrategy
from session_support import Own, Script, all_of_it, counts, eventually, for_ever, only_run, phase, warmup

pytest_plugins = ["event_fixtures", "surface_fixtures"]


async def at_most(session: BenchmarkSession, phases: list[Any], seconds: float = WAIT_S) -> Any:
    """Await a session; one that hangs fails its test."""
    return await asyncio.wait_for(session.arun(phases), seconds)


def _hold_four(script: Script, query: Query) -> None:
    """Hold what comes, and have the receiver look once there are four."""
    script.hold(query)
    if len(script.held) == 4:
        script.tell(QueryResult(999))


def test_a_recv_that_is_cancelled_by_its_own_doing_ends_the_run(here: Path) -> None:
    class Cancelled(Script):
        async def recv(self) -> Any:
            if len(self.held) >= 4:
                raise asyncio.CancelledError
            return await super().recv()

        def shutdown(self) -> None:
            self.shut += 1

    async def main() -> Any:
        return await at_most(BenchmarkSession(Cancelled(_hold_four)), [phase(drain=Drain(timeout=1))])

    with pytest.raises(RunError, match="cancelled"):
        asyncio.run(main())
    result = only_run(here)
    assert result.status == "failed"
    assert "recv()" in (result.reason or "")
    assert counts(result) == (4, 0, 4, 0)


def test_a_strategy_that_is_cancelled_by_its_own_doing_fails_the_run(here: Path) -> None:
    async def cancelled(issuer: Any) -> int:
        issuer.issue()
        raise asyncio.CancelledError

    with pytest.raises(RunError, match="cancelled"):
        asyncio.run(at_most(BenchmarkSession(Script()), [phase(strategy=Own(cancelled))]))
    result = only_run(here)
    assert result.status == "failed"
    assert "strategy of phase p" in (result.reason or "")
    assert counts(result)[0] == 1


def test_a_shutdown_that_awaits_a_task_it_has_cancelled_leaves_the_report(here: Path) -> None:
    class Shutting(Script):
        async def shutdown(self) -> None:  # type: ignore[override]
            super().shutdown()
            task = asyncio.ensure_future(asyncio.Event().wait())
            task.cancel()
            await task

    with pytest.raises(RunError, match="cancelled"):
        asyncio.run(at_most(BenchmarkSession(Shutting()), [phase()]))
    result = only_run(here)
    assert counts(result) == (20, 20, 0, 0)
    assert result.status == "failed"
    assert "shutdown()" in (result.reason or "")


def test_a_receiver_that_refuses_to_be_cancelled_does_not_hold_the_run_up(here: Path) -> None:
    let_go = threading.Event()

    class Stubborn(Script):
        async def recv(self) -> Any:
            if len(self.queries) < 20 or self._news:
                return await super().recv()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if let_go.is_set():
                    raise
            return QueryResult(999)

        def shutdown(self) -> None:
            self.shut += 1

    async def main() -> Any:
        try:
            await at_most(BenchmarkSession(Stubborn()), [phase()])
        finally:
            let_go.set()  # the loop's end cancels it once more

    with pytest.raises(RunError, match="doesn't end when it is cancelled"):
        asyncio.run(main())
    result = only_run(here)
    assert counts(result) == (20, 20, 0, 0)
    assert result.reason == "the issuer's recv(): it doesn't end when it is cancelled"


def test_an_answer_with_half_a_character_is_an_answer(here: Path) -> None:
    def half(script: Script, query: Query) -> None:
        script.tell(QueryResult(query.id, "a\ud83d", error=None if query.id % 2 else "b\udc00"))

    result = asyncio.run(at_most(BenchmarkSession(Script(half), save_responses=True), [phase()]))
    assert counts(result) == (20, 10, 10, 0)


def test_what_a_stopped_warm_up_never_got_answers_to_gives_its_slots_back(here: Path) -> None:
    def held_at_first(script: Script, query: Query) -> None:
        (script.hold if len(script.queries) <= 2 else script.good)(query)

    async def main() -> Any:
        script = Script(held_at_first)
        session = BenchmarkSession(script)
        told = [
            warmup(strategy=ConcurrencyStrategy(2), drain=Drain(enabled=False, timeout=0.1)),
            phase(strategy=ConcurrencyStrategy(2)),
        ]
        running = asyncio.ensure_future(at_most(session, told))
        await eventually(lambda: len(script.held) == 2)
        session.stop_current_phase()
        return await running

    result = asyncio.run(main())
    assert counts(result) == (20, 20, 0, 0)
    assert counts(result, "w") == (2, 0, 0, 2)


def test_answers_that_overtake_the_news_of_their_phase_are_heard(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    begun, take = NativeDesk.begun, NativeDesk._take
    taken = threading.Event()

    def overtaking(desk: NativeDesk) -> None:
        take(desk)
        taken.set()

    def late(desk: NativeDesk, told: Any) -> None:
        assert taken.wait(WAIT_S), "something ends before the loop knows of the phase"
        begun(desk, told)

    monkeypatch.setattr(NativeDesk, "_take", overtaking)
    monkeypatch.setattr(NativeDesk, "begun", late)
    session = BenchmarkSession(HttpIssuer("mock:"), on_sample_complete=lambda result: seen.append(result.id))
    result = asyncio.run(at_most(session, [phase(settings=PhaseSettings(output_tokens=1))]))
    assert counts(result) == (20, 20, 0, 0)
    assert sorted(seen) == list(range(20))


def test_a_closed_publisher_is_an_error_that_leaves_nothing_behind(here: Path, contexts: Contexts) -> None:
    async def main() -> None:
        service = EventPublisherService(contexts())
        service.close()
        with pytest.raises(EventError, match="closed"):
            await at_most(BenchmarkSession(Script(), service), [phase()])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    before = threading.enumerate()
    asyncio.run(main())
    assert [t for t in threading.enumerate() if t not in before] == []
    assert (here / "loadgen-runs").exists()


def test_a_core_that_breaks_down_leaves_no_strategy_behind(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **_names: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(Run, "_wait", broken)

    async def main() -> None:
        with pytest.raises(RunError, match="broken"):
            await at_most(BenchmarkSession(Script()), [phase(strategy=Own(for_ever))])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(main())


@pytest.mark.parametrize("native", [True, False])
def test_a_handler_that_exits_stops_the_session(here: Path, native: bool) -> None:
    def leave(result: QueryResult) -> None:
        sys.exit(3)

    session = BenchmarkSession(HttpIssuer("mock:") if native else Script(), on_sample_complete=leave)
    with pytest.raises(SystemExit):
        session.run([phase(limits=Limits(duration=WAIT_S))])
    assert only_run(here).status == "interrupted"


def test_an_interrupt_within_the_receiver_leaves_the_report(here: Path) -> None:
    class Interrupted(Script):
        async def recv(self) -> Any:
            if len(self.held) >= 4:
                raise KeyboardInterrupt
            return await super().recv()

        def shutdown(self) -> None:
            self.shut += 1

    def main() -> None:
        BenchmarkSession(Interrupted(_hold_four)).run([phase()])

    with pytest.raises(KeyboardInterrupt):
        main()
    assert only_run(here).status == "interrupted"


def test_a_task_that_a_handler_began_is_cancelled_with_the_sessions_own_loop(here: Path) -> None:
    ended: list[str] = []

    async def takes_time() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    tasks: list[Any] = []
    BenchmarkSession(
        Script(), on_sample_complete=lambda _: tasks.append(asyncio.get_running_loop().create_task(takes_time()))
    ).run([phase()])
    assert len(ended) == len(tasks) == 20


def test_what_a_plan_hands_over_occupies_the_slots_of_a_strategy_of_ones_own(here: Path) -> None:
    seen: list[int] = []
    at_start: list[int] = []
    most: list[int] = []

    async def four_at_a_time(issuer: Any) -> int:
        at_start.append(issuer.in_flight)
        while not issuer.stopped:
            while issuer.in_flight < 4 and issuer.issue() is not None:
                most.append(issuer.in_flight)
            if await issuer.completed() is None:
                break
        return int(issuer.issued)

    own = Own(four_at_a_time)
    # Each of the warm-up's answers takes half a second: all of them are in flight when the next phase begins.
    issuer = HttpIssuer("mock:?ttft=500ms")
    warm = warmup(strategy=BurstStrategy(3), limits=Limits(), settings=PhaseSettings(output_tokens=1))
    session = BenchmarkSession(issuer, on_sample_complete=lambda result: seen.append(result.id))
    told = [msgspec.structs.replace(warm, handler=None), phase(strategy=own, limits=Limits(samples=4))]
    result = asyncio.run(at_most(session, told))
    assert at_start == [3]
    assert max(most) == 4
    assert most[0] == 4, "one slot is left at first"
    assert counts(result, "w") == (3, 3, 0, 0)
    assert counts(result) == (4, 4, 0, 0)


def test_what_was_claimed_and_never_issued_occupies_nothing(here: Path) -> None:
    at_start: list[int] = []

    async def once(issuer: Any) -> int:
        while issuer.in_flight:
            at_start.append(issuer.in_flight)
            await issuer.completed()
        issuer.issue()
        return int(issuer.issued)

    # The first arrival is at the start, and the next, which is claimed by then, is due long after the phase's end.
    warm = warmup(strategy=TimedIssueStrategy(rate=1, arrival="constant"), limits=Limits(duration=0.1))
    result = asyncio.run(at_most(BenchmarkSession(HttpIssuer("mock:?ttft=500ms")), [warm, phase(strategy=Own(once))]))
    assert at_start == [1]
    assert counts(result)[:2] == (1, 1)


@pytest.mark.parametrize("native", [True, False])
def test_a_stop_of_a_phase_that_comes_late_leaves_the_next_one_alone(
    here: Path, monkeypatch: pytest.MonkeyPatch, native: bool
) -> None:
    desk = NativeDesk if native else SinkDesk
    begun = desk.begun

    def late(self: Any, told: Any) -> None:
        begun(self, told)
        if told.plan.name == "p":
            # As it is where the run's thread goes on between the two looks of stop_phase.
            session._run._phase, current = first[0], session._run._phase
            session.stop_current_phase()
            session._run._phase = current
        else:
            first.append(session._run._phase)

    first: list[Any] = []
    monkeypatch.setattr(desk, "begun", late)
    session: Any = BenchmarkSession(HttpIssuer("mock:") if native else Script())
    told = [phase("a"), phase(strategy=Own(all_of_it))]
    result = asyncio.run(at_most(session, told))
    assert counts(result, "a") == counts(result) == (20, 20, 0, 0)
    assert result.status == "complete"


def test_a_stop_of_a_phase_before_its_strategy_has_begun_ends_it(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = SinkDesk.begun

    def stopped(desk: SinkDesk, told: Any) -> None:
        if told.plan.name == "a":
            session.stop_current_phase()
        begun(desk, told)

    monkeypatch.setattr(SinkDesk, "begun", stopped)

    async def waits(issuer: Any) -> None:
        assert not await issuer.until(issuer.now_ns() + 3_600_000_000_000)

    session = BenchmarkSession(Script())
    result = asyncio.run(at_most(session, [phase("a", strategy=Own(waits)), phase()]))
    assert counts(result, "a") == (0, 0, 0, 0)
    assert counts(result) == (20, 20, 0, 0)


def test_a_stop_of_the_session_tells_a_warm_ups_handler_of_what_it_cancels(here: Path) -> None:
    warm: list[QueryResult] = []

    async def main() -> Any:
        script = Script(Script.hold)
        session = BenchmarkSession(script)
        told = [warmup(strategy=BurstStrategy(2), limits=Limits(), handler=warm.append), phase()]
        running = asyncio.ensure_future(at_most(session, told))
        await eventually(lambda: len(script.held) == 4)  # the warm-up's two, and two of the phase beside them
        session.stop()
        return await running

    result = asyncio.run(main())
    assert [ended.failure for ended in warm] == ["cancelled", "cancelled"]
    assert counts(result, "w") == (2, 0, 0, 2)


@pytest.mark.parametrize("native", [True, False])
def test_a_run_needs_none_of_the_loops_own_threads(here: Path, native: bool) -> None:
    async def main() -> Any:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(max_workers=1))
        done = threading.Event()
        waiting = loop.run_in_executor(None, done.wait, WAIT_S)
        try:
            running = (
                loadgen.arun("mock:", requests=4) if native else BenchmarkSession(Script()).arun([phase("performance")])
            )
            return await asyncio.wait_for(running, WAIT_S / 2)
        finally:
            done.set()
            await waiting

    assert counts(asyncio.run(main()), "performance")[1] > 0


def test_an_issuer_is_shut_down_where_the_run_never_began(here: Path) -> None:
    async def main() -> None:
        script = Script()
        with pytest.raises(DatasetError):
            await at_most(BenchmarkSession(script), [phase(dataset="missing.jsonl")])
        assert script.shut == 1
        with pytest.raises(DatasetError):
            await at_most(BenchmarkSession(HttpIssuer("mock:")), [phase(dataset="missing.jsonl")])

    asyncio.run(main())


def test_a_shutdown_that_raises_where_the_run_never_began_is_a_note_of_the_first_error(here: Path) -> None:
    class Broken(Script):
        def shutdown(self) -> None:
            raise ValueError("broken")

    with pytest.raises(DatasetError) as raised:
        asyncio.run(at_most(BenchmarkSession(Broken()), [phase(dataset="missing.jsonl")]))
    assert raised.value.__notes__ == ["besides, the issuer's shutdown() raised ValueError"]
