"""Metrics from events: what is tracked, which order is a contradiction, and that the numbers are the run log's."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from event_support import Contexts, until
from loadgen import _core
from loadgen.errors import ConfigError, MetricsError
from loadgen.event import EventPublisherService, EventRecord, EventType, ManagedZMQContext
from loadgen.metrics import (
    SNAPSHOT,
    Aggregate,
    MetricsAggregatorService,
    MetricsRegistry,
    MetricsSnapshotSubscriber,
    SessionState,
    final,
)
from metrics_support import WAIT_S

pytest_plugins = ["event_fixtures"]

ISSUED, FIRST, CHUNK, COMPLETE = (
    EventType.SAMPLE_ISSUED,
    EventType.SAMPLE_RECV_FIRST,
    EventType.SAMPLE_RECV_NON_FIRST,
    EventType.SAMPLE_COMPLETE,
)
FAILED = EventType.ERROR_CLIENT
START, STOP, ENDED = (
    EventType.SESSION_START_PERFORMANCE_TRACKING,
    EventType.SESSION_STOP_PERFORMANCE_TRACKING,
    EventType.SESSION_ENDED,
)


def event(kind: EventType, ns: int = 0, request: int | None = None, **data: Any) -> EventRecord:
    return EventRecord(kind, ns, request, data=data or None)


@pytest.fixture
def registry() -> Iterator[MetricsRegistry]:
    with MetricsRegistry(directories=["/proc/nowhere"]) as made:
        yield made


@pytest.fixture
def aggregate(registry: MetricsRegistry) -> Aggregate:
    made = Aggregate(registry)
    made.feed([event(START)])
    return made


def counts(registry: MetricsRegistry) -> tuple[int, ...]:
    found = registry.snapshot()
    return tuple(found.counter(name) for name in ("issued", "completed", "failed", "cancelled"))


# --- what is counted


def test_a_request_gives_its_counts_and_times(registry: MetricsRegistry, aggregate: Aggregate) -> None:
    aggregate.feed(
        [event(ISSUED, 10_000, 1), event(FIRST, 25_000, 1), event(CHUNK, 25_000, 1), event(CHUNK, 40_000, 1)]
    )
    assert (counts(registry), aggregate.in_flight_count, aggregate.pending) == ((1, 0, 0, 0), 1, 1)
    aggregate.feed([event(COMPLETE, 50_000, 1, outcome="ok", tokens_out=7, sent=12_000, last_token=40_000)])
    assert (counts(registry), aggregate.in_flight_count) == ((1, 1, 0, 0), 0)
    found = registry.snapshot()
    assert found.counter("tokens") == 7
    for name, values in {"ttft": [13_000], "latency": [28_000], "icl": [0, 15_000], "failed_latency": []}.items():
        stat = found.find(name)
        assert (stat.count, stat.total, stat.max) == (len(values), sum(values), max(values, default=None)), name


def test_without_the_engines_stamps_times_count_from_the_issue(registry: MetricsRegistry, aggregate: Aggregate) -> None:
    aggregate.feed([event(ISSUED, 10_000, 1), event(FIRST, 25_000, 1), event(COMPLETE, 50_000, 1)])
    assert [registry.snapshot().find(name).total for name in ("ttft", "latency")] == [15_000, 40_000]


def test_only_what_is_issued_while_tracked_counts(registry: MetricsRegistry) -> None:
    aggregate = Aggregate(registry)
    aggregate.feed([event(ISSUED, 1, 1), event(START), event(ISSUED, 2, 2), event(COMPLETE, 3, 1), event(STOP)])
    aggregate.feed([event(ISSUED, 4, 3), event(COMPLETE, 5, 2), event(FAILED, 6, 3), event(COMPLETE, 6, 3)])
    assert counts(registry) == (1, 1, 0, 0)
    assert (aggregate.protocol_errors, aggregate.unmatched, aggregate.in_flight_count) == (0, 0, 0)


def test_an_events_phase_wins_over_when_it_came(registry: MetricsRegistry) -> None:
    aggregate = Aggregate(registry)
    aggregate.feed([event(START, phase=1, name="a"), event(ISSUED, 1, 1, phase=0), event(ISSUED, 1, 2, phase=1)])
    aggregate.feed([event(STOP), event(START, phase=2, name="b"), event(ISSUED, 1, 3, phase=2)])
    found = registry.snapshot()
    assert [found.counter("issued", phase) for phase in (1, 2)] == [1, 1]
    assert (found.phase, aggregate.in_flight_count) == (2, 3)


def test_failures_are_counted_on_their_error_and_are_in_no_latency(
    registry: MetricsRegistry, aggregate: Aggregate
) -> None:
    aggregate.feed([event(ISSUED, 10_000, 1), event(FAILED, 30_000, 1)])
    assert counts(registry) == (1, 0, 1, 0)
    aggregate.feed([event(COMPLETE, 30_000, 1, outcome="http", sent=11_000)])
    assert (counts(registry), aggregate.protocol_errors) == ((1, 1, 1, 0), 0)
    found = registry.snapshot()
    assert (found.find("latency").count, found.find("failed_latency").total) == (0, 19_000)


def test_a_failure_before_anything_was_sent_has_no_time(registry: MetricsRegistry, aggregate: Aggregate) -> None:
    aggregate.feed([event(ISSUED, 1, 1), event(FAILED, 3, 1), event(COMPLETE, 3, 1, outcome="connect", sent=None)])
    assert (counts(registry), registry.snapshot().find("failed_latency").count) == ((1, 1, 1, 0), 0)


def test_cancelled_ones_are_counted_apart(registry: MetricsRegistry, aggregate: Aggregate) -> None:
    aggregate.feed([event(ISSUED, 1, 1), event(COMPLETE, 3, 1, outcome="cancelled", sent=2)])
    assert (counts(registry), registry.snapshot().find("latency").count) == ((1, 1, 0, 1), 0)


# --- order


def test_in_one_batch_an_error_comes_before_its_issue(registry: MetricsRegistry, aggregate: Aggregate) -> None:
    aggregate.feed([event(FAILED, 2, 1), event(ISSUED, 1, 1), event(COMPLETE, 2, 1, outcome="http", sent=1)])
    assert (counts(registry), aggregate.protocol_errors) == ((1, 1, 1, 0), 0)


@pytest.mark.parametrize("told", [{}, {"outcome": "http", "sent": 1}])
def test_an_error_after_its_complete_is_a_protocol_error_and_no_success(
    registry: MetricsRegistry, aggregate: Aggregate, told: dict[str, Any]
) -> None:
    aggregate.feed([event(ISSUED, 1, 1), event(COMPLETE, 2, 1, **told), event(FAILED, 2, 1)])
    assert counts(registry) == (1, 1, 1, 0)
    assert aggregate.protocol_errors == registry.snapshot().counter("protocol_errors") >= 1


@pytest.mark.parametrize(
    "contradiction",
    [
        [event(ISSUED, 1, 1)],
        [event(FAILED, 1, 1), event(FAILED, 1, 1)],
        [event(COMPLETE, 2, 1), event(COMPLETE, 2, 1)],
        [event(COMPLETE, 2, 1), event(ISSUED, 3, 1)],
        [event(START, phase=0)],
    ],
)
def test_what_contradicts_is_counted(
    registry: MetricsRegistry, aggregate: Aggregate, contradiction: list[EventRecord]
) -> None:
    aggregate.feed([event(ISSUED, 1, 1), *contradiction])
    assert aggregate.protocol_errors == 1
    assert max(counts(registry)) == 1


def test_events_of_unknown_requests_are_counted(registry: MetricsRegistry, aggregate: Aggregate) -> None:
    aggregate.feed([event(FIRST, 1, 9), event(COMPLETE, 2, 9), event(EventType.ERROR_SESSION, 3)])
    assert (aggregate.unmatched, registry.snapshot().counter("unmatched")) == (2, 2)
    assert (counts(registry), aggregate.protocol_errors) == ((0, 0, 0, 0), 0)


@pytest.mark.parametrize(
    "odd",
    [
        event(START, phase="first"),
        event(START, phase=70_000),
        event(ISSUED, 3, 7, phase=[0]),
        event(COMPLETE, 3, 1, sent="soon"),
        event(COMPLETE, 3, 1, tokens_out=-1),
    ],
)
def test_data_of_another_kind_is_a_protocol_error_and_ends_nothing(
    registry: MetricsRegistry, aggregate: Aggregate, odd: EventRecord, caplog: pytest.LogCaptureFixture
) -> None:
    aggregate.feed([event(ISSUED, 1, 1), odd, event(ISSUED, 5, 2), event(COMPLETE, 6, 2, outcome="ok")])
    assert (aggregate.protocol_errors, registry.snapshot().find("latency").max) == (1, 1)
    assert "data that its type doesn't have" in caplog.text


def test_phases_beyond_the_registrys_room_are_said_and_the_others_go_on(
    registry: MetricsRegistry, aggregate: Aggregate, caplog: pytest.LogCaptureFixture
) -> None:
    for phase in range(1, 31):
        aggregate.feed([event(START, phase=phase), event(ISSUED, 1, phase, phase=phase)])
    aggregate.feed([event(COMPLETE, 2, 30), event(COMPLETE, 3, 1, outcome="ok")])
    seen = registry.snapshot()
    known = {stat.phase for stat in seen.stats if stat.phase is not None}
    assert known == set(range(31 - aggregate.uncounted_phases))
    assert aggregate.uncounted_phases == 3
    assert (seen.counter("issued"), seen.counter("completed", 1), aggregate.in_flight_count) == (27, 1, 28)
    assert "phase 30 is in no number" in caplog.text


def test_what_is_given_up_stays_pending(registry: MetricsRegistry, aggregate: Aggregate) -> None:
    aggregate.feed([event(ISSUED, 1, n) for n in range(3)])
    assert aggregate.cancel_all() == 3
    assert (aggregate.in_flight_count, aggregate.pending) == (0, 3)


def test_the_sessions_end_begins_the_drain_once(registry: MetricsRegistry, aggregate: Aggregate) -> None:
    aggregate.feed([event(ENDED), event(ENDED)])
    assert aggregate.is_ended
    assert registry.state is SessionState.DRAINING


# --- the service


@pytest.fixture
def events(ctx: ManagedZMQContext) -> Iterator[EventPublisherService]:
    with EventPublisherService(ctx, isolated_event_loop=True) as service:
        yield service


@pytest.fixture
def follow(events: EventPublisherService, tmp_path: Path) -> Iterator[Callable[..., MetricsAggregatorService]]:
    made: list[MetricsAggregatorService] = []

    def start(**options: Any) -> MetricsAggregatorService:
        service = MetricsAggregatorService(events.address, **{"linger": 0, "store": tmp_path, **options})
        made.append(service)
        assert events.wait_for(service.greeting, WAIT_S)
        return service

    yield start
    for service in made:
        service.close()


def publish(events: EventPublisherService, *records: EventRecord) -> None:
    for record in records:
        events.publish(record)


def test_a_session_is_followed_to_its_final_snapshot(
    events: EventPublisherService, follow: Callable[..., MetricsAggregatorService], contexts: Contexts, tmp_path: Path
) -> None:
    service = follow(linger=WAIT_S, refresh_hz=100)
    with MetricsSnapshotSubscriber(contexts(), service.address) as subscriber:
        publish(events, event(START), *(event(ISSUED, 1, n) for n in range(5)))
        events.flush()
        until(lambda: service.in_flight_count == 5)
        assert service.wait(0) is None
        publish(events, *(event(COMPLETE, 2_000, n) for n in range(5)), event(STOP), event(ENDED))
        outcome = service.wait(WAIT_S)
        last = subscriber.wait_for_complete(WAIT_S)
    assert outcome is not None
    assert last == outcome.snapshot == final.load(tmp_path / SNAPSHOT)
    assert (last.state, last.counter("completed"), last.pending, last.missing) == (SessionState.COMPLETE, 5, 0, 0)


def test_the_drain_is_bounded_and_what_is_open_stays_pending(
    events: EventPublisherService, follow: Callable[..., MetricsAggregatorService]
) -> None:
    service = follow(drain_timeout=0)
    publish(events, event(START), event(ISSUED, 1, 1), event(ENDED))
    outcome = service.wait(WAIT_S)
    assert outcome is not None
    assert (outcome.snapshot.state, outcome.snapshot.pending) == (SessionState.COMPLETE, 1)


def test_who_does_not_want_to_wait_gives_up(
    events: EventPublisherService, follow: Callable[..., MetricsAggregatorService]
) -> None:
    service = follow(drain_timeout=3600)
    publish(events, event(START), event(ISSUED, 1, 1), event(ENDED))
    until(lambda: service.registry.state is SessionState.DRAINING)
    assert service.wait(0) is None
    service.cancel_all()
    outcome = service.wait(WAIT_S)
    assert outcome is not None
    assert (outcome.snapshot.pending, service.in_flight_count) == (1, 0)


def test_a_session_that_never_ends_is_interrupted_by_closing(
    events: EventPublisherService, follow: Callable[..., MetricsAggregatorService], tmp_path: Path
) -> None:
    service = follow()
    publish(events, event(START), event(ISSUED, 1, 1))
    events.flush()
    until(lambda: service.in_flight_count == 1)
    service.close()
    service.close()
    assert final.load(tmp_path / SNAPSHOT).state is SessionState.INTERRUPTED


def test_what_was_dropped_is_said(
    events: EventPublisherService, follow: Callable[..., MetricsAggregatorService]
) -> None:
    service = follow(drain_timeout=0)
    batch = _core.EventBatch(7)
    batch.record(ISSUED, 1, 1)
    batch.take()  # lost on its way
    batch.record(ISSUED, 2, 1)
    with events._lock:
        for frame in batch.take():
            events._sender.add(frame)
    publish(events, event(ENDED))
    outcome = service.wait(WAIT_S)
    assert outcome is not None
    assert (service.missing, outcome.snapshot.missing) == (1, 1)


@pytest.mark.parametrize("wrong", [{"drain_timeout": -1}, {"refresh_hz": 0}])
def test_what_is_out_of_range_is_refused(events: EventPublisherService, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MetricsAggregatorService(events.address, **wrong)


def test_an_address_of_another_machine_is_refused() -> None:
    before = threading.active_count()
    with pytest.raises((ConfigError, MetricsError)):
        MetricsAggregatorService("tcp://192.0.2.1:5555", linger=0)
    until(lambda: threading.active_count() <= before)


# --- against a run


def test_its_numbers_are_the_run_logs(tmp_path: Path) -> None:
    """Every event of a run with failures and streams, in the order in which a subscriber gets them."""
    from metrics_run import of_run

    directory, records, report = of_run(tmp_path)
    with MetricsRegistry(directories=["/proc/nowhere"]) as registry:
        aggregate = Aggregate(registry)
        aggregate.feed(records)
        found = registry.snapshot()
    (phase,) = report.perf_results
    index = phase.report["index"]
    assert (aggregate.protocol_errors, aggregate.unmatched, aggregate.pending) == (0, 0, 0)
    assert phase.counts.failed > 0
    assert [found.counter(name, index) for name in ("issued", "failed", "cancelled")] == [
        phase.counts.issued,
        phase.counts.failed,
        phase.counts.cancelled,
    ]
    for name in ("ttft", "latency", "icl", "failed_latency"):
        stat, metric = found.find(name, index), phase.metric(name)
        assert stat.count == metric.count, name
        assert stat.mean is not None
        assert stat.mean / 1e6 == pytest.approx(metric.mean, rel=1e-9), name
        assert (stat.min, stat.max) == (round(metric.min * 1e6), round(metric.max * 1e6)), name
        assert stat.std / 1e6 == pytest.approx(metric.std, rel=1e-9), name
    assert found.counter("tokens", index) == phase.tokens["output"]
    assert directory.is_dir()
