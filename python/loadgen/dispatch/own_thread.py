"""A call on a thread of its own, awaited: the loop's shared threads may all be busy with calls that wait for it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

R = TypeVar("R")


def on_own_thread(call: Callable[[], R]) -> asyncio.Future[R]:
    """Call something on a new thread, in this context; the interpreter waits for it at its end.

    Args:
        call: What to call. It can't be cancelled.

    Returns:
        What it returns or raises; the thread has ended by then.
    """
    answer: concurrent.futures.Future[R] = concurrent.futures.Future()
    answer.set_running_or_notify_cancel()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            result = context.run(call)
        except BaseException as problem:  # noqa: BLE001 - the thread's edge: it is raised where the answer is awaited
            answer.set_exception(problem)
        else:
            answer.set_result(result)

    def gone(_: asyncio.Future[R]) -> None:
        if answer.done():  # then giving it was the last that the thread did
            thread.join()

    thread = threading.Thread(target=work, name="loadgen-run")
    thread.start()
    awaited = asyncio.wrap_future(answer)
    awaited.add_done_callback(gone)
    return awaited


async def whole(doing: asyncio.Future[R]) -> R:
    """Wait for what a thread does; it can't be cancelled, so whoever is waits for its end too.

    Args:
        doing: As :func:`on_own_thread` gives it.
    """
    try:
        return await asyncio.shield(doing)
    except asyncio.CancelledError:
        await gone(doing)
        raise


async def gone(doing: asyncio.Future[R]) -> None:
    """Wait until a thread has ended, however often that is cancelled; what came of it is for whoever else asks.

    Args:
        doing: As :func:`on_own_thread` gives it.
    """
    while not doing.done():
        try:
            await asyncio.wait([doing])
        except asyncio.CancelledError:
            continue
    if not doing.cancelled():
        doing.exception()  # looked at: the cancellation is what the caller gets
