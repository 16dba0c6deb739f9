"""Gives frames to ZMQ in their order, keeps those that it refuses, and knows who has subscribed."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque

import zmq

from loadgen.errors import EventError
from loadgen.event.context import ManagedZMQContext, Socket
from loadgen.event.frame import count_of

_log = logging.getLogger("loadgen.event")

_AT_ONCE = int(zmq.NOBLOCK)
_KEPT = 2 << 20
GREETING = b"\0"  # no topic begins with it
_SUBSCRIBES = 1
_ROOM = 64 << 20
_SENDS_A_LOOK = 256
_MOST_GREETINGS = 4096
_LONGEST_SUBSCRIPTION = 4096  # bytes; who sends more is cut off


class FrameSender:
    """A publishing socket, and the frames that it has not taken yet.

    :meth:`add` may be called from any thread, by one at a time; everything else belongs to the thread that called
    :meth:`bind`.

    Args:
        ctx: Owns the socket.
        name: What the address is called.
        sndhwm: Frames that ZMQ keeps for a subscriber before it drops further ones for that one.
        conflate: Keep only the newest frame for each subscriber.
        room: Bytes of frames to keep while ZMQ takes none; what comes on top is dropped and counted.
    """

    def __init__(
        self, ctx: ManagedZMQContext, name: str, *, sndhwm: int, conflate: bool = False, room: int = _ROOM
    ) -> None:
        if sndhwm < 0:
            raise ValueError(f"sndhwm ({sndhwm}) must be 0 (no mark) or more frames")
        self.address = ctx.address(name)
        self._ctx = ctx
        self._sndhwm = sndhwm
        self._conflate = conflate
        self._room = room
        self._socket: Socket | None = None
        self._waiting: deque[tuple[bytes, int]] = deque()  # frames, and how many records each holds
        self._kept_bytes = 0
        # Each has one writer, so no lock: add() the first three, the socket's thread the others.
        self._added = self._added_bytes = self._refused = 0
        self._sent = self._sent_bytes = self._left = 0
        self._sends = 0
        self._is_refusing = self._is_sending = self._is_closing = self._is_closed = False
        self._closes_after: float | None = None
        self._greetings: set[bytes] = set()
        self._asked: set[bytes] = set()
        self._awaited: dict[bytes, asyncio.Future[bool]] = {}

    @property
    def pending(self) -> int:
        """Records in frames that ZMQ has not taken yet."""
        return self._added - self._sent - self._left

    @property
    def sent(self) -> int:
        """Records that ZMQ took."""
        return self._sent

    @property
    def sent_bytes(self) -> int:
        """Bytes that ZMQ took."""
        return self._sent_bytes

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody listens to anything, as of now; on the socket's thread. Not known where it conflates."""
        self.look_for_subscribers()
        return bool(self._asked)

    @property
    def dropped(self) -> int:
        """Records for which there was no room, or no time before the end."""
        return self._refused + self._left

    def bind(self) -> None:
        """Listen at the address; from then on the socket is this thread's.

        Raises:
            EventError: If the address can't be listened at.
        """
        if self._conflate:
            # XPUB can't conflate, and PUB doesn't say who subscribed.
            self._socket = self._ctx.bind(zmq.PUB, self.address, maxmsgsize=_LONGEST_SUBSCRIPTION, conflate=1)
        else:
            told = {"maxmsgsize": _LONGEST_SUBSCRIPTION, "sndhwm": self._sndhwm}
            self._socket = self._ctx.bind(zmq.XPUB, self.address, **told)
        _keep_freed_memory()

    def add(self, frame: bytes) -> None:
        """Queue a frame behind those that wait.

        Args:
            frame: A whole one.
        """
        waiting, size, records = self._added_bytes - self._sent_bytes, len(frame), count_of(frame)
        if self._is_closed or (waiting and waiting + size > self._room):
            self._refused += records
            return
        self._added += records
        self._added_bytes += size
        self._waiting.append((frame, records))

    def pump(self) -> None:
        """Give ZMQ what waits, in order, as far as it takes it; a frame leaves the queue only after it was taken."""
        socket, waiting = self._socket, self._waiting
        if socket is None or self._is_sending:
            return
        self._is_sending = True
        try:
            while waiting:
                frame, records = waiting[0]
                socket.send(frame, _AT_ONCE)
                waiting.popleft()
                self._sent += records
                self._sent_bytes += len(frame)
                self._sends += 1
            self._is_refusing = False
        except zmq.ZMQError as error:
            if not self._is_refusing:
                _log.warning("ZMQ takes no events: %s; they are kept as long as there is room", error)
            self._is_refusing = True
        finally:
            self._is_sending = False
        if self._closes_after is not None:
            self.close(self._closes_after)
        elif self._awaited or self._sends >= _SENDS_A_LOOK:
            self.look_for_subscribers()

    def look_for_subscribers(self) -> None:
        """Take in who subscribed since the last look: what isn't taken in, the socket keeps in memory."""
        socket = self._socket
        self._sends = 0
        if socket is None or self._conflate:
            return
        try:
            while True:
                said = socket.recv(zmq.NOBLOCK)
                comes, asked = said[0] == _SUBSCRIBES, said[1:]
                if asked.startswith(GREETING):
                    self._greet(comes, asked)
                elif not comes:
                    self._asked.discard(asked)
                elif len(self._asked) < _MOST_GREETINGS:
                    self._asked.add(asked)
        except zmq.ZMQError:
            return  # Again: nobody more; else the sends say what is wrong

    def _greet(self, comes: bool, greeting: bytes) -> None:
        if not comes:
            self._greetings.discard(greeting)
        elif len(self._greetings) < _MOST_GREETINGS:
            self._greetings.add(greeting)
            future = self._awaited.pop(greeting, None)
            if future is not None and not future.done():
                future.set_result(True)

    def wait_for(self, greeting: bytes, timeout: float) -> bool:
        """Wait until a subscriber is connected and has told its topics.

        Args:
            greeting: The subscriber's.
            timeout: Seconds at most.

        Returns:
            Whether it came in time.
        """
        socket = self._bound()
        deadline = time.monotonic() + timeout
        self.look_for_subscribers()
        while greeting not in self._greetings:
            left = deadline - time.monotonic()
            if left <= 0 or not socket.poll(max(1, round(left * 1000))):
                return False
            self.look_for_subscribers()
        return True

    async def await_for(self, greeting: bytes, timeout: float) -> bool:  # noqa: ASYNC109  the sync twin has it too
        """Do what :meth:`wait_for` does without blocking the event loop.

        Args:
            greeting: As there.
            timeout: As there.
        """
        socket = self._bound()
        self.look_for_subscribers()
        if greeting in self._greetings:
            return True
        loop = asyncio.get_running_loop()
        future = self._awaited.setdefault(greeting, loop.create_future())
        # The descriptor wakes us for each news of the socket; a send in between looks itself.
        loop.add_reader(socket.FD, self.look_for_subscribers)
        try:
            return await asyncio.wait_for(asyncio.shield(future), timeout)
        except asyncio.TimeoutError:  # noqa: UP041  another name for the builtin one, and what the docs say
            return False
        finally:
            self._awaited.pop(greeting, None)
            if not self._awaited and self._socket is not None:
                loop.remove_reader(socket.FD)

    def _bound(self) -> Socket:
        if self._socket is None or self._conflate:
            raise EventError(
                "a publisher that conflates doesn't know its subscribers"
                if self._conflate
                else "this publisher doesn't listen: it isn't started, or closed"
            )
        return self._socket

    def close(self, linger: float) -> None:
        """Try once more to send what waits, and close the socket. May be called again.

        Args:
            linger: Seconds that ZMQ may go on delivering.
        """
        if self._is_closing:
            return
        if self._is_sending:  # called from within a send, by a signal's handler, say
            self._closes_after = linger
            return
        self._is_closing, self._closes_after = True, None
        self.pump()
        self._is_closed = True
        self._left = self._added - self._sent
        self._waiting.clear()
        if self.dropped:
            _log.warning("%d events were left behind: ZMQ did not take them", self.dropped)
        socket, self._socket = self._socket, None
        if socket is None:
            return
        for future in self._awaited.values():
            future.get_loop().remove_reader(socket.FD)
            future.set_result(False)
        self._awaited.clear()
        self._ctx.close_socket(socket, linger)


def _keep_freed_memory() -> None:
    """Have the C library keep the memory of sent frames for the next ones, some MiB of it.

    glibc gives what is free back to the kernel from 128 KiB on; with a few frames at a time each of their pages is then
    faulted in anew, which costs more than to copy it. One large block that is freed raises that mark to twice its size
    (mallopt(3), ``M_MMAP_THRESHOLD``). Elsewhere this does nothing.
    """
    bytes(_KEPT)
