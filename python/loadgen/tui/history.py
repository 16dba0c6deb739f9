"""What a viewer remembers of a phase: each second's work, and the last seconds' pace and strain."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from loadgen.metrics.snapshot import MetricsSnapshot, SeriesStat

_WINDOW_NS = 10_000_000_000
_SECONDS = 600
_SECOND_NS = 1_000_000_000
_LEAST_NS = _SECOND_NS // 2

CURVES = ("ttft", "gap", "icl", "latency")
"""Series whose mean by second is kept."""


class Pace(msgspec.Struct, frozen=True):
    """How it went in the last seconds; ``None`` where too little was seen to say.

    Args:
        requests_per_s: Requests that ended well or failed.
        tokens_per_s: Output tokens of requests that ended.
        cpu: Cores that the workers used.
        away: Share of the time in which a worker's loop should have turned and did not.
    """

    requests_per_s: float | None = None
    tokens_per_s: float | None = None
    cpu: float | None = None
    away: float | None = None


class _Mark(msgspec.Struct, frozen=True):
    """What was counted until a moment; the workers' time is the whole run's, and unknown where nobody looked."""

    ns: int
    done: int = 0
    tokens: int = 0
    cpu_ns: int | None = None
    stalled_ns: int | None = None
    totals: dict[str, tuple[int, float]] = {}


class History:
    """Fed with each snapshot; tells rates, and curves by second. It begins anew with each phase."""

    def __init__(self) -> None:
        self._begin(None)

    def _begin(self, phase: int | None) -> None:
        self._phase = phase
        self._recent: deque[_Mark] = deque()
        self._last: _Mark | None = None
        self._done: deque[float] = deque(maxlen=_SECONDS)
        self._means: dict[str, deque[float | None]] = {name: deque(maxlen=_SECONDS) for name in CURVES}

    def add(self, snapshot: MetricsSnapshot) -> None:
        """Remember a snapshot.

        Args:
            snapshot: The newest.
        """
        if not snapshot.alive and not snapshot.state.is_last:
            return  # it was killed: the clock went on without it
        known = self._recent[-1].totals if self._recent and snapshot.phase == self._phase else {}
        mark = _mark(snapshot, known)
        if snapshot.phase != self._phase:
            self._begin(snapshot.phase)
            if snapshot.phase_ns is not None:
                self._recent.append(_Mark(snapshot.phase_ns))  # a phase begins at 0, whenever one begins to look
        if self._recent and mark.ns < self._recent[-1].ns:
            return
        self._recent.append(mark)
        while len(self._recent) > 2 and mark.ns - self._recent[1].ns >= _WINDOW_NS:
            self._recent.popleft()
        if self._last is None:
            self._last = mark
        elif mark.ns // _SECOND_NS > self._last.ns // _SECOND_NS:
            self._close_seconds(self._last, mark)
            self._last = mark

    def _close_seconds(self, before: _Mark, now: _Mark) -> None:
        seconds = (now.ns - before.ns) / _SECOND_NS
        # A viewer that was stopped for a while spreads what it missed evenly.
        for _ in range(min(_SECONDS, now.ns // _SECOND_NS - before.ns // _SECOND_NS)):
            self._done.append((now.done - before.done) / seconds)
            for name, means in self._means.items():
                count, total = now.totals.get(name, (0, 0.0))
                count_before, total_before = before.totals.get(name, (0, 0.0))
                means.append((total - total_before) / (count - count_before) if count > count_before else None)

    @property
    def done_by_second(self) -> list[float]:
        """Requests that ended well or failed, in each whole second that was seen."""
        return list(self._done)

    def mean_by_second(self, name: str) -> list[float | None]:
        """Return a series' mean in each whole second that was seen; ``None`` for seconds without a value.

        Args:
            name: One of :data:`CURVES`.
        """
        return list(self._means[name])

    @property
    def pace(self) -> Pace:
        """How it went in the last ten seconds, or since it was first seen."""
        if len(self._recent) < 2:
            return Pace()
        first, last = self._recent[0], self._recent[-1]
        spent = last.ns - first.ns
        if spent < _LEAST_NS:
            return Pace()
        return Pace(
            requests_per_s=(last.done - first.done) / spent * _SECOND_NS,
            tokens_per_s=(last.tokens - first.tokens) / spent * _SECOND_NS,
            cpu=self._share(lambda mark: mark.cpu_ns),
            away=self._share(lambda mark: mark.stalled_ns),
        )

    def _share(self, used: Callable[[_Mark], int | None]) -> float | None:
        first = next((mark for mark in self._recent if used(mark) is not None), None)
        last = self._recent[-1]
        before, now = None if first is None else used(first), used(last)
        if first is None or before is None or now is None or last.ns - first.ns < _LEAST_NS:
            return None
        return (now - before) / (last.ns - first.ns)


def _mark(snapshot: MetricsSnapshot, known: dict[str, tuple[int, float]]) -> _Mark:
    counts: dict[str, int] = {}
    totals: dict[str, tuple[int, float]] = {}
    for stat in snapshot.stats:
        if stat.phase not in (None, snapshot.phase):
            continue
        if isinstance(stat, SeriesStat):
            if stat.name in CURVES:
                # A share that couldn't be read whole is missing: what was known before is nearer to the truth.
                torn = stat.torn and stat.name in known
                totals[stat.name] = known[stat.name] if torn else (stat.count, float(stat.total))
        else:
            counts[stat.name] = stat.value
    completed = counts["completed"] if "completed" in counts else counts.get("ok", 0) + counts.get("failed", 0)
    return _Mark(
        snapshot.ns,
        completed,
        counts.get("tokens", 0),
        counts.get("worker_cpu"),
        counts.get("loop_stalled"),
        totals,
    )
