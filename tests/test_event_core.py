"""Events in the core, as Python sees them: the batch, the queue, the log and what a second reader finds in it."""

from __future__ import annotations

import gc
import json
import os
import select
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest

import eventlog_reader
from loadgen import _core

ISSUED, RECV_FIRST, RECV_NON_FIRST, COMPLETE = 16, 17, 18, 19
STARTED, ENDED, ERROR_CLIENT = 0, 4, 35
PATIENCE = 60.0


def events(frames: list[bytes]) -> list[eventlog_reader.Event]:
    return [event for frame in frames for event in eventlog_reader.events(frame)]


def test_a_mark_comes_back_with_its_numbers() -> None:
    batch = _core.EventBatch(40_000, max_age_ns=2**64 - 1)
    assert not batch.record(ISSUED, 7, 123)
    assert not batch.record(RECV_FIRST, 2**64 - 1, 2**64 - 1)
    assert (batch.buffered, batch.oldest_ns) == (2, 123)
    assert batch.buffered_bytes > 0
    found = events(batch.take())
    assert [tuple(event) for event in found] == [
        ("sample.issued", 0, ISSUED, 123, 7, None, None, None, None, None, 40_000, 0),
        ("sample.recv_first", 0, RECV_FIRST, 2**64 - 1, 2**64 - 1, None, None, None, None, None, 40_000, 1),
    ]
    assert (batch.buffered, batch.buffered_bytes, batch.oldest_ns, batch.take()) == (0, 0, None, [])


def test_everything_that_an_event_may_say_comes_back() -> None:
    batch = _core.EventBatch(32_768)
    data = msgspec.msgpack.encode({"phase": 3, "words": ["ü"] * 40})
    assert not batch.publish(
        COMPLETE, 5, request=1, session="s" * 40, conversation="c", turn=2, data=data, finish_reason="stop"
    )
    assert batch.publish(ENDED, 6), "an event of the session is due at once"
    complete, ended = events(batch.take())
    assert complete[4:10] == (1, "s" * 40, "c", 2, {"phase": 3, "words": ["ü"] * 40}, "stop")
    assert (ended.topic, ended.request, ended.data) == ("session.ended", None, None)


def test_an_error_leaves_first_and_the_session_last() -> None:
    batch = _core.EventBatch(32_768)
    for kind in (STARTED, COMPLETE, ERROR_CLIENT, ISSUED):
        batch.record(kind, 1, 1)
    topics = [event.topic for event in events(batch.take())]
    assert topics == ["error.client", "sample.issued", "sample.complete", "session.started"]


@pytest.mark.parametrize("threshold", [1, 2, 1_000])
def test_a_flush_is_due_at_the_threshold(threshold: int) -> None:
    batch = _core.EventBatch(32_768, send_threshold=threshold, max_age_ns=2**63, max_bytes=2**40)
    due = [batch.record(ISSUED, i, 5) for i in range(threshold + 1)]
    assert due == [False] * (threshold - 1) + [True, True]


def test_a_flush_is_due_with_age_or_bytes() -> None:
    batch = _core.EventBatch(32_768, max_age_ns=10)
    assert [batch.record(ISSUED, 1, ns) for ns in (100, 109, 110)] == [False, False, True]
    batch = _core.EventBatch(32_768, max_bytes=batch.buffered_bytes)
    assert [batch.record(ISSUED, 1, 100) for _ in range(3)] == [False, False, True]


def test_who_records_the_event_that_makes_a_flush_due_is_called_back() -> None:
    taken: list[bytes] = []
    batch = _core.EventBatch(32_768, send_threshold=2, on_due=lambda: taken.extend(batch.take()))
    due = [batch.record(ISSUED, 0, 1), batch.publish(COMPLETE, 1, request=0), batch.record(ISSUED, 1, 1)]
    assert due == [False, True, False]
    assert ([event.topic for event in events(taken)], batch.buffered) == (["sample.issued", "sample.complete"], 1)


def test_what_the_call_back_raises_is_raised_where_it_was_recorded() -> None:
    def fail() -> None:
        raise LookupError("no socket")

    batch = _core.EventBatch(32_768, send_threshold=2, on_due=fail)
    batch.record(ISSUED, 0, 1)
    with pytest.raises(LookupError, match="no socket"):
        batch.record(ISSUED, 1, 1)
    assert batch.buffered == 2, "neither is lost"


def test_a_closed_batch_refuses_and_keeps_what_it_has() -> None:
    def refuse() -> NoReturn:
        raise LookupError("closed")

    batch = _core.EventBatch(32_768)
    record = batch.record
    record(ISSUED, 0, 1)
    batch.close(refuse)
    calls: list[Callable[[], object]] = [lambda: record(ISSUED, 1, 1), lambda: batch.publish(ISSUED, 1)]
    for call in calls:
        with pytest.raises(LookupError, match="closed"):
            call()
    assert [event.request for event in events(batch.take())] == [0]
    silent: Any = lambda: None  # noqa: E731  what must raise, and doesn't
    batch.close(silent)
    with pytest.raises(RuntimeError, match="this batch is closed"):
        record(ISSUED, 1, 1)


def test_a_batch_and_who_it_calls_back_do_not_keep_each_other() -> None:
    class Owner:
        def __init__(self) -> None:
            self.batch = _core.EventBatch(32_768, on_due=self.due)
            self.batch.close(self.refuse)

        def due(self) -> None: ...

        def refuse(self) -> NoReturn:
            raise LookupError

    owner = weakref.ref(Owner())
    gc.collect()
    assert owner() is None


def test_what_is_no_event_is_refused_and_leaves_nothing_behind() -> None:
    batch = _core.EventBatch(32_768)
    for kind in (5, 255, 2**64 - 1):
        with pytest.raises(ValueError, match=f"{kind} is no event type"):
            batch.record(kind, 1, 1)
    for wrong in (-1, 2**64):
        with pytest.raises(OverflowError):
            batch.record(ISSUED, wrong, 1)
    no_ints: list[Any] = ["1", 1.0, None]
    for no_int in no_ints:
        with pytest.raises(TypeError):
            batch.record(ISSUED, 1, no_int)
    for data in (b"", b"\x01\x01", b"\xdd\xff\xff\xff\xff", b"\xc1"):
        with pytest.raises(ValueError, match="exactly one MessagePack value"):
            batch.publish(ISSUED, 1, data=data)
    assert batch.take() == []
    no_limits: list[dict[str, Any]] = [{"send_threshold": 0}, {"max_bytes": 0}]
    for limits in no_limits:
        with pytest.raises(ValueError, match="at least 1"):
            _core.EventBatch(32_768, **limits)


def test_threads_share_a_batch_and_lose_nothing() -> None:
    batch, frames, lock = _core.EventBatch(32_768, send_threshold=50), [], threading.Lock()

    def record(thread: int) -> None:
        for i in range(5_000):
            if batch.record(ISSUED, thread * 5_000 + i, 1):
                with lock:
                    frames.extend(batch.take())

    threads = [threading.Thread(target=record, args=(thread,)) for thread in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = events(frames + batch.take())
    assert sorted(event.request or 0 for event in found) == list(range(20_000))
    assert sorted(event.seq for event in found) == list(range(20_000))


class Told:
    """An engine's run against the mock: its directory, its report's counts, and what its queue gave."""

    def __init__(self, directory: Path, *, publish: bool = True) -> None:
        self.directory = directory
        with _core.MockServer(json.dumps({"error_rate": 0.2, "seed": 5})) as server:
            config = {
                "url": server.url,
                "timeout_s": 30,
                "connect_timeout_s": 5,
                "stall_timeout_s": 20,
                "workers": 2,
                "dir": str(directory),
                "meta": {"id": "told"},
                "events": {"log": True, "publish": publish, "chunks": True},
            }
            engine = _core.Engine(json.dumps(config))
            self.queue = engine.event_queue()
            self.frames: list[bytes] = []
            load = {"kind": "concurrency", "n": 4}
            phase = {"name": "main", "load": load, "requests": 60, "drain_timeout_s": 30, "stop_early": False}
            engine.begin(json.dumps(phase), _core.Bodies([b'{"messages":[]}']))
            self.end: dict[str, Any] = json.loads(engine.wait(PATIENCE) or "null")
            engine.finish()
        if self.queue is not None:
            assert select.select([self.queue], [], [], 0)[0], "frames wait"
            while frames := self.queue.take(3):
                self.frames.extend(frames)
            assert not select.select([self.queue], [], [], 0)[0]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(tmp_path_factory.mktemp("told"))


def test_both_readers_find_the_same_in_the_log(told: Told) -> None:
    assert list(_core.read_events(told.directory)) == list(eventlog_reader.frames(told.directory / "events.log"))


def test_the_log_and_the_queue_tell_what_the_report_counts(told: Told) -> None:
    logged, published = list(eventlog_reader.read(told.directory / "events.log")), events(told.frames)
    assert sorted((e.ns, e.source, e.seq) for e in logged) == sorted((e.ns, e.source, e.seq) for e in published)
    counts = Counter(event.topic for event in logged)
    summary = json.loads(_core.summarise(told.directory, "{}"))
    phase = summary["phases"][0]["counts"]
    assert counts["sample.issued"] == phase["issued"] == 60
    assert counts["error.client"] == phase["failed"] > 0
    assert counts["sample.complete"] == phase["ok"] + phase["failed"] + phase["cancelled"]
    chunks = sum(row or 0 for row in _chunks(told.directory))
    assert counts["sample.recv_first"] + counts["sample.recv_non_first"] == chunks > 0
    assert summary["events"] == {"logged": len(logged), "missing": 0, "error": None, "dropped": 0}
    assert (published[0].topic, published[-1].topic) == ("session.started", "session.ended")
    assert published[-1].data == {"status": "complete"}
    assert published[-1].session == "told"


def _chunks(directory: Path) -> list[int | None]:
    found: list[int | None] = []
    for batch in _core.read_rows(directory, children=False):
        form, data, _ = batch["chunks"]
        assert form == "I"
        found += memoryview(data).cast("I").tolist()
    return found


def test_topics_and_categories_choose_what_is_read(told: Told) -> None:
    every = list(eventlog_reader.read(told.directory / "events.log"))
    for topics in (["sample.issued"], ["error.", "session.ended"], ["session."]):
        found = events(list(_core.read_events(told.directory, topics)))
        wanted = [e for e in every if any(e.topic == t or (t.endswith(".") and e.topic.startswith(t)) for t in topics)]
        assert found == wanted
    for wrong in (["sample"], ["nothing"], []):
        with pytest.raises(ValueError, match="topic"):
            _core.read_events(told.directory, wrong)


def test_a_reader_goes_on_where_another_ended(told: Told, tmp_path: Path) -> None:
    whole = (told.directory / "events.log").read_bytes()
    reader = _core.read_events(told.directory)
    every = list(reader)
    assert (reader.offset, reader.damaged) == (len(whole), 0)
    (tmp_path / "events.log").write_bytes(whole[:-1])
    reader = _core.read_events(tmp_path)
    first = list(reader)
    (tmp_path / "events.log").write_bytes(whole)
    rest = list(_core.read_events(tmp_path, offset=reader.offset))
    assert rest
    assert first + rest == every


def test_a_log_is_its_owners_alone_and_a_missing_one_is_named(told: Told, tmp_path: Path) -> None:
    assert (told.directory / "events.log").stat().st_mode & 0o777 == 0o600
    with pytest.raises(FileNotFoundError, match=r"events\.log"):
        _core.read_events(tmp_path)
    (tmp_path / "events.log").write_bytes(os.urandom(300))
    with pytest.raises(ValueError, match="not a loadgen run log"):
        _core.read_events(tmp_path)


def test_a_run_that_publishes_nothing_has_no_queue(tmp_path: Path) -> None:
    assert Told(tmp_path, publish=False).queue is None
