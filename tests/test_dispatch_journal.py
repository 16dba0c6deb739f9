"""The journal of a batch: what finished is kept through anything, and isn't called again."""

import asyncio
import dataclasses
import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen import Dispatcher
from loadgen.dispatch import journal_file
from loadgen.dispatch.journal import Codec, Entry, Journal, OpenJournal, as_journal
from loadgen.dispatch.running import journalled
from loadgen.errors import ConfigError, JournalError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "batch.jsonl"


def fill(path: Path, values: dict[Any, Any], config: dict[str, Any] | None = None) -> None:
    with Journal(path).open(config) as journal:
        for item, value in values.items():
            journal.finished(item, value)


def restored(path: Path, items: list[Any], config: dict[str, Any] | None = None) -> dict[int, Any]:
    with Journal(path).open(config) as journal:
        return {index: entry.value for index, entry in journal.restore(items).items()}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


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


# --- what breaks


def test_cut_at_any_byte_it_keeps_all_whole_lines_and_goes_on(path: Path) -> None:
    fill(path, {n: n for n in range(4)})
    whole = path.read_bytes()
    for cut in range(len(whole)):
        path.write_bytes(whole[:cut])
        # Without its line break, a last line that is all there counts.
        expected = {n: n for n in range(4) if b'"value":%d,' % n in whole[:cut] and _is_whole(whole, n, cut)}
        assert restored(path, [0, 1, 2, 3]) == expected, cut
        fill(path, {"after": cut})
        assert restored(path, [0, 1, 2, 3, "after"]) == {**expected, 4: cut}, cut


def _is_whole(data: bytes, n: int, cut: int) -> bool:
    return len(b"".join(data.splitlines(keepends=True)[: n + 2])) - 1 <= cut


@settings(max_examples=60)
@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
def test_a_flipped_bit_loses_its_line_or_the_file_is_refused_but_never_lies(
    tmp_path_factory: pytest.TempPathFactory, at: int, bit: int
) -> None:
    path = tmp_path_factory.mktemp("flip") / "j"
    fill(path, {n: f"value {n}" for n in range(6)})
    data = bytearray(path.read_bytes())
    data[at % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            found = restored(path, list(range(6)))
    except ConfigError:
        assert at % len(data) <= data.index(b"\n") or b"\n" not in data
        return
    assert all(value == f"value {n}" for n, value in found.items())
    assert len(found) >= 4


def test_damaged_lines_are_counted_and_the_rest_is_read(path: Path) -> None:
    fill(path, {"a": 1, "b": 2, "c": 3})
    path.write_bytes(path.read_bytes().replace(b'"value":2', b'"value":7') + b"\0\0\0")
    with pytest.warns(RuntimeWarning, match=r"1 line of the journal .* can't be read; what they told of is called"):
        journal = Journal(path).open()
    with journal:
        assert journal.damaged == 1
        assert {i: e.value for i, e in journal.restore(["a", "b", "c"]).items()} == {0: 1, 2: 3}
    assert b"\0" not in path.read_bytes()


class Disk:
    """Takes so many bytes, and then says that it is full."""

    def __init__(self, room: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = room
        self._write = os.pwrite
        monkeypatch.setattr(os, "pwrite", self)

    def __call__(self, handle: int, data: bytes, at: int) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sent = self._write(handle, bytes(data)[: self.room], at)
        self.room -= sent
        return sent


def test_a_full_disk_is_told_at_once_and_what_was_written_stays(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(path, {"a": 1})
    before = path.read_bytes()
    journal = Journal(path).open()
    told = threading.Event()
    journal.on_failure = told.set
    Disk(10, monkeypatch)
    journal.finished("b", 2)
    assert told.wait(10)
    with pytest.raises(JournalError, match="No space left on device\nmake room and run it again: all but 1 of"):
        journal.check()
    with pytest.raises(JournalError):
        journal.finished("c", 3)
    with pytest.raises(JournalError) as raised:
        journal.close()
    assert [json.loads(line)["value"] for line in raised.value.unwritten] == [2, 3]
    assert path.read_bytes() == before
    monkeypatch.undo()
    assert restored(path, ["a", "b"]) == {0: 1}


def test_room_made_before_the_end_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path).open()
    told = threading.Event()
    journal.on_failure = told.set
    disk = Disk(10, monkeypatch)
    journal.finished("a", 1)
    assert told.wait(10)
    disk.room = 10_000
    with pytest.raises(JournalError, match="all calls that ended are in it") as raised:
        journal.close()
    assert raised.value.unwritten == ()
    assert restored(path, ["a"]) == {0: 1}


def test_a_real_limit_on_the_files_size_is_a_clear_error(path: Path) -> None:
    code = """
import resource, signal, sys
from loadgen.dispatch.journal import Journal
from loadgen.errors import JournalError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
try:
    with Journal(sys.argv[1]).open() as journal:
        for n in range(100):
            journal.finished(n, "x" * 100)
except JournalError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert "File too large\nmake room and run it again" in ended.stdout
    assert path.stat().st_size <= 2000
    with Journal(path).open() as journal:
        assert journal.damaged == 0


def test_an_error_in_the_batch_is_not_hidden_by_the_journals(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyError), Journal(path).open() as journal:  # noqa: PT012
        Disk(0, monkeypatch)
        journal.finished("a", 1)
        raise KeyError


def test_reading_a_journal_does_not_hold_the_loop_up(path: Path) -> None:
    turned = threading.Event()

    def key(item: int) -> str:
        assert turned.wait(60), "the loop stands still while the file is read"
        return str(item)

    async def call(item: int) -> int:
        return item * 10

    async def main(items: list[int]) -> Any:
        turned.clear()
        asyncio.get_running_loop().call_later(0.01, turned.set)
        return await Dispatcher("parallel", journal=Journal(path, key=key)).arun(call, items)

    asyncio.run(main([1, 2]))
    batch = asyncio.run(main([1, 2, 3]))
    assert batch.values == (10, 20, 30)
    assert [result.restored for result in batch] == [True, True, False]


def test_a_batch_that_is_cancelled_while_its_journal_is_read_gives_the_file_back(path: Path) -> None:
    begun, go = threading.Event(), threading.Event()

    def key(item: int) -> str:
        begun.set()
        assert go.wait(60)
        return str(item)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reading = asyncio.ensure_future(Dispatcher("parallel", journal=Journal(path, key=key)).arun(str, [1]))
        await loop.run_in_executor(None, begun.wait, 60)
        reading.cancel()
        loop.call_later(0.01, go.set)
        with pytest.raises(asyncio.CancelledError):
            await reading
        with Journal(path).open({"call": "builtins.str"}):
            pass  # it is locked no more

    asyncio.run(main())


def test_a_batch_whose_items_have_no_key_gives_the_file_back(path: Path) -> None:
    with pytest.raises(ConfigError, match="has no key for the journal"):
        Dispatcher("parallel", journal=path).run(str, [object()])
    with Journal(path).open({"call": "builtins.str"}):
        pass


def test_a_batch_whose_journal_can_not_be_written_gives_back_what_it_has(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(item: int) -> int:
        if item == 0:
            Disk(0, monkeypatch)
        return item + 10

    with pytest.raises(JournalError, match="No space left") as raised:
        Dispatcher("sequential", journal=path).run(call, range(50))
    batch = raised.value.batch
    assert batch[0].value == 10
    assert len(batch) == 50
    assert all(one.value == one.index + 10 if one.ok else one.error is raised.value for one in batch)
    assert len(raised.value.unwritten) == sum(one.ok for one in batch)


@pytest.mark.parametrize(
    ("room", "unwritten", "words"),
    [(0, [1, 2, 3], "all but 3 of the calls that ended are in it"), (10_000, [], "all calls that ended are in it")],
)
def test_a_failed_journals_error_names_the_calls_that_ended_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch, room: int, unwritten: list[int], words: str
) -> None:
    async def run(journal: OpenJournal | None, _: Any) -> Any:
        assert journal is not None
        told = threading.Event()
        journal.on_failure = told.set
        disk = Disk(0, monkeypatch)
        journal.finished("a", 1)
        assert told.wait(10)
        with pytest.raises(JournalError) as early:
            journal.check()
        for item, value in (("b", 2), ("c", 3)):
            with pytest.raises(JournalError):
                journal.finished(item, value)
        disk.room = room
        raise early.value

    with pytest.raises(JournalError, match=f"No space left on device\nmake room and run it again: {words}") as raised:
        asyncio.run(journalled(path, {}, ["a", "b", "c"], run))
    assert [json.loads(line)["value"] for line in raised.value.unwritten] == unwritten
    assert words in repr(raised.value)


def test_a_value_that_a_journal_can_not_hold_is_told_though_the_disk_refuses_too(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(item: int) -> object:
        if item == 1:
            # Else the disk may refuse that one's line, and the batch ends before this one's value is looked at.
            wait_for(lambda: path.read_bytes().count(b"\n") == 2)
            Disk(0, monkeypatch)
            return object()
        return item

    with pytest.raises(JournalError, match="can't hold a value of type object"):
        Dispatcher("sequential", journal=path).run(call, range(3))


def test_closing_is_final_and_can_be_repeated(path: Path) -> None:
    journal = Journal(path).open()
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="is closed"):
        journal.finished("a", 1)


def wait_for(holds: Callable[[], bool], most_s: float = 60.0) -> None:
    """Wait until something holds, or fail."""
    end = time.monotonic() + most_s
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)


KILLED = """
import sys
from loadgen.dispatch.journal import Journal
with Journal(sys.argv[1]).open({"model": "m"}) as journal:
    items = list(range(300))
    done = journal.restore(items)
    for item in items:
        if item not in done:
            print(item, flush=True)  # the call
            input()
            journal.finished(item, item * item)
    print("end", flush=True)
"""


def called_until(path: Path, most: int) -> list[str]:
    """Run the batch in a process of its own, kill it in the middle of a call, and return what it called."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    called: list[str] = []
    size = path.stat().st_size if path.exists() else 1000  # the head is shorter
    with subprocess.Popen([sys.executable, "-c", KILLED, path], **pipes) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in child.stdout:
            called.append(line.strip())
            if len(called) == most:
                wait_for(lambda: path.stat().st_size > size)  # a busy disk may not have begun yet
                child.send_signal(signal.SIGKILL)
                break
            if called[-1] != "end":
                child.stdin.write("\n")
    return called


def test_killed_and_resumed_nothing_finished_is_called_again(path: Path) -> None:
    finished: set[int] = set()
    for most in (70, 110, 90, 1000):
        called = called_until(path, most)
        assert not finished & {int(item) for item in called if item != "end"}
        with Journal(path).open({"model": "m"}) as journal:
            found = journal.restore(range(300))
        assert all(entry.value == item * item for item, entry in found.items())
        assert finished < set(found)
        finished = set(found)
    assert called[-1] == "end"
    assert finished == set(range(300))


def test_many_threads_lose_and_tear_no_line(path: Path) -> None:
    def work(journal: OpenJournal, k: int) -> None:
        for n in range(200):
            journal.finished([k, n], n)

    with Journal(path).open() as journal:
        threads = [threading.Thread(target=work, args=(journal, k)) for k in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    items = [[k, n] for k in range(8) for n in range(200)]
    assert restored(path, items) == {i: item[1] for i, item in enumerate(items)}
