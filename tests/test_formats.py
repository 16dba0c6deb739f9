"""The formats that others read: a second reader, made from docs/formats.md alone, finds what the first one finds."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runlog_reader
from loadgen import _core

FIXTURE = Path(__file__).parent / "fixtures" / "run-1.0"
WIDTHS = {"C": 1, "S": 2, "I": 4, "L": 8}


def columns(batch: dict[str, tuple[str, bytes, bytes | None]]) -> dict[str, list[int | None]]:
    """Decode a batch of ``read_rows``."""
    found: dict[str, list[int | None]] = {}
    for name, (form, data, validity) in batch.items():
        code = {"C": "B", "S": "H", "I": "I", "L": "Q"}[form]
        values = struct.unpack(f"<{len(data) // WIDTHS[form]}{code}", data)
        valid = validity or b"\xff" * (len(values) // 8 + 1)
        found[name] = [value if valid[i // 8] >> (i % 8) & 1 else None for i, value in enumerate(values)]
    return found


def rows(directory: Path) -> Iterator[runlog_reader.Row]:
    """Yield the rows that Rust's reader finds, in the second reader's shape."""
    for batch in _core.read_rows(str(directory)):
        found = columns(batch)
        children = {name: found.pop(name) for name in list(found) if "." in name}

        for i in range(len(found["id"])):
            fields = {name: values[i] for name, values in found.items()}
            yield runlog_reader.Row(fields, children_of(children, "reads", i), children_of(children, "attempts", i))  # type: ignore[arg-type]


def children_of(children: dict[str, list[int | None]], table: str, row: int) -> list[tuple[int, ...]]:
    """Return a row's reads or attempts."""
    names = [name for name in children if name.startswith(f"{table}.") and not name.endswith("offsets")]
    start, end = children[f"{table}.offsets"][row : row + 2]
    return [tuple(children[name][at] or 0 for name in names) for at in range(start or 0, end or 0)]


def check(directory: Path) -> runlog_reader.Log:
    """Check that both readers find the same in a log."""
    log = runlog_reader.read(directory / "run.log")
    first, second = list(rows(directory)), log.rows
    assert [row.fields for row in first] == [row.fields for row in second]
    for mine, theirs in zip(first, second, strict=True):
        assert mine.attempts == theirs.attempts
        assert not theirs.whole or mine.reads == theirs.reads
    texts = _core.read_texts(str(directory), "errors")
    assert list(texts) == log.texts
    return log


def test_both_readers_find_the_same_in_a_log_of_version_1_0() -> None:
    log = check(FIXTURE)
    assert (log.session, log.mono_ns, log.minor) == ("20261120T211405Z-7f3a", 5, 0)
    assert [event["event"] for event in log.events] == ["run_start", "phase_start", "phase_start", "run_end"]
    assert len(log.rows) == 40
    assert any(row.attempts for row in log.rows)
    assert any(row.fields["stamp_source"] == 1 for row in log.rows)
    assert log.counters == {0: (21, 1), 1: (21, 1)}
    assert (log.lost, log.torn) == ([], 0)


def test_both_readers_put_an_answer_together() -> None:
    log = runlog_reader.read(FIXTURE / "answers.log")
    assert list(_core.read_texts(str(FIXTURE), "answers")) == log.texts
    assert [(request, kind, len(text)) for request, kind, text in log.texts] == [(10, "answer", 39_200)]


def run(directory: Path, phase: dict[str, Any]) -> None:
    """Have the engine make a phase against a mock server, and write its log."""
    bodies = _core.Bodies([b'{"model":"mock","messages":[{"role":"user","content":"hello there"}]}'])
    server = _core.MockServer(json.dumps({"reasoning": 0.5, "faults": [{"name": "tool_calls", "every": 3}]}))
    config = {
        "url": server.url,
        "timeout_s": 30.0,
        "connect_timeout_s": 5.0,
        "stall_timeout_s": 30.0,
        "workers": 1 if phase["load"]["kind"] == "dispatch" else 2,
        "dir": str(directory),
        "save_responses": True,
        "meta": {"id": "test"},
    }
    engine = _core.Engine(json.dumps(config))
    engine.begin(json.dumps({"name": "a", "drain_timeout_s": 10.0, **phase}), bodies)
    while engine.wait(0.5) is None:
        pass
    engine.finish()
    server.stop()


def test_both_readers_agree_on_a_run_of_the_engine(tmp_path: Path) -> None:
    run(tmp_path, {"load": {"kind": "concurrency", "n": 4}, "requests": 60})
    log = check(tmp_path)
    assert sorted(row.fields["id"] or 0 for row in log.rows) == list(range(60))
    assert all(row.reads for row in log.rows)
    assert [event["event"] for event in log.events if event["event"] != "tick"] == [
        "run_start",
        "phase_start",
        "phase_end",
        "run_end",
    ]
    answers = list(_core.read_texts(str(tmp_path), "answers"))
    assert answers == runlog_reader.read(tmp_path / "answers.log").texts
    assert {kind for _, kind, _ in answers} == {"answer", "reasoning", "unkept"}
    assert {request for request, _, _ in answers} == set(range(60))


def never_sent(directory: Path) -> None:
    """Run three requests for which there is no node."""
    policy = json.loads(_core.policy_config("parallel", 1, json.dumps({"route": {"nodes": [{"slots": 1}]}})))
    run(directory, {"load": {"kind": "dispatch", "policy": policy, "absent": [0]}, "requests": 3})


def test_both_readers_agree_that_what_was_never_sent_has_no_node(tmp_path: Path) -> None:
    never_sent(tmp_path)
    assert [row.fields["node"] for row in check(tmp_path).rows] == [None] * 3
    assert [row.fields["node"] for row in check(FIXTURE).rows] == [0] * 40, "a log without the bit is of a node"


def test_both_readers_agree_on_a_log_cut_anywhere(tmp_path: Path) -> None:
    data = (FIXTURE / "run.log").read_bytes()
    found = set()
    for cut in range(256, len(data), 29):
        (tmp_path / "run.log").write_bytes(data[:cut])
        log = check(tmp_path)
        found.add(len(log.rows))
    assert {0, 40} < found


def test_both_readers_agree_on_a_log_with_a_flipped_byte(tmp_path: Path) -> None:
    data = (FIXTURE / "run.log").read_bytes()
    for at in range(0, len(data), 37):
        (tmp_path / "run.log").write_bytes(data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :])
        log = check(tmp_path)
        places = json.loads(_core.summarise(str(tmp_path), "{}"))["lost"]["places"]
        named = [(place["offset"], place["offset"] + place["length"]) for place in places if not place["tail"]]
        assert named == log.lost
        assert bool(log.lost or log.torn) == (at >= 256)


def test_a_newer_major_version_is_refused_by_name(tmp_path: Path) -> None:
    data = bytearray((FIXTURE / "run.log").read_bytes())
    for start in (0, 128):
        data[start + 8] = 2
        data[start + 124 : start + 128] = struct.pack("<I", zlib.crc32(data[start : start + 124]))
    (tmp_path / "run.log").write_bytes(data)
    with pytest.raises(ValueError, match=r"log format 2\.0, this loadgen reads 1\.x"):
        _core.read_rows(str(tmp_path))
    with pytest.raises(runlog_reader.TooNewError):
        runlog_reader.read(tmp_path / "run.log")


def test_what_is_no_log_is_an_error_of_the_right_kind(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run\.log"):
        _core.read_rows(str(tmp_path))
    (tmp_path / "run.log").write_bytes(b"hello")
    with pytest.raises(ValueError, match="not a loadgen run log"):
        _core.read_rows(str(tmp_path))
    with pytest.raises(ValueError, match='"errors" or "answers"'):
        _core.read_texts(str(FIXTURE), "questions")  # type: ignore[arg-type]
