"""What the tests of sessions share: an issuer that answers as a test says, phases, and strategies of one's own."""

import asyncio
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from loadgen.session import summary
from loadgen.session.issuer import Issuer
from loadgen.session.phase import Limits, PhaseConfig, PhaseType
from loadgen.session.query import Query, QueryResult, StreamChunk, Usage
from loadgen.session.result import SessionResult
from loadgen.session.settings import PhaseSettings
from loadgen.session.strategy import ConcurrencyStrategy

Answer = Callable[["Script", Query], None]


class Script:
    """An issuer that answers as a test says: at once unless told otherwise.

    Args:
        answer: Called for each query.
    """

    def __init__(self, answer: Answer | None = None) -> None:
        self.queries: list[Query] = []
        self.held: list[Query] = []
        self.shut = 0
        self.in_flight = self.most = 0
        self._answer = answer or Script.good
        self._news: deque[Any] = deque()
        self._some = asyncio.Event()

    def issue(self, query: Query) -> None:
        self.queries.append(query)
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        self._answer(self, query)

    def good(self, query: Query) -> None:
        self.tell(StreamChunk(query.id, "a", 1), StreamChunk(query.id, "b", 1))
        self.tell(QueryResult(query.id, "ab", finish="stop", usage=Usage(3, 2)))

    def hold(self, query: Query) -> None:
        self.held.append(query)

    def tell(self, *items: Any) -> None:
        self._news.extend(items)
        self._some.set()

    async def recv(self) -> Any:
        while not self._news:
            self._some.clear()
            await self._some.wait()
        item = self._news.popleft()
        if isinstance(item, Exception):
            raise item
        if isinstance(item, QueryResult):
            self.in_flight -= 1
        await asyncio.sleep(0)
        return item

    def shutdown(self) -> None:
        self.shut += 1
        self.tell(None)


def phase(name: str = "p", **changes: Any) -> PhaseConfig:
    told: dict[str, Any] = {"strategy": ConcurrencyStrategy(4), "limits": Limits(samples=20), **changes}
    return PhaseConfig(name=name, **told)


def warmup(**changes: Any) -> PhaseConfig:
    return phase("w", type=PhaseType.WARMUP, **changes)


def only_run(here: Path) -> SessionResult:
    """What the only run below here left, as `loadgen report` sees it."""
    (directory,) = (here / "loadgen-runs").iterdir()
    return SessionResult.of(directory, summary.report_of(directory))


def counts(result: SessionResult, name: str = "p") -> tuple[int, int, int, int]:
    found = result.phase(name).counts
    return found.issued, found.ok, found.failed, found.cancelled


async def eventually(condition: Callable[[], object]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came to be")


class Own:
    """A strategy of the user's own.

    Args:
        do: What it does.
    """

    def __init__(self, do: Any) -> None:
        self._do = do
        self.completed: list[int] = []

    async def execute(self, issuer: Issuer) -> int:
        done = await self._do(issuer)
        return int(done or 0)

    def on_complete(self, request: int) -> None:
        self.completed.append(request)


async def all_of_it(issuer: Issuer) -> int:
    issued = 0
    while True:
        while issuer.in_flight >= 4:
            await issuer.completed()
        if issuer.issue() is None:
            return issued
        issued += 1


async def for_ever(issuer: Issuer) -> None:
    await asyncio.Event().wait()


def short() -> PhaseSettings:
    return PhaseSettings(output_tokens=1)
