"""A session's metrics from its events: counts and times of the samples that were issued while it was tracked."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from loadgen import _core
from loadgen.event.record import EventRecord, EventType
from loadgen.metrics.registry import MetricsRegistry
from loadgen.metrics.snapshot import SessionState

_log = logging.getLogger("loadgen.metrics")

_ENTRIES = 256  # that a segment has room for: `ENTRIES` of rust/src/series/directory.rs
_ENTRIES_A_PHASE = 9
_REMEMBERED = 65_536  # requests that ended, or errors of requests not heard of yet; an event is never later than that


class _Phase:
    """What is counted of one tracked phase. Failures are in no series of successes."""

    __slots__ = ("cancelled", "completed", "failed", "failed_latency", "icl", "issued", "latency", "tokens", "ttft")

    def __init__(self, registry: MetricsRegistry, index: int) -> None:
        def counter(name: str, what: str) -> _core.Counter:
            return registry.counter(name, "1", what, phase=index)

        def series(name: str, what: str) -> _core.Series:
            return registry.series(name, "ns", what, phase=index)

        self.issued = counter("issued", "Requests issued")
        self.completed = counter("completed", "Requests that ended, whatever came of them")
        self.failed = counter("failed", "Requests that failed")
        self.cancelled = counter("cancelled", "Requests that were cancelled")
        self.tokens = counter("tokens", "Output tokens, as the server counts them")
        self.ttft = series("ttft", "First chunk that carries tokens - sent")
        self.icl = series("icl", "Gaps between chunks that carry tokens, where each is an event")
        self.latency = series("latency", "Last token, or end of the answer, - sent")
        self.failed_latency = series("failed_latency", "End - sent, of failed requests")


class _Request:
    """A request in flight."""

    __slots__ = ("failed", "issued_ns", "phase", "reads")

    def __init__(self, phase: _Phase | None, issued_ns: int) -> None:
        self.phase = phase
        self.issued_ns = issued_ns
        self.reads: list[int] = []
        self.failed = False


class Aggregate:
    """Counts a stream of events into a registry. It has no clock, thread or socket of its own.

    Tracked are samples that were issued between START_ and STOP_PERFORMANCE_TRACKING. Times are counted from the
    moment of sending where ``sample.complete`` tells it (``sent`` in its data, as the engine does), else from
    ``sample.issued``; so its numbers are the run log's as long as no event was dropped.

    Args:
        registry: Where the numbers go; each tracked phase registers its own.
    """

    def __init__(self, registry: MetricsRegistry) -> None:
        self._registry = registry
        self._protocol_errors = registry.counter("protocol_errors", "1", "Events that contradict those before them")
        self._unmatched = registry.counter("unmatched", "1", "Events of requests whose issue was never heard of")
        self._phases: dict[int, _Phase | None] = {}
        self._current: _Phase | None = None
        self._in_flight: dict[int, _Request] = {}
        self._given_up = 0
        # Of requests that ended: whose they were, and whether their failure was counted or can't be any more.
        self._ended: OrderedDict[int, tuple[_Phase | None, bool]] = OrderedDict()
        # A flush sends errors first: of a short request the error comes before its issue.
        self._early: OrderedDict[int, None] = OrderedDict()
        self._is_ended = self._is_odd_said = False
        self.protocol_errors = 0
        """Events that contradict those before them, such as an error after its request was complete."""
        self.unmatched = 0
        """Events of requests whose issue was never heard of."""
        self.uncounted_phases = 0
        """Tracked phases that the registry has no room for: they are in no number."""
        self._takes: dict[EventType, Callable[[EventRecord], None]] = {
            EventType.SESSION_START_PERFORMANCE_TRACKING: self._starts,
            EventType.SESSION_STOP_PERFORMANCE_TRACKING: self._stops,
            EventType.SESSION_ENDED: self._ends,
            EventType.SAMPLE_ISSUED: self._issued,
            EventType.SAMPLE_RECV_FIRST: self._received,
            EventType.SAMPLE_RECV_NON_FIRST: self._received,
            EventType.SAMPLE_COMPLETE: self._complete,
            EventType.ERROR_CLIENT: self._error,
            EventType.ERROR_GENERIC: self._error,
        }

    @property
    def is_ended(self) -> bool:
        """Whether the session said that it ended."""
        return self._is_ended

    @property
    def in_flight_count(self) -> int:
        """Requests that were issued and whose end is awaited."""
        return len(self._in_flight)

    @property
    def pending(self) -> int:
        """Requests whose end is not known: awaited, or given up."""
        return len(self._in_flight) + self._given_up

    def cancel_all(self) -> int:
        """Wait for no request's end any more; they stay pending in every snapshot.

        Returns:
            How many were awaited.
        """
        given_up = len(self._in_flight)
        self._given_up += given_up
        self._in_flight.clear()
        return given_up

    def feed(self, records: Iterable[EventRecord]) -> None:
        """Count events. One whose data is of another kind than its type tells is a protocol error; the first is logged.

        Args:
            records: In the order in which they came.
        """
        for record in records:
            take = self._takes.get(record.type)
            if take is None:
                continue
            try:
                take(record)
            except (TypeError, ValueError, OverflowError):  # who publishes is anybody
                if not self._is_odd_said:
                    _log.warning("an event of %s has data that its type doesn't have", record.type.topic, exc_info=True)
                self._is_odd_said = True
                self._contradicts()

    def _starts(self, record: EventRecord) -> None:
        index = _data(record).get("phase", len(self._phases))
        if index in self._phases:
            self._contradicts()
        else:
            self._phases[index] = self._registered(index)
            self._registry.begin(index)
        self._current = self._phases[index]

    def _registered(self, index: int) -> _Phase | None:
        # Looked at first: what was registered of a phase stays, and would show a phase of nothing.
        if len(self._registry.snapshot(percentiles=(), bins=1).stats) + _ENTRIES_A_PHASE <= _ENTRIES:
            return _Phase(self._registry, index)
        self.uncounted_phases += 1
        _log.warning("phase %s is in no number: a registry has room for %d counters and series", index, _ENTRIES)
        return None

    def _stops(self, _: EventRecord) -> None:
        self._current = None

    def _ends(self, _: EventRecord) -> None:
        self._is_ended = True
        if self._registry.state is SessionState.LIVE:
            self._registry.advance(SessionState.DRAINING)

    def _issued(self, record: EventRecord) -> None:
        request = _id(record)
        if request in self._in_flight or request in self._ended:
            self._contradicts()
            return
        index = _data(record).get("phase")
        phase = self._current if index is None else self._phases.get(index)
        self._in_flight[request] = found = _Request(phase, record.ns)
        if phase is not None:
            phase.issued.increment()
        if request in self._early:
            del self._early[request]
            self._fails(found)

    def _received(self, record: EventRecord) -> None:
        found = self._in_flight.get(_id(record))
        if found is None:
            self._is_unmatched()
        elif found.phase is not None:
            found.reads.append(record.ns)

    def _error(self, record: EventRecord) -> None:
        if record.request is None:
            return  # of the session or the client itself, not of a sample
        found = self._in_flight.get(record.request)
        if found is not None:
            if found.failed:
                self._contradicts()
            else:
                self._fails(found)
            return
        if record.request in self._ended:
            self._contradicts()
            phase, is_counted = self._ended[record.request]
            if phase is not None and not is_counted:
                phase.failed.increment()
                self._ended[record.request] = phase, True
            return
        self._early[record.request] = None
        _forget_oldest(self._early)

    @staticmethod
    def _fails(found: _Request) -> None:
        found.failed = True
        if found.phase is not None:
            found.phase.failed.increment()

    def _complete(self, record: EventRecord) -> None:
        request = _id(record)
        found = self._in_flight.pop(request, None)
        if found is None:
            if request in self._ended:
                self._contradicts()
            else:
                self._is_unmatched()
            return
        data = _data(record)
        outcome = data.get("outcome", "failed" if found.failed else "ok")
        if outcome not in ("ok", "cancelled") and not found.failed:
            self._contradicts()  # its error should have come before; the failure is counted all the same
            self._fails(found)
        self._ended[request] = found.phase, found.failed or outcome == "cancelled"
        _forget_oldest(self._ended)
        if found.phase is not None:
            self._record(found.phase, found, record, outcome, data)

    @staticmethod
    def _record(phase: _Phase, found: _Request, record: EventRecord, outcome: str, data: dict[str, Any]) -> None:
        phase.completed.increment()
        phase.tokens.increment(data.get("tokens_out") or 0)
        sent = data.get("sent", found.issued_ns)
        if outcome == "cancelled":
            phase.cancelled.increment()
        elif sent is None:
            return
        elif found.failed:
            phase.failed_latency.record(max(0, record.ns - sent))
        else:
            phase.latency.record(max(0, (data.get("last_token") or record.ns) - sent))
            if found.reads:
                phase.ttft.record(max(0, found.reads[0] - sent))
            for before, after in zip(found.reads, found.reads[1:], strict=False):
                phase.icl.record(max(0, after - before))

    def _contradicts(self) -> None:
        self.protocol_errors += 1
        self._protocol_errors.increment()

    def _is_unmatched(self) -> None:
        self.unmatched += 1
        self._unmatched.increment()


def _id(record: EventRecord) -> int:
    return -1 if record.request is None else record.request


def _data(record: EventRecord) -> dict[str, Any]:
    return record.data or {}


def _forget_oldest(remembered: OrderedDict[int, Any]) -> None:
    if len(remembered) > _REMEMBERED:
        remembered.popitem(last=False)
