"""Sessions from Python, over an issuer of the user's own and over the engine, and what can go wrong with each."""

import asyncio
import os
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import pytest

from event_support import WAIT_S, Contexts
from loadgen import _core
from loadgen.errors import RunError
from loadgen.event import EventCodec, EventPublisherService, EventRecord, EventType, ZmqMessageSubscriber
from loadgen.metrics import SessionState, attach
from loadgen.session.benchmark import BenchmarkSession
from loadgen.session.http_issuer import HttpIssuer
from loadgen.session.issuer import Issuer
from loadgen.session.phase import Drain, Limits
from loadgen.session.query import Query, QueryResult
from loadgen.session.result import SessionResult
from loadgen.session.settings import PhaseSettings
from loadgen.session.strategy import BurstStrategy, ConcurrencyStrategy, TimedIssueStrategy
from session_support import Own, Script, all_of_it, counts, eventually, for_ever, only_run, phase, short, warmup

pytest_plugins = ["event_fixtures", "surface_fixtures"]


def test_an_issuer_of_ones_own_gets_the_same_report_with_its_stamps_named(here: Path) -> None:
    async def main() -> tuple[SessionResult, Script]:
        issuer = Script()
        session = BenchmarkSession(issuer, session_id="mine_1")
        return await session.arun([phase("a"), phase("b", strategy=BurstStrategy(9), limits=Limits())]), issuer

    result, issuer = asyncio.run(main())
    assert (result.id, result.status, result.late_answers) == ("mine_1", "complete", 0)
    assert (counts(result, "a"), counts(result, "b")) == ((20, 20, 0, 0), (9, 9, 0, 0))
    assert [found.name for found in result.perf_results] == ["a", "b"]
    a = result.phase("a")
    assert a.ttft.count == 20
    assert a.report["tokens"]["output"] == 40
    assert "20 requests carry stamps taken in Python" in a.trust.notes
    assert {row.stamp_source for row in a.requests} == {"python"}
    assert a.dataset is not None
    assert len(a.dataset.sha256) == 64
    assert (a.strategy, a.seed) == ("closed loop, 4 in flight", 0)
    assert result.start_ns is not None
    assert result.end_ns is not None
    assert result.start_ns < result.end_ns
    assert (issuer.most, issuer.shut) == (9, 1)
    assert only_run(here).report == result.report, "`loadgen report` says the same"


def test_a_query_is_what_the_engine_would_send(here: Path) -> None:
    async def main() -> Script:
        issuer = Script()
        settings = PhaseSettings(model="m", output_tokens=7, headers={"X-Mine": "1"}, unique_prompts=True)
        await BenchmarkSession(issuer, header={"X-Run": "2"}).arun(
            [phase("a", settings=settings), phase("b", settings=PhaseSettings(stream=False))]
        )
        return issuer

    issuer = asyncio.run(main())
    query = issuer.queries[0]
    body = query.json()
    assert (body["model"], body["max_tokens"], body["stream"]) == ("m", 7, True)
    assert body["messages"][0]["content"].startswith("#0.0 ")
    assert query.headers == (("X-Mine", "1"),)
    assert len({query.body for query in issuer.queries[:20]}) == 20
    other = issuer.queries[20]
    assert (other.id, other.json()["model"], other.headers) == (20, "Script", (("X-Run", "2"),))
    assert "stream" not in other.json()


def test_a_warm_up_hands_over_and_what_it_had_in_flight_occupies_the_next_phases_slots(here: Path) -> None:
    async def main() -> tuple[SessionResult, Script, list[int], Own]:
        issuer = Script(Script.hold)
        seen: list[int] = []
        own = Own(all_of_it)

        async def release() -> None:
            await eventually(lambda: len(issuer.held) == 4)
            await asyncio.sleep(0.05)
            assert len(issuer.held) == 4, "the warm-up's requests still occupy all four slots"
            issuer._answer = Script.good
            for query in issuer.held:
                issuer.good(query)

        releasing = asyncio.ensure_future(release())
        session = BenchmarkSession(issuer, on_sample_complete=lambda result: seen.append(result.id))
        warm = warmup(limits=Limits(samples=4), handler=lambda result: None)
        result = await session.arun([warm, phase("a", strategy=own)])
        await releasing
        return result, issuer, seen, own

    result, issuer, seen, own = asyncio.run(main())
    assert (counts(result, "w"), counts(result, "a")) == ((4, 4, 0, 0), (20, 20, 0, 0))
    assert issuer.most == 4
    assert sorted(seen) == sorted(own.completed) == list(range(4, 24)), "each phase hears of its own requests only"


def test_two_performance_phases_with_a_warm_up_between_are_never_mixed(here: Path) -> None:
    async def main() -> SessionResult:
        heard: dict[str, set[int]] = {"a": set(), "b": set()}
        session = BenchmarkSession(Script())
        result = await session.arun(
            [
                phase("a", handler=lambda r: heard["a"].add(r.id)),
                warmup(),
                phase("b", strategy=TimedIssueStrategy(1000), handler=lambda r: heard["b"].add(r.id)),
            ]
        )
        assert (heard["a"], heard["b"]) == (set(range(20)), set(range(40, 60)))
        return result

    result = asyncio.run(main())
    assert counts(result, "a") == counts(result, "b") == (20, 20, 0, 0)
    assert len(result.perf_results) == 2


def test_an_answer_to_a_phase_that_is_over_touches_nothing_of_the_next(here: Path) -> None:
    async def main() -> tuple[SessionResult, list[int], Own]:
        issuer = Script(Script.hold)
        seen: list[int] = []

        async def late(phase_issuer: Issuer) -> int:
            for query in issuer.held:  # the first phase's: cancelled when its drain ran out
                issuer.good(query)
            issuer._answer = Script.good
            return await all_of_it(phase_issuer)

        own = Own(late)
        first = phase("a", strategy=BurstStrategy(3), limits=Limits(), drain=Drain(timeout=0.01))
        session = BenchmarkSession(issuer, on_sample_complete=lambda result: seen.append(result.id))
        return await session.arun([first, phase("b", strategy=own)]), seen, own

    result, seen, own = asyncio.run(main())
    assert (counts(result, "a"), counts(result, "b")) == ((3, 0, 0, 3), (20, 20, 0, 0))
    assert own.completed == list(range(3, 23))
    assert seen == list(range(23)), "a handler is told of what was cancelled, too, as the engine tells it"
    assert result.late_answers == 9, "two pieces and an end of each"


def test_a_drain_whose_answers_never_come_ends_in_its_time(here: Path) -> None:
    async def main() -> SessionResult:
        return await BenchmarkSession(Script(Script.hold)).arun(
            [phase(strategy=BurstStrategy(5), limits=Limits(), drain=Drain(timeout=0.05))]
        )

    assert counts(asyncio.run(main())) == (5, 0, 0, 5)


@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("who", ["strategy", "on_complete", "handler"])
def test_what_a_callback_raises_ends_the_phase_and_is_raised_after_the_report(
    here: Path, who: str, native: bool
) -> None:
    calls: list[None] = []

    def fail(*_: object) -> None:
        calls.append(None)
        if who == "strategy" or len(calls) == 3:
            raise LookupError("mine")

    async def raising(issuer: Issuer) -> int:
        await ConcurrencyStrategy(2).execute(_bounded(issuer, 5))
        fail()
        return 5

    own = Own(raising if who == "strategy" else all_of_it)
    if who == "on_complete":
        own.on_complete = fail  # type: ignore[assignment, method-assign]
    first = phase(
        strategy=own, limits=Limits(samples=1000), handler=fail if who == "handler" else None, settings=short()
    )

    async def main() -> None:
        issuer = HttpIssuer("mock:", workers=1) if native else Script()
        await BenchmarkSession(issuer).arun([first, phase("never")])

    with pytest.raises(LookupError, match="mine") as raised:
        asyncio.run(main())
    assert "what completed is reported in" in raised.value.__notes__[0]
    result = only_run(here)
    words = {"strategy": "the strategy of phase p", "on_complete": "on_complete of phase p", "handler": "the handler"}
    assert result.status == "failed"
    assert (result.reason or "").startswith(words[who])
    assert (result.reason or "").endswith("raised LookupError")
    assert [found.name for found in result.phases] == ["p"]
    issued, ok, failed, cancelled = counts(result)
    assert ok >= 1
    assert (issued, failed) == (ok + cancelled, 0)
    assert who == "strategy" or len(calls) == 3, "nothing of the phase is called after it"


def _bounded(issuer: Issuer, most: int) -> Any:
    """The same issuer, which takes no more than so many."""

    class Bounded:
        left = most

        def __getattr__(self, name: str) -> Any:
            return getattr(issuer, name)

        def issue(self, *arguments: Any, **named: Any) -> int | None:
            self.left -= 1
            return issuer.issue(*arguments, **named) if self.left >= 0 else None

    return Bounded()


def test_an_issuer_whose_issue_raises_ends_the_run_and_that_request_has_failed(here: Path) -> None:
    def third(issuer: Script, query: Query) -> None:
        if query.id == 2:
            raise ConnectionError("canary-secret")
        issuer.good(query)

    async def main() -> None:
        await BenchmarkSession(Script(third)).arun([phase()])

    with pytest.raises(ConnectionError, match="canary-secret"):
        asyncio.run(main())
    result = only_run(here)
    assert (result.status, result.reason) == ("failed", "the issuer's issue() raised ConnectionError")
    issued, _, failed, _ = counts(result)
    assert (issued, failed) == (3, 1)
    kept = b"".join(file.read_bytes() for file in result.dir.iterdir() if file.is_file())
    assert b"canary-secret" not in kept, "the words of a foreign exception may hold anything"


def test_a_transport_that_closes_cancels_the_strategy_and_unblocks_the_drain(here: Path) -> None:
    async def main() -> tuple[SessionResult, bool]:
        cancelled = False

        async def waits(issuer: Issuer) -> None:
            nonlocal cancelled
            for _ in range(5):
                issuer.issue()
            script.tell(None)
            try:
                await for_ever(issuer)
            except asyncio.CancelledError:
                cancelled = True
                raise

        script = Script(Script.hold)
        return await BenchmarkSession(script).arun([phase(strategy=Own(waits)), phase("never")]), cancelled

    result, cancelled = asyncio.run(main())
    assert cancelled
    assert (result.status, result.reason) == ("failed", "the issuer's transport has closed")
    assert counts(result) == (5, 0, 5, 0)
    assert result.performance.failures["protocol"] == 5
    assert len(result.phases) == 1


@pytest.mark.parametrize("item", [OSError("gone"), "nonsense"])
def test_a_receiver_that_breaks_ends_the_run_with_its_error(here: Path, item: Any) -> None:
    def broken(issuer: Script, query: Query) -> None:
        issuer.tell(item)

    async def main() -> None:
        await BenchmarkSession(Script(broken)).arun([phase()])

    with pytest.raises(OSError if isinstance(item, OSError) else TypeError):
        asyncio.run(main())
    result = only_run(here)
    assert result.status == "failed"
    assert counts(result) == (4, 0, 4, 0)


def test_failures_have_their_class_and_words(here: Path) -> None:
    ends: list[dict[str, Any]] = [
        {"error": "busy", "status": 503},
        {"error": "odd"},
        {"error": "slow", "failure": "timeout"},
        {},
    ]

    def answer(issuer: Script, query: Query) -> None:
        issuer.tell(QueryResult(query.id, **ends[query.id % 4]))

    async def main() -> SessionResult:
        return await BenchmarkSession(Script(answer), max_error_rate=1).arun([phase()])

    result = asyncio.run(main())
    assert counts(result) == (20, 5, 15, 0)
    assert result.performance.failures == {"body": 5, "http_503": 5, "timeout": 5}


def test_stopping_a_phase_goes_on_with_the_next_and_stopping_the_session_does_not(here: Path) -> None:
    async def main() -> SessionResult:
        session = BenchmarkSession(Script())

        def stop_phase(result: QueryResult) -> None:
            if result.id == 10:
                session.stop_current_phase()

        def stop(result: QueryResult) -> None:
            session.stop(grace=5.0)

        endless = Limits(samples=1_000_000)
        return await session.arun(
            [
                phase("a", limits=endless, handler=stop_phase),
                phase("b", limits=endless, strategy=Own(all_of_it), handler=stop),
                phase("never"),
            ]
        )

    result = asyncio.run(main())
    assert [found.name for found in result.phases] == ["a", "b"]
    assert (result.status, result.reason) == ("interrupted", "stopped")
    for name in ("a", "b"):
        issued, ok, failed, cancelled = counts(result, name)
        assert 0 < ok == issued < 1_000_000, "what was in flight had its time"
        assert (failed, cancelled) == (0, 0)


def test_a_cancelled_arun_stops_at_once_and_leaves_its_report(here: Path) -> None:
    async def main() -> Script:
        issuer = Script(Script.hold)
        session = BenchmarkSession(issuer)
        task = asyncio.ensure_future(session.arun([phase(strategy=Own(_hold_one))]))
        await eventually(lambda: issuer.held)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        session.stop()  # again, after the end: no harm
        return issuer

    issuer = asyncio.run(main())
    result = only_run(here)
    assert (result.status, result.reason) == ("interrupted", "cancelled")
    assert (counts(result), issuer.shut) == ((1, 0, 0, 1), 1)


async def _hold_one(issuer: Issuer) -> None:
    issuer.issue()
    await for_ever(issuer)


def test_a_strategy_that_goes_on_after_its_phase_is_cancelled_and_one_that_refuses_is_an_error(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("loadgen.session.running_phase.LINGER_S", 0.01)
    let_go = asyncio.Event()

    async def refuses(issuer: Issuer) -> None:
        issuer.issue()
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    async def main() -> None:
        try:
            await BenchmarkSession(Script()).arun(
                [
                    phase("a", strategy=Own(_hold_one), limits=Limits(duration=0.05)),
                    phase("b", strategy=Own(refuses), limits=Limits(duration=0.05)),
                ]
            )
        finally:
            let_go.set()
            await asyncio.sleep(0)

    with pytest.raises(RunError, match="doesn't end when it is cancelled"):
        asyncio.run(main())
    result = only_run(here)
    assert (counts(result, "a"), counts(result, "b")) == ((1, 1, 0, 0), (1, 1, 0, 0))


def test_the_engine_runs_built_in_strategies_by_their_plan_and_tells_handlers_of_each_end(here: Path) -> None:
    seen: list[QueryResult] = []
    session = BenchmarkSession(HttpIssuer("mock:?error_rate=0.3", max_error_rate=1), on_sample_complete=seen.append)
    result = session.run(
        [phase("a", settings=PhaseSettings(output_tokens=3)), phase("b", limits=Limits(samples=7), settings=short())]
    )
    assert sorted(found.id for found in seen) == list(range(27))
    good = [found for found in seen if found.error is None]
    assert 0 < len(good) < 27
    assert len(good) == sum(found.counts.ok for found in result.phases)
    assert all(found.output and found.usage.tokens_out in (1, 3) for found in good)
    assert {found.outcome for found in seen if found.error is not None} <= {"http"}
    rows = {row.id: row.sample for name in ("a", "b") for row in result.phase(name).requests}
    assert {found.id: found.sample for found in seen} == rows
    assert {row.stamp_source for row in result.phase("a").requests} == {"engine"}


def test_a_strategy_of_ones_own_drives_the_engine_exactly(here: Path) -> None:
    async def evens(issuer: Issuer) -> int:
        issued = 0
        for sample in (0, 2, 4, 2):
            assert issuer.issue(sample, planned_ns=issuer.start_ns) is not None
            issued += 1
        assert await issuer.completed() in range(4)
        with pytest.raises(ValueError, match="counted from 0"):
            issuer.issue(10_000_000)
        return issued

    own = Own(evens)
    result = BenchmarkSession(HttpIssuer("mock:")).run(
        [phase("a", strategy=own, limits=Limits(), settings=short()), phase("b", strategy=Own(all_of_it))]
    )
    assert (counts(result, "a"), counts(result, "b")) == ((4, 4, 0, 0), (20, 20, 0, 0))
    rows = sorted(result.phase("a").requests, key=lambda row: row.id)
    assert [row.sample for row in rows] == [0, 2, 4, 2]
    assert all(row.planned_ns == rows[0].planned_ns for row in rows), "planned as the strategy said"
    assert sorted(own.completed) == [0, 1, 2, 3]
    assert result.phase("a").strategy == "Own"


@pytest.mark.parametrize("native", [True, False])
def test_a_publisher_is_told_of_every_request_and_of_the_sessions_start_and_end(
    here: Path, contexts: Contexts, native: bool
) -> None:
    ctx = contexts()

    async def main() -> tuple[SessionResult, list[EventRecord]]:
        service = EventPublisherService(ctx)
        subscriber = ZmqMessageSubscriber(ctx, service.address, EventCodec(), from_start=True)
        assert await service.await_for(subscriber.greeting, WAIT_S)
        issuer = HttpIssuer("mock:?error_rate=0.2", max_error_rate=1) if native else Script()
        session = BenchmarkSession(issuer, service, session_id="told")
        result = await session.arun([warmup(), phase("a", settings=short()), phase("b", strategy=Own(all_of_it))])
        records: list[EventRecord] = []
        while not records or records[-1].type is not EventType.SESSION_ENDED:
            records += await subscriber.areceive(WAIT_S)
        service.close()
        subscriber.close()
        assert subscriber.stats.dropped == 0
        return result, records

    result, records = asyncio.run(main())
    count = Counter(record.type for record in records)
    phases = [found.counts for found in result.phases]
    assert count[EventType.SAMPLE_ISSUED] == count[EventType.SAMPLE_COMPLETE] == 60
    assert count[EventType.ERROR_CLIENT] == sum(found.failed for found in phases)
    tracking = [EventType.SESSION_START_PERFORMANCE_TRACKING, EventType.SESSION_STOP_PERFORMANCE_TRACKING]
    of_session = [record.type for record in records if record.type.topic.startswith("session.")]
    assert of_session == [
        EventType.SESSION_STARTED,
        *tracking,
        *tracking,
        EventType.SESSION_STOP_LOADGEN,
        EventType.SESSION_ENDED,
    ]
    assert records[0].session == "told"


def test_the_live_metrics_tell_of_dropped_events(
    here: Path, contexts: Contexts, monkeypatch: pytest.MonkeyPatch
) -> None:
    dropped = [3]  # by an earlier session of the same publisher
    stats = EventPublisherService.stats.fget  # type: ignore[attr-defined]  # a property is found on its class
    told = property(lambda service: msgspec.structs.replace(stats(service), dropped=dropped[0]))
    monkeypatch.setattr(EventPublisherService, "stats", told)
    name = f"dropped_{os.getpid()}"
    seen: list[int] = []

    def drops(issuer: Script, query: Query) -> None:
        counters = msgspec.json.decode(_core.Segment.find(name).snapshot())["counters"]
        seen.extend(each["value"] for each in counters if each["name"] == "events_dropped")
        dropped[0] = 10
        issuer.good(query)

    async def main() -> None:
        service = EventPublisherService(contexts())
        session = BenchmarkSession(Script(drops), service, session_id=name)
        await session.arun([phase("a", limits=Limits(1)), phase("b", limits=Limits(1))])
        service.close()

    asyncio.run(main())
    assert seen == [0, 7]


def test_a_session_over_an_issuer_of_ones_own_drains_before_it_is_complete(here: Path) -> None:
    issuer = Script(Script.hold)

    async def main() -> list[SessionState]:
        running = asyncio.create_task(BenchmarkSession(issuer, session_id=name).arun([burst]))
        await eventually(lambda: len(issuer.held) == 3)
        reader = attach(name)
        await eventually(lambda: reader.state is SessionState.DRAINING)
        for query in issuer.held:
            issuer.good(query)
        await running
        return [reader.state]

    name, burst = f"draining_{os.getpid()}", phase(strategy=BurstStrategy(3), limits=Limits())
    assert asyncio.run(main()) == [SessionState.COMPLETE]
