"""The registry: counters and series by name, kept by the core in shared memory."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Self, TypeVar

from loadgen import _core
from loadgen.metrics.snapshot import MetricsSnapshot, SessionState, of_core

T = TypeVar("T")

_HOUR_NS = 3_600_000_000_000


class MetricsRegistry:
    """Counters and series of one run, in a file of shared memory that other processes of this user may look into.

    Leaving the ``with`` block removes the file; who has attached keeps what it saw.

    Args:
        run: The run's id, which names the file: 1 to 64 letters, digits, ``.``, ``_`` and ``-``; ``None`` for a
            random one.
        directories: Where the file may lie, the best first; ``None`` for the runtime directory, ``/dev/shm`` and the
            temporary directory. Where none has room, the metrics are in memory of this process alone; :attr:`notes`
            says so.

    Raises:
        ValueError: If the id can't name a file.
    """

    def __init__(self, run: str | None = None, *, directories: Sequence[str | os.PathLike[str]] | None = None) -> None:
        run = run if run is not None else secrets.token_hex(8)
        self._take(run, _core.Segment.create(run, directories))

    @classmethod
    def of(cls, run: str, segment: _core.Segment) -> Self:
        """Return the registry of a segment that the core made for a run, with what is in it already.

        Args:
            run: The run's id.
            segment: The engine's: ``engine.segment()``.
        """
        made = cls.__new__(cls)
        made._take(run, segment)  # noqa: SLF001  one of its own
        return made

    def _take(self, run: str, segment: _core.Segment) -> None:
        self._run = run
        self._segment = segment
        self._sequence = count()
        self._counters: dict[tuple[str, int | None], _core.Counter] = {}
        self._series: dict[tuple[str, int | None], _core.Series] = {}
        self.missing = 0
        """Events that were dropped on the way here; whoever feeds the registry from a stream of events counts them."""

    @property
    def run(self) -> str:
        """The run's id."""
        return self._run

    @property
    def path(self) -> Path | None:
        """The file; ``None`` for memory of this process alone."""
        return self._segment.path

    @property
    def notes(self) -> list[str]:
        """What went otherwise than wanted, in sentences."""
        return self._segment.notes

    @property
    def state(self) -> SessionState:
        """How the session stands."""
        return SessionState(self._segment.state)

    def counter(self, name: str, unit: str = "1", help: str = "", *, phase: int | None = None) -> _core.Counter:  # noqa: A002  the word of what it shows
        """Register a counter, and return what counts: ``counter.increment(n)``.

        Args:
            name: Its name, unique among the phase's counters and series.
            unit: The unit of its value; ``1`` for things that are counted.
            help: What it counts, in a sentence.
            phase: The phase's number; ``None`` for one of the whole run.

        Raises:
            ValueError: If the phase has one of that name, or there is no room for one more.
        """
        made = self._segment.counter(name, unit, help, phase=phase)
        self._counters[name, phase] = made
        return made

    def series(
        self,
        name: str,
        unit: str = "ns",
        help: str = "",  # noqa: A002  as above
        *,
        phase: int | None = None,
        low: int = 1_000,
        high: int = _HOUR_NS,
    ) -> _core.Series:
        """Register a series, and return what records: ``series.record(value)``.

        Args:
            name: Its name, unique among the phase's counters and series.
            unit: The unit of its values.
            help: What they are, in a sentence.
            phase: The phase's number; ``None`` for one of the whole run.
            low: The least value that its histogram tells apart, in its unit.
            high: The greatest. Values out of bounds are counted apart; count, total, min and max stay exact.

        Raises:
            ValueError: If the phase has one of that name, the bounds make no sense, or there is no room for one more.
        """
        made = self._segment.series(name, unit, help, phase=phase, low=low, high=high)
        self._series[name, phase] = made
        return made

    def increment(self, name: str, n: int = 1, *, phase: int | None = None) -> None:
        """Count ``n`` more. Where it is done often, keep what :meth:`counter` returned: it is faster.

        Args:
            name: A registered counter.
            n: How many, 0 or more.
            phase: The phase that it was registered with.

        Raises:
            LookupError: If no counter has that name.
        """
        _known(self._counters, "counter", name, phase).increment(n)

    def record(self, name: str, value: int, *, phase: int | None = None) -> None:
        """Record one value. Where it is done often, keep what :meth:`series` returned: it is faster.

        Args:
            name: A registered series.
            value: In the series' unit, 0 or more.
            phase: The phase that it was registered with.

        Raises:
            LookupError: If no series has that name.
        """
        _known(self._series, "series", name, phase).record(value)

    def begin(self, phase: int) -> None:
        """Say that a phase begins now.

        Args:
            phase: Its number.
        """
        self._segment.begin(phase)

    def advance(self, state: SessionState) -> None:
        """Go on to another state; what was recorded before is in every snapshot that has it.

        Args:
            state: The state.

        Raises:
            ValueError: If it lies behind, or the last one is reached already.
        """
        self._segment.advance(state.value)

    def snapshot(
        self, *, percentiles: Sequence[float] | None = None, bins: int = 30, phase: int | None = None
    ) -> MetricsSnapshot:
        """Return all counters and series at this moment.

        Args:
            percentiles: 0 to 100, ascending; ``None`` for 50, 75, 90, 95, 99 and 99.9.
            bins: Bins of each histogram, at most.
            phase: Only this phase's, and those of the whole run.

        Raises:
            ValueError: If a percentile is none.
        """
        said = self._segment.snapshot(percentiles=percentiles, bins=bins, phase=phase)
        return of_core(said, next(self._sequence), self.missing)

    def hdr(self, name: str, phase: int | None = None) -> bytes:
        """Return a series' histogram in HDR's V2 format, compressed, as other programs read it.

        Args:
            name: The series.
            phase: The phase's number; ``None`` for the newest of that name.

        Raises:
            LookupError: If there is none.
        """
        return self._segment.hdr(name, phase)

    def close(self) -> None:
        """Remove the file. May be called again; snapshots can still be taken here."""
        self._segment.remove()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _known(registered: dict[tuple[str, int | None], T], kind: str, name: str, phase: int | None) -> T:
    found = registered.get((name, phase))
    if found is None:
        where = "" if phase is None else f" of phase {phase}"
        raise LookupError(f"no {kind} {name!r}{where} is registered here; register it: registry.{kind}({name!r})")
    return found
