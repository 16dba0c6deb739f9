"""What watches a batch: a bar or a function for all of it, another for each of its calls. Nothing decides by it."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from loadgen.dispatch import live, progress
from loadgen.dispatch.grid import Pairs

if TYPE_CHECKING:
    from loadgen.dispatch.result import Columns
    from loadgen.dispatch.strategy import Options
    from loadgen.dispatch.work import BatchItems


class Pace(Protocol):
    """What runs a batch: its loop, and the time since the batch began."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop that it runs on."""

    def now(self) -> int:
        """Return the nanoseconds since the batch began."""

    def failure(self) -> str:
        """Return why the latest attempt failed that did, in words; empty where nobody knows of any."""


class Watching:
    """Shows how far a batch is, on the loop that it runs on, and tells of its calls as they end.

    Args:
        options: What the user wants to see.
        work: The batch.
        columns: Its statistics.
        driver: What runs it.
    """

    def __init__(self, options: Options, work: BatchItems, columns: Columns, driver: Pace) -> None:
        self._work = work
        self._columns = columns
        self._driver = driver
        self._view = progress.view(options.progress)
        self._trace: Callable[[live.Call], object] | None = None
        self._live: live.Live | None = None
        if not isinstance(options.trace, bool):
            self._trace = options.trace
        elif options.trace:
            self._trace = self._live = live.Live()
        self._timer: asyncio.TimerHandle | None = None
        self._has_failed = self._is_cut_short = False

    def begin(self) -> None:
        """Show that nothing is done yet but what a journal had."""
        if self._trace is not None:
            self._work.on_settled = self._settled
            for position, entry in sorted(self._work.restored.items()):
                self._tell(position, entry.value, None, kind="journal")
        self._tick()

    def end(self) -> None:
        """Show how it ended, and leave the screen; of a batch whose calls were printed, print what they come to."""
        if self._timer is not None:
            self._timer.cancel()
        if self._view.interval_s is not None:
            self._view.show(self._now())
        self._view.close()
        if self._live is not None:
            self._live.total(self._driver.now() / 1e9)

    def abort(self) -> None:
        """Do what :meth:`end` does where an error ended the batch: its caller gets that one, not what a view raises."""
        if self._has_failed:
            return
        self._is_cut_short = True
        try:
            self.end()
        except Exception as problem:  # noqa: BLE001 - a user's function, at the end of a batch that has an error already
            warnings.warn(f"progress, as the batch ended: {problem!r}", RuntimeWarning, stacklevel=2)

    def _tick(self) -> None:
        if self._view.interval_s is None:
            return
        try:
            self._view.show(self._now())
        except BaseException as error:  # noqa: BLE001 - a user's function: the loop would only log it
            self._has_failed = True
            self._work.broken(error)
            return
        self._timer = self._driver.loop.call_later(self._view.interval_s, self._tick)

    def _now(self) -> progress.Progress:
        work = self._work
        return progress.progress_of(
            self._columns.totals(),
            total=len(work.items),
            seconds=self._driver.now() / 1e9,
            restored=len(work.restored),
            failure=self._driver.failure(),
            is_cut_short=self._is_cut_short,
        )

    def _settled(self, positions: Sequence[int]) -> None:
        for position in positions:
            error = self._work.errors.get(position)
            self._tell(position, self._work.values[position] if error is None else None, error)

    def _tell(self, position: int, value: Any, error: BaseException | None, kind: str | None = None) -> None:
        item = self._work.items[position]
        row, column = map(str, item) if isinstance(self._work.items, Pairs) else (None, None)
        told = None if kind == "journal" else self._columns.told(position)
        at_s, seconds, decided, attempts, hedges = told if told is not None else (0.0, 0.0, kind or "first", 0, 0)
        assert self._trace is not None
        self._trace(
            live.Call(
                at_s=at_s,
                index=position,
                item=item,
                ok=error is None,
                value=value,
                error=error,
                seconds=seconds,
                kind=decided,
                attempts=attempts,
                hedges=hedges,
                row=row,
                column=column,
            )
        )
