"""What a batch tells while it goes on: progress now and then, each call as it ends; and what of it is restored."""

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

import loadgen
import virtual_loop
from loadgen import _core
from loadgen.dispatch import Call, Progress


async def three_seconds(item: int) -> int:
    await asyncio.sleep(3)
    if item == 1:
        raise ValueError("poison")
    return item


def batch(call: Any = three_seconds, items: Any = range(6), **options: Any) -> Any:
    async def main(_: Any) -> Any:
        return await loadgen.Dispatcher("parallel", workers=2, retry=1, **options).arun(call, items)

    return virtual_loop.run(main)


def test_a_function_is_told_how_far_the_batch_is() -> None:
    seen: list[Progress] = []
    batch(progress=seen.append)
    first, last = seen[0], seen[-1]
    assert (first.done, first.total, first.seconds) == (0, 6, 0.0)
    assert (last.done, last.ok, last.failed, last.in_flight, last.seconds) == (6, 5, 1, 0, 9.0)
    assert all(before.done <= after.done for before, after in itertools.pairwise(seen))
    assert {one.in_flight for one in seen[1:-1]} == {2}
    assert {one.limit for one in seen} == {2}


def test_each_call_is_told_as_it_ends() -> None:
    seen: list[Call] = []
    batch(trace=seen.append)
    assert [(call.index, call.at_s, call.ok, call.seconds) for call in seen] == [
        (0, 3.0, True, 3.0),
        (1, 3.0, False, 3.0),
        (2, 6.0, True, 3.0),
        (3, 6.0, True, 3.0),
        (4, 9.0, True, 3.0),
        (5, 9.0, True, 3.0),
    ]
    assert (seen[0].value, seen[0].item, seen[0].kind, seen[0].attempts) == (0, 0, "first", 1)
    assert (seen[1].value, str(seen[1].error)) == (None, "poison")


def test_a_grids_calls_are_told_with_row_and_column() -> None:
    seen: list[Call] = []
    loadgen.Dispatcher("sequential", trace=seen.append).grid(lambda row, col: row + col, ["a", "b"], ["x", "y"])
    assert [(call.row, call.column, call.value) for call in seen] == [
        ("a", "x", "ax"),
        ("a", "y", "ay"),
        ("b", "x", "bx"),
        ("b", "y", "by"),
    ]


def test_what_a_journal_had_is_told_first_and_called_never(tmp_path: Path) -> None:
    made: list[int] = []

    async def call(item: int) -> int:
        made.append(item)
        if item == 1:
            raise ValueError("poison")
        return item

    def batch(items: Any, **options: Any) -> Any:  # in real time: the journal closes on a thread
        return loadgen.Dispatcher("sequential", retry=1, **options).run(call, items)

    journal = tmp_path / "batch.jsonl"
    assert batch(range(3), journal=journal).errors.keys() == {1}
    calls: list[Call] = []
    seen: list[Progress] = []
    done = batch(range(4), journal=journal, trace=calls.append, progress=seen.append)
    assert (done.values[0], done.values[2:], done.errors.keys()) == (0, (2, 3), {1})
    assert made == [0, 1, 2, 1, 3]
    assert [(one.index, one.kind) for one in calls] == [(0, "journal"), (2, "journal"), (1, "first"), (3, "first")]
    assert (seen[0].done, seen[0].restored, seen[-1].done, seen[-1].total) == (2, 2, 4, 4)
    assert [result.restored for result in done] == [True, False, True, False]
    assert done[0].stats is None
    assert done[3].stats is not None
    assert (done.totals["restored"], done.totals["ok"], done.totals["failed"]) == (2, 1, 1)


def test_a_watching_function_that_raises_ends_the_batch() -> None:
    def refuse(_: object) -> None:
        raise ZeroDivisionError("in the view")

    for option in ("progress", "trace"):
        with pytest.raises(ZeroDivisionError, match="in the view"):
            batch(**{option: refuse})


def test_another_word_for_progress_is_refused() -> None:
    with pytest.raises(loadgen.ConfigError, match="progress 'loud' is none"):
        batch(progress="loud")


def test_a_printed_trace_ends_with_its_totals(capsys: pytest.CaptureFixture[str]) -> None:
    batch(trace=True, progress=False)
    told = capsys.readouterr().out.splitlines()
    assert len(told) == 1 + 6 + 3
    assert told[-3:-1] == [
        " 6 calls in 9.0 s: 5 ok, 1 failed",
        " 6 sent, 0 of them hedges; settled by 6 first",
    ]


@pytest.mark.parametrize("is_native", [False, True])
def test_a_function_that_raises_as_a_cancelled_batch_ends_doesnt_take_its_place(is_native: bool) -> None:
    begun = asyncio.Event()
    is_over = False

    def shown(_: Progress) -> None:
        begun.set()
        if is_over:
            raise ValueError("the screen is gone")

    async def main() -> None:
        nonlocal is_over
        dispatcher = loadgen.Dispatcher("parallel", progress=shown)
        server = _core.MockServer(json.dumps({"any_model": True, "stall_rate": 1}))
        made = dispatcher.arequests(["a"], url=server.url) if is_native else dispatcher.arun(three_seconds, [1])
        batch = asyncio.ensure_future(made)
        await begun.wait()
        is_over = True
        batch.cancel()
        with pytest.warns(RuntimeWarning, match="the screen is gone"), pytest.raises(asyncio.CancelledError):
            await batch
        server.stop()

    asyncio.run(main())


def test_a_function_that_raised_is_told_nothing_more() -> None:
    told: list[Progress] = []

    def shown(how_far: Progress) -> None:
        told.append(how_far)
        raise ValueError("no screen")

    with pytest.raises(ValueError, match="no screen"):
        batch(progress=shown)
    assert len(told) == 1


def test_why_nothing_succeeds_is_told_and_what_an_interrupt_cancels_has_not_failed() -> None:
    seen: list[Progress] = []

    async def main() -> None:
        def shown(how_far: Progress) -> None:
            seen.append(how_far)
            if how_far.failure:
                going.cancel()

        dispatcher = loadgen.Dispatcher("parallel", workers=4, progress=shown)
        going = asyncio.ensure_future(dispatcher.arequests(["a"] * 9, url="http://127.0.0.1:1", model="m"))
        with pytest.raises(asyncio.CancelledError):
            await going

    asyncio.run(main())
    assert seen[0].failure == ""
    last = seen[-1]
    assert last.failure == "Connection refused"
    assert last.attempts > 0
    assert (last.done, last.ok, last.failed) == (0, 0, 0)


def test_why_a_function_fails_is_told_while_it_is_tried_again() -> None:
    seen: list[Progress] = []

    async def poison(item: int) -> int:
        raise ConnectionResetError(f"item {item}")

    async def main(_: Any) -> Any:
        dispatcher = loadgen.Dispatcher("sequential", retry={"attempts": 3, "base": 5.0}, progress=seen.append)
        return await dispatcher.arun(poison, [7])

    done = virtual_loop.run(main)
    assert list(done.errors) == [0]
    assert "ConnectionResetError: item 7" in {one.failure for one in seen}
