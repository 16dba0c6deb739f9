"""Records, frames and codecs: what stands on the wire, and what is made of what can't be read."""

import logging
import struct

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.event import TOPIC_FRAME_SIZE, EventCodec, EventRecord, EventType, FrameError, MessageCodec
from loadgen.event.frame import Frame, count_of, pack, subscription, topic_frame, unpack
from loadgen.event.gaps import Gaps

CODES = {
    "session.started": 0,
    "session.start_performance_tracking": 1,
    "session.stop_performance_tracking": 2,
    "session.stop_loadgen": 3,
    "session.ended": 4,
    "sample.issued": 16,
    "sample.recv_first": 17,
    "sample.recv_non_first": 18,
    "sample.complete": 19,
    "error.generic": 32,
    "error.loadgen": 33,
    "error.session": 34,
    "error.client": 35,
}


def frame(records: list[EventRecord], topic_seq: int = 0, source: int = 7) -> bytes:
    payload = b"".join(map(msgspec.msgpack.encode, records))
    return pack(topic_frame(records[0].type.topic), source, len(records), topic_seq, payload)


def test_every_type_has_the_wires_code_and_topic() -> None:
    assert {kind.topic: kind.value for kind in EventType} == CODES
    assert TOPIC_FRAME_SIZE == max(map(len, CODES)) == 34


def test_a_record_is_an_array_of_ten_in_the_contracts_order() -> None:
    record = EventRecord(EventType.SAMPLE_COMPLETE, 5, 6, "s", "c", 1, {"phase": 0}, "stop", 3, 9)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(record)) == [19, 5, 6, "s", "c", 1, {"phase": 0}, "stop", 3, 9]


def test_a_frame_is_laid_out_byte_for_byte_as_the_format_says() -> None:
    made = pack(topic_frame("sample.issued"), 3, 2, 70_000_000_000, b"\x01\x02")
    assert made == b"sample.issued".ljust(34, b"\0") + struct.pack("<BBHIQ", 1, 0, 3, 2, 70_000_000_000) + b"\x01\x02"
    assert unpack(made) == Frame("sample.issued", 3, 2, 70_000_000_000, memoryview(b"\x01\x02"))
    assert count_of(made) == 2


@given(st.sampled_from(sorted(CODES)), st.integers(0, 65535), st.integers(0, 2**64 - 1), st.binary(min_size=1))
def test_what_was_packed_is_unpacked(topic: str, source: int, topic_seq: int, payload: bytes) -> None:
    got = unpack(pack(topic_frame(topic), source, 1, topic_seq, payload))
    assert got == Frame(topic, source, 1, topic_seq, memoryview(payload))


@given(st.binary(max_size=120))
def test_any_bytes_are_a_frame_or_a_frame_error(noise: bytes) -> None:
    try:
        got = unpack(noise)
    except FrameError:
        return
    assert (got.topic, bytes(got.payload)) == (noise[:34].rstrip(b"\0").decode(), noise[50:])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: f[:50], "50 bytes are too few"),
        (lambda f: b"", "0 bytes are too few"),
        (lambda f: f[:34] + b"\x02" + f[35:], "version 2 with flags 0x0"),
        (lambda f: f[:35] + b"\x01" + f[36:], "version 1 with flags 0x1"),
        (lambda f: b"\0" * 34 + f[34:], "is no topic"),
        (lambda f: b"\xff" + f[1:], "is no topic"),
        (lambda f: f[:3] + b"\0" + f[4:], "is no topic"),
        (lambda f: f[:38] + b"\0\0\0\0" + f[42:], "0 records can't lie in"),
        (lambda f: f[:38] + b"\xff\xff\xff\xff" + f[42:], "4294967295 records can't lie in"),
    ],
)
def test_a_frame_that_is_none_says_why(change: object, words: str) -> None:
    good = frame([EventRecord(EventType.SAMPLE_ISSUED, 1)])
    with pytest.raises(FrameError, match=words):
        unpack(change(good))  # type: ignore[operator]


def test_a_topic_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at most 34 bytes, and .* has 35"):
        topic_frame("x" * 35)
    with pytest.raises(ValueError, match="has 34 bytes, not 13"):
        pack(b"sample.issued", 0, 1, 0, b"\x90")
    with pytest.raises(ValueError, match="not empty"):
        topic_frame("")
    assert topic_frame("x" * 34) == b"x" * 34


def test_a_subscription_asks_for_one_topic_a_category_or_everything() -> None:
    whole = topic_frame("session.start_performance_tracking")
    assert whole.startswith(subscription("session."))
    assert not whole.startswith(subscription("session.start"))  # a topic is asked for exactly
    assert subscription("session.started") == topic_frame("session.started")
    assert subscription("") == b""


def test_a_batch_is_decoded_whole_and_only_whole() -> None:
    records = [EventRecord(EventType.SAMPLE_ISSUED, ns, ns, source=7, seq=ns) for ns in range(3)]
    got = unpack(frame(records))
    codec = EventCodec()
    assert codec.decode_batch(got.payload, 3) == records
    for payload, count in [(got.payload[:-1], 3), (got.payload, 2), (got.payload, 4)]:
        with pytest.raises(msgspec.DecodeError):
            codec.decode_batch(payload, count)


def test_the_event_codec_drops_what_msgspec_refuses_or_makes_a_record_of_it_and_raises_the_rest() -> None:
    refused = msgspec.ValidationError("no")
    assert EventCodec().on_decode_error(b"??", refused) is None
    record = EventCodec(errors_as_records=True).on_decode_error(b"??", refused)
    assert record is not None
    assert (record.type, record.data) == (
        EventType.ERROR_GENERIC,
        {"detail": "a batch could not be decoded: no", "bytes": 2},
    )
    with pytest.raises(KeyError, match="ours"):
        EventCodec().on_decode_error(b"??", KeyError("ours"))


def test_a_single_record_goes_through_the_codec_and_back() -> None:
    record = EventRecord(EventType.ERROR_CLIENT, 1, 2, data={"class": "timeout"}, source=1)
    topic, payload = EventCodec().encode(record)
    assert topic == "error.client"
    assert EventCodec().decode(payload) == record


def test_a_codec_for_single_items_refuses_a_batch() -> None:
    class Text(MessageCodec[str]):
        def encode(self, item: str) -> tuple[str, bytes]:
            return "text", item.encode()

        def decode(self, payload: bytes | memoryview) -> str:
            return str(payload, "utf-8")

    assert Text().decode_batch(b"a", 1) == ["a"]
    with pytest.raises(ValueError, match="holds 2"):
        Text().decode_batch(b"ab", 2)
    assert Text().on_decode_error(b"", ValueError()) is None


def _frames(*numbers: tuple[int, int]) -> list[Frame]:
    return [Frame("sample.issued", 1, records, first, memoryview(b"")) for first, records in numbers]


def test_gaps_are_counted_for_each_source_and_topic() -> None:
    gaps = Gaps(from_start=True)
    counted = [gaps.seen(frame) for frame in _frames((0, 3), (5, 1), (6, 2), (10, 1))]
    assert counted == [0, 2, 0, 2]
    assert gaps.seen(Frame("sample.issued", 2, 4, 0, memoryview(b""))) == 0
    assert gaps.seen(Frame("error.client", 1, 1, 3, memoryview(b""))) == 3
    assert gaps.missing == 7


def test_a_late_joiner_counts_from_what_it_sees_first_and_a_restart_is_no_gap() -> None:
    gaps = Gaps()
    assert [gaps.seen(frame) for frame in _frames((100, 5), (0, 1), (2, 1))] == [0, 0, 1]


def test_importing_the_package_brings_no_logging_handler() -> None:
    assert logging.getLogger("loadgen.event").handlers == []
