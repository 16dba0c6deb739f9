"""The event log, read: the option that keeps it, its records in order, and ``loadgen events``."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

import loadgen
from event_support import ISSUED, WAIT_S
from loadgen import _core, config
from loadgen.cli import app
from loadgen.errors import ConfigError
from loadgen.event import EventRecord
from loadgen.event import log as event_log
from loadgen.event.frame import pack, topic_frame
from loadgen.event.log import EventLog
from loadgen.event.record import order_of
from loadgen.report import sentences
from loadgen.session import prepare, run_dir

MOCK = "mock:?ttft=2&gap=1&error_rate=0.2"
RUN = [sys.executable, "-m", "loadgen", "run", "--concurrency", "1", "--events", "--quiet"]


def call(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), prog_name="loadgen")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Frames:
    """Stands for a log's reader: these frames, from one look to the next."""

    def __init__(self, *looks: list[bytes], damaged: int = 0) -> None:
        self.looks = list(looks)
        self.damaged = damaged
        self.offsets: list[int] = []

    def __call__(self, directory: Path, topics: object = None, *, offset: int = 0) -> "Frames":
        self.offsets.append(offset)
        self.now = self.looks[min(len(self.offsets), len(self.looks)) - 1]
        self.offset = offset + len(self.now)
        return self

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.now)


def batches(*records: list[EventRecord]) -> list[bytes]:
    """Each list of records in frames as one flush of its source makes them."""
    sources: dict[int, _core.EventBatch] = {}
    frames = []
    for some in records:
        batch = sources.setdefault(some[0].source, _core.EventBatch(some[0].source))
        for record in some:
            batch.publish(record.type, record.ns, record.request)
        frames += batch.take()
    return frames


def issued(source: int, *moments: int) -> list[EventRecord]:
    return [EventRecord(ISSUED, ns, source=source) for ns in moments]


def flat(pieces: Iterable[Any]) -> list[EventRecord]:
    return [record for piece in pieces for record in piece]


# --- the option


@pytest.mark.parametrize(
    ("given_", "kept"), [(True, "requests"), ("requests", "requests"), ("chunks", "chunks"), (False, None)]
)
def test_the_option_is_read_from_every_side(given_: Any, kept: str | None, here: Path) -> None:
    assert config.resolve("mock:", {"events": given_}).events == kept
    (here / "c.yaml").write_text(f"url: 'mock:'\nevents: {json.dumps(given_)}\n")
    assert config.resolve(None, {}, config_file="c.yaml").events == kept


@pytest.mark.parametrize("bad", ["all", 1, "", ["chunks"]])
def test_any_other_value_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigError, match=r"events.* must be true, false or chunks"):
        config.resolve("mock:", {"events": bad})


def test_the_engine_is_told_what_is_kept_and_whether_somebody_takes_it(tmp_path: Path) -> None:
    def told(*, events: Any, publish: bool = False) -> Any:
        options = config.resolve("mock:", {"events": events})
        return json.loads(prepare.run_config(options, [], 1, ["http://x"], tmp_path, {}, publish=publish))["events"]

    assert told(events=None) is None
    assert told(events=True) == {"log": True, "publish": False, "chunks": False}
    assert told(events="chunks", publish=True) == {"log": True, "publish": True, "chunks": True}
    assert told(events=None, publish=True) == {"log": False, "publish": True, "chunks": False}


@pytest.mark.parametrize("flags", [["--events", "mock:"], ["mock:", "--events"], ["--events=chunks", "mock:"]])
def test_the_flag_alone_never_takes_the_target_for_its_value(flags: list[str], here: Path) -> None:
    result = call("run", *flags, "--requests", "3", "--concurrency", "1", "--quiet")
    assert (result.exit_code, result.stderr) == (0, "")
    assert (run_dir.find(None) / "events.log").is_file()


def test_without_the_option_there_is_no_log_and_the_command_says_how_to_get_one(here: Path) -> None:
    call("run", "mock:", "--quiet")
    result = call("events")
    assert result.exit_code == 2
    assert "holds no events.log" in result.stderr
    assert "run it with --events" in result.stderr


# --- a run's events


def printed(*args: str) -> list[dict[str, Any]]:
    result = call("events", *args)
    assert (result.exit_code, result.stderr) == (0, "")
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_runs_events_agree_with_its_report_and_come_in_order(here: Path) -> None:
    result = loadgen.run(
        MOCK, requests=200, concurrency=8, output_tokens=4, warmup=10, events="chunks", workers=2, max_error_rate=0.9
    )
    lines = printed()
    counts = [phase.counts for phase in result.phases]
    types = Counter(line["type"] for line in lines)
    assert types["sample.issued"] == sum(count.issued for count in counts)
    assert types["error.client"] == sum(count.failed for count in counts) > 0
    assert types["sample.complete"] == sum(count.ok + count.failed + count.cancelled for count in counts)
    assert types["sample.recv_first"] == sum(count.ok for count in counts)
    assert (lines[0]["type"], lines[-1]["type"]) == ("session.started", "session.ended")
    assert [(line["ns"], line["source"], line["seq"]) for line in lines] == sorted(
        (line["ns"], line["source"], line["seq"]) for line in lines
    )
    assert {line["source"] for line in lines} == {0, 1, 65535}
    outcomes = Counter(line["data"]["outcome"] for line in lines if line["type"] == "sample.complete")
    assert outcomes["ok"] == sum(count.ok for count in counts)


def test_the_report_says_what_of_the_events_is_missing(here: Path) -> None:
    result = loadgen.run("mock:", requests=5, events=True)
    kept = result.report["run"]["events"]
    assert (kept["missing"], kept["dropped"]) == (0, None)
    assert kept["logged"] == len(printed())
    assert [line for line in sentences.about_run(result) if line.label == "lost"] == []
    kept |= {"missing": 3, "error": "No space left\x1b[2J", "dropped": 1}
    assert [line.text for line in sentences.about_run(result) if line.label == "lost"] == [
        "3 events of events.log could not be kept (No space left\\x1b[2J)",
        "1 event not published: the publisher was too slow",
    ]


def test_only_the_topics_asked_for_are_printed(here: Path) -> None:
    loadgen.run(MOCK, requests=50, concurrency=4, output_tokens=4, events=True, max_error_rate=0.9)
    whole = printed()
    for asked, kinds in [
        (["--topic", "sample.complete"], {"sample.complete"}),
        (["--topic", "error"], {"error.client"}),
        (["--topic", "session.", "--topic", "sample.issued"], {"session", "sample.issued"}),
    ]:
        wanted = [line for line in whole if {line["type"], line["type"].partition(".")[0]} & kinds]
        assert printed(*asked) == wanted
        assert wanted


def test_a_topic_that_is_none_is_named_with_one_that_is(here: Path) -> None:
    result = call("events", "--topic", "sample.isued")
    assert result.exit_code == 2
    assert "there is no topic 'sample.isued'" in result.stderr
    assert "perhaps sample.issued?" in result.stderr


def test_removing_a_run_removes_its_events(here: Path) -> None:
    result = loadgen.run("mock:", requests=5, events=True)
    assert run_dir.size(result.dir) >= (result.dir / "events.log").stat().st_size
    assert run_dir.remove(result.dir) == ""
    assert not result.dir.exists()


def test_a_file_that_is_no_log_is_named(here: Path) -> None:
    result = loadgen.run("mock:", requests=5, events=True)
    (result.dir / "events.log").write_bytes(b"something else entirely, and long enough for a head of a log" * 3)
    told = call("events")
    assert told.exit_code == 2
    assert "can't read" in told.stderr
    assert "events.log" in told.stderr


def test_what_is_damaged_is_left_out_and_said(here: Path) -> None:
    directory = loadgen.run("mock:", requests=200, events=True).dir
    log = directory / "events.log"
    whole = bytearray(log.read_bytes())
    whole[len(whole) // 2] ^= 0x40
    log.write_bytes(whole)
    told = call("events")
    assert told.exit_code == 0
    assert "are damaged; what was in them is left out" in told.stderr
    assert all(json.loads(line) for line in told.stdout.splitlines())


def test_what_the_file_lost_and_what_no_record_can_be_made_of_are_counted_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    undecodable = pack(topic_frame("sample.issued"), 0, 1, 0, b"\xc1")
    sound = batches(issued(0, 5))
    log = EventLog(Path())
    for read in (log.records, lambda: log.follow(lambda: False, lambda: None)):
        monkeypatch.setattr(_core, "read_events", Frames([undecodable, *sound], damaged=7))
        assert [record.ns for record in flat(read())] == [5]
        assert log.damaged == 7 + len(undecodable)


def test_data_that_json_has_no_form_for_is_printed_as_text(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = loadgen.run("mock:", requests=1, events=True).dir
    batch = _core.EventBatch(1)
    for data in (
        {"raw": b"\xff", "escape": "\x1b[2J\u202e"},
        {"ext": msgspec.msgpack.Ext(5, b"x")},
        {"map": {(1, 2): 3}},
    ):
        batch.publish(ISSUED, 1, data=msgspec.msgpack.encode(data))
    monkeypatch.setattr(_core, "read_events", Frames(batch.take()))
    result = call("events", str(directory))
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 3
    assert "\x1b" not in result.stdout
    assert "Ext" in lines[1]["data"]["ext"]


# --- order


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.integers(0, 50), min_size=1, max_size=5)), min_size=0, max_size=30
    ),
    st.integers(0, 8),
)
def test_records_come_in_order_however_the_log_is_mixed(flushes: list[tuple[int, list[int]]], room: int) -> None:
    frames = batches(*(issued(source, *moments) for source, moments in flushes))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_core, "read_events", Frames(frames))
        patch.setattr(event_log, "_LEAST_SORTED", room)
        got = flat(EventLog(Path()).records())
    assert [order_of(record) for record in got] == sorted(order_of(record) for record in got)
    assert Counter(record.ns for record in got) == Counter(ns for _, moments in flushes for ns in moments)


def test_what_is_held_is_bounded_by_the_disorder(monkeypatch: pytest.MonkeyPatch) -> None:
    flushes = [issued(source, *range(n * 100 + source, n * 100 + 100)) for n in range(200) for source in (0, 1)]
    monkeypatch.setattr(_core, "read_events", Frames(batches(*flushes)))
    monkeypatch.setattr(event_log, "_LEAST_SORTED", 100)
    pieces = list(EventLog(Path()).records())
    assert max(map(len, pieces)) < 1000
    assert sum(map(len, pieces)) == sum(map(len, flushes))


def test_a_log_that_grew_between_the_two_readings_is_read_as_far_as_the_first_went(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, more = batches(issued(0, 5, 6)), batches(issued(0, 5, 6), issued(0, 1))
    monkeypatch.setattr(_core, "read_events", Frames(first, more))
    assert [record.ns for record in flat(EventLog(Path()).records())] == [5, 6]
    monkeypatch.setattr(_core, "read_events", Frames([], more))
    assert flat(EventLog(Path()).records()) == []


def test_following_holds_back_a_second_and_gives_all_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    second = 1_000_000_000
    looks = Frames(batches(issued(0, 3 * second, 5 * second)), batches(issued(1, 4 * second)), [])
    now = iter([5 * second + 1, 6 * second + 1])
    running = iter([True, True, False])
    monkeypatch.setattr(_core, "read_events", looks)
    monkeypatch.setattr(_core, "now_ns", lambda: next(now))
    pieces = EventLog(Path()).follow(lambda: next(running), lambda: None)
    assert [[record.ns // second for record in piece] for piece in pieces] == [[3], [4, 5], []]
    assert looks.offsets == [0, 1, 2]


@contextmanager
def going(*args: str) -> Iterator[Path]:
    """A run in a process of its own whose event log is there; it doesn't outlive the test."""
    directory = Path("run")
    child = subprocess.Popen([*RUN, *args, "--out", str(directory)])
    try:
        while not (directory / "events.log").is_file():
            assert child.poll() is None
        yield directory
    finally:
        child.kill()
        child.wait()


def test_following_a_run_prints_it_to_its_end(here: Path) -> None:
    with going("mock:?ttft=20", "--requests", "60") as directory:
        done = subprocess.run(
            [sys.executable, "-m", "loadgen", "events", str(directory), "--follow"],
            capture_output=True,
            text=True,
            timeout=WAIT_S * 3,
            check=True,
        )
    types = [json.loads(line)["type"] for line in done.stdout.splitlines()]
    assert (types[0], types[-1], types.count("sample.complete")) == ("session.started", "session.ended", 60)


def test_a_reader_that_has_seen_enough_ends_it(here: Path) -> None:
    loadgen.run("mock:", requests=5000, concurrency=32, output_tokens=1, events="chunks")
    reads, writes = os.pipe()
    child = subprocess.Popen([sys.executable, "-m", "loadgen", "events"], stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    assert os.read(reads, 100).startswith(b'{"type":"session.started"')
    os.close(reads)
    _, err = child.communicate(timeout=WAIT_S)
    assert (child.returncode, err) == (128 + signal.SIGPIPE, b"")


def test_an_interrupt_ends_following(here: Path) -> None:
    with going("mock:?ttft=60s", "--requests", "1") as directory:
        child = subprocess.Popen(
            [sys.executable, "-m", "loadgen", "events", str(directory), "--follow"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdout is not None
        assert child.stdout.readline().startswith(b'{"type":"session.started"')
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=WAIT_S)
    assert (child.returncode, err.strip()) == (130, b"")
