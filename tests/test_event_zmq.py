"""Publishers and subscribers over ZMQ: what a slow or dead one costs, what is refused, how they end."""

import asyncio
import logging
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq

from event_support import WAIT_S, Contexts, Text, until
from loadgen.errors import EventError
from loadgen.event import EventCodec, ManagedZMQContext, ZmqMessagePublisher, ZmqMessageSubscriber
from loadgen.event.frame import pack, topic_frame

pytest_plugins = ["event_fixtures"]

Item = tuple[str, bytes]


# --- publishing and receiving


def _pair(
    ctx: ManagedZMQContext, *topics: str, rcvhwm: int = 1000
) -> tuple[ZmqMessagePublisher[Item], ZmqMessageSubscriber[Item]]:
    publisher = ZmqMessagePublisher(ctx, Text())
    subscriber = ZmqMessageSubscriber(
        ctx, publisher.address, Text(), topics=topics or ("",), rcvhwm=rcvhwm, from_start=True
    )
    assert publisher.wait_for(subscriber.greeting, WAIT_S)
    return publisher, subscriber


def test_a_subscriber_that_was_waited_for_misses_nothing_and_gets_it_in_order(ctx: ManagedZMQContext) -> None:
    publisher, subscriber = _pair(ctx)
    for n in range(500):
        publisher.send(("n", b"%d" % n))
    got = [item[1] for _ in range(500) for item in subscriber.receive(WAIT_S)]
    assert got == [b"%d" % n for n in range(500)]
    assert (subscriber.stats.records, subscriber.stats.dropped) == (500, 0)
    sent = publisher.stats
    assert (sent.sent, sent.pending, sent.dropped, sent.buffered) == (500, 0, 0, 0)
    assert sent.bytes == subscriber.stats.bytes


def test_a_subscriber_may_come_before_its_publisher(contexts: Contexts) -> None:
    ctx, theirs = contexts(), contexts()
    address = f"ipc://{ctx.directory / 'messages'}"
    with ZmqMessageSubscriber(theirs, address, Text()) as subscriber, ZmqMessagePublisher(ctx, Text()) as publisher:
        assert publisher.wait_for(subscriber.greeting, WAIT_S)
        publisher.send(("n", b"x"))
        assert subscriber.receive(WAIT_S) == [("", b"x")]


def test_who_never_connects_is_not_waited_for_longer_than_asked(ctx: ManagedZMQContext) -> None:
    with ZmqMessagePublisher(ctx, Text()) as publisher:
        assert not publisher.wait_for(b"\0nobody", 0.01)
        assert not asyncio.run(publisher.await_for(b"\0nobody", 0.01))


def test_a_subscriber_gets_its_topics_and_sees_no_false_drops(ctx: ManagedZMQContext) -> None:
    publisher, exact = _pair(ctx, "a.one")
    category = ZmqMessageSubscriber(ctx, publisher.address, Text(), topics=["a."], from_start=True)
    assert publisher.wait_for(category.greeting, WAIT_S)
    for n in range(20):
        for topic in ("a.one", "a.onerous", "b.one"):
            publisher.send((topic, f"{topic} {n}".encode()))
    assert [exact.receive(WAIT_S)[0][1] for _ in range(20)] == [f"a.one {n}".encode() for n in range(20)]
    assert len([category.receive(WAIT_S) for _ in range(40)]) == 40
    assert exact.receive(0) == ()
    assert category.receive(0) == ()
    assert exact.stats.dropped == category.stats.dropped == 0


def test_a_slow_subscriber_loses_exactly_what_it_counts_and_nobody_else_does(ctx: ManagedZMQContext) -> None:
    publisher, slow = _pair(ctx, rcvhwm=2)
    fast = ZmqMessageSubscriber(ctx, publisher.address, Text(), from_start=True)
    assert publisher.wait_for(fast.greeting, WAIT_S)
    published = 3000  # 16 KiB each: far more than the two marks (1,000 and 2) and the system's buffers hold
    for n in range(published):
        publisher.send(("n", n.to_bytes(4, "big") * 4096))
        assert fast.receive(WAIT_S)  # it keeps up whatever the other one does
    sent = publisher.stats
    assert (sent.sent, sent.pending, sent.dropped) == (published, 0, 0)  # ZMQ took all: the producer met no wait
    got: list[int] = []
    while not got or got[-1] < 3000:  # what lies before its mark, then the first that comes after room was made
        items = slow.receive(0.01)
        got += [int.from_bytes(item[1][:4], "big") for item in items]
        if not items:
            publisher.send(("n", published.to_bytes(4, "big")))
            published += 1
    assert got == sorted(set(got))
    assert slow.stats.dropped == got[-1] + 1 - len(got) > 0
    assert (fast.stats.records, fast.stats.dropped) == (3000, 0)


def test_a_killed_subscriber_costs_nobody_anything(contexts: Contexts) -> None:
    ctx = contexts()
    publisher, alive = _pair(ctx)
    script = """
        import sys
        from loadgen.event import ManagedZMQContext, ZmqMessageSubscriber
        from event_support import Text
        subscriber = ZmqMessageSubscriber(ManagedZMQContext(), sys.argv[1], Text())
        print(subscriber.greeting.hex(), flush=True)
        for item in subscriber:
            print("got", flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), publisher.address],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    with child:
        assert child.stdout is not None
        assert publisher.wait_for(bytes.fromhex(child.stdout.readline()), WAIT_S)
        for n in range(1000):
            publisher.send(("n", bytes(4096)))
            if n == 300:
                assert child.stdout.readline() == "got\n"
                child.send_signal(signal.SIGKILL)
                child.wait()
            assert alive.receive(WAIT_S)
    assert (alive.stats.records, alive.stats.dropped) == (1000, 0)
    assert (publisher.stats.sent, publisher.stats.pending, publisher.stats.dropped) == (1000, 0, 0)
    publisher.close()
    alive.close()
    assert ctx.close(WAIT_S)


def test_a_corrupt_frame_is_logged_counted_and_dropped_and_the_reader_lives(
    ctx: ManagedZMQContext, caplog: pytest.LogCaptureFixture
) -> None:
    publisher, subscriber = _pair(ctx)
    socket = publisher._sender._socket
    assert socket is not None
    with caplog.at_level(logging.WARNING, "loadgen.event"):
        socket.send(b"n no frame at all")
        socket.send(pack(topic_frame("n"), 32768, 1, 0, b"x")[:-17] + b"\x09" * 17)
        publisher.send(("n", b"bad"))
        publisher.send(("n", b"good"))
        assert subscriber.receive(WAIT_S) == [("", b"good")]
    assert subscriber.stats.corrupt == 3
    assert subscriber.stats.dropped == 1  # the one with a good header; what was no frame had no number
    assert len([r for r in caplog.records if "dropped a corrupt frame" in r.message]) == 3


def test_an_error_that_the_codec_raises_ends_the_subscriber_with_it(ctx: ManagedZMQContext) -> None:
    publisher, subscriber = _pair(ctx)
    publisher.send(("n", b"worse"))
    with pytest.raises(ValueError, match="worse"):
        subscriber.receive(WAIT_S)
    with pytest.raises(EventError, match="is closed"):
        subscriber.receive(0)


def test_conflating_keeps_the_newest_and_counts_the_rest(ctx: ManagedZMQContext) -> None:
    publisher = ZmqMessagePublisher(ctx, Text())
    subscriber = ZmqMessageSubscriber(ctx, publisher.address, Text(), topics=["n"], conflate=True)
    with pytest.raises(EventError, match="can't be waited for"):
        _ = subscriber.greeting
    publisher.send(("n", b"0"))
    sent = 1
    while not subscriber.receive(0.001):  # until it is connected
        publisher.send(("n", b"%d" % sent))
        sent += 1
    for n in range(sent, sent + 1000):
        publisher.send(("n", b"%d" % n))
    newest, last = 0, sent + 999
    while newest < last:
        items = subscriber.receive(0.01)
        newest = int(items[-1][1]) if items else newest
        if not items:  # ZMQ may hold back the newest until there is a newer one
            last += 1
            publisher.send(("n", b"%d" % last))
    assert subscriber.stats.records < 1000
    assert subscriber.stats.records + subscriber.stats.dropped >= 1000


def test_conflating_takes_one_topic(ctx: ManagedZMQContext) -> None:
    with pytest.raises(ValueError, match="of one topic, and these are 2"):
        ZmqMessageSubscriber(ctx, "ipc:///tmp/x", Text(), topics=["a", "b"], conflate=True)


def test_a_conflating_publisher_does_not_know_its_subscribers(ctx: ManagedZMQContext) -> None:
    with (
        ZmqMessagePublisher(ctx, Text(), conflate=True) as publisher,
        pytest.raises(EventError, match="conflates doesn't know"),
    ):
        publisher.wait_for(b"\0x", 0)


@pytest.mark.parametrize("knobs", [{"sndhwm": -1}, {"source": 65536}, {"source": -1}])
def test_a_publishers_bad_knob_names_its_value(ctx: ManagedZMQContext, knobs: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=str(next(iter(knobs.values())))):
        ZmqMessagePublisher(ctx, Text(), **knobs)  # type: ignore[arg-type]


def test_a_subscribers_bad_knob_names_its_value(ctx: ManagedZMQContext) -> None:
    with pytest.raises(ValueError, match="rcvhwm"):
        ZmqMessageSubscriber(ctx, "ipc:///tmp/x", Text(), rcvhwm=-1)
    with pytest.raises(ValueError, match=r"'sample\.' is one text"):
        ZmqMessageSubscriber(ctx, "ipc:///tmp/x", Text(), topics="sample.")


def test_a_topic_that_no_event_has_is_refused_with_the_one_that_was_meant(ctx: ManagedZMQContext) -> None:
    for asked, words in (
        ("sample.complet", r"no topic 'sample\.complet'; perhaps 'sample\.complete'\?"),
        ("sample", r"perhaps 'sample\.'\?"),
        ("metrics.snapshot", r"there are session\.started, .*, sample\., error\."),
    ):
        with pytest.raises(ValueError, match=words):
            ZmqMessageSubscriber(ctx, "ipc:///tmp/x", EventCodec(), topics=["session.", asked])
    for topics in ((), ("",), ("sample.", "session.ended")):
        ZmqMessageSubscriber(ctx, ctx.address("there"), EventCodec(), topics=topics).close()
    # A codec that doesn't say what there is has anything.
    ZmqMessageSubscriber(ctx, ctx.address("there"), Text(), topics=["whatever"]).close()


# --- what ZMQ refuses


class Refusals:
    """Lets a publisher's socket refuse what it is told to."""

    def __init__(self, publisher: ZmqMessagePublisher[Item]) -> None:
        self._real = publisher._sender._socket
        self.error: zmq.ZMQError | None = None
        self.during: Callable[[], None] = lambda: None
        publisher._sender._socket = self  # type: ignore[assignment]

    def send(self, frame: bytes, flags: int) -> None:
        self.during()
        if self.error is not None:
            raise self.error
        assert self._real is not None
        self._real.send(frame, flags)

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


@pytest.mark.parametrize("error", [zmq.Again(), zmq.ZMQError(zmq.EFSM), zmq.ZMQError(zmq.ENOBUFS)])
def test_what_zmq_refuses_is_kept_in_order_and_goes_out_first(ctx: ManagedZMQContext, error: zmq.ZMQError) -> None:
    publisher, subscriber = _pair(ctx)
    socket = Refusals(publisher)
    publisher.send(("n", b"0"))
    socket.error = error
    for n in (1, 2, 3):
        publisher.send(("n", b"%d" % n))
    assert (publisher.stats.sent, publisher.stats.pending, publisher.stats.dropped) == (1, 3, 0)
    socket.error = None
    publisher.flush()
    publisher.send(("n", b"4"))
    assert [subscriber.receive(WAIT_S)[0][1] for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    assert (publisher.stats.sent, publisher.stats.pending) == (5, 0)
    assert subscriber.stats.dropped == 0
    publisher._sender._socket = socket._real


def test_what_is_kept_is_bounded_and_what_is_lost_is_counted(
    ctx: ManagedZMQContext, caplog: pytest.LogCaptureFixture
) -> None:
    publisher, subscriber = _pair(ctx)
    publisher._sender._room = 10 * 1024
    socket = Refusals(publisher)
    socket.error = zmq.Again()
    for n in range(20):
        publisher.send(("n", bytes([n]) * 974))  # a frame of 1 KiB
    assert (publisher.stats.pending, publisher.stats.dropped) == (10, 10)
    socket.error = None
    publisher.send(("n", b"last"))
    got = [subscriber.receive(WAIT_S)[0][1][0] for _ in range(10)]
    assert got == list(range(10))
    assert (publisher.stats.sent, publisher.stats.pending, publisher.stats.dropped) == (10, 0, 11)
    publisher._sender._socket = socket._real
    with caplog.at_level(logging.WARNING, "loadgen.event"):
        publisher.close()
    assert "11 events were left behind" in caplog.text


def test_a_context_terminated_with_a_full_buffer_loses_it_counted_and_hangs_nobody(
    ctx: ManagedZMQContext, caplog: pytest.LogCaptureFixture
) -> None:
    publisher = ZmqMessagePublisher(ctx, Text())
    socket = Refusals(publisher)
    socket.error = zmq.Again()
    for n in range(100):
        publisher.send(("n", b"%d" % n))
    socket.error = None
    ender = threading.Thread(target=ctx._context.term)
    ender.start()
    until(lambda: _is_terminated(socket._real))
    with caplog.at_level(logging.WARNING, "loadgen.event"):
        publisher.send(("n", b"100"))
        assert (publisher.stats.sent, publisher.stats.pending) == (0, 101)
        publisher._sender._socket = socket._real
        publisher.close()
    ender.join(WAIT_S)
    assert not ender.is_alive()
    assert (publisher.stats.pending, publisher.stats.dropped) == (0, 101)
    assert "101 events were left behind" in caplog.text


def test_close_during_a_failed_send_counts_each_record_once(contexts: Contexts) -> None:
    publisher = ZmqMessagePublisher(contexts(), Text(), linger=0.0)
    socket = Refusals(publisher)
    socket.error, socket.during = zmq.Again(), publisher.close
    publisher.send(("n", b"x"))
    assert (publisher.stats.sent, publisher.stats.pending, publisher.stats.dropped) == (0, 0, 1)
    publisher.close()
    with pytest.raises(EventError, match="publisher is closed"):
        publisher.send(("n", b"y"))


def test_close_during_a_send_that_is_taken_loses_nothing(ctx: ManagedZMQContext) -> None:
    publisher, subscriber = _pair(ctx)
    socket = Refusals(publisher)
    socket.during = publisher.close
    publisher.send(("n", b"x"))
    assert subscriber.receive(WAIT_S) == [("", b"x")]
    assert (publisher.stats.sent, publisher.stats.pending, publisher.stats.dropped) == (1, 0, 0)
    with pytest.raises(EventError, match="publisher is closed"):
        publisher.send(("n", b"y"))


def _is_terminated(socket: "zmq.Socket[bytes] | None") -> bool:
    assert socket is not None
    try:
        socket.send(b"", zmq.NOBLOCK)
    except zmq.ContextTerminated:
        return True
    return False


# --- the end


def test_the_end_waits_for_a_slow_consumer_and_says_what_it_left(
    contexts: Contexts, caplog: pytest.LogCaptureFixture
) -> None:
    ctx, theirs = contexts(), contexts()
    publisher = ZmqMessagePublisher(ctx, Text(), linger=0.05)
    subscriber = ZmqMessageSubscriber(theirs, publisher.address, Text(), rcvhwm=1)
    assert publisher.wait_for(subscriber.greeting, WAIT_S)
    for _ in range(1000):
        publisher.send(("n", bytes(32768)))
    publisher.close()
    with caplog.at_level(logging.WARNING, "loadgen.event"):
        assert not ctx.close(WAIT_S)
    assert "had not taken everything" in caplog.text
    assert not ctx.directory.exists()


def test_the_end_delivers_what_was_sent(contexts: Contexts) -> None:
    ctx, theirs = contexts(), contexts()
    publisher = ZmqMessagePublisher(ctx, Text())
    # With room for all: to a full queue ZMQ may lose the last frame when the connection ends, and tells neither side.
    subscriber = ZmqMessageSubscriber(theirs, publisher.address, Text(), rcvhwm=300, from_start=True)
    assert publisher.wait_for(subscriber.greeting, WAIT_S)
    for _ in range(300):
        publisher.send(("n", bytes(32768)))
    publisher.close()
    ended: list[bool] = []
    ender = threading.Thread(target=lambda: ended.append(ctx.close(WAIT_S)))
    ender.start()
    got = sum(len(subscriber.receive(WAIT_S)) for _ in range(300))
    ender.join()
    assert (got, subscriber.stats.dropped, ended) == (300, 0, [True])


def test_an_interrupt_shortens_the_wait_at_the_end_and_is_raised(contexts: Contexts) -> None:
    script = """
        import logging, signal, sys, threading
        from loadgen.event import ManagedZMQContext, ZmqMessagePublisher, ZmqMessageSubscriber
        from loadgen.event import context
        from event_support import Text
        logging.basicConfig()
        context._AFTER_INTERRUPT_S = 0.01
        ctx = ManagedZMQContext()
        publisher = ZmqMessagePublisher(ctx, Text())
        print(publisher.address, flush=True)
        assert publisher.wait_for(bytes.fromhex(sys.stdin.readline()), 20)
        for _ in range(1000):
            publisher.send(("n", bytes(32768)))
        publisher.close()
        wait = threading.Event.wait
        def interrupted(self, timeout=None):
            if timeout is None:
                return wait(self)  # a thread's start
            threading.Event.wait = wait
            signal.raise_signal(signal.SIGINT)
        threading.Event.wait = interrupted
        try:
            ctx.close(3600)
        except KeyboardInterrupt:
            print("interrupted", ctx.directory.exists(), flush=True)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        address = child.stdout.readline().strip()
        with ZmqMessageSubscriber(contexts(), address, Text(), rcvhwm=1) as subscriber:
            out, err = child.communicate(subscriber.greeting.hex() + "\n", timeout=WAIT_S)
    assert (child.returncode, out) == (0, "interrupted False\n"), err
    assert "had not taken everything" in err


# --- on an event loop


def test_records_are_awaited_on_a_running_loop(ctx: ManagedZMQContext) -> None:
    async def notebook() -> list[bytes]:
        publisher = ZmqMessagePublisher(ctx, Text())
        subscriber = ZmqMessageSubscriber(ctx, publisher.address, Text())
        assert await publisher.await_for(subscriber.greeting, WAIT_S)
        got: list[bytes] = []

        async def read() -> None:
            async for _, text in subscriber:
                got.append(text)
                if len(got) == 100:
                    return

        reader = asyncio.create_task(read())
        for n in range(100):
            publisher.send(("n", b"%d" % n))
            await asyncio.sleep(0)
        await asyncio.wait_for(reader, WAIT_S)
        publisher.close()
        subscriber.close()
        return got

    assert asyncio.run(notebook()) == [b"%d" % n for n in range(100)]


def test_a_task_that_waits_is_told_of_the_end_and_may_be_cancelled(ctx: ManagedZMQContext) -> None:
    async def ends() -> tuple[list[Item], str]:
        publisher, subscriber = _pair(ctx)
        reading = asyncio.create_task(_all(subscriber))
        waiting = asyncio.create_task(_second(subscriber))
        problem = await waiting
        subscriber.close()
        items = await asyncio.wait_for(reading, WAIT_S)
        other = ZmqMessageSubscriber(ctx, publisher.address, Text())
        task = asyncio.create_task(other.areceive())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert publisher.wait_for(other.greeting, WAIT_S)
        publisher.send(("n", b"after"))
        assert await other.areceive(WAIT_S) == [("", b"after")]
        assert await other.areceive(0.001) == ()
        publisher.close()
        other.close()
        return items, problem

    items, problem = asyncio.run(ends())
    assert items == []
    assert "another task waits" in problem


async def _all(subscriber: ZmqMessageSubscriber[Item]) -> list[Item]:
    return [item async for item in subscriber]


async def _second(subscriber: ZmqMessageSubscriber[Item]) -> str:
    await asyncio.sleep(0)
    try:
        await subscriber.areceive()
    except EventError as error:
        return error.message
    return ""
