"""A grid of calls, one for each pair of a row and a column: the matrix, both maps and the flat list."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Generic, TypeVar, overload

from loadgen.dispatch.result import Batch, CallResult, Unknown
from loadgen.errors import ConfigError, DispatchError

R = TypeVar("R")


class Pairs(Sequence[tuple[Any, Any]]):
    """The arguments of a grid's calls, row after row; made when they are asked for."""

    def __init__(self, rows: Sequence[Any], cols: Sequence[Any]) -> None:
        self.rows = rows
        self.cols = cols

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    @overload
    def __getitem__(self, at: int) -> tuple[Any, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> list[tuple[Any, Any]]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        row, col = divmod(range(len(self))[at], len(self.cols))
        return self.rows[row], self.cols[col]


class Grid(Generic[R]):
    """The calls of a grid. A failed cell is :class:`~loadgen.Unknown`, with its reason, and never shifts another.

    Args:
        batch: The calls, row after row.
        rows: The rows' items.
        cols: The columns' items.
    """

    __slots__ = ("batch", "cols", "rows")

    def __init__(self, batch: Batch[R], rows: Sequence[Any], cols: Sequence[Any]) -> None:
        self.batch = batch
        self.rows = rows
        self.cols = cols

    @property
    def matrix(self) -> tuple[tuple[R | Unknown, ...], ...]:
        """The values, row after row."""
        wide = len(self.cols)
        return tuple(self.batch.values[row * wide : (row + 1) * wide] for row in range(len(self.rows)))

    @property
    def by_row(self) -> Mapping[Any, Mapping[Any, R | Unknown]]:
        """From a row to its columns' values.

        Raises:
            DispatchError: If a row or a column is there twice, or can't be a key.
        """
        rows, cols = _keys("row", self.rows), _keys("column", self.cols)
        return _frozen(rows, cols, self.matrix)

    @property
    def by_col(self) -> Mapping[Any, Mapping[Any, R | Unknown]]:
        """From a column to its rows' values.

        Raises:
            DispatchError: As :attr:`by_row`.
        """
        rows, cols = _keys("row", self.rows), _keys("column", self.cols)
        return _frozen(cols, rows, tuple(zip(*self.matrix, strict=True)) or ((),) * len(cols))

    @property
    def flat(self) -> tuple[R | Unknown, ...]:
        """The values in one list, row after row."""
        return self.batch.values

    def __getitem__(self, at: tuple[int, int]) -> CallResult[R]:
        """Return the call at the indices of a row and a column."""
        row, col = at
        return self.batch[range(len(self.rows))[row] * len(self.cols) + range(len(self.cols))[col]]

    def __len__(self) -> int:
        return len(self.batch)

    def __iter__(self) -> Iterator[CallResult[R]]:
        return iter(self.batch)

    def __repr__(self) -> str:
        return f"<Grid of {len(self.rows)} × {len(self.cols)}: {self.batch!r}>"


def sides(rows: Any, cols: Any) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Return rows and columns as they are now.

    Raises:
        ConfigError: If one can't be gone through, or is text.
    """
    both = []
    for name, side in (("rows", rows), ("cols", cols)):
        if isinstance(side, (str, bytes)) or not hasattr(side, "__iter__"):
            raise ConfigError(f"{name} is {type(side).__name__}", "give a list of them")
        both.append(tuple(side))
    return both[0], both[1]


def _keys(name: str, side: Sequence[Any]) -> Sequence[Hashable]:
    seen: set[Any] = set()
    for item in side:
        try:
            is_new = item not in seen
            seen.add(item)
        except TypeError:
            raise DispatchError(f"a {name} of type {type(item).__name__} can't be a key", "use grid.matrix") from None
        if not is_new:
            raise DispatchError(f"the {name} {str(item)[:80]!r} is there twice", "use grid.matrix")
    return side


def _frozen(outer: Sequence[Any], inner: Sequence[Any], values: Sequence[Sequence[Any]]) -> Mapping[Any, Any]:
    return MappingProxyType(
        {key: MappingProxyType(dict(zip(inner, line, strict=True))) for key, line in zip(outer, values, strict=True)}
    )
