"""The statistics of a batch that the engine makes."""

from __future__ import annotations

from typing import Any

from loadgen import _core
from loadgen.dispatch import ended as at
from loadgen.dispatch.columns import PolicyColumns
from loadgen.dispatch.current import KINDS
from loadgen.dispatch.ended import Ended
from loadgen.dispatch.native_run import NativeRun
from loadgen.dispatch.result import CallStats, PlainNode, Told
from loadgen.dispatch.work import BatchItems


class EngineColumns:
    """The statistics of a batch that the engine makes: its policy's, as soon as that is handed over.

    Args:
        run: The engine.
        work: The batch.
    """

    def __init__(self, run: NativeRun, work: BatchItems) -> None:
        self._run = run
        self._work = work
        self._last: Ended | None = None
        self._policy: _core.Policy | None = None
        self._columns: PolicyColumns | None = None

    @property
    def policy(self) -> _core.Policy | None:
        """The policy, once it has done its work."""
        return self._policy

    @policy.setter
    def policy(self, policy: _core.Policy | None) -> None:
        self._policy = policy
        self._columns = None if policy is None else PolicyColumns(policy, self._work.called, self._work.twins)

    def ended(self, ended: Ended) -> None:
        """Note what the engine tells of a call at its end: whoever is told of it may ask now."""
        self._last = ended

    def stats(self, position: int) -> CallStats | None:
        """Return what the call at a position met, once the batch has ended."""
        return None if self._columns is None else self._columns.stats(position)

    def told(self, position: int) -> Told | None:  # noqa: ARG002  # it is the one that ended last
        """Return what is told of the call that ended last."""
        if self._last is None:
            return None
        last, done_ns = self._last, self._last[at.DONE_NS]
        seconds, attempts = (done_ns - last[at.PLANNED_NS]) / 1e9, last[at.ATTEMPTS]
        kind = KINDS[last[at.KIND]] if attempts else ""
        return Told((done_ns - self._run.start_ns) / 1e9, seconds, kind, attempts, last[at.HEDGES])

    def totals(self) -> dict[str, Any]:
        """Return the counts of the batch."""
        return self._run.engine.policy_totals(0) if self._columns is None else self._columns.totals()

    def nodes(self) -> list[PlainNode]:
        """Return what is known of each node, once the batch has ended."""
        return [] if self._columns is None else self._columns.nodes()

    def trace(self) -> dict[str, list[float]]:
        """Return how limit, rate, calls in flight and hedges changed over time."""
        return {} if self._columns is None else self._columns.trace()
