"""All that a screen shows of a run at one moment: a snapshot, what the run says of itself, and what was seen before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from loadgen.metrics.snapshot import CounterStat, MetricsSnapshot, SeriesStat, SessionState
from loadgen.session.describe import About, AboutPhase
from loadgen.tui.history import CURVES, History, Pace

_FAILED_AS = "failed_"
_NODE_AS = "node_"
_LATE_NS = 5_000_000
_HOT, _AWAY = 0.9, 0.01
"""The report's own limits (docs/metrics.md, "Trust")."""


class NodeLook(msgspec.Struct, frozen=True):
    """What one of several nodes has done of a phase so far; where a policy decides, of its attempts.

    Args:
        name: What it is called.
        issued: Requests that went to it.
        ended: Those that have ended, whether well or not.
        failed: Those that failed.
        share: Its share of all that were issued; ``None`` where none was.
    """

    name: str
    issued: int
    ended: int
    failed: int
    share: float | None

    @property
    def in_flight(self) -> int:
        """Requests that went to it and have not ended."""
        return max(0, self.issued - self.ended)


class PhaseLook(msgspec.Struct, frozen=True):
    """A phase at one moment.

    Args:
        number: Its number, from 0.
        about: What the run says of it.
        counts: Its counters by name.
        series: Its series by name.
    """

    number: int
    about: AboutPhase
    counts: dict[str, int]
    series: dict[str, SeriesStat]

    @property
    def issued(self) -> int:
        """Requests that were issued."""
        return self.counts.get("issued", 0)

    @property
    def ok(self) -> int:
        """Requests that ended well."""
        if "ok" in self.counts:
            return self.counts["ok"]
        return max(0, self.counts.get("completed", 0) - self.failed - self.cancelled)

    @property
    def failed(self) -> int:
        """Requests that failed."""
        return self.counts.get("failed", 0)

    @property
    def cancelled(self) -> int:
        """Requests that were cancelled."""
        return self.counts.get("cancelled", 0)

    @property
    def in_flight(self) -> int:
        """Requests that were issued and have not ended."""
        return max(0, self.issued - self.ok - self.failed - self.cancelled)

    @property
    def failures(self) -> list[tuple[str, int]]:
        """Failures by class, the most frequent first; empty where the classes aren't known."""
        found = [
            (name.removeprefix(_FAILED_AS), count)
            for name, count in self.counts.items()
            if name.startswith(_FAILED_AS) and count
        ]
        return sorted(found, key=lambda one: -one[1])

    def nodes(self, names: Sequence[str]) -> list[NodeLook]:
        """Return what each node has done; nothing where there is one, or they aren't counted one by one.

        Args:
            names: What they are called, as far as that is known.
        """
        many = sum(name.startswith(_NODE_AS) and name.endswith("_issued") for name in self.counts)
        issued, ended, failed = (
            [self.counts.get(f"{_NODE_AS}{node}_{what}", 0) for node in range(many)]
            for what in ("issued", "ended", "failed")
        )
        return [
            NodeLook(
                names[node] if node < len(names) else f"node {node}",
                issued[node],
                ended[node],
                failed[node],
                issued[node] / sum(issued) if any(issued) else None,
            )
            for node in range(many)
        ]

    def values(self, *names: str) -> SeriesStat | None:
        """Return the first of these series that has values.

        Args:
            names: Names of series.
        """
        return next((found for name in names if (found := self.series.get(name)) is not None and found.count), None)


class Look(msgspec.Struct, frozen=True):
    """A run at one moment.

    Args:
        run: Its id.
        about: What it says of itself.
        state: How its session stands.
        alive: Whether its process lives.
        elapsed_s: Seconds since the phase began; ``None`` where no phase has, or its end isn't known.
        phases: Its phases, in order; the last that began is the current one.
        current: The one that runs, or ran last.
        pace: How the last seconds went.
        done: Requests that ended in each second.
        means: For each series the mean of each second, in nanoseconds.
        dropped: Events that were dropped; ``None`` where none are published.
    """

    run: str
    about: About
    state: SessionState
    alive: bool
    elapsed_s: float | None
    phases: list[PhaseLook]
    current: PhaseLook | None
    pace: Pace
    done: list[float]
    means: dict[str, list[float | None]]
    dropped: int | None

    @property
    def was_killed(self) -> bool:
        """Whether the run's process is gone without having ended its session."""
        return not self.alive and not self.state.is_last

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state.is_last or not self.alive

    @property
    def cpu_share(self) -> float | None:
        """The share of its core that a worker used in the last seconds, on average; ``None`` where that isn't known."""
        return None if self.pace.cpu is None or not self.about.workers else self.pace.cpu / self.about.workers

    @property
    def away_share(self) -> float | None:
        """The share of the last seconds in which a worker's loop was away, on average."""
        return None if self.pace.away is None or not self.about.workers else self.pace.away / self.about.workers

    @property
    def limits(self) -> list[str]:
        """What of the client holds the run back, in sentences; the report judges by the same limits."""
        found = []
        late = self.current.values("send_late") if self.current is not None else None
        if late is not None and (p99 := percentile(late, 99)) is not None and p99 > _LATE_NS:
            found.append("over 1 % of the requests left more than 5 ms late")
        if self.cpu_share is not None and self.cpu_share >= _HOT:
            found.append("the workers use 90 % of their cores")
        if self.away_share is not None and self.away_share > _AWAY:
            found.append("the workers' loops were away for over 1 % of the time")
        return found


def percentile(series: SeriesStat, percent: float) -> int | None:
    """Return a percentile that a snapshot has; ``None`` if it hasn't.

    Args:
        series: A series.
        percent: 0 to 100.
    """
    return next((value for p, value in series.percentiles if p == percent), None)


def look(snapshot: MetricsSnapshot, about: About, history: History) -> Look:
    """Put together what a screen shows.

    Args:
        snapshot: The newest snapshot, which the history knows already.
        about: What the run says of itself.
        history: What was seen before.
    """
    phases = [_phase(number, about, snapshot.stats) for number in _numbers(snapshot)]
    current = next((phase for phase in phases if phase.number == snapshot.phase), None)
    # Of a killed run only the beginning is known: the clock went on without it.
    timed = snapshot.phase_ns is not None and (snapshot.alive or snapshot.state.is_last)
    whole = {stat.name: stat.value for stat in snapshot.counters if stat.phase is None}
    return Look(
        run=snapshot.run,
        about=about,
        state=snapshot.state,
        alive=snapshot.alive,
        elapsed_s=(snapshot.ns - (snapshot.phase_ns or 0)) / 1e9 if timed else None,
        phases=phases,
        current=current,
        pace=history.pace,
        done=history.done_by_second,
        means={name: history.mean_by_second(name) for name in CURVES},
        dropped=whole.get("events_dropped", snapshot.missing or None),
    )


def _numbers(snapshot: MetricsSnapshot) -> list[int]:
    return sorted({stat.phase for stat in snapshot.stats if stat.phase is not None})


def _phase(number: int, about: About, stats: Iterable[CounterStat | SeriesStat]) -> PhaseLook:
    own = [stat for stat in stats if stat.phase == number]
    told = about.phases[number] if number < len(about.phases) else AboutPhase(f"phase {number + 1}")
    return PhaseLook(
        number,
        told,
        {stat.name: stat.value for stat in own if isinstance(stat, CounterStat)},
        {stat.name: stat for stat in own if isinstance(stat, SeriesStat)},
    )
