"""Watching a run: from its live metrics, of this process or another, to what a screen shows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Protocol

from loadgen import _core
from loadgen.metrics.snapshot import MetricsSnapshot, of_core
from loadgen.session import describe
from loadgen.session.describe import About
from loadgen.tui.history import History
from loadgen.tui.look import Look, look

REFRESH_S = 0.25


class Source(Protocol):
    """Where a run's live metrics are looked at: :class:`loadgen.metrics.MetricsReader`, or :class:`OwnRun`."""

    @property
    def about(self) -> str:
        """What the run says of itself."""

    def snapshot(self, *, percentiles: Sequence[float] | None = None, bins: int = 30) -> MetricsSnapshot:
        """Return all counters and series at this moment."""


class OwnRun:
    """The live metrics of a run of this process.

    Args:
        segment: What its engine shares.
    """

    def __init__(self, segment: _core.Segment) -> None:
        self._segment = segment
        self._sequence = count()

    @property
    def about(self) -> str:
        """What the run says of itself."""
        return self._segment.about

    def snapshot(self, *, percentiles: Sequence[float] | None = None, bins: int = 30) -> MetricsSnapshot:
        """Return all counters and series at this moment."""
        return of_core(self._segment.snapshot(percentiles=percentiles, bins=bins), next(self._sequence))


class Watch:
    """Looks at a run again and again, and remembers what it saw.

    Args:
        source: Its live metrics.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._about = About()
        self._history = History()

    def look(self) -> Look:
        """Return what is to be seen now.

        Raises:
            MetricsError: If the metrics can't be read any more.
        """
        snapshot = self._source.snapshot()
        if self._about == About():
            self._about = describe.read(self._source.about)  # it may be said after somebody has begun to look
        self._history.add(snapshot)
        return look(snapshot, self._about, self._history)
