"""Makes calls that do nothing: the process of `dispatch_asyncio.py` and `dispatch_memory.py`.

usage: dispatch_calls.py HOW CALLS

HOW is the dispatcher (auto, hedged, threads), what it is measured beside (gather: a task a call and a semaphore; queue:
workers that share a queue), or nothing. Prints the number of values that came.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

import loadgen

_IN_FLIGHT = 256
_THREADS = 16


async def nothing(item: int) -> int:
    """Give the item back at once: all that it costs is what is around it."""
    return item


async def gather(items: Sequence[int]) -> int:
    permits = asyncio.Semaphore(_IN_FLIGHT)

    async def one(item: int) -> int:
        async with permits:
            return await nothing(item)

    return len(await asyncio.gather(*(one(item) for item in items)))


async def queue(items: Sequence[int]) -> int:
    values: list[int | None] = [None] * len(items)
    waiting = iter(enumerate(items))

    async def worker() -> None:
        for index, item in waiting:
            values[index] = await nothing(item)

    await asyncio.gather(*(worker() for _ in range(_IN_FLIGHT)))
    return len(values) - values.count(None)


def main(how: str, calls: str) -> int:
    items = range(int(calls))
    if how == "nothing":
        return len(items)
    if how in ("gather", "queue"):
        return asyncio.run({"gather": gather, "queue": queue}[how](items))
    if how == "threads":
        return len(loadgen.Dispatcher("adaptive_ceiling", max_concurrency=_THREADS).run(abs, items).check())
    dispatcher = loadgen.Dispatcher(how, max_concurrency=_IN_FLIGHT, rpm=1e9, tpm=1e12)
    return len(dispatcher.run(nothing, items).check())


if __name__ == "__main__":
    print(main(*sys.argv[1:]))
