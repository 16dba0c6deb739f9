"""The event log of a run: its records in order of time, also while it is being written."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from pathlib import Path

import msgspec

from loadgen import _core
from loadgen.event.codec import EventCodec, as_array
from loadgen.event.frame import FrameError, unpack
from loadgen.event.record import EventRecord, order_of

NAME = "events.log"

# A log that is being written has a record within max_age and 0.1 s of its moment; this much later it has all others
# that belong before it.
_HELD_BACK_NS = 1_000_000_000

_LEAST_SORTED = 16_384
_LATEST = 2**64 - 1  # no stamp lies behind it


class _Stamp(msgspec.Struct, array_like=True):
    type: int
    ns: int


class EventLog:
    """The ``events.log`` in a run's directory.

    Args:
        directory: The run's directory.
        topics: Only these topics; a category with its dot (``sample.``) is all of it. ``None`` for everything.
    """

    def __init__(self, directory: Path, topics: Sequence[str] | None = None) -> None:
        self._directory = directory
        self._topics = topics
        self._codec = EventCodec()
        self._stamps = msgspec.msgpack.Decoder(list[_Stamp])
        self._unread = 0  # bytes that no frame could be made of
        self._undecoded = 0  # bytes of frames that no record could be made of

    @property
    def damaged(self) -> int:
        """Bytes passed over so far because no record could be made of them."""
        return self._unread + self._undecoded

    def records(self) -> Iterator[Sequence[EventRecord]]:
        """Yield what is written, exactly in order of (ns, source, seq), in pieces.

        The log is read twice: first for the earliest stamp from each frame on, so that the second time a record is
        given as soon as nothing earlier can follow. What is held meanwhile is no more than the log is out of order by.

        Raises:
            OSError: If the log can't be read.
            ValueError: If it isn't a log that this version reads.
        """
        self._undecoded = 0
        earliest = self._earliest()
        held: list[EventRecord] = []
        room = _LEAST_SORTED
        for at, frame in enumerate(self._frames(len(earliest) - 1)):
            held += self._decoded(frame)
            if len(held) >= room:
                yield _cut(held, earliest[at + 1])
                room = max(_LEAST_SORTED, 2 * len(held))
        yield _cut(held, _LATEST + 1)

    def follow(self, is_running: Callable[[], bool], pause: Callable[[], None]) -> Iterator[Sequence[EventRecord]]:
        """Yield what is written and what comes, until the run has ended.

        Records are held back for a second and given in order of (ns, source, seq); one that comes later than that is
        given late.

        Args:
            is_running: Whether the run is still going.
            pause: Waits a moment before the next look.

        Raises:
            OSError: As for :meth:`records`.
            ValueError: As for :meth:`records`.
        """
        held: list[EventRecord] = []
        offset = self._unread = self._undecoded = 0
        while True:
            goes_on = is_running()  # asked first: what was written before the end is read after it
            reader = _core.read_events(self._directory, self._topics, offset=offset)
            for frame in reader:
                held += self._decoded(frame)
            offset = reader.offset
            self._unread += reader.damaged
            yield _cut(held, _core.now_ns() - _HELD_BACK_NS if goes_on else _LATEST + 1)
            if not goes_on:
                return
            pause()

    def _frames(self, most: int | None = None) -> Iterator[bytes]:
        """Yield the frames, not more than a first reading found: the log may have grown since."""
        reader = _core.read_events(self._directory, self._topics)
        if most is None or most:
            for n, frame in enumerate(reader, 1):
                yield frame
                if n == most:
                    break
        self._unread = reader.damaged

    def _earliest(self) -> Sequence[int]:
        """Return for each frame the earliest stamp in it and all that follow; at the end what is later than any."""
        found = array("Q")
        for frame in self._frames():
            try:
                whole = unpack(frame)
                stamps = self._stamps.decode(as_array(whole.payload, whole.records))
            except (FrameError, msgspec.DecodeError):
                found.append(_LATEST)  # nothing comes of it
                continue
            found.append(max(0, min(stamp.ns for stamp in stamps)))
        found.append(_LATEST)
        for at in range(len(found) - 2, -1, -1):
            found[at] = min(found[at], found[at + 1])
        return found

    def _decoded(self, frame: bytes) -> Sequence[EventRecord]:
        try:
            whole = unpack(frame)
            return self._codec.decode_batch(whole.payload, whole.records)
        except (FrameError, msgspec.DecodeError):
            self._undecoded += len(frame)
            return ()


def _cut(held: list[EventRecord], bound: int) -> list[EventRecord]:
    """Take the records before a moment out of a list, in order."""
    held.sort(key=order_of)
    at = bisect_left(held, bound, key=attrgetter("ns"))
    ready = held[:at]
    del held[:at]
    return ready
