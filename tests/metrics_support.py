"""What the tests of metrics share: snapshots made by hand, a clock that only moves by waiting, a transport."""

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

from loadgen.event import PublisherStats
from loadgen.metrics import CounterStat, MetricsSnapshot, SeriesStat, SessionState

WAIT_S = 20.0  # what never comes is a failure; nothing is this slow


def snapshot(**changed: Any) -> MetricsSnapshot:
    series = SeriesStat(
        "ttft", 3, 6_000_000, 1_000_000, 3_000_000, 2e6, 1e6, [(50.0, 2_000_000), (99.0, 3_000_000)], [1e6, 3e6], [3],
        help="first token", phase=1,
    )  # fmt: skip
    stats: list[CounterStat | SeriesStat] = [
        *(CounterStat(name, value, phase=1) for name, value in (("issued", 5), ("ok", 3), ("failed", 1))),
        CounterStat("cancelled", 1, phase=1),
        series,
    ]
    told: dict[str, Any] = {
        "sequence": 7,
        "ns": 9_000_000_000,
        "state": SessionState.COMPLETE,
        "pending": 0,
        "phase": 1,
        "stats": stats,
        "run": "abcd",
        "wall_ns": 1_700_000_000_000_000_000,
        "start_ns": 1_000_000_000,
        "phase_ns": 2_000_000_000,
    }
    return MetricsSnapshot(**{**told, **changed})


class Kept:
    """A transport that keeps what it is sent; ``refuses`` says which sends fail."""

    address = "ipc:///nowhere"

    def __init__(self, refuses: Callable[[MetricsSnapshot], bool] = lambda _: False) -> None:
        self.sent: list[MetricsSnapshot] = []
        self.has_subscribers = False
        self.is_closed = False
        self._refuses = refuses
        self.then: Callable[[MetricsSnapshot], object] = lambda _: None

    @property
    def stats(self) -> PublisherStats:
        return PublisherStats(sent=len(self.sent))

    def send(self, item: MetricsSnapshot) -> None:
        if self._refuses(item):
            raise OSError("refused")
        self.sent.append(item)
        self.then(item)

    def close(self) -> None:
        self.is_closed = True

    @property
    def states(self) -> list[SessionState]:
        return [item.state for item in self.sent]


class _NeverWaits(selectors.DefaultSelector):
    """Looks without waiting: instead the clock goes on by what would have been waited."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> Any:
        self.passed += timeout or 0.0
        return super().select(0)


class PausedLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock only moves by waiting, and then at once."""

    def __init__(self) -> None:
        self._paused = _NeverWaits()
        super().__init__(self._paused)

    def time(self) -> float:
        return self._paused.passed


class Source:
    """Where snapshots are from, for a publisher that needs no registry: it says what it is told to."""

    run = "abcd"

    def __init__(self) -> None:
        self.state = SessionState.LIVE
        self.taken = 0
        self.fails: Callable[[int], bool] = lambda _: False

    def snapshot(self, **_: Any) -> MetricsSnapshot:
        self.taken += 1
        if self.fails(self.taken):
            raise RuntimeError("no snapshot this time")
        return snapshot(sequence=self.taken, state=self.state)

    def hdr(self, name: str, phase: int | None = None) -> bytes:
        raise LookupError(name)
