"""One batch from its beginning to its end: the journal around it, the policy that decides, what watches it."""

from __future__ import annotations

import asyncio
import functools
import json
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict, TypeVar

from loadgen import _core
from loadgen.dispatch import remember
from loadgen.dispatch.classify import Classifier
from loadgen.dispatch.columns import PolicyColumns
from loadgen.dispatch.driver import Driver
from loadgen.dispatch.limits import TimeLimits
from loadgen.dispatch.own_thread import on_own_thread, whole
from loadgen.dispatch.result import Batch
from loadgen.dispatch.watching import Watching
from loadgen.dispatch.work import BatchItems, BatchWork
from loadgen.errors import DispatchError, JournalError

if TYPE_CHECKING:
    from loadgen.dispatch.callee import Callee
    from loadgen.dispatch.journal import Entry, Journal, OpenJournal
    from loadgen.dispatch.strategy import Options

R = TypeVar("R")


class Rooms(Protocol):
    """What spreads a batch over nodes."""

    def room(self, node: int, slots: int) -> None:
        """Have a node take so many items at the same time from now on; 0 for none."""


Beside: TypeAlias = "Callable[[Rooms], Coroutine[Any, Any, None]]"
"""What goes on beside a batch: begun before its first call with what drives it, and cancelled at its end."""


async def run_batch(options: Options, callee: Callee, items: Sequence[Any], beside: Beside | None = None) -> Batch[Any]:
    """Make the calls of a batch.

    Args:
        options: How.
        callee: What is called.
        items: With what.
        beside: What goes on beside it; if that fails, so does the batch.

    Raises:
        ConfigError: If something can't be used; nothing was called.
        DispatchError: If the batch could not be carried on.
    """
    return await journalled(
        options.journal,
        {"call": callee.name},
        items,
        lambda opened, restored: _run(options, BatchWork(callee, items, options, opened, restored), opened, beside),
    )


async def journalled(
    journal: Any,
    config: Mapping[str, Any],
    items: Sequence[Any],
    run: Callable[[OpenJournal | None, Mapping[int, Entry]], Awaitable[Batch[R]]],
    codec: type | None = None,
) -> Batch[R]:
    """Run a batch with its journal open around it, if it has one.

    The file is read, written and closed on threads of its own: a large one takes as long as the disk does.

    Args:
        journal: What the user means by it; ``None`` for none.
        config: What decides the values, but for the journal's own.
        items: The batch's.
        run: Runs the batch, given the open journal and what it has of the items, by their indices.
        codec: What the values are, where JSON doesn't give them back as they were and the journal has no codec.
    """
    if journal is None:
        return await run(None, {})
    from loadgen.dispatch.journal import as_journal

    wanted = as_journal(journal)
    assert wanted is not None
    opened, restored = await _read(wanted, config, items, codec)
    try:
        batch = await run(opened, restored)
    except GeneratorExit:
        with opened:
            raise  # the loop is gone: nothing can be awaited any more
    except BaseException as error:
        try:
            await whole(on_own_thread(opened.close))
        except JournalError as last:
            _complete(error, last)  # what is on its way says why the batch ended
        raise
    try:
        await whole(on_own_thread(opened.close))
    except JournalError as error:
        error.batch = batch
        raise
    return batch


def _complete(error: BaseException, last: JournalError) -> None:
    """Have the error of a disk that refused name what is missing at the end: calls have ended since it was made."""
    if isinstance(error, JournalError) and isinstance(error.__cause__, OSError):
        error.args, error.message, error.way_out, error.unwritten = (
            last.args,
            last.message,
            last.way_out,
            last.unwritten,
        )


async def _read(
    wanted: Journal, config: Mapping[str, Any], items: Sequence[Any], codec: type | None
) -> tuple[OpenJournal, dict[int, Entry]]:
    """Open a journal and look up what finished; it isn't left open where that fails or nobody waits for it any more."""

    def read() -> tuple[OpenJournal, dict[int, Entry]]:
        opened = wanted.open(config, codec)
        try:
            return opened, opened.restore(items)
        except BaseException:
            with opened:
                raise

    reading = on_own_thread(read)
    try:
        return await whole(reading)
    except asyncio.CancelledError:
        if not reading.cancelled() and reading.exception() is None:
            await whole(on_own_thread(reading.result()[0].close))
        raise


async def _run(options: Options, work: BatchWork, opened: OpenJournal | None, beside: Beside | None) -> Batch[Any]:
    loop = asyncio.get_running_loop()
    config = options.config(len(work.called), None if options.remember is None else remember.load(options.remember))
    policy = _core.Policy(config, options.seed)
    driver = Driver(policy, work, Classifier(options.push_back), **bounds(config))
    columns = PolicyColumns(policy, work.called, work.twins)
    if opened is not None:
        opened.on_failure = functools.partial(_refused, loop, opened, work)
    watching = Watching(options, work, columns, driver)
    task = None if beside is None else aside(loop, beside(driver), work)
    try:
        watching.begin()
        work.queue(driver)
        await work.done()
        wall_s = driver.now() / 1e9
    except GeneratorExit:
        raise  # the loop is gone: nothing can be awaited any more
    except BaseException as error:
        wall_s = driver.now() / 1e9
        try:
            await _end(driver, task)
        finally:
            watching.abort()
        if isinstance(error, DispatchError):
            error.batch = work.so_far(error, columns, wall_s=wall_s)
        raise
    try:
        abandoned = await _end(driver, task)
    except asyncio.CancelledError:
        watching.abort()
        raise
    watching.end()
    keep(options, policy)
    return work.batch(columns, wall_s=wall_s, abandoned=abandoned)


def aside(loop: asyncio.AbstractEventLoop, what: Coroutine[Any, Any, None], work: BatchItems) -> asyncio.Task[None]:
    """Begin what goes on beside a batch; if it fails, the batch ends with its error.

    Args:
        loop: The batch's.
        what: What goes on; cancelled by whoever ends the batch.
        work: The batch.
    """

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            work.broken(error)

    task = loop.create_task(what)
    task.add_done_callback(ended)
    return task


async def _end(driver: Driver, beside: asyncio.Task[None] | None) -> int:
    if beside is not None:
        beside.cancel()
        await asyncio.wait([beside])
    return await driver.leave()


def _refused(loop: asyncio.AbstractEventLoop, opened: OpenJournal, work: BatchWork) -> None:
    """End the batch from the journal's thread, when the disk refuses."""

    def tell() -> None:
        try:
            opened.check()
        except JournalError as error:
            work.broken(error)

    try:
        loop.call_soon_threadsafe(tell)
    except RuntimeError:
        return  # the loop has ended, and closing the journal says it


class Bounds(TypedDict):
    """What a driver is bound by."""

    threads: int
    limits: TimeLimits


def bounds(config: str) -> Bounds:
    """Return what a policy's driver has to keep to itself: threads, one a call and as many for abandoned ones; limits.

    Args:
        config: The policy's configuration, as JSON.
    """
    read = json.loads(config)
    limit = read["limit"]
    most = int(limit["n"] if limit["kind"] == "fixed" else limit["ceiling"])
    return Bounds(threads=most + max(8, most), limits=TimeLimits.of(read))


def keep(options: Options, policy: _core.Policy) -> None:
    """Keep what ``auto`` learned of the endpoint, if it is to; the values are there by then, so it may fail.

    Args:
        options: Whether, and where.
        policy: What learned it.
    """
    if options.remember is None or options.strategy != "auto":
        return
    try:
        remember.save(options.remember, learned(policy))
    except DispatchError as error:
        warnings.warn(f"what the batch learned isn't remembered: {error}", RuntimeWarning, stacklevel=2)


def learned(policy: _core.Policy) -> dict[str, float]:
    """Return what a policy knows of its endpoint: how many calls it bore at once, and the rate, if it met one."""
    totals = policy.totals()
    most = totals["in_flight_most"]
    if totals["cuts"]:
        # It was too much at times. Without push-back it was judged so by the latencies alone, which may err.
        most = min(most, totals["limit"] if totals["push_backs"] else max(totals["limit"], most // 2))
    rate = next(reversed(policy.trace()[2]), None)
    limit: dict[str, float] = {"limit": max(1, most)}
    return limit if rate is None else {**limit, "rate": rate}
