"""A publisher of any items over ZMQ, one frame an item."""

from __future__ import annotations

from loadgen.errors import EventError
from loadgen.event.codec import MessageCodec, T
from loadgen.event.context import ManagedZMQContext
from loadgen.event.frame import pack, topic_frame
from loadgen.event.message import MessagePublisher, PublisherStats
from loadgen.event.zmq_sender import FrameSender


class ZmqMessagePublisher(MessagePublisher[T]):
    """Publishes each item at once, in a frame of its own. Made, used and closed on one thread.

    ZMQ drops for a subscriber that is too slow, and for that one alone; the subscriber counts it.

    Args:
        ctx: Owns its socket.
        codec: Encodes the items.
        name: What its address is called.
        source: Its number, which tells its records from those of other publishers: 32768 upward for Python's.
        sndhwm: Frames kept for each subscriber; 0 for no bound.
        linger: Seconds that ZMQ goes on delivering after :meth:`close`.
        conflate: Keep only the newest frame for each subscriber. It doesn't know its subscribers then.

    Raises:
        ValueError: If ``source`` or ``sndhwm`` is out of range.
        EventError: If its address can't be listened at.
    """

    def __init__(
        self,
        ctx: ManagedZMQContext,
        codec: MessageCodec[T],
        *,
        name: str = "messages",
        source: int = 32768,
        sndhwm: int = 1000,
        linger: float = 60.0,
        conflate: bool = False,
    ) -> None:
        if not 0 <= source < 65536:
            raise ValueError(f"source ({source}) must be 0 to 65535")
        self._codec = codec
        self._source = source
        self._linger = linger
        self._topics: dict[str, tuple[bytes, int]] = {}
        self._is_closed = False
        self._sender = FrameSender(ctx, name, sndhwm=sndhwm, conflate=conflate)
        self._sender.bind()

    @property
    def address(self) -> str:
        """What a subscriber connects to."""
        return self._sender.address

    @property
    def stats(self) -> PublisherStats:
        """The counters as they are now."""
        sender = self._sender
        return PublisherStats(pending=sender.pending, sent=sender.sent, dropped=sender.dropped, bytes=sender.sent_bytes)

    @property
    def has_subscribers(self) -> bool:
        """Whether anybody listens; not known, and ``False``, of one that conflates."""
        return self._sender.has_subscribers

    def send(self, item: T) -> None:
        """Publish an item; if ZMQ refuses it, it is kept and goes out before the next one.

        Args:
            item: The item.

        Raises:
            EventError: After :meth:`close`.
            ValueError: If its topic is longer than a frame's.
        """
        if self._is_closed:
            raise EventError("this publisher is closed", "publish before its close()")
        topic, payload = self._codec.encode(item)
        known = self._topics.get(topic)
        framed, topic_seq = known if known is not None else (topic_frame(topic), 0)
        self._topics[topic] = framed, topic_seq + 1
        self._sender.add(pack(framed, self._source, 1, topic_seq, payload))
        self._sender.pump()

    def flush(self) -> None:
        """Try again what ZMQ refused."""
        self._sender.pump()

    def wait_for(self, greeting: bytes, timeout: float = 5.0) -> bool:
        """Wait until a subscriber is connected, so that it misses nothing sent from then on.

        Args:
            greeting: The subscriber's ``greeting``.
            timeout: Seconds at most.

        Returns:
            Whether it came in time.
        """
        return self._sender.wait_for(greeting, timeout)

    async def await_for(self, greeting: bytes, timeout: float = 5.0) -> bool:  # noqa: ASYNC109  as its sync twin
        """Do what :meth:`wait_for` does without blocking the event loop.

        Args:
            greeting: As there.
            timeout: As there.
        """
        return await self._sender.await_for(greeting, timeout)

    def close(self) -> None:
        """Send what is left, and close the socket; the context's ``close`` waits for the subscribers."""
        self._is_closed = True
        self._sender.close(self._linger)
