"""How ``loadgen dispatch run`` ends: refused, with failed calls, stopped by a signal, broken off; and what is kept."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from dispatch_support import ANSWERS, Fake, call, lines
from loadgen.dispatch.progress import Progress
from loadgen.errors import JournalError

pytest_plugins = ["surface_fixtures", "dispatch_fixtures"]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ([], "error: no target given"),
        (["mock:"], "error: nothing to call given"),
        (["mock:", "--items", "no.txt"], "error: the dataset no.txt does not exist"),
        (["mock:", "--items", "items.txt", "--matrix", "m"], "error: --matrix is of a grid"),
        (["mock:", "--items", "items.txt", "--json"], "error: --json prints the summary, and nothing says where"),
        (["mock:", "--items", "items.txt", "--out", "."], "error: --out . is a directory"),
        (["mock:", "--items", "items.txt", "--out", "no/a"], "error: can't write --out no/a: No such file"),
        (["mock:", "--items", "items.txt", "--template", "grid.txt"], "error: the template grid.txt uses {col}"),
        (["ftp://x", "--items", "items.txt"], "error: ftp://x must begin with http://"),
        (["http://127.0.0.1:9", "--items", "items.txt"], "error: can't ask http://127.0.0.1:9/v1/models"),
        (["mock:", "--itmes", "x"], "error: there is no option --itmes"),
        (
            ["mock:", "--strategy"],
            "error: Option '--strategy' requires an argument\n       `loadgen dispatch run --help`",
        ),
        (
            ["mock:", "--items", "items.txt", "--out", "./items.txt"],
            "error: --out ./items.txt is --items too, which it",
        ),
        (
            ["mock:", "--items", "items.txt", "--out", "a", "--journal", "a"],
            "error: --out a is --journal too, which it",
        ),
        (["mock:", "--items", "items.txt", "--remember", "a", "--out", "a"], "error: --out a is --remember too"),
        (["mock:", "--items", "items.txt", "--max-error-rate", "2"], "error: --max-error-rate 2 must be a share"),
    ],
)
def test_what_can_not_be_done_exits_2_and_sends_nothing(
    files: Path, fake: list[Fake], args: list[str], error: str
) -> None:
    before = sorted(files.iterdir())
    result = call(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith(error)
    assert result.stdout == ""
    assert not any(one.asked for one in fake)
    assert sorted(files.iterdir()) == before


def only_the_first(index: int, _: Any) -> str:
    if index:
        raise ConnectionError("refused")
    return "a"


def test_too_many_failures_exit_1_after_the_answers(
    files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERS, "answer", only_the_first)
    result = call("mock:", "--items", "items.txt")
    assert result.exit_code == 1
    assert len(lines(result.stdout)) == 3
    assert "error: 2 of 3 calls have no answer" in result.stderr
    quiet = call("mock:", "--items", "items.txt", "--quiet").stderr
    assert "(--max-error-rate): ConnectionError: refused\n" in quiet, "no summary says it"
    assert call("mock:", "--items", "items.txt", "--max-error-rate", "70%").exit_code == 0


def test_where_nothing_succeeded_the_end_says_why(
    files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(index: int, body: Any) -> str:
        fake[-1].choices["progress"].show(Progress(total=3, done=3, attempts=11, failure="Connection refused"))
        raise ConnectionError("refused")

    monkeypatch.setitem(ANSWERS, "answer", answer)
    result = call("mock:", "--items", "items.txt", "--journal", "j")
    assert result.exit_code == 1
    assert result.stderr.endswith(
        "error: 3 of 3 calls have no answer: none of 11 attempts succeeded: Connection refused\n"
        "       run it again, and all are called: j has no answer yet\n"
    )


def test_where_some_succeeded_the_end_says_where_they_are(
    files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERS, "answer", only_the_first)
    result = call("mock:", "--items", "items.txt", "--journal", "j")
    assert result.exit_code == 1
    assert result.stderr.endswith("       run it again, and only these are called: the others are in j\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.usefixtures("with_hangup")
def test_a_signal_keeps_what_was_answered(
    files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    def answer(index: int, body: Any) -> str:
        if index == 2:
            os.kill(os.getpid(), number)
        return f"a{index}"

    monkeypatch.setitem(ANSWERS, "answer", answer)
    before = signal.getsignal(number)
    result = call("mock:", "--items", "items.txt", "--out", "o", "--journal", "j")
    assert result.exit_code == status
    assert [one["value"] for one in lines((files / "o").read_text())] == ["a0", "a1"]
    assert result.stderr == (
        "error: stopped when 2 of 3 calls had an answer\n"
        "       what finished is in j: run it again, and only the rest is called\n"
    )
    assert signal.getsignal(number) == before


def test_stopped_before_any_answer_it_names_no_file_that_was_not_written(
    files: Path, stopped: Callable[..., Result]
) -> None:
    result = stopped("--out", "o")
    assert not (files / "o").exists()
    assert result.stderr == (
        "error: stopped when 0 of 3 calls had an answer\n       with --journal FILE a batch can be gone on with\n"
    )


def test_stopped_before_any_answer_it_says_why_there_was_none(stopped: Callable[..., Result]) -> None:
    result = stopped("--quiet", shown=Progress(total=3, attempts=20, failure="Connection refused"))
    assert result.stderr == (
        "error: stopped when 0 of 3 calls had an answer: none of 20 attempts succeeded: Connection refused\n"
        "       with --journal FILE a batch can be gone on with\n"
    )


def test_stopped_before_any_answer_an_older_file_stays(files: Path, stopped: Callable[..., Result]) -> None:
    (files / "o").write_text("old")
    stopped("--out", "o")
    assert (files / "o").read_text() == "old"
    assert not list(files.glob(".o*"))


def test_a_batch_that_breaks_off_keeps_what_was_answered_and_exits_1(
    files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(index: int, body: Any) -> str:
        if index == 1:
            raise JournalError("can't write the journal j: No space left on device", "make room")
        return "a"

    monkeypatch.setitem(ANSWERS, "answer", answer)
    result = call("mock:", "--items", "items.txt", "--out", "o")
    assert result.exit_code == 1
    assert result.stderr == "error: can't write the journal j: No space left on device\n       make room\n"
    assert len(lines((files / "o").read_text())) == 1


def test_a_disk_that_refuses_the_answers_is_said_and_leaves_the_older_file(
    files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    (files / "o").write_text("old")
    monkeypatch.setattr(os, "fsync", refuse)
    result = call("mock:", "--items", "items.txt", "--out", "o")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: can't write --out o: No space left on device")
    assert (files / "o").read_text() == "old"
    assert not list(files.glob(".o*"))
