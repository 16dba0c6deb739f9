"""The desk of the native engine: for strategies and handlers of the user's own, whose requests Rust makes."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, Any

from loadgen import _core
from loadgen.dispatch import ended as at
from loadgen.dispatch.ended import Ended
from loadgen.session.desk import Desk
from loadgen.session.phase_issuer import PhaseIssuer
from loadgen.session.prepare import PreparedPhase
from loadgen.session.query import QueryResult, Usage
from loadgen.session.running_phase import RunningPhase

if TYPE_CHECKING:
    from loadgen.event import EventPublisherService

_START_S = 60.0
"""Longest wait for a phase's connections; after that its start is when the strategy begins."""


class NativeDesk(Desk):
    """Hears of completions by the engine's descriptor; issues through the engine where a strategy has no plan."""

    def __init__(self, loop: asyncio.AbstractEventLoop, publisher: EventPublisherService | None = None) -> None:
        super().__init__(loop, publisher)
        self._engine: _core.Engine | None = None
        self._ended: Counter[int] = Counter()
        self._early: list[Ended] = []
        self._start_ns = 0

    @property
    def core(self) -> _core.Engine:
        """The engine."""
        assert self._engine is not None
        return self._engine

    def begun(self, phase: PreparedPhase) -> None:
        """Do the loop's part of a phase that has begun.

        Args:
            phase: The phase.
        """
        if phase.plan.load["kind"] == "manual":
            self._start_ns = self.core.start_ns(_START_S) or _core.now_ns()
        super().begun(phase)

    def _open(self, told: str) -> None:
        self._engine = _core.Engine(told)

    async def _listen(self) -> None:
        self._loop.add_reader(self.core.fileno(), self._take)

    async def _begin(self, running: RunningPhase, phase: PreparedPhase) -> None:
        self._take()
        if running.is_native:
            return
        engine = self.core

        def claim(sample: int | None, planned_ns: int | None) -> int | None:
            return engine.issue(sample, planned_ns)

        # Of what a plan has issued, only the engine knows how much that was; it issues no more.
        handed_over = (i for i, earlier in enumerate(self._begun) if earlier in self._handed_over)
        occupied = sum(engine.issued(i) - self._ended[i] for i in handed_over)
        issuer = PhaseIssuer(claim, seed=phase.plan.seed, start_ns=self._start_ns, occupied=occupied)
        running.start(issuer, engine.end_issue)

    async def _hear(self) -> None:
        self._take()

    async def _close(self) -> None:
        if self._engine is not None:
            self._loop.remove_reader(self.core.fileno())
            self._take()

    def _take(self) -> None:
        # A plan begins before the loop is told of its phase: what has ended by then waits for that.
        known = len(self._begun)
        taken = self._early + self.core.take_completions()
        self._early = [ended for ended in taken if ended[at.PHASE] >= known]
        for ended in taken:
            if ended[at.PHASE] >= known:
                continue
            request, running = ended[at.REQUEST], self._begun[ended[at.PHASE]]
            self._ended[ended[at.PHASE]] += 1
            running.completed(request, _result(ended) if running.wants_answers else None)
            if self._ended_in(running) and self._running is not None:
                self._running.slot_freed(request)


def _result(ended: Ended) -> QueryResult:
    failure, detail, finish = ended[at.FAILURE], ended[at.DETAIL], ended[at.FINISH]
    words = ended[at.ERROR] or (failure if detail == "none" else f"{failure}: {detail}")
    why: Any = None if failure == "none" else failure  # the core has the same words
    return QueryResult(
        id=ended[at.REQUEST],
        output=ended[at.TEXT] or "",
        error=None if failure == "none" else words,
        finish="" if finish == "unknown" else finish,
        usage=Usage(ended[at.TOKENS_IN], ended[at.TOKENS_OUT]),
        ns=ended[at.DONE_NS],
        reasoning=ended[at.REASONING] or "",
        failure=why,
        status=ended[at.STATUS],
        sample=ended[at.SAMPLE],
    )
