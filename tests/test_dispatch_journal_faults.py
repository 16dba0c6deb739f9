"""The journal of a batch when something breaks: cut files, flipped bits, full disks, killed processes, many threads."""

import asyncio
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from journal_support import fill, restored, wait_for
from loadgen import Dispatcher
from loadgen.dispatch.journal import Journal, OpenJournal
from loadgen.dispatch.running import journalled
from loadgen.errors import ConfigError, JournalError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "batch.jsonl"


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
    async def run(journal: OpenJournal | None, _: Any) -> Any:
        assert journal is not None
        with pytest.raises(JournalError) as early:
            journal.finished("a", object())
        told = threading.Event()
        journal.on_failure = told.set
        Disk(0, monkeypatch)
        journal.finished("b", 2)
        assert told.wait(10)
        raise early.value

    with pytest.raises(JournalError, match="can't hold a value of type object") as raised:
        asyncio.run(journalled(path, {}, ["a", "b"], run))
    assert raised.value.unwritten == ()


def test_closing_is_final_and_can_be_repeated(path: Path) -> None:
    journal = Journal(path).open()
    journal.close()
    journal.close()
    with pytest.raises(JournalError, match="is closed"):
        journal.finished("a", 1)


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
