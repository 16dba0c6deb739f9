"""What a batch gives: values or errors in item order, and what each call met; built when it is looked at.

A million calls are columns in the core; a :class:`CallResult` of one is made on access and not kept.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, NoReturn, Protocol, TypeAlias, TypeVar, overload

import msgspec

from loadgen.errors import DispatchError, words_of

if TYPE_CHECKING:
    from loadgen.dispatch.journal import Entry

R = TypeVar("R")


class _Unset:
    """No value yet."""


UNSET: Final = _Unset()


class Unknown(msgspec.Struct, frozen=True):
    """What stands in the place of a value where a call failed. It is false.

    Args:
        error: Why.
    """

    error: BaseException

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return f"Unknown({words_of(self.error)})"


class AttemptStats(msgspec.Struct, frozen=True):
    """One attempt at a call. Times are seconds since the batch began.

    Args:
        kind: ``first``, ``retry``, ``hedge`` or ``probe``.
        node: The index of its node.
        status: The HTTP status; 0 where there was none.
        outcome: ``ok``, ``rejected``, ``failed``, ``timed_out``, ``stalled``, ``broken``, ``cancelled``, or ``lost``
            where another copy won.
        started: When it was started.
        ended: When it ended, or was cancelled.
        first_byte: When its first byte came; ``None`` where nobody told.
        tokens_in: Tokens of the prompt; 0 where nobody told.
        tokens_out: Tokens of the answer; 0 where nobody told.
    """

    kind: str
    node: int
    status: int
    outcome: str
    started: float
    ended: float | None
    first_byte: float | None = None
    tokens_in: int = 0
    tokens_out: int = 0


PlainNode: TypeAlias = tuple[float | None, int, int, int, int, int, int, int]
"""A node as ``_core.Policy.nodes()`` gives it."""

NODE_STATES = ("up", "half-open", "down")
"""By the core's numbers (``rust/src/python/dispatch.rs``)."""


class NodeView(NamedTuple):
    """What a policy knows of a node.

    Args:
        service_s: Seconds that an item takes there; ``None`` if nothing was seen.
        in_flight: Attempts that it works on.
        served: Attempts that it answered.
        failed: Attempts that failed there, were pushed back or timed out.
        dropped: Attempts that were given up: another copy was first, or nobody wanted them.
        failures_in_a_row: Failures since its last answer.
        state: ``up``, ``half-open`` or ``down``, by its circuit breaker.
        batch: The most items that a request to it carries.
    """

    service_s: float | None
    in_flight: int
    served: int
    failed: int
    dropped: int
    failures_in_a_row: int
    state: str
    batch: int


class CallStats(msgspec.Struct, frozen=True):
    """What a call met. Times are seconds since the batch began.

    Args:
        queued: When it was queued.
        started: When its first attempt was started; ``None`` where there was none.
        first_byte: When the first byte of the winner's answer came; ``None`` where nobody told.
        ended: When it was settled.
        attempts: Its attempts in the order of their starts.
        winner: The index among them of the one whose value or error stands; ``None`` where there is none.
        waits: Seconds that it waited, by reason: ``limit``, ``rate``, ``backoff``.
        tokens_in: Tokens of the winner's prompt.
        tokens_out: Tokens of the winner's answer.
        tokens_wasted: Tokens of all other attempts.
    """

    queued: float
    started: float | None
    first_byte: float | None
    ended: float
    attempts: tuple[AttemptStats, ...]
    winner: int | None
    waits: Mapping[str, float]
    tokens_in: int = 0
    tokens_out: int = 0
    tokens_wasted: int = 0

    @property
    def seconds(self) -> float:
        """From its first attempt's start to its end."""
        return self.ended - (self.queued if self.started is None else self.started)


class Told(NamedTuple):
    """What is told of a call as it ends, while the batch goes on.

    Args:
        at_s: When it was settled, in seconds since the batch began.
        seconds: From its first attempt's start to then.
        kind: What kind of attempt settled it; empty where none was made.
        attempts: How many were made.
        hedges: How many of them were copies.
    """

    at_s: float
    seconds: float
    kind: str
    attempts: int
    hedges: int


class CallResult(msgspec.Struct, Generic[R], frozen=True):
    """One call of a batch: its value, or why there is none.

    Args:
        index: Its item's index.
        value: What the callable returned; :class:`Unknown` where it failed.
        error: What the last attempt raised; ``None`` for a good one.
        stats: What it met; ``None`` where a journal gave the value.
        restored: Whether a journal gave the value.
    """

    index: int
    value: R | Unknown
    error: BaseException | None
    stats: CallStats | None
    restored: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return self.error is None


class Columns(Protocol):
    """Where a batch's statistics are."""

    def stats(self, position: int) -> CallStats | None:
        """Return what the call at a position met; ``None`` where it needed no call."""
        ...

    def told(self, position: int) -> Told | None:
        """Return what is told of the call at a position, which ended just now; ``None`` where it needed no call."""
        ...

    def totals(self) -> dict[str, Any]:
        """Return the counts of the batch."""
        ...

    def nodes(self) -> list[PlainNode]:
        """Return what is known of each node, as ``_core.Policy.nodes()`` gives it; none where calls aren't spread."""
        ...

    def trace(self) -> dict[str, list[float]]:
        """Return how limit, rate, calls in flight and hedges changed over time."""
        ...


class Batch(Sequence[CallResult[R]], Generic[R]):
    """The calls of a batch, in item order. It can't be changed.

    Args:
        values: The values in order; what has none is in ``errors``.
        errors: Why a call failed, by its index.
        columns: The statistics.
        wall_s: Seconds from the start to the last call's end.
        strategy: The strategy's name.
        restored: What a journal gave, by index.
        abandoned: Calls that still ran when the batch had ended: their losers ignored being cancelled.
    """

    __slots__ = ("_columns", "_restored", "_values", "abandoned", "errors", "strategy", "wall_s")

    def __init__(
        self,
        values: Sequence[R],
        errors: dict[int, BaseException],
        columns: Columns,
        *,
        wall_s: float,
        strategy: str,
        restored: Mapping[int, Entry],
        abandoned: int,
    ) -> None:
        for index, error in errors.items():
            values[index] = Unknown(error)  # type: ignore[index]
        self._values: Sequence[R | Unknown] = values
        self._columns = columns
        self._restored = restored
        self.errors: Mapping[int, BaseException] = MappingProxyType(errors)
        """Why calls failed, by index."""
        self.wall_s = wall_s
        self.strategy = strategy
        self.abandoned = abandoned

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Batch can't be pickled: its statistics are in the core; pickle its values, or list(batch)")

    @property
    def values(self) -> tuple[R | Unknown, ...]:
        """The values in item order; :class:`Unknown` stands where a call failed."""
        if not isinstance(self._values, tuple):
            self._values = tuple(self._values)
        return self._values

    @property
    def ok(self) -> bool:
        """Whether every call has a value."""
        return not self.errors

    @property
    def stats(self) -> Stats:
        """What each call met, in item order."""
        return Stats(self)

    @property
    def totals(self) -> dict[str, Any]:
        """Counts: calls ok and failed, attempts by kind, hedges won and lost, push-backs, the limit, tokens wasted."""
        return {**self._columns.totals(), "restored": len(self._restored), "abandoned": self.abandoned}

    @property
    def nodes(self) -> list[NodeView]:
        """What the policy knew of each node at the end; empty where calls weren't spread over nodes by their speed."""
        return [NodeView(*plain[:6], NODE_STATES[plain[6]], plain[7]) for plain in self._columns.nodes()]

    @property
    def trace(self) -> dict[str, list[float]]:
        """How the batch went, as columns: ``t_s``, ``limit``, ``rate`` (calls a second), ``in_flight``, ``hedges``."""
        return self._columns.trace()

    def check(self) -> Batch[R]:
        """Return the batch, if every call has a value.

        Raises:
            DispatchError: If one has none; the first one's error is the cause.
        """
        if self.errors:
            index = min(self.errors)
            error = self.errors[index]
            raise DispatchError(
                f"{len(self.errors):,} of {len(self):,} calls have no value; that of item {index}: {words_of(error)}",
                "the others are in the batch: batch.values, batch.errors",
            ) from error
        return self

    def __len__(self) -> int:
        return len(self._values)

    @overload
    def __getitem__(self, at: int) -> CallResult[R]: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[CallResult[R], ...]: ...
    def __getitem__(self, at: int | slice) -> CallResult[R] | tuple[CallResult[R], ...]:
        if isinstance(at, slice):
            return tuple(self[index] for index in range(*at.indices(len(self))))
        index = range(len(self))[at]
        is_restored = index in self._restored
        stats = None if is_restored else self._columns.stats(index)
        return CallResult(index, self._values[index], self.errors.get(index), stats, is_restored)

    def __iter__(self) -> Iterator[CallResult[R]]:
        return (self[index] for index in range(len(self)))

    def __repr__(self) -> str:
        failed = f", {len(self.errors):,} failed" if self.errors else ""
        return f"<Batch of {len(self):,} calls{failed}, {self.strategy}, {self.wall_s:.3g} s>"


class Stats(Sequence[CallStats | None]):
    """The statistics of a batch's calls, in item order."""

    __slots__ = ("_batch",)

    def __init__(self, batch: Batch[Any]) -> None:
        self._batch = batch

    def __len__(self) -> int:
        return len(self._batch)

    @overload
    def __getitem__(self, at: int) -> CallStats | None: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[CallStats | None, ...]: ...
    def __getitem__(self, at: int | slice) -> CallStats | tuple[CallStats | None, ...] | None:
        if isinstance(at, slice):
            return tuple(self[index] for index in range(*at.indices(len(self))))
        return self._batch[at].stats
