"""Frames of engines in the events' service: they are passed on in order, to the last, also those of a run."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import loadgen
from event_support import (
    COMPLETE,
    ENDED,
    FAILED,
    ISSUED,
    STARTED,
    Contexts,
    HandQueue,
    Subscriber,
    event,
    frames_of,
    isolated,
    received,
)
from loadgen import _core
from loadgen.errors import EventError
from loadgen.event import EventPublisherService, ManagedZMQContext
from loadgen.event.log import EventLog
from loadgen.event.record import order_of
from loadgen.session import prepare

pytest_plugins = ["event_fixtures"]


@pytest.fixture
def queue() -> Iterator[HandQueue]:
    made = HandQueue()
    yield made
    made.close()


def test_an_engines_frames_are_passed_on_behind_what_was_recorded_before(
    ctx: ManagedZMQContext, listen: Callable[..., Subscriber], queue: HandQueue
) -> None:
    with isolated(ctx) as service:
        subscriber = listen(service)
        queue.put(*frames_of(65535, event(STARTED)))
        service.attach(queue)
        assert received(subscriber, 1)[0].type == STARTED
        service.record(ISSUED, 77, 1)  # buffered: the engine's session event sends it
        queue.put(*frames_of(0, event(COMPLETE, 1), event(FAILED, 1)), *frames_of(65535, event(ENDED)))
        got = received(subscriber, 4)
    assert [record.type for record in got] == [FAILED, COMPLETE, ISSUED, ENDED]
    assert [record.source for record in got] == [0, 0, 32768, 65535]
    assert subscriber.stats.dropped == 0


def test_more_than_a_turns_frames_are_all_passed_on(
    ctx: ManagedZMQContext, listen: Callable[..., Subscriber], queue: HandQueue
) -> None:
    batch = _core.EventBatch(3)
    frames = []
    for n in range(700):
        batch.record(ISSUED, n, n)
        frames += batch.take()
    with isolated(ctx) as service:
        subscriber = listen(service)
        service.attach(queue)
        queue.put(*frames)
        assert [record.request for record in received(subscriber, 700)] == list(range(700))


def test_the_end_passes_on_what_engines_still_hold_and_counts_what_they_dropped(
    ctx: ManagedZMQContext, queue: HandQueue, contexts: Contexts
) -> None:
    other = HandQueue()
    service = EventPublisherService(ctx)  # never started: nothing drains but the end
    service.attach(queue)
    service.attach(other)
    queue.put(*frames_of(1, event(ISSUED, 1)))
    queue.dropped, other.dropped = 5, 2
    service.detach(other)
    other.close()
    assert service.stats.dropped == 7
    service.close()
    assert (service.stats.sent, service.stats.dropped) == (0, 8)
    with pytest.raises(EventError, match="is closed"):
        service.attach(queue)


def test_detaching_passes_on_the_rest_first(
    ctx: ManagedZMQContext, listen: Callable[..., Subscriber], queue: HandQueue
) -> None:
    with isolated(ctx) as service:
        subscriber = listen(service)
        service.attach(queue)
        queue.put(*frames_of(1, *(event(ISSUED, n) for n in range(3))))
        service.detach(queue)
        assert service.stats.sent == 3
        assert len(received(subscriber, 3)) == 3
        queue.put(*frames_of(1, event(ISSUED, 9)))
        service.flush()
        assert service.stats.sent == 3


def test_a_runs_events_reach_a_subscriber_and_agree_with_its_report(
    ctx: ManagedZMQContext, listen: Callable[..., Subscriber], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_config, engine_of = prepare.run_config, _core.Engine
    queues: list[_core.EventQueue] = []

    def attached(told: str) -> _core.Engine:
        engine = engine_of(told)
        queue = engine.event_queue()
        assert queue is not None
        queues.append(queue)
        service.attach(queue)
        return engine

    def published(*parts: Any, **more: Any) -> str:
        return run_config(*parts, **{**more, "publish": True})

    monkeypatch.setattr(prepare, "run_config", published)
    monkeypatch.setattr(_core, "Engine", attached)
    with EventPublisherService(ctx, isolated_event_loop=True) as service:
        subscriber = listen(service)
        result = loadgen.run(
            "mock:?error_rate=0.2",
            requests=300,
            concurrency=8,
            output_tokens=4,
            events="chunks",
            workers=2,
            max_error_rate=1.0,
            out=tmp_path / "run",
        )
        service.detach(queues[0])
    records = received(subscriber, service.stats.sent)
    counts, types = result.performance.counts, Counter(record.type for record in records)
    assert (types[ISSUED], types[FAILED]) == (counts.issued, counts.failed)
    assert types[COMPLETE] == counts.ok + counts.failed + counts.cancelled
    assert (records[0].type, records[-1].type) == (STARTED, ENDED)
    failed = [record.request for record in records if record.type == FAILED]
    for request in failed:
        told = [record.type for record in records if record.request == request]
        assert told.index(FAILED) < told.index(COMPLETE)
    logged = [record for piece in EventLog(result.dir).records() for record in piece]
    assert sorted(records, key=order_of) == logged
    assert (subscriber.stats.dropped, queues[0].dropped, service.stats.dropped) == (0, 0, 0)
