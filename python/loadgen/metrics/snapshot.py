"""A snapshot: all counters and series of a run at one moment, as it is published, stored and reported."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import msgspec

_GREATEST_INT = (1 << 64) - 1  # of msgpack


class SessionState(Enum):
    """How a session stands. It only ever goes forward, and nothing follows the last two."""

    LIVE = "live"
    DRAINING = "draining"
    COMPLETE = "complete"
    INTERRUPTED = "interrupted"

    @property
    def is_last(self) -> bool:
        """Whether no other follows: the numbers are final."""
        return self in (SessionState.COMPLETE, SessionState.INTERRUPTED)


class CounterStat(msgspec.Struct, frozen=True, array_like=True, tag="counter"):
    """A counter at one moment.

    Args:
        name: Its name.
        value: Its value.
        unit: The value's unit; ``1`` for things that are counted.
        help: What it counts.
        phase: The phase's number; ``None`` for one of the whole run.
    """

    name: str
    value: int
    unit: str = "1"
    help: str = ""
    phase: int | None = None


class SeriesStat(msgspec.Struct, frozen=True, array_like=True, tag="series"):
    """A series at one moment. All but the percentiles and the histogram is exact.

    Args:
        name: Its name.
        count: How many values.
        total: Their sum; above 2**64 - 1 the nearest float.
        min: The least; ``None`` where there is none.
        max: The greatest, likewise.
        mean: Their mean, likewise.
        std: Standard deviation of the sample; 0 for fewer than two values.
        percentiles: Percentiles and their values, to three digits (HDR's rule: near its lower bound to about that
            bound's half); empty where there is no value.
        edges: The histogram's borders: the first is the least value, the last the greatest; empty where there is none.
        counts: Values in each of its bins, one fewer than borders.
        unit: The values' unit: ``ns`` for times.
        help: What it is.
        phase: The phase's number; ``None`` for one of the whole run.
        below: Values below the bounds, which the histogram has in its lowest bin.
        above: Values above them, likewise.
        torn: Shares that a killed writer left in the middle of a change: the value it was at may be counted in part.
    """

    name: str
    count: int
    total: int | float = 0
    min: int | None = None
    max: int | None = None
    mean: float | None = None
    std: float = 0.0
    percentiles: list[tuple[float, int]] = []
    edges: list[float] = []
    counts: list[int] = []
    unit: str = "ns"
    help: str = ""
    phase: int | None = None
    below: int = 0
    above: int = 0
    torn: int = 0


class MetricsSnapshot(msgspec.Struct, frozen=True, array_like=True, tag="loadgen.metrics.1"):
    """All counters and series of a run at one moment; on the wire and on disk a msgpack array in this order.

    Args:
        sequence: Its number among those of its maker, from 0.
        ns: The moment, on the monotonic clock, in nanoseconds.
        state: How the session stands.
        pending: Requests that were issued and have not ended.
        phase: The number of the phase that runs, or ran last.
        stats: All counters, then all series.
        run: The run's id.
        wall_ns: The moment as unix time in nanoseconds.
        start_ns: The run's start, monotonic.
        phase_ns: The phase's start, monotonic.
        alive: Whether the run's process lives; if not, and the state isn't a last one, it was killed.
        missing: Events that were dropped on the way to an aggregator: what the numbers may lack.
    """

    sequence: int
    ns: int
    state: SessionState
    pending: int
    phase: int | None
    stats: list[CounterStat | SeriesStat]
    run: str = ""
    wall_ns: int = 0
    start_ns: int = 0
    phase_ns: int | None = None
    alive: bool = True
    missing: int = 0

    @property
    def counters(self) -> list[CounterStat]:
        """Its counters."""
        return [stat for stat in self.stats if isinstance(stat, CounterStat)]

    @property
    def series(self) -> list[SeriesStat]:
        """Its series."""
        return [stat for stat in self.stats if isinstance(stat, SeriesStat)]

    def counter(self, name: str, phase: int | None = None) -> int:
        """Return a counter's value: of a phase, or its sum over all phases.

        Args:
            name: Its name.
            phase: The phase's number.

        Raises:
            LookupError: If there is none of that name.
        """
        found = [stat.value for stat in self.counters if stat.name == name and phase in (None, stat.phase)]
        if not found:
            raise LookupError(_unknown("counter", name, phase, [stat.name for stat in self.counters]))
        return sum(found)

    def find(self, name: str, phase: int | None = None) -> SeriesStat:
        """Return a series: of a phase, or the newest of that name.

        Args:
            name: Its name.
            phase: The phase's number.

        Raises:
            LookupError: If there is none of that name.
        """
        found = [stat for stat in self.series if stat.name == name and phase in (None, stat.phase)]
        if not found:
            raise LookupError(_unknown("series", name, phase, [stat.name for stat in self.series]))
        return max(found, key=lambda stat: -1 if stat.phase is None else stat.phase)


class SnapshotSource(Protocol):
    """Where snapshots are from: a registry of this process, or a look into another's."""

    @property
    def run(self) -> str:
        """The run's id."""

    @property
    def state(self) -> SessionState:
        """How the session stands."""

    def snapshot(
        self, *, percentiles: Sequence[float] | None = None, bins: int = 30, phase: int | None = None
    ) -> MetricsSnapshot:
        """Return all counters and series at this moment."""

    def hdr(self, name: str, phase: int | None = None) -> bytes:
        """Return a series' histogram in HDR's V2 format, compressed."""


def pending_of(stats: Sequence[CounterStat | SeriesStat]) -> int:
    """Return how many requests were issued and have not ended, as far as counters of these names tell.

    Args:
        stats: A snapshot's.
    """
    sums: dict[str, int] = {}
    for stat in stats:
        if isinstance(stat, CounterStat):
            sums[stat.name] = sums.get(stat.name, 0) + stat.value
    ended = (
        sums["completed"] if "completed" in sums else sum(sums.get(name, 0) for name in ("ok", "failed", "cancelled"))
    )
    return max(0, sums.get("issued", 0) - ended)


def _unknown(kind: str, name: str, phase: int | None, known: list[str]) -> str:
    where = "" if phase is None else f" of phase {phase}"
    return f"there is no {kind} {name!r}{where}; there are {', '.join(dict.fromkeys(known)) or 'none'}"


# --- as the core says it (`Snapshot` of rust/src/series/snapshot.rs)


class _Bins(msgspec.Struct):
    edges: list[float]
    counts: list[int]


class _Counter(msgspec.Struct):
    name: str
    unit: str
    help: str
    phase: int | None
    value: int


class _Series(msgspec.Struct):
    name: str
    unit: str
    help: str
    phase: int | None
    count: int
    total: int
    min: int | None
    max: int | None
    mean: float | None
    std: float | None
    below: int
    above: int
    torn: int
    percentiles: list[tuple[float, int]]
    histogram: _Bins


class _Snapshot(msgspec.Struct):
    id: str
    state: SessionState
    alive: bool
    mono_ns: int
    wall_ns: int
    start_ns: int
    phase: int | None
    phase_ns: int | None
    counters: list[_Counter]
    series: list[_Series]


_from_core = msgspec.json.Decoder(_Snapshot).decode


def of_core(said: str, sequence: int, missing: int = 0) -> MetricsSnapshot:
    """Return a snapshot as the core said it.

    Args:
        said: Its JSON.
        sequence: The snapshot's number.
        missing: Events that the numbers may lack.
    """
    raw = _from_core(said)
    stats: list[CounterStat | SeriesStat] = [
        CounterStat(each.name, each.value, each.unit, each.help, each.phase) for each in raw.counters
    ]
    stats += [_series(each) for each in raw.series]
    return MetricsSnapshot(
        sequence,
        raw.mono_ns,
        raw.state,
        pending_of(stats),
        raw.phase,
        stats,
        raw.id,
        raw.wall_ns,
        raw.start_ns,
        raw.phase_ns,
        raw.alive,
        missing,
    )


def _series(raw: _Series) -> SeriesStat:
    return SeriesStat(
        raw.name,
        raw.count,
        raw.total if raw.total <= _GREATEST_INT else float(raw.total),
        raw.min,
        raw.max,
        raw.mean,
        raw.std or 0.0,
        raw.percentiles,
        raw.histogram.edges,
        raw.histogram.counts,
        raw.unit,
        raw.help,
        raw.phase,
        raw.below,
        raw.above,
        raw.torn,
    )
