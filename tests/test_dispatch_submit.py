"""Calls that come one by one: through one policy, coalesced by key, cancelled when nobody waits any more."""

import asyncio
import gc
import weakref
from typing import Any

import pytest

import loadgen
import virtual_loop
from loadgen.dispatch import attempt, submitted, work


def run(main: Any) -> None:
    virtual_loop.run(main)


def test_what_is_submitted_shares_one_limit() -> None:
    async def main(loop: Any) -> None:
        dispatcher = loadgen.Dispatcher("parallel", workers=2)

        async def call(item: int) -> int:
            await asyncio.sleep(3)
            return item

        futures = [dispatcher.submit(call, item) for item in range(6)]
        assert await asyncio.gather(*futures) == list(range(6))
        assert loop.time() == 9.0
        assert dispatcher.totals()["ok"] == 6

    run(main)


def test_an_error_is_raised_where_it_is_awaited() -> None:
    async def main(loop: Any) -> None:
        async def call(item: int) -> int:
            if item:
                raise LookupError("nothing there")
            return item

        dispatcher = loadgen.Dispatcher("parallel", retry=1)
        good, bad = dispatcher.submit(call, 0), dispatcher.submit(call, 1)
        with pytest.raises(LookupError, match="nothing there"):
            await bad
        assert await good == 0

    run(main)


def test_a_wrapped_function_takes_its_arguments() -> None:
    async def main(loop: Any) -> None:
        @loadgen.Dispatcher("hedged", hedge_after=5).wrap
        async def ask(prompt: str, *, model: str = "m") -> str:
            """Ask a model."""
            await asyncio.sleep(60 if attempt().kind == "first" else 1)
            return f"{model}: {prompt}"

        assert ask.__name__ == "ask"
        assert ask.__doc__ == "Ask a model."
        assert await ask("hello", model="big") == "big: hello"
        assert loop.time() == 6.0

    run(main)


def test_a_wrapped_blocking_function_is_awaited_too() -> None:
    @loadgen.Dispatcher("parallel").wrap
    def double(number: int) -> int:
        return 2 * number

    async def main() -> list[int]:
        return await asyncio.gather(*map(double, range(5)))

    assert asyncio.run(main()) == [0, 2, 4, 6, 8]


def test_one_flight_answers_everybody_who_asks_the_same() -> None:
    async def main(loop: Any) -> None:
        made: list[str] = []

        async def call(item: str) -> str:
            made.append(item)
            await asyncio.sleep(3)
            return item.upper()

        dispatcher = loadgen.Dispatcher("parallel", workers=9, coalesce=lambda item: item)
        futures = [dispatcher.submit(call, item) for item in "aabab"]
        assert await asyncio.gather(*futures) == list("AABAB")
        assert made == ["a", "b"]
        await dispatcher.submit(call, "a")
        assert made == ["a", "b", "a"]

    run(main)


def test_who_leaves_takes_nothing_from_the_others_and_the_last_cancels_the_call() -> None:
    async def main(loop: Any) -> None:
        ended: list[str] = []

        async def call(item: str) -> str:
            try:
                await asyncio.sleep(10)
            except asyncio.CancelledError:
                ended.append(f"{item} cancelled")
                raise
            return item

        dispatcher = loadgen.Dispatcher("parallel", workers=9, coalesce=lambda item: item)
        one, two = dispatcher.submit(call, "a"), dispatcher.submit(call, "a")
        three = dispatcher.submit(call, "b")
        await asyncio.sleep(1)
        one.cancel()
        three.cancel()
        await asyncio.sleep(1)
        assert ended == ["b cancelled"]
        assert await two == "a"
        four = dispatcher.submit(call, "a")
        await asyncio.sleep(1)
        four.cancel()
        await asyncio.sleep(0)
        again = dispatcher.submit(call, "a")
        assert await again == "a"
        assert ended == ["b cancelled", "a cancelled"]

    run(main)


def test_copies_bypass_the_single_flight() -> None:
    async def main(loop: Any) -> None:
        async def call(item: str) -> str:
            await asyncio.sleep(60 if attempt().kind == "first" else 1)
            return attempt().kind

        dispatcher = loadgen.Dispatcher("hedged", hedge_after=5, coalesce=lambda item: item)
        assert await asyncio.gather(*(dispatcher.submit(call, "a") for _ in range(3))) == ["hedge"] * 3
        assert dispatcher.totals()["hedges"] == 1

    run(main)


def test_a_batch_calls_items_of_the_same_key_once() -> None:
    async def main(loop: Any) -> None:
        made: list[str] = []

        async def call(item: str) -> str:
            made.append(item)
            if item == "c":
                raise ValueError(item)
            return item.upper()

        done = await loadgen.Dispatcher("parallel", retry=1, coalesce=lambda item: item).arun(
            call, ["a", "b", "a", "c", "a", "c"]
        )
        assert made == ["a", "b", "c"]
        assert done.values[:3] == ("A", "B", "A")
        assert done.values[4] == "A"
        assert done.errors.keys() == {3, 5}
        assert done.stats[4] == done.stats[0] is not None

    run(main)


def test_an_awaiting_task_that_is_cancelled_cancels_its_call() -> None:
    async def main(loop: Any) -> None:
        cancelled = asyncio.Event()

        async def call(item: int) -> None:
            try:
                await asyncio.sleep(100)
            finally:
                cancelled.set()

        dispatcher = loadgen.Dispatcher("parallel")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2):
                await dispatcher.submit(call, 1)
        await cancelled.wait()
        assert loop.time() == 2.0
        assert dispatcher.totals()["in_flight"] == 0

    run(main)


def test_a_service_that_is_never_idle_forgets_the_calls_that_are_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "KEYS", 100)

    async def main(loop: Any) -> None:
        async def call(item: int) -> int:
            await asyncio.sleep(1)
            return item

        dispatcher = loadgen.Dispatcher("parallel", workers=2, key=lambda item: item)
        calls = 3 * submitted.FORGOTTEN_EVERY
        before = dispatcher.submit(call, 0)
        for item in range(1, calls):
            after = dispatcher.submit(call, item)
            assert await before == item - 1
            before = after
        assert await before == calls - 1
        made = dispatcher._submitted_here()
        with pytest.raises(IndexError):
            made._policy.item(0)
        assert made._policy.attempts_of(calls - 1)
        assert made._policy.attempts_of(0) == []
        assert len(made._keys) == 100
        assert dispatcher.totals()["ok"] == calls

    run(main)


def test_a_call_is_not_forgotten_before_its_error_was_raised() -> None:
    async def main(loop: Any) -> None:
        is_time, late = asyncio.Event(), []

        async def call(item: int) -> int:
            if item == 0:
                await is_time.wait()
                # Between this call's end and what the driver makes of it, the submission comes that forgets.
                loop.call_soon(lambda: late.append(dispatcher.submit(call, calls)))
                raise TimeoutError("too slow")
            return item

        dispatcher = loadgen.Dispatcher("parallel", workers=2, retry=1)
        calls = 2 * submitted.FORGOTTEN_EVERY - 1
        slow = dispatcher.submit(call, 0)
        for item in range(1, calls):
            await dispatcher.submit(call, item)
        is_time.set()
        with pytest.raises(TimeoutError, match="too slow"):
            await slow
        assert await late[0] == calls
        with pytest.raises(IndexError):
            dispatcher._submitted_here()._policy.item(0)

    run(main)


def test_an_idle_service_begins_anew_before_its_numbers_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitted, "ROTATED_AT", 10)

    async def main(loop: Any) -> None:
        async def call(item: int) -> int:
            return item

        dispatcher = loadgen.Dispatcher("parallel")
        for item in range(25):
            assert await dispatcher.submit(call, item) == item
        assert dispatcher.totals()["ok"] == 5

    run(main)


def test_a_broken_rule_reaches_everybody_and_the_next_call_is_made() -> None:
    async def main(loop: Any) -> None:
        async def call(item: int) -> int:
            if item == 1:
                raise ValueError("x")
            await asyncio.sleep(5)
            return item

        def judge(error: BaseException) -> bool:
            raise ZeroDivisionError("in the rule")

        dispatcher = loadgen.Dispatcher("parallel", push_back=judge)
        futures = [dispatcher.submit(call, item) for item in (0, 1)]
        for future in futures:
            with pytest.raises(ZeroDivisionError):
                await future
        assert await dispatcher.submit(call, 2) == 2

    run(main)


def test_a_dispatcher_serves_one_loop_after_the_other_and_keeps_none() -> None:
    dispatcher = loadgen.Dispatcher("parallel")

    async def main() -> str:
        return await dispatcher.submit(str, 7)

    for _ in range(3):
        assert asyncio.run(main()) == "7"
    assert len(dispatcher._submitted) == 1


def test_without_a_loop_there_is_nothing_to_submit_to() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        loadgen.Dispatcher().submit(str, 1)


def test_what_makes_no_sense_is_refused_and_the_next_call_is_made() -> None:
    async def main(loop: Any) -> None:
        async def call(item: str) -> str:
            return item

        sizes: dict[str, Any] = {"big": 2**32, "none": -1, "odd": "many", "endless": float("inf"), "fits": 7}
        dispatcher = loadgen.Dispatcher("parallel", tokens=lambda item: sizes[item])
        for item in ("big", "none", "odd", "endless"):
            with pytest.raises(loadgen.ConfigError, match=rf"tokens made {sizes[item]!r} of an item"):
                dispatcher.submit(call, item)
        assert await dispatcher.submit(call, "fits") == "fits"
        for options in ({"key": list}, {"coalesce": list}):
            with pytest.raises(loadgen.ConfigError, match="made a list of an item, which has no hash"):
                loadgen.Dispatcher("parallel", **options).submit(call, "a")  # type: ignore[arg-type]

    run(main)


def test_a_loop_that_ends_begins_no_call_that_waited() -> None:
    begun: list[int] = []

    async def main() -> list[asyncio.Future[None]]:
        both = asyncio.Event()

        async def call(item: int) -> None:
            begun.append(item)
            if len(begun) == 2:
                both.set()
            await asyncio.Event().wait()

        dispatcher = loadgen.Dispatcher("parallel", workers=2)
        waiting = [dispatcher.submit(call, item) for item in range(6)]
        await both.wait()
        return waiting

    waiting = asyncio.run(main())
    assert begun == [0, 1]
    assert all(future.cancelled() for future in waiting)


def test_of_copies_that_succeed_at_once_only_the_winners_value_is_held() -> None:
    async def main(loop: Any) -> None:
        class Answer:
            """Something that can be looked for."""

        both = asyncio.Event()
        made: weakref.WeakSet[Answer] = weakref.WeakSet()

        async def call(item: int) -> Answer:
            await both.wait()
            answer = Answer()
            made.add(answer)
            return answer

        dispatcher = loadgen.Dispatcher("hedged", hedge_after=1)
        future = dispatcher.submit(call, 0)
        await asyncio.sleep(2)
        assert dispatcher.totals()["hedges"] == 1
        both.set()
        answer = await future
        await asyncio.sleep(1)
        gc.collect()
        assert set(made) == {answer}

    run(main)
