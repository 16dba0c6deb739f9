"""The events' publisher of a session: batches records, sends them over ZMQ, passes on what the engine recorded."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from typing import NoReturn, Protocol

import msgspec

from loadgen import _core
from loadgen.errors import EventError
from loadgen.event.context import ManagedZMQContext
from loadgen.event.home import Home
from loadgen.event.message import MessagePublisher, PublisherStats
from loadgen.event.record import EventRecord
from loadgen.event.zmq_sender import FrameSender

_SESSION = b"session."
_FRAMES_A_TURN = 256
_LOOKS_IDLE_EVERY_S = 1.0  # at who subscribed, which the socket keeps in memory until then


class FrameQueue(Protocol):
    """Finished frames of an engine: ``_core.EventQueue``."""

    @property
    def dropped(self) -> int:
        """Records that found no room in it so far."""

    def fileno(self) -> int:
        """Return a descriptor that is readable while frames wait."""

    def take(self, limit: int = 256) -> list[bytes]:
        """Return the frames that wait, in order."""


class EventPublisherService(MessagePublisher[EventRecord]):
    """Publishes the events of one session, in batches of one topic each.

    Records may come from any thread. They are encoded at once and leave with the ``send_threshold``-th, after
    ``max_age``, at ``max_bytes``, with a session event, on :meth:`flush` and on :meth:`close`, whichever comes first;
    all topics together, errors first and session events last. The socket belongs to the event loop's thread: the loop
    that runs where the service is made, or where :meth:`start` is called, or one of its own.

    Args:
        ctx: Owns the socket.
        extra_eager: Each call returns only when its record was handed to ZMQ, whatever the other arguments say: for
            tests, and where a subscriber is told to stop by an event. A record that ZMQ refuses stays pending.
        isolated_event_loop: Use an event loop on a thread of its own. Needed where no loop runs; keeps publishing
            off a loop that is busy.
        send_threshold: Records over all topics that make a batch; 1 for no batching.
        max_age: Seconds that a record may wait.
        max_bytes: Bytes of records that make a batch.
        source: Its number in its records, which tells them from other sources': 32768 upward for Python's.
        sndhwm: Frames that ZMQ keeps for each subscriber; above it drops for that one, which counts it. 0: no bound.

    Raises:
        ValueError: If an argument is out of range.
        EventError: If its address can't be listened at.
    """

    def __init__(
        self,
        ctx: ManagedZMQContext,
        *,
        extra_eager: bool = False,
        isolated_event_loop: bool = False,
        send_threshold: int = 1000,
        max_age: float = 0.010,
        max_bytes: int = 65536,
        source: int = 32768,
        sndhwm: int = 1000,
    ) -> None:
        _check(send_threshold, max_age, max_bytes, source)
        self._max_age_ns = max(1, round(max_age * 1e9))
        self._batch = _core.EventBatch(
            source,
            send_threshold=send_threshold,
            max_age_ns=self._max_age_ns,
            max_bytes=max_bytes,
            on_due=None if extra_eager else self._flush_due,
            on_first=self._rouse,
        )
        self._sender = FrameSender(ctx, "events", sndhwm=sndhwm)
        self._encode = msgspec.msgpack.Encoder().encode
        self._eager = extra_eager
        if not extra_eager:
            # The batch flushes through us when it is due: a call of Python's in between would nearly double the cost.
            self.record = self._batch.record  # type: ignore[method-assign,assignment]
        # Frames leave the batch in the order in which they are queued. A signal's handler or a finalizer that records
        # may come within a flush of its own thread: that flush takes it along.
        self._lock = threading.RLock()
        self._is_queueing = False
        self._queues: list[FrameQueue] = []
        self._queues_dropped = self._unsaved = 0
        self._home = Home()
        self._timer: asyncio.TimerHandle | None = None
        self._aged: int | None = None
        self._is_woken = self._is_idle = self._is_closed = False
        _living.add(self)
        if isolated_event_loop:
            self._home.isolate(self._begin)
        elif _running_loop() is not None:
            self.start()

    # --- what callers do

    @property
    def address(self) -> str:
        """What a subscriber connects to, unique to this service."""
        return self._sender.address

    @property
    def stats(self) -> PublisherStats:
        """The counters as they are now, with what was dropped in the engine's own queue."""
        sender = self._sender
        return PublisherStats(
            buffered=self._batch.buffered - self._unsaved,
            pending=sender.pending,
            sent=sender.sent,
            dropped=sender.dropped + self._unsaved + self._queues_dropped + sum(q.dropped for q in self._queues),
            bytes=sender.sent_bytes,
        )

    def publish(self, record: EventRecord) -> None:
        """Publish an event. Its ``source`` and ``seq`` are set here.

        Args:
            record: The event.

        Raises:
            EventError: After :meth:`close`, or after a fork.
        """
        data = None if record.data is None else self._encode(record.data)
        self._batch.publish(
            record.type,
            record.ns,
            record.request,
            record.session,
            record.conversation,
            record.turn,
            data,
            record.finish_reason,
        )
        if self._eager:
            self._flush(wait=True)

    def send(self, item: EventRecord) -> None:
        """Publish an event: :meth:`publish`, as any publisher calls it.

        Args:
            item: The event.
        """
        self.publish(item)

    def record(self, kind: int, request: int, ns: int) -> None:
        """Publish an event that has nothing but a request and a moment: the cheapest way.

        Args:
            kind: An :class:`EventType`'s code.
            request: The request's id.
            ns: When, on the monotonic clock.

        Raises:
            EventError: As for :meth:`publish`.
        """
        self._batch.record(kind, request, ns)
        self._flush(wait=True)  # with extra_eager: else this is the batch's own

    def flush(self) -> None:
        """Hand everything buffered to ZMQ; on another thread than the loop's, wait until it was.

        Raises:
            EventError: As for :meth:`publish`.
        """
        self._check_open()
        self._flush(wait=True)

    def attach(self, queue: FrameQueue) -> None:
        """Pass on the frames of an engine, in its order, from now until :meth:`detach` or :meth:`close`.

        Args:
            queue: The engine's ``event_queue()``.
        """
        self._check_open()
        self._queues.append(queue)
        loop = self._home.loop
        if loop is not None:
            self._home.ask(lambda: self._watch(queue, loop))

    def detach(self, queue: FrameQueue) -> None:
        """Pass on what an engine's queue still holds, and leave it.

        Args:
            queue: One that was attached.
        """
        self._check_open()
        if queue in self._queues:
            self._home.ask(lambda: self._leave(queue))

    def start(self) -> None:
        """Take the event loop that runs here, and listen. Does nothing on a service that has one.

        Without it, records are kept until :meth:`close`, as far as there is room.

        Raises:
            EventError: If no event loop runs here.
        """
        if self._home.loop is not None:
            return
        loop = _running_loop()
        if loop is None:
            raise EventError(
                "events are sent by an event loop, and none runs here",
                "start it within a coroutine, or make it with isolated_event_loop=True",
            )
        self._home.settle(loop)
        self._begin(loop)

    def wait_for(self, greeting: bytes, timeout: float = 5.0) -> bool:
        """Wait until a subscriber is connected, so that it misses nothing published from then on.

        Args:
            greeting: The subscriber's ``greeting``.
            timeout: Seconds at most.

        Returns:
            Whether it came in time.
        """
        self._check_open()
        return self._home.ask(lambda: self._sender.wait_for(greeting, timeout))

    async def await_for(self, greeting: bytes, timeout: float = 5.0) -> bool:  # noqa: ASYNC109  as its sync twin
        """Do what :meth:`wait_for` does without blocking the event loop.

        Args:
            greeting: As there.
            timeout: As there.
        """
        self._check_open()
        waiting = self._sender.await_for(greeting, timeout)
        if self._home.loop is None or self._home.is_here():
            return await waiting
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(waiting, self._home.loop))

    def close(self, timeout: float = 60.0) -> None:
        """Flush, hand over what the attached engines still hold, and close the socket. May be called again.

        What was left behind is logged and stands in ``stats.dropped``.

        Args:
            timeout: Seconds that ZMQ may go on delivering, such as 2 after an interrupt; the context's ``close``
                waits for it.

        Raises:
            EventError: If the loop that has the socket is blocked.
        """
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._batch.close(_refuse)
        if self in _living:
            try:
                self._home.ask(lambda: self._finish(timeout))
            finally:
                self._home.leave()

    # --- on any thread

    def _flush(self, wait: bool) -> None:
        with self._lock:
            if not self._is_queueing:
                self._is_queueing = True
                try:
                    while frames := self._batch.take():
                        for frame in frames:
                            self._sender.add(frame)
                finally:
                    self._is_queueing = False
        if self._home.is_here():
            self._sender.pump()
        elif wait:
            self._home.ask(self._sender.pump)
        elif not self._is_woken:
            self._is_woken = True
            self._home.tell(self._woken)

    def _rouse(self) -> None:
        """Have the first record after a rest leave in time."""
        if self._home.is_here():
            self._look_again()
        else:
            self._home.tell(self._look_again)

    def _flush_due(self) -> None:
        self._flush(wait=False)

    def _check_open(self) -> None:
        if self._is_closed:
            _refuse()
        if self not in _living:
            _refuse_child()

    # --- on the loop's thread

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._sender.bind()
        self._is_woken = False
        for queue in self._queues:
            self._watch(queue, loop)
        self._sender.pump()
        self._tick(loop)

    def _woken(self) -> None:
        self._is_woken = False
        self._sender.pump()

    def _look_again(self) -> None:
        """Come again as soon as a record may be due that is recorded now."""
        loop = self._home.loop
        if self._timer is None or self._is_closed or loop is None:
            return
        self._is_idle = False
        self._timer.cancel()
        self._timer = loop.call_later(self._max_age_ns / 1e9, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send what is due by age, and what ZMQ refused before; come again when the oldest record will be due.

        With nothing to send the first record that comes tells, so that a publisher at rest costs nothing.
        """
        oldest = self._batch.oldest_ns
        wait_ns = self._max_age_ns
        if oldest is not None:
            left_ns = oldest + self._max_age_ns - _core.now_ns()
            # Stamps are the caller's: one that isn't of our clock is due when it is seen a second time.
            if left_ns <= 0 or oldest == self._aged:
                self._flush(wait=False)
                oldest = None
            else:
                wait_ns = min(wait_ns, left_ns)
        self._aged = oldest
        self._sender.pump()
        self._sender.look_for_subscribers()
        self._is_idle = oldest is None and not self._sender.pending and self._batch.rest()
        wait_s = max(_LOOKS_IDLE_EVERY_S, wait_ns / 1e9) if self._is_idle else wait_ns / 1e9
        self._timer = loop.call_later(wait_s, self._tick, loop)

    def _watch(self, queue: FrameQueue, loop: asyncio.AbstractEventLoop) -> None:
        loop.add_reader(queue.fileno(), self._pass_on, queue)
        self._pass_on(queue)

    def _pass_on(self, queue: FrameQueue) -> int:
        """Pass on some frames of an engine; what was recorded here goes before a session event of the engine's."""
        frames = queue.take(_FRAMES_A_TURN)
        with self._lock:
            before, self._is_queueing = self._is_queueing, True
            try:
                for frame in frames:
                    if frame.startswith(_SESSION):
                        for own in self._batch.take():
                            self._sender.add(own)
                    self._sender.add(frame)
            finally:
                self._is_queueing = before
        self._sender.pump()
        if self._is_idle and self._sender.pending:
            self._look_again()  # ZMQ refused them: try again as often as with records of ours
        return len(frames)

    def _leave(self, queue: FrameQueue) -> None:
        while self._pass_on(queue):
            pass
        self._queues.remove(queue)
        self._queues_dropped += queue.dropped
        if self._home.loop is not None and not self._home.loop.is_closed():
            self._home.loop.remove_reader(queue.fileno())

    def _finish(self, linger: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for queue in list(self._queues):
            self._leave(queue)
        self._flush(wait=False)
        self._sender.close(linger)
        self._unsaved = self._batch.buffered  # of a thread that was within a call


def _check(send_threshold: int, max_age: float, max_bytes: int, source: int) -> None:
    if send_threshold < 1:
        raise ValueError(f"send_threshold ({send_threshold}) must be 1 (no batching) or more records")
    if not 0 < max_age <= 3600:
        raise ValueError(f"max_age ({max_age}) must be above 0 and at most 3600 seconds")
    if max_bytes < 1:
        raise ValueError(f"max_bytes ({max_bytes}) must be 1 or more bytes")
    if not 0 <= source < 65536:
        raise ValueError(f"source ({source}) must be 0 to 65535")


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _refuse() -> NoReturn:
    raise EventError("this publisher is closed", "publish before its close()")


def _refuse_child() -> NoReturn:
    raise EventError("events can't be published after a fork", "make a publisher in the child")


_living: weakref.WeakSet[EventPublisherService] = weakref.WeakSet()


def _forget_after_fork() -> None:
    """Leave a child without its parent's publishers: of those it has the buffers, and neither thread nor socket."""
    for service in list(_living):
        # No thread of the parent's was within the batch: whoever is has the interpreter, and so had the fork.
        service._batch.close(_refuse_child)  # noqa: SLF001  the module's own
    _living.clear()


os.register_at_fork(after_in_child=_forget_after_fork)
