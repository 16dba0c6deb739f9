"""The journal of a batch: what finished is kept through anything, and isn't called again."""

import dataclasses
import hashlib
import json
import os
import stat
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from journal_support import fill, lines, restored
from loadgen.dispatch import journal_file
from loadgen.dispatch.journal import Codec, Entry, Journal, as_journal
from loadgen.errors import ConfigError, JournalError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "batch.jsonl"


# --- what is restored


def test_what_finished_is_restored_by_its_item_wherever_it_stands_now(path: Path) -> None:
    fill(path, {"a": 1, "b": {"text": "ü\n"}})
    assert restored(path, ["new", "b", "a"]) == {1: {"text": "ü\n"}, 2: 1}


def test_stats_come_back_with_the_value(path: Path) -> None:
    with Journal(path).open() as journal:
        journal.finished("a", 1, {"seconds": 2.5})
    with Journal(path).open() as journal:
        assert journal.restore(["a"]) == {0: Entry(1, {"seconds": 2.5})}


def test_none_is_a_value(path: Path) -> None:
    fill(path, {"a": None})
    assert restored(path, ["a"]) == {0: None}


def test_what_failed_is_called_again_until_it_finishes(path: Path) -> None:
    with Journal(path).open() as journal:
        journal.failed("a", TimeoutError("no answer in 90 s"))
        journal.failed("b", "refused")
    assert restored(path, ["a", "b"]) == {}
    fill(path, {"a": 1})
    assert restored(path, ["a", "b"]) == {0: 1}


def test_of_identical_items_as_many_are_restored_as_finished(path: Path) -> None:
    with Journal(path).open() as journal:
        journal.finished("same", 1)
        journal.finished("same", 2)
    assert restored(path, ["same", "other", "same", "same"]) == {0: 1, 2: 2}


def test_a_finished_call_is_given_out_once(path: Path) -> None:
    fill(path, {"a": 1})
    with Journal(path).open() as journal:
        assert journal.restorable == 1
        assert journal.take("a") == Entry(1, None)
        assert journal.take("a") is None
        assert journal.restorable == 0


def test_items_are_the_same_by_content_and_mappings_whatever_their_order(path: Path) -> None:
    with Journal(path).open() as journal:
        journal.finished({"a": 1, "b": 2}, "mapping")
        journal.finished(b'{"a":1}', "bytes")
        journal.finished(("pump", "wear"), "cell")
    assert restored(path, [{"b": 2, "a": 1}, b'{"a":1}', ["pump", "wear"], {"a": 2}]) == {
        0: "mapping",
        1: "bytes",
        2: "cell",
    }


def test_a_users_key_names_items(path: Path) -> None:
    class Prompt:
        def __init__(self, name: str) -> None:
            self.name = name

    journal = Journal(path, key=lambda prompt: prompt.name)
    with journal.open() as opened:
        opened.finished(Prompt("p1"), "x")
    with journal.open() as opened:
        assert opened.restore([Prompt("p1")]) == {0: Entry("x", None)}
    assert lines(path)[1]["key"] == "p1"


def test_a_resumed_journal_can_be_resumed_again(path: Path) -> None:
    for n in range(5):
        fill(path, {n: n * n})
    assert restored(path, [0, 1, 2, 3, 4]) == {n: n * n for n in range(5)}


# --- values


@dataclasses.dataclass
class Answer:
    text: str
    sure: bool = True


@pytest.mark.parametrize("value", [(1, 2), {1: "a"}, Answer("x"), b"bytes", float("nan"), {1, 2}, object()])
def test_a_value_that_would_come_back_as_something_else_is_refused(path: Path, value: Any) -> None:
    with (
        Journal(path).open() as journal,
        pytest.raises(JournalError, match=f"can't hold a value of type {type(value).__qualname__}.*\n.*codec=Codec"),
    ):
        journal.finished("a", value)
    assert len(lines(path)) == 1


def test_a_type_as_codec_brings_its_values_back(path: Path) -> None:
    journal = Journal(path, codec=Answer)
    with journal.open() as opened:
        opened.finished("a", Answer("x", sure=False))
    with journal.open() as opened:
        assert opened.restore(["a"])[0].value == Answer("x", sure=False)


def test_what_opens_it_may_bring_a_codec_and_the_journals_own_wins(path: Path) -> None:
    with Journal(path).open(codec=Answer) as opened:
        opened.finished("a", Answer("x"))
    with Journal(path).open(codec=Answer) as opened:
        assert opened.restore(["a"])[0].value == Answer("x", sure=True)
    with Journal(path, codec=dict).open(codec=Answer) as opened:
        assert opened.restore(["a"])[0].value == {"text": "x", "sure": True}


def test_a_users_codec_is_used_both_ways_and_its_failure_is_named(path: Path) -> None:
    with Journal(path, codec=Codec(lambda value: value.hex(), bytes.fromhex)).open() as opened:
        opened.finished("a", b"\x00\xff")
    with Journal(path, codec=Codec(lambda value: value.hex(), bytes.fromhex)).open() as opened:
        assert opened.restore(["a"])[0].value == b"\x00\xff"
    with (
        Journal(path, codec=Codec(str, lambda value: value["no"])).open() as opened,
        pytest.raises(ConfigError, match="the codec can't read a value of the journal"),
    ):
        opened.restore(["a"])


def test_an_exceptions_words_are_not_kept(path: Path) -> None:
    with Journal(path).open() as journal:
        journal.failed("a", ValueError("Incorrect API key provided: canary"))
    assert b"canary" not in path.read_bytes()
    assert lines(path)[1]["error"] == "ValueError"


@pytest.mark.parametrize(
    ("key", "error"),
    [(None, "has no key for the journal"), (lambda _: 1.5, "must be text or a whole number")],
)
def test_an_item_without_a_key_is_an_error(path: Path, key: Any, error: str) -> None:
    with Journal(path, key=key).open() as journal, pytest.raises(ConfigError, match=error):
        journal.finished(object(), 1)


# --- the file


def test_the_file_is_private_and_its_lines_are_json_with_a_head(path: Path) -> None:
    fill(path, {"a": 1}, {"model": "m"})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    head, line = lines(path)
    assert (head["loadgen_journal"], head["config"]) == (1, {"model": "m"})
    assert set(line) == {"key", "value", "crc"}


def test_the_page_is_enough_to_read_it(path: Path) -> None:
    item = {"row": "pump-3", "col": "bearing wear"}
    with Journal(path).open({"url": "http://h", "model": "m"}) as journal:
        journal.finished(item, "yes")
        journal.failed(b"raw", "refused", {"seconds": 0.5})
    rows = path.read_bytes().splitlines()
    for row in rows:
        body, _, crc = row.rpartition(b',"crc":')
        assert int(crc.removesuffix(b"}")) == zlib.crc32(body)
    head, finished, failed = (json.loads(row) for row in rows)
    compact = json.dumps(head["config"], sort_keys=True, separators=(",", ":"))
    assert head["config_sha256"] == hashlib.sha256(compact.encode()).hexdigest()
    key = hashlib.sha256(json.dumps(item, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:32]
    assert (finished["key"], finished["value"]) == (key, "yes")
    assert failed["key"] == hashlib.sha256(b"raw").hexdigest()[:32]
    assert (failed["error"], failed["stats"]) == ("refused", {"seconds": 0.5})


def test_another_configuration_is_refused_and_what_differs_is_named(path: Path) -> None:
    fill(path, {"a": 1}, {"model": "m", "url": "http://h", "old": True})
    before = path.read_bytes()
    with pytest.raises(ConfigError) as raised:
        Journal(path, config={"temperature": 0}).open({"model": "n", "url": "http://h"})
    assert raised.value.message == (
        f'the journal {path} is of another configuration: model was "m", and now is "n"; '
        "old was true, and now is not set; temperature was not set, and now is 0"
    )
    assert raised.value.way_out == "run it with that configuration, or name another file for this one"
    assert path.read_bytes() == before
    assert restored(path, ["a"], {"url": "http://h", "old": True, "model": "m"}) == {0: 1}


def test_a_second_writer_is_refused_while_the_first_is_open(path: Path) -> None:
    with Journal(path).open(), pytest.raises(ConfigError, match="is being written by another batch"):
        Journal(path).open()
    Journal(path).open().close()


def test_another_process_is_refused_too(path: Path) -> None:
    code = "import sys; from loadgen.dispatch.journal import Journal; Journal(sys.argv[1]).open()"
    with Journal(path).open():
        ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "is being written by another batch" in ended.stderr


@pytest.mark.parametrize("content", [b"my notes\n", b'{"prompt": "p"}\n{"prompt": "q"}\n', b"no line end"])
def test_a_file_that_is_no_journal_is_left_as_it_is(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="is not a journal, and is left as it is"):
        Journal(path).open()
    assert path.read_bytes() == content


def test_what_can_not_be_a_journal_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for name, error in [(".", "Is a directory"), ("no/such", "No such file"), ("fifo", "is not a regular file")]:
        with pytest.raises(ConfigError, match=error):
            Journal(tmp_path / name).open()


def test_a_newer_format_and_a_damaged_head_are_refused(path: Path) -> None:
    path.write_bytes(journal_file.seal(journal_file.Head(2)))
    with pytest.raises(ConfigError, match="has format 2; this version reads 1"):
        Journal(path).open()
    path.write_bytes(journal_file.seal(journal_file.Head(1, config={"model": "m"})).replace(b'"m"', b'"n"'))
    with pytest.raises(ConfigError, match=r"the first line of the journal .* is damaged"):
        Journal(path).open()


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    path.touch()
    fill(path, {"a": 1})
    assert restored(path, ["a"]) == {0: 1}


def test_a_files_name_stands_for_its_journal(path: Path) -> None:
    journal = Journal(path)
    assert as_journal(journal) is journal
    assert as_journal(None) is None
    found = as_journal(str(path))
    assert found is not None
    assert found.path == path
