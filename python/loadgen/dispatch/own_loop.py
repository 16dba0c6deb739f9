"""A batch from code that isn't async: on an event loop of its own, which ends with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from loadgen.errors import DispatchError

R = TypeVar("R")

_LEAVE_S = 0.2
"""How long calls that were cancelled may take to close their connections, before the loop closes without them."""


def run(main: Callable[[], Coroutine[Any, Any, R]], name: str, owner: str = "dispatcher") -> R:
    """Run something on a new loop of this thread.

    Args:
        main: Makes the coroutine.
        name: What is to be awaited instead where a loop runs already.
        owner: What it is a method of.

    Returns:
        What it returned.

    Raises:
        DispatchError: If an event loop runs in this thread: it would stand still.
        KeyboardInterrupt: If it was interrupted; what was in flight is cancelled then, and the journal whole.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        raise DispatchError("an event loop is running in this thread", f"await {owner}.{name}(…) on it")
    loop = asyncio.new_event_loop()  # a library leaves signals alone, asyncio's runner wouldn't
    try:
        return _run(loop, main)
    finally:
        try:
            loop.run_until_complete(_clear())
            loop.run_until_complete(loop.shutdown_asyncgens())
        finally:
            loop.set_exception_handler(_unless_abandoned)
            loop.close()


def _run(loop: asyncio.AbstractEventLoop, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    task = loop.create_task(main())
    try:
        return loop.run_until_complete(task)
    except (KeyboardInterrupt, SystemExit):
        task.cancel()
        while not task.done():
            try:
                loop.run_until_complete(asyncio.wait([task]))
            except (KeyboardInterrupt, SystemExit):
                continue  # it is stopping already, and the journal must be closed
        if not task.cancelled():
            task.exception()  # looked at: the interrupt is what the caller gets
        raise


async def _clear() -> None:
    """Cancel what is left, and give it a moment to end; what ignores that is left behind."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks, timeout=_LEAVE_S)


def _unless_abandoned(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say nothing of tasks that outlived the loop: they were cancelled, and the batch has counted them."""
    task = context.get("task")
    if isinstance(task, asyncio.Task) and not task.done():
        return
    loop.default_exception_handler(context)
