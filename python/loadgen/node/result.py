"""What a batch over nodes gives: the batch, how it was spread and why, and what each node did of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar, overload

import msgspec

from loadgen.dispatch.result import Batch, CallResult, Unknown
from loadgen.errors import NodeError, words_of
from loadgen.node.thresholds import Decision, Mode

R = TypeVar("R")


class NodeWork(msgspec.Struct, frozen=True):
    """What one node did of a batch.

    Args:
        name: Its name.
        url: Its URL, without credentials.
        served: Attempts that it answered.
        failed: Attempts that failed there, were pushed back or timed out.
        dropped: Attempts that were given up there: another copy was first, or nobody wanted them.
        service_s: Seconds that it takes for an item, as the batch knew it at its end; ``None`` where nobody knows.
        speed: Items a second, of all that it works on at the same time; ``None`` where nobody knows.
        state: ``up``, ``half-open`` or ``down`` at the end.
        share: Its answers, as a share of all.
        reason: Why it got nothing, where it was left out from the start.
    """

    name: str
    url: str
    served: int = 0
    failed: int = 0
    dropped: int = 0
    service_s: float | None = None
    speed: float | None = None
    state: str = "up"
    share: float = 0.0
    reason: str = ""


class NodeBatch(Sequence[CallResult[R]], Generic[R]):
    """The calls of a batch, in item order; with the mode, and each node's part in it. It can't be changed.

    The ``node`` of an attempt in :attr:`CallResult.stats` is the index in :attr:`work`.

    Args:
        batch: The calls.
        decision: How they were spread.
        nodes: The URLs of the nodes that were chosen.
        work: What each node did: first those that could take items, the fastest first, as far as that was known.
    """

    __slots__ = ("_batch", "decision", "nodes", "work")

    def __init__(
        self,
        batch: Batch[R],
        decision: Decision,
        nodes: tuple[str, ...],
        work: tuple[NodeWork, ...],
    ) -> None:
        self._batch = batch
        self.decision = decision
        self.nodes = nodes
        """The URLs of the nodes that were chosen, the fastest first."""
        self.work = work

    @property
    def mode(self) -> Mode:
        """``auto``, ``sequential``, ``parallel`` or ``hybrid``."""
        return self.decision.mode

    @property
    def reason(self) -> str:
        """Why that mode, in a word."""
        return self.decision.reason

    @property
    def detail(self) -> str:
        """Why that mode, in a sentence."""
        return self.decision.detail

    @property
    def workers(self) -> int:
        """Items under way at the same time, at most."""
        return self.decision.workers

    @property
    def shares(self) -> Mapping[str, float]:
        """Each node's share of the answers, by its name."""
        return MappingProxyType({one.name: one.share for one in self.work})

    @property
    def values(self) -> tuple[R | Unknown, ...]:
        """The values in item order; a false :class:`~loadgen.dispatch.Unknown` where an item has none."""
        return self._batch.values

    @property
    def errors(self) -> Mapping[int, BaseException]:
        """Why items have no value, by index."""
        return self._batch.errors

    @property
    def ok(self) -> bool:
        """Whether every item has a value."""
        return not self._batch.errors

    @property
    def stats(self) -> Sequence[Any]:
        """What each call met, in item order."""
        return self._batch.stats

    @property
    def totals(self) -> dict[str, Any]:
        """Counts of the batch, as those of :class:`~loadgen.dispatch.Batch`."""
        return self._batch.totals

    @property
    def wall_s(self) -> float:
        """Seconds from the first request to the last item's end; asking the nodes how they are comes before."""
        return self._batch.wall_s

    def check(self) -> NodeBatch[R]:
        """Return the batch, if every item has a value.

        Raises:
            NodeError: If one has none, with the first one's error as the cause, and which nodes are down.
        """
        if not self._batch.errors:
            return self
        index = min(self._batch.errors)
        error = self._batch.errors[index]
        down = [one.name for one in self.work if one.state != "up"]
        nodes = f"; not up: {', '.join(down)}" if down else ""
        raise NodeError(
            f"{len(self._batch.errors):,} of {len(self):,} items have no value; "
            f"that of item {index}: {words_of(error)}{nodes}",
            "the others are in the batch: batch.values, batch.errors",
        ) from error

    def __len__(self) -> int:
        return len(self._batch)

    @overload
    def __getitem__(self, at: int) -> CallResult[R]: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[CallResult[R], ...]: ...
    def __getitem__(self, at: int | slice) -> CallResult[R] | tuple[CallResult[R], ...]:
        return self._batch[at]

    def __iter__(self) -> Iterator[CallResult[R]]:
        return iter(self._batch)

    def __repr__(self) -> str:
        failed = f", {len(self._batch.errors):,} failed" if self._batch.errors else ""
        return f"<NodeBatch of {len(self):,} items{failed}, {self.mode} ({self.reason}), {self.wall_s:.3g} s>"
