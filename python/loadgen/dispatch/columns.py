"""A batch's statistics as the policy keeps them: columns in the core, read one call at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loadgen import _core
from loadgen.dispatch.current import KINDS
from loadgen.dispatch.result import AttemptStats, CallStats, PlainNode, Told

_OUTCOMES = ("ok", "rejected", "failed", "timed_out", "stalled", "broken", "cancelled", "lost", "live")


class PolicyColumns:
    """The columns of a policy, by the positions of a batch.

    Args:
        policy: The policy that ran it.
        called: The position of each of the policy's items, in order.
        twins: From a position to those that shared its call.
    """

    def __init__(self, policy: _core.Policy, called: Sequence[int], twins: Mapping[int, Sequence[int]]) -> None:
        self._policy = policy
        self._called = called
        self._leaders = {twin: leader for leader, others in twins.items() for twin in others}
        self._items: dict[int, int] | None = None  # from position to item, where they aren't the same

    def stats(self, position: int) -> CallStats | None:
        """Return what the call at a position met; ``None`` where it needed no call."""
        item = self._item(self._leaders.get(position, position))
        return None if item is None else self._of(item)

    def told(self, position: int) -> Told | None:
        """Return what is told of the call at a position; ``None`` where it needed no call."""
        stats = self.stats(position)
        if stats is None:
            return None
        return Told(
            at_s=stats.ended,
            seconds=stats.seconds,
            kind=stats.attempts[stats.winner].kind if stats.winner is not None else "first" if stats.attempts else "",
            attempts=len(stats.attempts),
            hedges=sum(attempt.kind == "hedge" for attempt in stats.attempts),
        )

    def totals(self) -> dict[str, Any]:
        """Return the counts of the batch."""
        return dict(self._policy.totals())

    def nodes(self) -> list[PlainNode]:
        """Return what is known of each node, as ``_core.Policy.nodes()`` gives it; none where calls aren't spread."""
        return self._policy.nodes()

    def trace(self) -> dict[str, list[Any]]:
        """Return how limit, rate, calls in flight and hedges changed over time."""
        times, limit, rate, in_flight, hedges = self._policy.trace()
        seconds = [ns / 1e9 for ns in times]
        return {"t_s": seconds, "limit": limit, "rate": rate, "in_flight": in_flight, "hedges": hedges}

    def _of(self, item: int) -> CallStats:
        queued, _, _, _, winner, limit, rate, backoff = self._policy.item(item)
        rows = self._policy.attempts_of(item)
        attempts = tuple(_attempt(row) for row in rows)
        at = next((index for index, row in enumerate(rows) if row[0] == winner), None)
        stands = None if at is None else attempts[at]
        ends = [attempt.ended for attempt in attempts if attempt.ended is not None]
        tokens = (0, 0) if stands is None else (stands.tokens_in, stands.tokens_out)
        return CallStats(
            queued=queued / 1e9,
            started=attempts[0].started if attempts else None,
            first_byte=None if stands is None else stands.first_byte,
            # What was never started ended when it had waited for as long as it did.
            ended=max(ends, default=(queued + limit + rate + backoff) / 1e9),
            attempts=attempts,
            winner=at,
            waits={"limit": limit / 1e9, "rate": rate / 1e9, "backoff": backoff / 1e9},
            tokens_in=tokens[0],
            tokens_out=tokens[1],
            tokens_wasted=sum(one.tokens_in + one.tokens_out for one in attempts) - sum(tokens),
        )

    def _item(self, position: int) -> int | None:
        if isinstance(self._called, range):
            return position
        if self._items is None:
            self._items = {called: item for item, called in enumerate(self._called)}
        return self._items.get(position)


def _attempt(row: tuple[int, int, int, int, int, int, int | None, int | None, int, int]) -> AttemptStats:
    _, kind, node, fate, status, started, first_byte, ended, tokens_in, tokens_out = row
    return AttemptStats(
        kind=KINDS[kind],
        node=node,
        status=status,
        outcome=_OUTCOMES[fate],
        started=started / 1e9,
        ended=_seconds(ended),
        first_byte=_seconds(first_byte),
        tokens_in=tokens_in,
        tokens_out=tokens_out,
    )


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9
