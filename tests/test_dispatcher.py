"""A batch on asyncio: order, copies, retries, time-outs, cancellation. The loop's clock is virtual: times are exact."""

import asyncio
import contextvars
import pickle
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import loadgen
import virtual_loop
from loadgen import _core
from loadgen.dispatch import attempt
from loadgen.dispatch.callee import Callee
from loadgen.dispatch.classify import Classifier
from loadgen.dispatch.driver import Driver


def batch(call: Callable[[Any], Any], items: Any, strategy: str = "hedged", **options: Any) -> Any:
    async def main(_: Any) -> Any:
        return await loadgen.Dispatcher(strategy, **options).arun(call, items)

    return virtual_loop.run(main)


def nth_call(*seconds: float) -> Callable[[int], Awaitable[int]]:
    """A callable whose first, second, … call of an item takes so long; the last goes on for all after it."""
    calls: Counter[int] = Counter()

    async def call(item: int) -> int:
        at = min(calls[item], len(seconds) - 1)
        calls[item] += 1
        await asyncio.sleep(seconds[at])
        return item * 10 + at

    return call


def test_values_come_in_the_items_order_however_long_each_took() -> None:
    async def call(item: int) -> int:
        await asyncio.sleep(7 - item)
        return item * item

    done = batch(call, [0, 1, 2, 3, 4, 5, 6])
    assert done.values == (0, 1, 4, 9, 16, 25, 36)
    assert done.ok
    assert not done.errors
    assert done.wall_s == 7.0
    assert [result.value for result in done] == list(done.values)
    assert (done[2].index, done[-1].value, [each.value for each in done[2:4]]) == (2, 36, [4, 9])


@pytest.mark.parametrize(("strategy", "wall_s"), [("sequential", 18.0), ("parallel", 9.0), ("adaptive_ceiling", 3.0)])
def test_a_strategy_has_as_many_in_flight_as_it_says(strategy: str, wall_s: float) -> None:
    assert batch(nth_call(3.0), range(6), strategy).wall_s == wall_s


def test_workers_and_max_concurrency_bound_what_is_in_flight() -> None:
    assert batch(nth_call(3.0), range(6), "parallel", workers=3).wall_s == 6.0
    assert batch(nth_call(3.0), range(6), "adaptive_ceiling", max_concurrency=1).wall_s == 18.0


def test_silence_is_answered_by_a_copy_and_the_loser_is_cancelled() -> None:
    cancelled: list[float] = []

    async def call(item: int) -> str:
        kind = attempt().kind
        try:
            await asyncio.sleep(2 if kind == "hedge" else 60)
        except asyncio.CancelledError:
            cancelled.append(asyncio.get_running_loop().time())
            raise
        return kind

    done = batch(call, ["one"], hedge_after=5)
    assert (done.values, done.wall_s, cancelled) == (("hedge",), 7.0, [7.0])
    stats = done[0].stats
    assert [(one.kind, one.outcome, one.started, one.ended) for one in stats.attempts] == [
        ("first", "lost", 0.0, 7.0),
        ("hedge", "ok", 5.0, 7.0),
    ]
    assert (stats.winner, stats.queued, stats.started, stats.ended, stats.seconds) == (1, 0.0, 0.0, 7.0, 7.0)
    assert (done.totals["hedges"], done.totals["hedges_won"], done.abandoned) == (1, 1, 0)


def test_a_copy_that_fails_does_not_fail_the_live_one() -> None:
    async def call(item: int) -> str:
        if attempt().kind == "hedge":
            raise ConnectionError("the copy fails")
        await asyncio.sleep(20)
        return attempt().kind

    done = batch(call, [1], hedge_after=5)
    assert (done.values, done.wall_s) == (("first",), 20.0)


def test_a_failed_call_is_made_again_and_its_value_counts() -> None:
    made: Counter[int] = Counter()

    async def call(item: int) -> int:
        made[item] += 1
        if item == 2 and made[item] < 3:
            raise ConnectionError("not yet")
        return item

    done = batch(call, range(20))
    assert done.ok
    assert done.values == tuple(range(20))
    assert made[2] == 3
    assert [one.kind for one in done[2].stats.attempts] == ["first", "retry", "retry"]
    assert done.totals["retries"] == 2
    assert done[2].stats.waits["backoff"] > 0


def test_what_raises_to_the_end_is_an_unknown_with_its_reason_and_shifts_nothing() -> None:
    async def call(item: int) -> int:
        if item == 1:
            raise ValueError("poison")
        return item

    done = batch(call, range(3), retry={"attempts": 2})
    assert (done.values[0], done.values[2]) == (0, 2)
    assert isinstance(done.values[1], loadgen.Unknown)
    assert not done.values[1]
    assert repr(done.values[1]) == "Unknown(ValueError: poison)"
    assert not done.ok
    assert str(done.errors[1]) == "poison"
    assert done[1].error is done.errors[1]
    assert not done[1].ok
    with pytest.raises(loadgen.DispatchError, match="1 of 3 calls have no value; that of item 1: ValueError: poison"):
        done.check()
    with pytest.raises(TypeError):
        done.errors[0] = ValueError()


def test_errors_stand_in_the_order_of_the_items_however_calls_ended() -> None:
    async def call(item: int) -> None:
        await asyncio.sleep(3 - item)
        raise TypeError(item)

    done = batch(call, [0, 1, 2])
    assert list(done.errors) == [0, 1, 2]
    assert [done[at].stats.ended for at in done.errors] == [3.0, 2.0, 1.0]


def test_an_error_holds_the_callables_frames_and_none_of_the_batchs() -> None:
    async def call(item: int) -> int:
        raise ValueError("poison")

    trace = batch(call, [1], retry=1).errors[0].__traceback__
    assert (trace.tb_frame.f_code.co_name, trace.tb_next) == ("call", None)


def test_none_is_a_value() -> None:
    async def call(item: int) -> None:
        return None

    done = batch(call, range(3))
    assert done.ok
    assert done.values == (None, None, None)


def test_a_bug_in_the_callable_is_not_tried_again() -> None:
    made = []

    async def call(item: int) -> None:
        made.append(item)
        raise TypeError("call() takes 2 arguments")

    assert [type(error) for error in batch(call, [1]).errors.values()] == [TypeError]
    assert made == [1]


def test_what_never_answers_ends_at_its_time_outs() -> None:
    async def call(item: int) -> None:
        await asyncio.get_running_loop().create_future()

    done = batch(
        call, [1], "parallel", attempt_timeout=10, retry={"attempts": 3, "base": 1, "jitter": "none"}, budget=1
    )
    error = done.errors[0]
    assert isinstance(error, loadgen.CallTimeoutError)
    assert isinstance(error, TimeoutError)
    made = len(done[0].stats.attempts)
    assert str(error) == f"the call had no answer within the attempt_timeout of 10 s, in {made} attempts"
    assert [one.outcome for one in done[0].stats.attempts] == ["timed_out"] * len(done[0].stats.attempts)
    assert done.wall_s >= 10 * len(done[0].stats.attempts)


def test_a_call_has_no_more_time_than_it_was_given_in_all() -> None:
    async def call(item: int) -> None:
        await asyncio.sleep(3600)

    done = batch(call, [1], "parallel", attempt_timeout=60, call_timeout="1m30s", budget=1)
    assert isinstance(done.errors[0], loadgen.CallTimeoutError)
    assert str(done.errors[0]) == "the call had no answer within its call_timeout of 90 s, in 2 attempts"
    assert done.wall_s == 90.0


def test_a_call_whose_time_is_up_while_it_backs_off_has_timed_out_because_of_its_last_error() -> None:
    async def call(item: int) -> None:
        raise ConnectionResetError("gone")

    retry = {"base": 60, "most": 60, "jitter": "none"}
    done = batch(call, [1], "parallel", call_timeout=5, retry=retry)
    error = done.errors[0]
    assert isinstance(error, loadgen.CallTimeoutError)
    assert isinstance(error.__cause__, ConnectionResetError)
    assert done.wall_s == 5.0


def test_a_callable_that_ignores_being_cancelled_holds_nobody_up_and_is_counted() -> None:
    async def main(loop: Any) -> Any:
        async def call(item: int) -> str:
            end = loop.time() + 500
            while attempt().kind == "first" and loop.time() < end:
                try:
                    await asyncio.sleep(end - loop.time())
                except asyncio.CancelledError:
                    continue
            return attempt().kind

        done = await loadgen.Dispatcher("hedged", hedge_after=5).arun(call, range(3))
        assert (done.values, done.wall_s, done.abandoned) == (("hedge",) * 3, 5.0, 3)
        assert done.totals["abandoned"] == 3
        others = asyncio.all_tasks() - {asyncio.current_task()}
        assert len(others) == 3
        await asyncio.wait(others)

    virtual_loop.run(main)


def test_cancelling_a_batch_cancels_every_copy_and_starts_nothing_more() -> None:
    async def main(loop: Any) -> None:
        running: set[int] = set()
        started = 0

        async def call(item: int) -> None:
            nonlocal started
            started += 1
            running.add(attempt().id)
            try:
                await asyncio.sleep(60)
            finally:
                running.discard(attempt().id)

        task = asyncio.ensure_future(loadgen.Dispatcher("hedged", max_concurrency=8).arun(call, range(6)))
        await asyncio.sleep(10)
        assert len(running) == started == 8
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert running == set()
        await asyncio.sleep(1000)
        assert started == 8

    virtual_loop.run(main)


def test_a_callable_that_cancels_itself_has_failed() -> None:
    async def call(item: int) -> int:
        if item == 1 and attempt().kind == "first":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)
        return item

    done = batch(call, range(3))
    assert done.values == (0, 1, 2)
    assert [one.kind for one in done[1].stats.attempts] == ["first", "retry"]


def test_each_attempt_sees_the_callers_context_and_keeps_its_own() -> None:
    seen: contextvars.ContextVar[str] = contextvars.ContextVar("seen", default="nothing")
    found = []

    async def call(item: int) -> None:
        found.append(seen.get())
        seen.set(f"item {item}")
        await asyncio.sleep(1)
        assert seen.get() == f"item {item}"

    async def main(_: Any) -> None:
        seen.set("the caller's")
        await loadgen.Dispatcher("parallel").arun(call, range(5))
        assert seen.get() == "the caller's"

    virtual_loop.run(main)
    assert found == ["the caller's"] * 5


def test_a_copy_that_is_dropped_before_its_first_step_is_not_counted_as_going_on() -> None:
    async def main(loop: Any) -> int:
        class Nothing:
            def take(self, item: int) -> Any:
                return Callee(call), item, contextvars.copy_context()

            def settle(self, item: int, value: Any, error: BaseException | None) -> None: ...

            def broken(self, error: BaseException) -> None: ...

        begun: list[int] = []

        async def call(item: int) -> None:
            begun.append(item)

        driver = Driver(_core.Policy(_core.policy_config("parallel", 2)), Nothing(), Classifier(), threads=1)
        driver.queue(1)
        await asyncio.sleep(0)  # the task is made, and its first step is due
        assert len(asyncio.all_tasks()) == 2
        going_on = await driver.leave()
        assert not begun
        return going_on

    assert virtual_loop.run(main) == 0


def test_the_first_token_decides_between_copies_of_a_stream() -> None:
    async def call(item: int) -> str:
        one = attempt()
        if one.kind == "first":
            await asyncio.sleep(60)
        await asyncio.sleep(1)
        one.first_token()
        await asyncio.sleep(30)
        return one.kind

    done = batch(call, [1], hedge_after=5, streaming=True)
    assert done.values == ("hedge",)
    assert [(one.kind, one.outcome, one.ended) for one in done[0].stats.attempts] == [
        ("first", "lost", 6.0),
        ("hedge", "ok", 36.0),
    ]


def test_a_first_token_disarms_the_copy_of_its_own_call() -> None:
    async def call(item: int) -> str:
        await asyncio.sleep(4)
        attempt().first_token()
        await asyncio.sleep(30)
        return attempt().kind

    done = batch(call, [1], hedge_after=5, streaming=True)
    assert (done.values, done.totals["hedges"]) == (("first",), 0)


def test_a_stream_that_falls_silent_is_made_again() -> None:
    async def call(item: int) -> str:
        for _ in range(4):
            await asyncio.sleep(5)
            attempt().chunk()
        if attempt().kind == "first":
            await asyncio.sleep(1000)
        return attempt().kind

    once = {"attempts": 2, "base": 1, "jitter": "none"}
    done = batch(call, [1], "parallel", stall_timeout=6, retry=once, budget=1)
    assert done.values == ("retry",)
    assert [(one.kind, one.outcome, one.ended) for one in done[0].stats.attempts] == [
        ("first", "stalled", 26.0),
        ("retry", "ok", 47.0),
    ]


def test_a_stream_that_stays_silent_has_failed_by_it() -> None:
    async def call(item: int) -> None:
        attempt().first_token()
        await asyncio.sleep(1000)

    done = batch(call, [1], "parallel", stall_timeout=6, retry=1)
    assert isinstance(done.errors[0], loadgen.CallTimeoutError)
    assert str(done.errors[0]) == "the answer began, and nothing more of it came within the stall_timeout of 6 s"


def test_tokens_are_those_of_the_value_or_those_that_the_callable_tells() -> None:
    async def call(item: int) -> Any:
        if item == 0:
            return {"usage": {"prompt_tokens": 7, "completion_tokens": 3}}
        attempt().used(tokens_in=5, tokens_out=9)
        return "text"

    stats = batch(call, range(2)).stats
    assert [(one.tokens_in, one.tokens_out) for one in stats] == [(7, 3), (5, 9)]


def test_a_value_that_cannot_be_looked_at_ends_the_batch() -> None:
    class Odd:
        @property
        def headers(self) -> None:
            raise LookupError("not bound to anything")

    async def call(item: int) -> Odd:
        return Odd()

    with pytest.raises(LookupError, match="not bound"):
        batch(call, range(3))


@pytest.mark.parametrize("count", [-1, 2**32, 1.5, "9"])
def test_a_cost_that_is_no_count_fails_the_attempt_that_told_it(count: Any) -> None:
    async def call(item: int) -> None:
        attempt().used(tokens_in=count)

    error = batch(call, [1], retry=1).errors[0]
    assert isinstance(error, ValueError)
    assert str(error) == f"{count!r} tokens: a count is from 0 to 2**32 - 1"


def test_a_loser_may_take_a_moment_to_close_its_connection() -> None:
    closed: list[float] = []

    async def call(item: int) -> str:
        try:
            await asyncio.sleep(2 if attempt().kind == "hedge" else 60)
        finally:
            if attempt().kind == "first":
                await asyncio.sleep(0.02)
                closed.append(asyncio.get_running_loop().time())
        return attempt().kind

    done = batch(call, [1], hedge_after=5)
    assert (done.wall_s, closed, done.abandoned) == (7.0, [7.02], 0)


def test_nothing_to_do_is_done() -> None:
    done = batch(nth_call(1), [])
    assert (len(done), done.ok, done.values, list(done)) == (0, True, (), [])


@pytest.mark.parametrize("items", [(n for n in range(4)), {0: "a", 1: "b", 2: "c", 3: "d"}, (0, 1, 2, 3), range(4)])
def test_items_are_whatever_can_be_gone_through(items: Any) -> None:
    assert batch(nth_call(1), items).values == (0, 10, 20, 30)


async def _async_items() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("items", "words"),
    [("text", "one value"), (b"bytes", "one value"), (7, "can't be gone through"), (_async_items(), "async iterator")],
)
def test_what_is_no_list_of_items_is_said(items: Any, words: str) -> None:
    with pytest.raises(loadgen.ConfigError, match=words):
        batch(nth_call(1), items)


def test_the_same_seed_gives_the_same_times() -> None:
    def call() -> Callable[[int], Awaitable[int]]:
        made: Counter[int] = Counter()

        async def fail_once(item: int) -> int:
            made[item] += 1
            await asyncio.sleep(1)
            if made[item] == 1 and item % 9 == 0:
                raise ConnectionError
            return item

        return fail_once

    walls = [batch(call(), range(30), seed=seed).wall_s for seed in (3, 3, 4)]
    assert walls[0] == walls[1] != walls[2]


def test_a_callers_own_policy_error_ends_the_batch() -> None:
    async def call(item: int) -> None:
        raise ValueError("x")

    def judge(error: BaseException) -> bool:
        raise ZeroDivisionError("in the rule")

    with pytest.raises(ZeroDivisionError, match="in the rule"):
        batch(call, range(3), push_back=judge)


def test_an_interrupt_in_a_callable_ends_the_batch() -> None:
    cancelled: list[int] = []

    async def call(item: int) -> None:
        if item == 2:
            raise KeyboardInterrupt
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.append(item)

    with pytest.raises(KeyboardInterrupt):
        loadgen.Dispatcher("parallel", workers=3).run(call, range(5))
    assert cancelled == [0, 1]


def test_a_batch_that_is_pickled_says_what_of_it_can_be() -> None:
    made = loadgen.Dispatcher("parallel").run(lambda item: 1 // item, [1, 0])
    with pytest.raises(TypeError, match=r"pickle its values, or list\(batch\)"):
        pickle.dumps(made)
    calls = pickle.loads(pickle.dumps(list(made)))
    assert [call.value for call in calls if call.ok] == [1]
    assert str(pickle.loads(pickle.dumps(made.values))[1]) == str(made.values[1])
