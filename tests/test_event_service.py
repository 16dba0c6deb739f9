"""The events' service: when batches leave, in which order, from which thread, and what becomes of them at the end."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
import zmq

from event_support import (
    COMPLETE,
    ENDED,
    FAILED,
    FIRST,
    ISSUED,
    STARTED,
    WAIT_S,
    Contexts,
    Subscriber,
    event,
    isolated,
    received,
    until,
)
from loadgen import _core
from loadgen.errors import EventError
from loadgen.event import (
    EventCodec,
    EventPublisherService,
    EventRecord,
    EventType,
    ManagedZMQContext,
    MessagePublisher,
    ZmqMessageSubscriber,
)
from loadgen.event.record import CATEGORIES

pytest_plugins = ["event_fixtures"]

# --- when a batch leaves


@pytest.mark.parametrize(("published", "left"), [(9, 0), (10, 10), (11, 10)])
def test_a_batch_leaves_with_the_record_that_fills_it(ctx: ManagedZMQContext, published: int, left: int) -> None:
    with isolated(ctx, send_threshold=10) as service:
        for n in range(published):
            service.record(ISSUED if n % 2 else COMPLETE, n, n)  # over all topics
        until(lambda: service.stats.sent == left)
        assert (service.stats.buffered, service.stats.pending) == (published - left, 0)
    assert (service.stats.buffered, service.stats.sent, service.stats.dropped) == (0, published, 0)


def test_a_batch_leaves_with_its_bytes(ctx: ManagedZMQContext) -> None:
    with isolated(ctx, max_bytes=500) as service:
        service.publish(EventRecord(ISSUED, 1, data={"text": "x" * 400}))
        assert service.stats.sent == 0
        service.publish(EventRecord(ISSUED, 1, data={"text": "x" * 400}))
        until(lambda: service.stats.sent == 2)


def test_a_trickle_leaves_by_its_age(ctx: ManagedZMQContext, listen: Callable[..., Subscriber]) -> None:
    with isolated(ctx, max_age=0.010) as service:
        subscriber = listen(service)
        for n in range(12):  # each only after the one before came: nothing but its age sends it
            service.record(ISSUED, n, _core.now_ns())
            assert [record.request for record in subscriber.receive(WAIT_S)] == [n]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_publisher_at_rest_waits_for_a_record_and_not_for_its_age(
    ctx: ManagedZMQContext, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    waits: list[float] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call_later = loop.call_later

        def noted(delay: float, call: Any, *args: Any) -> asyncio.TimerHandle:
            if getattr(call, "__func__", None) is EventPublisherService._tick:
                waits.append(delay)
            return call_later(delay, call, *args)

        monkeypatch.setattr(loop, "call_later", noted)
        service = EventPublisherService(ctx, max_age=0.002)
        assert waits == [1.0]
        for sent in (1, 2):
            if elsewhere:
                await asyncio.to_thread(service.record, ISSUED, sent, _core.now_ns())
            else:
                service.record(ISSUED, sent, _core.now_ns())
            for _ in range(round(WAIT_S / 0.001)):
                if service.stats.sent == sent:
                    break
                await asyncio.sleep(0.001)
            assert (service.stats.sent, waits[-1]) == (sent, 1.0), "sent, and at rest again"
        assert all(wait <= 0.002 for wait in waits if wait != 1.0)
        service.close()

    asyncio.run(main())


def test_a_batch_at_rest_tells_of_the_next_event_once() -> None:
    told: list[int] = []
    batch = _core.EventBatch(7, on_first=lambda: told.append(batch.buffered))
    batch.record(ISSUED, 1, 1)
    assert told == []
    assert not batch.rest(), "it holds one that nobody would be told of"
    batch.take()
    assert batch.rest()
    batch.record(ISSUED, 2, 1)
    batch.record(ISSUED, 3, 1)
    assert told == [1]


@pytest.mark.parametrize("ns", [0, 2**63])
def test_stamps_of_another_clock_age_too(ctx: ManagedZMQContext, listen: Callable[..., Subscriber], ns: int) -> None:
    with isolated(ctx, max_age=0.001) as service:
        subscriber = listen(service)
        service.record(ISSUED, 1, ns)
        assert received(subscriber, 1)[0].ns == ns


def test_a_session_event_takes_everything_with_it(ctx: ManagedZMQContext, listen: Callable[..., Subscriber]) -> None:
    with isolated(ctx) as service:
        subscriber = listen(service)
        for kind in (COMPLETE, FAILED, ISSUED):
            service.publish(event(kind, 1))
        service.publish(event(ENDED))
        assert [record.type for record in received(subscriber, 4)] == [FAILED, ISSUED, COMPLETE, ENDED]


def test_flush_and_close_send_what_is_buffered(ctx: ManagedZMQContext, listen: Callable[..., Subscriber]) -> None:
    with isolated(ctx) as service:
        subscriber = listen(service)
        service.record(ISSUED, 1, 1)
        service.flush()
        assert (service.stats.sent, service.stats.buffered) == (1, 0)
        service.record(ISSUED, 2, 2)
    assert [record.request for record in received(subscriber, 2)] == [1, 2]


# --- what a subscriber gets


def test_a_record_comes_whole(ctx: ManagedZMQContext, listen: Callable[..., Subscriber]) -> None:
    data = {"phase": 1, "class": "timeout", "share": 0.5, "deep": [1, {"x": None}]}
    sent = EventRecord(FAILED, 7, 8, "s", "c", 2, data, "stop")
    with isolated(ctx, source=40_000) as service:
        assert isinstance(service, MessagePublisher)
        subscriber = listen(service)
        service.send(sent)
        service.record(ISSUED, 9, 10)
        service.flush()
        got = received(subscriber, 2)
    assert got == [
        EventRecord(FAILED, 7, 8, "s", "c", 2, data, "stop", 40_000, 0),
        EventRecord(ISSUED, 10, 9, source=40_000, seq=1),
    ]


@pytest.mark.parametrize("threshold", [1, 2, 1000])
@pytest.mark.parametrize("flushed", [False, True])
def test_an_error_comes_before_its_complete(
    ctx: ManagedZMQContext, listen: Callable[..., Subscriber], threshold: int, flushed: bool
) -> None:
    with isolated(ctx, send_threshold=threshold) as service:
        subscriber = listen(service)
        for n in range(50):
            service.record(ISSUED, n, n)
            service.record(FAILED, n, n)
            if flushed and n % 3 == 0:
                service.flush()
            service.record(COMPLETE, n, n)
        service.flush()
        _assert_errors_first(received(subscriber, 150), 50)


def _assert_errors_first(records: list[EventRecord], requests: int) -> None:
    failed: set[int | None] = set()
    completed = 0
    for record in records:
        if record.type == FAILED:
            failed.add(record.request)
        elif record.type == COMPLETE:
            assert record.request in failed
            completed += 1
    assert completed == requests


def test_a_failed_send_splits_no_error_from_its_complete(contexts: Contexts, monkeypatch: pytest.MonkeyPatch) -> None:
    """ZMQ takes every other frame only: what it refused goes out before anything that came later."""
    ctx = contexts()

    async def session() -> tuple[EventPublisherService, list[EventRecord]]:
        service = EventPublisherService(ctx, send_threshold=2, max_age=3600)
        subscriber = ZmqMessageSubscriber(ctx, service.address, EventCodec(), from_start=True)
        assert await service.await_for(subscriber.greeting, WAIT_S)
        socket = _EveryOther(service._sender._socket)
        monkeypatch.setattr(service._sender, "_socket", socket)
        for n in range(50):
            service.record(FAILED, n, n)
            service.record(COMPLETE, n, n)
        assert socket.refused > 20
        assert service.stats.pending > 0
        monkeypatch.undo()
        service.flush()
        records: list[EventRecord] = []
        while len(records) < 100:
            records += await subscriber.areceive(WAIT_S)
        service.close()
        subscriber.close()
        assert subscriber.stats.dropped == 0
        return service, records

    service, records = asyncio.run(session())
    _assert_errors_first(records, 50)
    assert (service.stats.sent, service.stats.dropped) == (100, 0)


class _EveryOther:
    def __init__(self, real: Any) -> None:
        self._real = real
        self._refuses = False
        self.refused = 0

    def send(self, frame: bytes, flags: int) -> None:
        self._refuses = not self._refuses
        if self._refuses:
            self.refused += 1
            raise zmq.Again
        self._real.send(frame, flags)


def test_narrow_subscribers_get_their_batches_and_see_no_drops(
    ctx: ManagedZMQContext, listen: Callable[..., Subscriber]
) -> None:
    with isolated(ctx, send_threshold=100) as service:
        exact, category = listen(service, "sample.recv_first"), listen(service, "error.", "session.ended")
        for n in range(500):
            for kind in (ISSUED, FIRST, FAILED, COMPLETE):
                service.record(kind, n, n)
        service.publish(event(STARTED))
        service.publish(event(ENDED))
        got = received(exact, 500)
        other = received(category, 501)
    assert {record.type for record in got} == {FIRST}
    assert {record.type for record in other} == {FAILED, ENDED}
    assert exact.stats.dropped == category.stats.dropped == 0
    assert exact.stats.frames < 30  # they came in batches
    assert exact.receive(0) == ()


def test_one_in_a_hundred_thousand_would_show(ctx: ManagedZMQContext, listen: Callable[..., Subscriber]) -> None:
    with isolated(ctx) as service:
        subscriber = listen(service)
        for n in range(100_000):
            service.record(ISSUED, n, n)
            if n % 1000 == 999:  # as fast as it is read: the marks are no matter here
                assert len(received(subscriber, 1000)) == 1000
    assert (subscriber.stats.records, subscriber.stats.dropped, service.stats.sent) == (100_000, 0, 100_000)


# --- threads and loops


def test_an_eager_call_returns_when_zmq_has_its_record(ctx: ManagedZMQContext) -> None:
    with isolated(ctx, extra_eager=True) as service:
        for n in range(1, 20):
            service.record(ISSUED, n, n)
            assert service.stats.sent == 2 * n - 1
            service.publish(event(COMPLETE, n))
            assert (service.stats.sent, service.stats.buffered, service.stats.pending) == (2 * n, 0, 0)


def test_an_eager_call_on_the_loops_own_thread_does_not_wait_for_itself(ctx: ManagedZMQContext) -> None:
    async def session() -> int:
        with EventPublisherService(ctx, extra_eager=True) as service:
            service.publish(event(ENDED))
            return service.stats.sent

    assert asyncio.run(session()) == 1


def test_many_threads_may_record(ctx: ManagedZMQContext, listen: Callable[..., Subscriber]) -> None:
    each, threads = 2000, 4
    with isolated(ctx, send_threshold=50) as service:
        subscriber = listen(service)

        def work(first: int) -> None:
            for n in range(first, first + each):
                service.record(ISSUED, n, n)

        workers = [threading.Thread(target=work, args=(n * each,)) for n in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        service.flush()
        got = received(subscriber, each * threads)
    assert sorted(record.request or 0 for record in got) == list(range(each * threads))
    assert [record.seq for record in got] == list(range(each * threads))
    assert subscriber.stats.dropped == 0


def test_it_lives_on_a_loop_that_runs_already_as_in_a_notebook(ctx: ManagedZMQContext) -> None:
    async def notebook() -> list[int | None]:
        with EventPublisherService(ctx, max_age=0.005) as service:
            subscriber = ZmqMessageSubscriber(ctx, service.address, EventCodec())
            assert await service.await_for(subscriber.greeting, WAIT_S)
            await asyncio.to_thread(service.record, ISSUED, 1, _core.now_ns())  # another thread's, sent by the loop
            got = [record.request for record in await subscriber.areceive(WAIT_S)]
            await asyncio.to_thread(service.publish, event(ENDED, 2))
            got += [record.request for record in await subscriber.areceive(WAIT_S)]
            await asyncio.to_thread(service.record, ISSUED, 3, 0)
            await asyncio.to_thread(service.flush)
            got += [record.request for record in await subscriber.areceive(WAIT_S)]
            subscriber.close()
            return got

    assert asyncio.run(notebook()) == [1, 2, 3]


def test_made_where_no_loop_runs_it_keeps_records_until_it_is_started(ctx: ManagedZMQContext) -> None:
    service = EventPublisherService(ctx, send_threshold=2)
    subscriber = ZmqMessageSubscriber(ctx, service.address, EventCodec(), from_start=True)
    with pytest.raises(EventError, match="isn't started"):
        service.wait_for(subscriber.greeting, 0)
    with pytest.raises(EventError, match="none runs here"):
        service.start()
    for n in range(5):
        service.record(ISSUED, n, n)
    assert (service.stats.pending, service.stats.buffered) == (4, 1)

    async def session() -> list[EventRecord]:
        ready = asyncio.create_task(subscriber.areceive(WAIT_S))
        service.start()
        service.start()
        assert await service.await_for(subscriber.greeting, WAIT_S)
        service.record(ISSUED, 5, 5)
        records = list(await ready)
        while not records or records[-1].request != 5:
            records += await subscriber.areceive(WAIT_S)
        return records

    # What was sent before the subscriber was there is gone: to be there first, it is waited for first.
    assert asyncio.run(session())[-1].request == 5
    service.close()
    assert (service.stats.sent, service.stats.dropped) == (6, 0)
    subscriber.close()


def test_an_isolated_one_that_can_not_listen_says_so_and_leaves_no_thread(ctx: ManagedZMQContext) -> None:
    other = ZmqMessageSubscriber(ctx, f"ipc://{ctx.directory / 'none'}", EventCodec())  # this thread has the sockets
    before = threading.active_count()
    with pytest.raises(EventError, match="has this context's sockets"):
        EventPublisherService(ctx, isolated_event_loop=True)
    assert threading.active_count() == before
    other.close()


# --- the end


def test_after_the_end_nothing_is_published_and_the_counters_stay(ctx: ManagedZMQContext) -> None:
    service = EventPublisherService(ctx, isolated_event_loop=True)
    kept = service.record
    kept(ISSUED, 1, 1)
    service.close()
    service.close()
    calls: list[Callable[[], object]] = [
        lambda: service.record(ISSUED, 2, 2),
        lambda: kept(ISSUED, 2, 2),
        lambda: service.publish(event(ISSUED)),
        lambda: service.send(event(ISSUED)),
        service.flush,
        lambda: service.wait_for(b"\0", 0),
    ]
    for call in calls:
        with pytest.raises(EventError, match="publisher is closed"):
            call()
    assert (service.stats.sent, service.stats.buffered, service.stats.dropped) == (1, 0, 0)
    assert not [thread for thread in threading.enumerate() if thread.name == "loadgen-events"]


def test_it_may_be_closed_from_another_thread_and_after_its_loop(ctx: ManagedZMQContext, contexts: Contexts) -> None:
    async def session() -> EventPublisherService:
        service = EventPublisherService(ctx)
        service.record(ISSUED, 1, 1)
        await asyncio.to_thread(service.close)
        assert service.stats.sent == 1
        left = EventPublisherService(ctx, max_age=3600)
        left.record(ISSUED, 1, 1)
        return left

    left = asyncio.run(session())
    left.close()
    assert left.stats.sent == 1


def test_it_may_be_closed_on_its_own_thread(ctx: ManagedZMQContext) -> None:
    service = EventPublisherService(ctx, isolated_event_loop=True)
    loop = service._home.loop
    assert loop is not None
    service.record(ISSUED, 1, 1)
    loop.call_soon_threadsafe(service.close)
    until(loop.is_closed)
    assert service.stats.sent == 1


def test_what_zmq_never_took_is_counted_and_told(
    contexts: Contexts, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    ctx = contexts()

    async def session() -> EventPublisherService:
        service = EventPublisherService(ctx, send_threshold=10, max_age=3600)
        real = service._sender._socket
        refusing = _EveryOther(real)
        refusing.send = _never  # type: ignore[method-assign]
        monkeypatch.setattr(service._sender, "_socket", refusing)
        for n in range(35):
            service.record(ISSUED, n, n)
        assert (service.stats.pending, service.stats.buffered) == (30, 5)
        with caplog.at_level(logging.WARNING, "loadgen.event"), suppress(AttributeError):
            service.close(0.0)
        assert real is not None
        ctx.close_socket(real, 0)
        return service

    service = asyncio.run(session())
    assert (service.stats.sent, service.stats.pending, service.stats.buffered, service.stats.dropped) == (0, 0, 0, 35)
    assert caplog.text.count("ZMQ takes no events") == 1
    assert "35 events were left behind" in caplog.text


def _never(frame: bytes, flags: int) -> None:
    raise zmq.ZMQError(zmq.ETERM)


def test_a_forked_child_can_not_publish_and_ends_nothing(ctx: ManagedZMQContext) -> None:
    with isolated(ctx) as service:
        service.record(ISSUED, 1, 1)
        child = os.fork()
        if child == 0:
            refused = 0
            calls: list[Callable[[], None]] = [lambda: service.record(ISSUED, 1, 1), service.flush]
            for call in calls:
                try:
                    call()
                except EventError as error:
                    refused += "after a fork" in str(error)
            service.close()
            os._exit(refused)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
        service.flush()
        assert service.stats.sent == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"send_threshold": 0}, r"send_threshold \(0\) must be 1"),
        ({"max_age": 0}, r"max_age \(0\) must be above 0"),
        ({"max_age": float("nan")}, "must be above 0"),
        ({"max_bytes": 0}, r"max_bytes \(0\) must be 1"),
        ({"source": 70_000}, r"source \(70000\) must be 0 to 65535"),
        ({"sndhwm": -1}, r"sndhwm \(-1\) must be 0"),
    ],
)
def test_a_bad_argument_names_its_value_and_rule(ctx: ManagedZMQContext, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        EventPublisherService(ctx, **arguments)


def test_services_of_one_context_have_addresses_of_their_own(ctx: ManagedZMQContext) -> None:
    a, b = EventPublisherService(ctx), EventPublisherService(ctx)
    assert a.address != b.address


def test_the_core_and_the_package_name_the_same_topics(ctx: ManagedZMQContext) -> None:
    batch = _core.EventBatch(1)
    for kind in EventType:
        batch.publish(kind, 1)
    topics = [frame[:34].rstrip(b"\0").decode() for frame in batch.take()]
    assert sorted(topics) == sorted(kind.topic for kind in EventType)
    assert {topic.partition(".")[0] + "." for topic in topics} == set(CATEGORIES)


def test_an_event_that_a_signals_handler_records_within_a_flush_goes_out_with_it(
    ctx: ManagedZMQContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = EventPublisherService(ctx, isolated_event_loop=True, send_threshold=1)
    add = service._sender.add

    def interrupted(frame: bytes) -> None:
        if service.stats.pending + service.stats.sent < 3:
            service.record(FIRST, 2, 2)  # where a handler would be called: in the middle of the flush
        add(frame)

    monkeypatch.setattr(service._sender, "add", interrupted)
    recording = threading.Thread(target=service.record, args=(ISSUED, 1, 1), daemon=True)
    recording.start()
    recording.join(WAIT_S)
    assert not recording.is_alive(), "it waits for itself"
    until(lambda: service.stats.sent >= 3)
    service.close()
    assert service.stats.dropped == 0
