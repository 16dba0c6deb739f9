"""``loadgen nodes run`` that is stopped: what was settled is kept, the status says by what, the next run goes on."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from journal_support import finished, requests, wait_for
from loadgen import _core
from loadgen.cli import app
from loadgen.cli.nodes import run
from loadgen.dispatch import Answer, Call
from loadgen.errors import JournalError, NodeError

pytest_plugins = ["surface_fixtures"]

ITEMS = 120
STATUS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.fixture
def server() -> Iterator[_core.MockServer]:
    with _core.MockServer(json.dumps({"ttft": 20.0, "gap": 0.0, "output_tokens": 2, "capacity": 4})) as server:
        yield server


def command(server: _core.MockServer, here: Path, *more: str) -> list[str]:
    (here / "texts").write_text("".join(f"text {n}\n" for n in range(ITEMS)))
    return [
        sys.executable, "-m", "loadgen", "nodes", "run", str(here / "texts"), "--node", server.url, "--model", "mock",
        "--journal", str(here / "j"), "--out", str(here / "o"), *more,
    ]  # fmt: skip


@pytest.mark.parametrize(("number", "status"), STATUS)
@pytest.mark.parametrize("kind", ["embeddings", "chat"])
@pytest.mark.usefixtures("with_hangup")
def test_a_signal_keeps_what_was_settled_and_the_next_run_asks_for_the_rest(
    server: _core.MockServer, tmp_path: Path, kind: str, number: signal.Signals, status: int
) -> None:
    of_kind = command(server, tmp_path, "--kind", kind)
    with subprocess.Popen(of_kind, stderr=subprocess.PIPE, text=True) as first:
        wait_for(lambda: finished(tmp_path / "j") >= 20)
        first.send_signal(number)
        _, said = first.communicate(timeout=60)
    assert first.returncode == status, said
    had, before = finished(tmp_path / "j"), requests(server)
    assert 20 <= had < ITEMS
    kept = [json.loads(line) for line in (tmp_path / "o").read_text().splitlines()]
    assert [one["index"] for one in kept] == sorted(one["index"] for one in kept)
    assert len(kept) == had
    assert all(one["value"] for one in kept)
    assert said.endswith(
        f"error: stopped when {had} of {ITEMS} items had a value\n"
        f"       what finished is in {tmp_path / 'j'}: run it again, and only the rest is called\n"
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["j", "o", "texts"]
    second = subprocess.run(of_kind, capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert f" {ITEMS} items: " in second.stdout
    assert f", {had} from the journal\n" in second.stdout
    assert requests(server) - before == ITEMS - had
    whole = [json.loads(line) for line in (tmp_path / "o").read_text().splitlines()]
    assert [one["index"] for one in whole] == list(range(ITEMS))
    assert {one["index"]: one["value"] for one in kept}.items() <= {one["index"]: one["value"] for one in whole}.items()


class Pool:
    """Stands in for the pool: tells of the first items as they are settled, and then ends as it is told."""

    def __init__(self, end: Callable[[], None], settled: Sequence[Call]) -> None:
        self._end = end
        self._settled = settled
        self.trace: Callable[[Call], object] = lambda _: None

    def ask_batch(self, model: str, texts: Sequence[str], **asked: Any) -> None:
        for call in self._settled:
            self.trace(call)
        self._end()
        raise AssertionError("the batch was not stopped")


SETTLED = (
    Call(at_s=1.0, index=1, item="b", ok=True, value=Answer("B")),
    Call(at_s=2.0, index=0, item="a", ok=False, error=ValueError("none")),
)


@pytest.fixture
def broken_off(here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run a batch of three that ends before its third item has."""

    def batch(end: Callable[[], None], *words: str, settled: Sequence[Call] = SETTLED) -> Result:
        pool = Pool(end, settled)

        def pool_of(**said: Any) -> Pool:
            pool.trace = said["trace"]
            return pool

        monkeypatch.setattr(run, "pool_of", pool_of)
        (here / "texts").write_text("a\nb\nc\n")
        words = ("texts", "--model", "m", "--kind", "chat", *words)
        return CliRunner().invoke(app, ["nodes", "run", *words], prog_name="loadgen")

    return batch


def kill(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def fail(error: Exception) -> Callable[[], None]:
    def end() -> None:
        raise error

    return end


@pytest.mark.parametrize(("number", "status"), STATUS)
@pytest.mark.usefixtures("with_hangup")
def test_without_a_journal_what_was_settled_is_in_the_file_in_order(
    here: Path, broken_off: Callable[..., Result], number: signal.Signals, status: int
) -> None:
    before = signal.getsignal(number)
    result = broken_off(kill(number), "--out", "o", "--quiet")
    assert (result.exit_code, result.stdout) == (status, "")
    first, second = map(json.loads, (here / "o").read_text().splitlines())
    assert first == {"index": 0, "error": "none"}
    assert (second["index"], second["value"]["text"]) == (1, "B")
    assert result.stderr == (
        "error: stopped when 1 of 3 items had a value\n"
        "       their answers are in o; with --journal FILE a batch can be gone on with\n"
    )
    assert signal.getsignal(number) == before


def test_without_a_file_it_is_on_standard_output(broken_off: Callable[..., Result]) -> None:
    result = broken_off(kill(signal.SIGTERM))
    assert result.exit_code == 143
    assert [json.loads(line)["index"] for line in result.stdout.splitlines()] == [0, 1]
    assert result.stderr.endswith("       with --journal FILE a batch can be gone on with\n")


def test_stopped_before_anything_was_settled_it_leaves_an_older_file(
    here: Path, broken_off: Callable[..., Result]
) -> None:
    (here / "o").write_text("old")
    result = broken_off(kill(signal.SIGINT), "--out", "o", settled=())
    assert result.exit_code == 130
    assert result.stderr == (
        "error: stopped when 0 of 3 items had a value\n       with --journal FILE a batch can be gone on with\n"
    )
    assert (here / "o").read_text() == "old"
    assert not list(here.glob(".o*"))


def test_a_batch_that_breaks_off_keeps_what_was_settled_and_exits_1(
    here: Path, broken_off: Callable[..., Result]
) -> None:
    full = JournalError("can't write the journal j: No space left on device", "make room")
    result = broken_off(fail(full), "--out", "o", "--journal", "j")
    assert result.exit_code == 1
    assert result.stderr == "error: can't write the journal j: No space left on device\n       make room\n"
    assert len((here / "o").read_text().splitlines()) == 2


def test_where_no_node_can_be_asked_no_file_is_written(here: Path, broken_off: Callable[..., Result]) -> None:
    result = broken_off(fail(NodeError("none of the 2 nodes can be asked")), "--out", "o", settled=())
    assert (result.exit_code, result.stderr) == (1, "error: none of the 2 nodes can be asked\n")
    assert not (here / "o").exists()


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--out", "./texts"), "--out ./texts is ITEMS too, which it would overwrite"),
        (("--out", "a", "--journal", "a"), "--out a is --journal too, which it would overwrite"),
        (("--out", "a", "--state", "a"), "--out a is --state too, which it would overwrite"),
    ],
)
def test_what_is_read_or_kept_is_not_overwritten(
    here: Path, broken_off: Callable[..., Result], words: tuple[str, ...], error: str
) -> None:
    result = broken_off(fail(AssertionError("it was asked")), *words)
    assert (result.exit_code, result.stderr) == (2, f"error: {error}\n       name another file\n")
    assert (here / "texts").read_text() == "a\nb\nc\n"


def test_items_without_a_value_are_said_with_the_first_ones_reason(
    here: Path,
) -> None:
    (here / "texts").write_text("a\nb\n")
    with _core.MockServer(json.dumps({"error_rate": 1.0, "error_status": 400, "models": ["mock"]})) as refusing:
        words = ("texts", "--node", refusing.url, "--model", "mock", "--out", "o", "--journal", "j", "--quiet")
        result = CliRunner().invoke(app, ["nodes", "run", *words], prog_name="loadgen")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: 2 of 2 items have no value: RequestError: {refusing.url} answered 400")
    assert result.stderr.endswith("       run it again, and all are called: j has no answer yet\n")
