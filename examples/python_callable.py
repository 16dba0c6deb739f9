"""Load-tests a plain async function of Python, and prints the report that a server would get.

usage: python examples/python_callable.py
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import loadgen
from loadgen.report import screen

Model = Callable[[str], AsyncIterator[str]]


async def model(prompt: str) -> AsyncIterator[str]:
    """Stand in for whatever is to be measured: a client library, a local model, a chain of calls."""
    await asyncio.sleep(0.02)  # it reads the prompt
    for word in f"You said {len(prompt.split())} words.".split():
        await asyncio.sleep(0.005)
        yield word + " "


class CallableIssuer:
    """Drives an async generator: each query is a task, and whatever the tasks bring goes into one queue."""

    def __init__(self, call: Model) -> None:
        self._call = call
        self._news: asyncio.Queue[loadgen.StreamChunk | loadgen.QueryResult | None] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    def issue(self, query: loadgen.Query) -> None:
        """Start the call, and return at once."""
        task = asyncio.create_task(self._make(query))
        self._tasks.add(task)  # the loop keeps no reference of its own
        task.add_done_callback(self._tasks.discard)

    async def recv(self) -> loadgen.StreamChunk | loadgen.QueryResult | None:
        """Wait for the next piece or end of any call."""
        return await self._news.get()

    def shutdown(self) -> Awaitable[None] | None:
        """End what still runs, and the stream of news."""
        for task in self._tasks:
            task.cancel()
        self._news.put_nowait(None)
        return None

    async def _make(self, query: loadgen.Query) -> None:
        prompt = query.json()["messages"][0]["content"]
        said = []
        try:
            async for piece in self._call(prompt):
                said.append(piece)
                self._news.put_nowait(loadgen.StreamChunk(query.id, piece, tokens=1))
            self._news.put_nowait(loadgen.QueryResult(query.id, "".join(said), finish="stop"))
        except Exception as error:  # noqa: BLE001 - whatever the call raises is how it ended
            self._news.put_nowait(
                loadgen.QueryResult(query.id, "".join(said), error=f"{type(error).__name__}: {error}")
            )


async def main() -> loadgen.SessionResult:
    """Warm up, then measure an open and a closed loop."""
    phases = [
        loadgen.PhaseConfig(
            name="warmup",
            type="warmup",
            strategy=loadgen.ConcurrencyStrategy(4),
            limits=loadgen.Limits(samples=8),
        ),
        loadgen.PhaseConfig(
            name="as users come",
            strategy=loadgen.TimedIssueStrategy(100),
            limits=loadgen.Limits(duration="1s"),
        ),
        loadgen.PhaseConfig(
            name="saturated",
            strategy=loadgen.ConcurrencyStrategy(16),
            limits=loadgen.Limits(samples=200),
        ),
    ]
    return await loadgen.BenchmarkSession(CallableIssuer(model)).arun(phases)


if __name__ == "__main__":
    screen.show(asyncio.run(main()))
