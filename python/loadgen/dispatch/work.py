"""The calls of one batch: where their items come from, where their values go, which need no call of their own."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from loadgen.dispatch.callee import Callee
from loadgen.dispatch.result import UNSET, Batch
from loadgen.errors import ConfigError

if TYPE_CHECKING:
    from loadgen.dispatch.driver import Driver
    from loadgen.dispatch.journal import Entry, OpenJournal
    from loadgen.dispatch.result import Columns
    from loadgen.dispatch.strategy import Options


KEYS = 65_536
"""Keys whose hedges are judged by themselves, of each policy; those that come later are judged together."""


class BatchItems:
    """The items of a batch, and what became of them.

    Items that a journal has are not called. Items with the same key of coalescing are called once. The others are the
    policy's, in order: its item ``i`` is at position ``called[i]``.

    Args:
        items: The items.
        options: How they are called.
        journal: The batch's journal, open.
        restored: What that has of them, by their indices.
    """

    def __init__(
        self,
        items: Sequence[Any],
        options: Options,
        journal: OpenJournal | None = None,
        restored: Mapping[int, Entry] | None = None,
    ) -> None:
        self.items = items
        self.values: list[Any] = [UNSET] * len(items)
        self.errors: dict[int, BaseException] = {}
        self.restored: Mapping[int, Entry] = {} if restored is None else restored
        self.twins: dict[int, list[int]] = {}
        self.on_settled: Callable[[Sequence[int]], None] | None = None
        """Called with the positions of what was settled just now."""
        self._options = options
        self._journal = journal
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        for position, entry in self.restored.items():
            self.values[position] = entry.value
        self.called: Sequence[int] = self._called()
        self._left = len(self.called)
        if not self._left:
            self._done.set_result(None)

    def marks(self) -> tuple[list[int], list[int]]:
        """Return of each that is to be called whose hedges are judged with its own, and the tokens it will cost."""
        options = self._options
        keys: dict[Any, int] = {}
        marks, tokens = [], []
        for position in self.called:
            item = self.items[position]
            marks.append(mark_of(options.key, keys, item))
            tokens.append(tokens_of(options.tokens, item))
        return marks, tokens

    async def done(self) -> None:
        """Wait until every item is settled.

        Raises:
            BaseException: What ended the batch before that.
        """
        await self._done

    def batch(self, columns: Columns, *, wall_s: float, abandoned: int = 0) -> Batch[Any]:
        """Return the batch, with all that became of its items.

        Args:
            columns: Its statistics.
            wall_s: How long it took.
            abandoned: Calls that go on although nobody wants them.
        """
        return Batch(
            self.values,
            self.errors,
            columns,
            wall_s=wall_s,
            strategy=self._options.strategy,
            restored=self.restored,
            abandoned=abandoned,
        )

    def so_far(self, error: BaseException, columns: Columns, *, wall_s: float) -> Batch[Any]:
        """Return the batch as far as it came.

        Args:
            error: What ended it; the error of all that wasn't settled.
            columns: Its statistics.
            wall_s: How long it took.
        """
        for position, value in enumerate(self.values):
            if value is UNSET and position not in self.errors:
                self.errors[position] = error
        return self.batch(columns, wall_s=wall_s)

    def settle(self, item: int, value: Any, error: BaseException | None) -> None:
        """Take an item's value, or why it has none."""
        position = self.called[item]
        self._keep(position, value, error)
        twins = self.twins.get(position, ()) if self.twins else ()
        for twin in twins:
            self._keep(twin, value, error)
        if self.on_settled is not None:
            self.on_settled((position, *twins))
        self._left -= 1
        if not self._left and not self._done.done():
            self._done.set_result(None)

    def broken(self, error: BaseException) -> None:
        """End the batch with an error."""
        if not self._done.done():
            # A future takes no StopIteration: a generator would swallow it.
            self._done.set_exception(RuntimeError(repr(error)) if isinstance(error, StopIteration) else error)
            self._done.exception()  # looked at: an interrupt may cancel whoever waits before they see it

    def _keep(self, position: int, value: Any, error: BaseException | None) -> None:
        if error is None:
            self.values[position] = value
        else:
            self.errors[position] = error
        if self._journal is not None:
            if error is None:
                self._journal.finished(self.items[position], value)
            else:
                self._journal.failed(self.items[position], error)

    def _called(self) -> Sequence[int]:
        """Return the positions that need a call of their own, in order."""
        everything = range(len(self.items))
        same = self._options.coalesce
        if not self.restored and same is None:
            return everything
        called: list[int] = []
        first: dict[Any, int] = {}
        for position in everything:
            if position in self.restored:
                continue
            if same is not None:
                leader = first.setdefault(hashed("coalesce", same(self.items[position])), position)
                if leader != position:
                    self.twins.setdefault(leader, []).append(position)
                    continue
            called.append(position)
        return called


class BatchWork(BatchItems):
    """A batch whose items a callable of the user's is called with.

    Args:
        callee: What is called.
        items: With what.
        options: How.
        journal: The batch's journal, open.
        restored: What that has of them, by their indices.
    """

    def __init__(
        self,
        callee: Callee,
        items: Sequence[Any],
        options: Options,
        journal: OpenJournal | None = None,
        restored: Mapping[int, Entry] | None = None,
    ) -> None:
        super().__init__(items, options, journal, restored)
        self._callee = callee
        self._context = contextvars.copy_context()

    def queue(self, driver: Driver) -> None:
        """Queue what is to be called: at once where all items are alike."""
        if self._options.key is not None or self._options.tokens is not None:
            for key, tokens in zip(*self.marks(), strict=True):
                driver.queue(1, key, tokens)
        elif self.called:
            driver.queue(len(self.called))
        driver.end_of_items()

    def take(self, item: int) -> tuple[Callee, Any, contextvars.Context]:
        """Return what an attempt at an item calls, with what, and a context of its own."""
        return self._callee, self.items[self.called[item]], self._context.copy()


def sequence(items: Any) -> Sequence[Any]:
    """Return the items as a sequence; one that is there isn't copied, and must stay as it is until the batch ends.

    Raises:
        ConfigError: If they can't be gone through.
    """
    if isinstance(items, (str, bytes)):
        raise ConfigError(f"items is {type(items).__name__}, one value", "give a list of items")
    if isinstance(items, Sequence):
        return items
    if hasattr(items, "__aiter__"):
        raise ConfigError("items is an async iterator", "collect it first: [item async for item in items]")
    try:
        return tuple(items)
    except TypeError:
        raise ConfigError(f"items is {type(items).__name__}, which can't be gone through", "give a list") from None


def hashed(option: str, key: Any) -> Any:
    """Return what a user's function made of an item, to tell items apart by.

    Args:
        option: What errors call the function.
        key: What it made.

    Raises:
        ConfigError: If that has no hash.
    """
    try:
        hash(key)
    except TypeError:
        raise ConfigError(
            f"{option} made a {type(key).__name__} of an item, which has no hash", "return text, a number or a tuple"
        ) from None
    return key


def mark_of(key: Callable[[Any], Any] | None, keys: dict[Any, int], item: Any) -> int:
    """Return the number by which the policy knows an item's key; 0 for items without one.

    Args:
        key: The user's function, if there is one.
        keys: The numbers so far; a new key gets the next, as long as there are few enough.
        item: The item.

    Raises:
        ConfigError: If the key has no hash.
    """
    if key is None:
        return 0
    made = hashed("key", key(item))
    return keys.get(made, KEYS + 1) if len(keys) >= KEYS else keys.setdefault(made, len(keys) + 1)


def tokens_of(tokens: Callable[[Any], int] | None, item: Any) -> int:
    """Return the tokens that an item is expected to cost; 0 where nobody says.

    Args:
        tokens: The user's function, if there is one.
        item: The item.

    Raises:
        ConfigError: If what it says is no count.
    """
    if tokens is None:
        return 0
    said = tokens(item)
    try:
        count = int(said)
    except (TypeError, ValueError, OverflowError):
        count = -1
    if not 0 <= count < 2**32:
        raise ConfigError(f"tokens made {said!r} of an item", "return a count from 0 to 2**32 - 1")
    return count
