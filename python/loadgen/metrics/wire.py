"""Snapshots on the wire: one topic and one frame each, so that ZMQ can keep the newest alone."""

from __future__ import annotations

import msgspec

from loadgen.event.codec import MessageCodec
from loadgen.metrics.snapshot import MetricsSnapshot

TOPIC = "metrics.snapshot"


class SnapshotCodec(MessageCodec[MetricsSnapshot]):
    """Encodes snapshots as msgpack arrays."""

    topics = (TOPIC,)

    def __init__(self) -> None:
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(MetricsSnapshot)

    def encode(self, item: MetricsSnapshot) -> tuple[str, bytes]:
        """Return the topic, and the snapshot as msgpack.

        Args:
            item: The snapshot.
        """
        return TOPIC, self._encoder.encode(item)

    def decode(self, payload: bytes | memoryview) -> MetricsSnapshot:
        """Return the snapshot of a payload.

        Args:
            payload: One msgpack array.

        Raises:
            msgspec.DecodeError: If it is anything else.
        """
        return self._decoder.decode(payload)

    def on_decode_error(self, payload: bytes | memoryview, exc: Exception) -> MetricsSnapshot | None:  # noqa: ARG002  the base's
        """Drop what msgspec refused; anything else is a fault of ours and is raised again.

        Args:
            payload: The payload.
            exc: What was raised.
        """
        if not isinstance(exc, msgspec.DecodeError):
            raise exc
        return None
