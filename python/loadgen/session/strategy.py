"""Load strategies: when the requests of a phase start.

The built-in ones have a plan, which the native engine runs in Rust; their :meth:`~LoadStrategy.execute` does the same
on an event loop, for a transport of the user's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeAlias, TypeGuard

import msgspec

from loadgen.config import values
from loadgen.config.options import STAGED
from loadgen.session.adaptive import AdaptiveStrategy
from loadgen.session.arrival import Arrival, arrival_of, stages_of, valid
from loadgen.session.issuer import Issuer
from loadgen.session.planned import GROUP, Planned

LATE_NS = 5_000_000
"""What leaves this long after its time, and had a slot, is late: the report's own bound (docs/metrics.md)."""


class LoadStrategy(Protocol):
    """How a phase is loaded. Derive from it and write ``execute``; ``on_complete`` may stay as it is."""

    async def execute(self, issuer: Issuer) -> int:
        """Issue the phase's requests, until the issuer takes no more or the strategy has no more.

        Args:
            issuer: The phase.

        Returns:
            How many were issued. An exception ends the phase; what completed is reported, then it is raised again.
        """
        ...

    def on_complete(self, request: int) -> None:  # noqa: ARG002  # for those who override it
        """Learn that a request has completed; an exception ends the phase.

        Args:
            request: Its id.
        """
        return  # without a body a type checker takes it for abstract


class ConcurrencyStrategy(Planned):
    """Closed loop: exactly ``n`` requests in flight, over all workers, until the phase's limits.

    Args:
        n: Requests in flight, above 0.

    Raises:
        ValueError: If ``n`` is not a whole number above 0.
    """

    fields = ("n",)

    def __init__(self, n: int) -> None:
        self.n = valid("concurrency", n, values.count32)

    @property
    def words(self) -> str:
        """The load as a report says it."""
        return f"closed loop, {self.n:,} in flight"

    def load(self) -> dict[str, Any]:
        """Return the load as the engine is told it."""
        return {"kind": "concurrency", "n": self.n}

    async def execute(self, issuer: Issuer) -> int:
        """Keep ``n`` in flight until the issuer takes no more.

        Args:
            issuer: The phase.
        """
        import asyncio

        issued = 0
        while not issuer.stopped:
            if issuer.in_flight >= self.n:
                if await issuer.completed() is None:
                    break
                continue
            if issuer.issue() is None:
                break
            issued += 1
            if issued % GROUP == 0:
                await asyncio.sleep(0)
        return issued


class TimedIssueStrategy(Planned):
    """Open loop on an absolute schedule: requests start when they are due, whatever became of the ones before.

    Due times are those of the plan, not sums of sleeps, so they don't drift. What comes late goes out at once; planned
    and actual times are in the record.

    Args:
        rate: Mean requests a second, above 0.
        stages: Instead of a rate, one that changes: text such as ``"10/s:30s,10-50/s:1m"``, or a list of stages.
        arrival: How the gaps spread: ``poisson``, ``constant``, ``gamma``, ``uniform``, or an :class:`Arrival`.
        burstiness: Shape of gamma gaps.
        max_concurrency: At most this many in flight; a request due meanwhile waits for a slot.

    Attributes:
        late: In the last :meth:`execute`, how many left more than 5 ms after the later of their time and a free slot.

    Raises:
        ValueError: If an argument is out of bounds, or not exactly one of rate and stages is given.
    """

    fields = ("rate", "stages", "arrival", "max_concurrency")

    def __init__(
        self,
        rate: float | None = None,
        *,
        stages: str | Sequence[Any] | None = None,
        arrival: str | Arrival | Mapping[str, Any] = "poisson",
        burstiness: float | None = None,
        max_concurrency: int | None = None,
    ) -> None:
        if (rate is None) == (stages is None):
            raise ValueError(f"a timed load has a rate ({rate!r}) or stages ({stages!r}): give exactly one of them")
        self.rate = None if rate is None else valid("rate", rate, values.positive)
        self.stages = None if stages is None else stages_of(stages)
        self.arrival = arrival_of(arrival, burstiness)
        if stages is not None and self.arrival.kind not in STAGED:
            raise ValueError(f"stages can't have {self.arrival.kind} arrivals: take poisson or constant")
        if max_concurrency is not None:
            self.max_concurrency = valid("max_concurrency", max_concurrency, values.count32)
        self.late = 0

    @property
    def words(self) -> str:
        """The load as a report says it."""
        if self.stages is None:
            return f"{self.arrival.words} {self.rate:,g} req/s"
        shown = ", ".join(stage.words for stage in self.stages[:4])
        more = f", and {len(self.stages) - 4} more stages" if len(self.stages) > 4 else ""
        return f"{self.arrival.words} {shown}{more}"

    def load(self) -> dict[str, Any]:
        """Return the load as the engine is told it."""
        arrival = self.arrival.told()
        if self.stages is None:
            return {"kind": "rate", "rate": self.rate, "arrival": arrival}
        return {"kind": "stages", "stages": [msgspec.to_builtins(stage) for stage in self.stages], "arrival": arrival}

    async def execute(self, issuer: Issuer) -> int:
        """Issue each request when it is due, until the plan ends or the issuer takes no more.

        Args:
            issuer: The phase; its seed is the plan's.
        """
        import asyncio

        self.late = issued = 0
        for offset in self.plan(issuer.seed).offsets():
            due = issuer.start_ns + offset
            free = await self._slot(issuer)
            if free is None or not await issuer.until(due):
                break
            late = issuer.now_ns() - max(due, free) > LATE_NS
            if issuer.issue(planned_ns=due) is None:
                break
            issued += 1
            self.late += late
            if issuer.stopped:
                break
            if issued % GROUP == 0:
                await asyncio.sleep(0)
        return issued

    async def _slot(self, issuer: Issuer) -> int | None:
        """Wait until one more may be in flight: when that came, 0 without a wait; ``None`` where it can't come."""
        free = 0
        while self.max_concurrency is not None and issuer.in_flight >= self.max_concurrency:
            if await issuer.completed() is None:
                return None
            free = issuer.now_ns()
        return free


class BurstStrategy(Planned):
    """``n`` requests at once, all due at the phase's start.

    Args:
        n: Requests, above 0.

    Raises:
        ValueError: If ``n`` is not a whole number above 0.
    """

    fields = ("n",)

    def __init__(self, n: int) -> None:
        self.n = valid("burst", n, values.count)

    @property
    def words(self) -> str:
        """The load as a report says it."""
        return f"burst of {self.n:,}"

    def load(self) -> dict[str, Any]:
        """Return the load as the engine is told it."""
        return {"kind": "burst", "n": self.n}

    async def execute(self, issuer: Issuer) -> int:
        """Issue all requests, without a pause but for reading answers.

        Args:
            issuer: The phase.
        """
        import asyncio

        for issued in range(self.n):
            if issued and issued % GROUP == 0:
                await asyncio.sleep(0)
            if issuer.issue(planned_ns=issuer.start_ns) is None:
                return issued
        return self.n


PlannedStrategy: TypeAlias = ConcurrencyStrategy | TimedIssueStrategy | BurstStrategy | AdaptiveStrategy


def is_planned(strategy: object) -> TypeGuard[PlannedStrategy]:
    """Return whether the engine can run a strategy by its plan alone.

    That is a built-in one itself. One derived from it may do otherwise in its ``execute``, so that has to run.

    Args:
        strategy: The strategy.
    """
    return type(strategy) in (ConcurrencyStrategy, TimedIssueStrategy, BurstStrategy, AdaptiveStrategy)
