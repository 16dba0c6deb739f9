"""``loadgen dispatch run``: what is asked, written and shown."""

import csv
import io
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dispatch_support import ANSWERS, Fake, call, lines
from loadgen.cli import app
from loadgen.cli.dispatch import output
from loadgen.dispatch.progress import Progress

pytest_plugins = ["dispatch_fixtures"]


# --- what comes out


def test_answers_are_lines_on_standard_output_and_the_summary_stands_beside_them(files: Path, fake: list[Fake]) -> None:
    result = call("mock:", "--items", "items.txt")
    assert result.exit_code == 0, result.stderr
    found = lines(result.stdout)
    assert [(one["index"], one["item"], one["value"]) for one in found] == [
        (0, "one", "answer 0"),
        (1, "two", "answer 1"),
        (2, "three", "answer 2"),
    ]
    assert found[1]["stats"]["attempts"][1]["kind"] == "hedge"
    assert found[1]["stats"]["winner"] == 1
    assert " 3 calls · hedged · 9.0 s" in result.stderr
    assert "1 rate-limited · 1 overloaded ·\n limit 4 → 3" in result.stderr
    assert "longest: two, 9.0 s (hedge won at 9.0)" in result.stderr


def test_a_file_takes_the_answers_and_standard_output_the_summary(files: Path, fake: list[Fake]) -> None:
    (files / "a.jsonl").write_text("old")
    result = call("mock:", "--items", "items.txt", "--out", "a.jsonl")
    assert result.stdout.startswith("\n 3 calls")
    assert len(lines((files / "a.jsonl").read_text())) == 3
    assert stat.S_IMODE((files / "a.jsonl").stat().st_mode) == 0o600
    assert not list(files.glob(".a.jsonl*"))


def test_a_grids_matrix_is_a_sheet_that_runs_no_formula(
    files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["=cmd()", "-5", "-5.5e3", '"; @x']
    monkeypatch.setitem(ANSWERS, "answer", lambda index, body: answers[index])
    result = call("mock:", "--rows", "rows.txt", "--cols", "cols.txt", "--template", "grid.txt", "--matrix", "m.csv")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert list(csv.reader(io.StringIO((files / "m.csv").read_text()))) == [
        ["", "wear", "heat"],
        ["pump", "'=cmd()", "-5"],
        ["'=fan", "-5.5e3", '"; @x'],
    ]
    assert fake[0].asked[2]["messages"][0]["content"] == "=fan, wear?"


def test_a_failed_cell_is_unknown_with_its_reason_and_shifts_no_other(
    files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(index: int, body: Any) -> str:
        if index == 1:
            raise TimeoutError("no answer in 90 s")
        return f"a{index}"

    monkeypatch.setitem(ANSWERS, "answer", answer)
    result = call(
        "mock:", "--rows", "rows.txt", "--cols", "cols.txt", "--template", "grid.txt", "--matrix", "m.csv",
        "--out", "o", "--max-error-rate", "50%",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    rows = list(csv.reader(io.StringIO((files / "m.csv").read_text())))
    assert rows[1:] == [["pump", "a0", "unknown: TimeoutError: no answer in 90 s"], ["'=fan", "a2", "a3"]]
    failed = lines((files / "o").read_text())[1]
    assert (failed["ok"], failed["row"], failed["col"]) == (False, "pump", "heat")
    assert failed["error"] == "TimeoutError: no answer in 90 s"
    assert "value" not in failed
    assert " 1 failed    TimeoutError: no answer in 90 s: pump × heat" in result.stdout


def test_json_is_the_summary_and_nothing_else(files: Path, fake: list[Fake]) -> None:
    result = call("mock:", "--items", "items.txt", "--json", "--out", "a")
    found = json.loads(result.stdout)
    assert (found["calls"], found["ok"], found["hedges_won"], found["limit"]) == (3, 3, 1, [4, 3])
    assert found["sequential_s"] == 11.0
    assert found["longest"] == {"name": "two", "seconds": 9.0, "kind": "hedge", "won_s": 9.0}


def test_quiet_prints_answers_only(files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(index: int, body: Any) -> str:
        fake[-1].choices["progress"].show(Progress(total=3, done=index, seconds=60.0))
        return "a"

    monkeypatch.setitem(ANSWERS, "answer", answer)
    result = call("mock:", "--items", "items.txt", "--quiet")
    assert len(lines(result.stdout)) == 3
    assert result.stderr == ""
    assert "dispatch: 1 / 3" in call("mock:", "--items", "items.txt").stderr


def test_live_prints_each_call_by_its_name(files: Path, fake: list[Fake]) -> None:
    result = call("mock:", "--rows", "rows.txt", "--cols", "cols.txt", "--template", "grid.txt", "--live", "--out", "o")
    rows = [line.split() for line in result.stderr.splitlines()]
    assert rows[0] == ["time", "answer", "row", "column", "took", "kind"]
    assert rows[3] == ["1.0", "s", "answer", "2", "=fan", "wear", "1.0", "s", "first"]


def test_what_is_no_plain_file_takes_the_answers_and_keeps_its_place(files: Path, fake: list[Fake]) -> None:
    os.mkfifo(files / "pipe")
    reader = os.open(files / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert call("mock:", "--items", "items.txt", "--out", "pipe").exit_code == 0
        assert len(lines(os.read(reader, 65536).decode())) == 3
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((files / "pipe").stat().st_mode)
    assert call("mock:", "--items", "items.txt", "--out", "/dev/null").exit_code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_link_goes_on_naming_what_it_named(files: Path, fake: list[Fake]) -> None:
    (files / "far").mkdir()
    (files / "far" / "a.jsonl").write_text("old")
    (files / "a").symlink_to("far/a.jsonl")
    assert call("mock:", "--items", "items.txt", "--out", "a").exit_code == 0
    assert (files / "a").is_symlink()
    assert len(lines((files / "far" / "a.jsonl").read_text())) == 3


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (
            ["--workers", "4"],
            "--workers does nothing with the strategy auto\n       it is for --strategy parallel; --max-",
        ),
        (["--strategy", "parallel", "--hedge-after", "2s"], "--hedge-after does nothing with the strategy parallel"),
        (["--strategy", "hedged", "--remember", "e"], "--remember does nothing with the strategy hedged"),
        (["--strategy", "parallel", "--workers", "4"], ""),
        (["--strategy", "hedged", "--hedge-after", "2s"], ""),
        (["--remember", "e"], ""),
    ],
)
def test_a_flag_that_does_nothing_is_told(files: Path, fake: list[Fake], flags: list[str], words: str) -> None:
    result = call("mock:", "--items", "items.txt", "--quiet", *flags)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {words}") if words else result.stderr == ""


# --- what is passed on


def test_flags_reach_the_dispatcher_and_the_connection(files: Path, fake: list[Fake]) -> None:
    call(
        "http://127.0.0.1:9", "--model", "m", "--items", "items.txt", "--strategy", "hedged", "--hedge-after", "2s",
        "--max-concurrency", "7", "--retry", "2", "--journal", "j", "--stream", "--http2", "--header", "X-A: ${HOME}",
        "--output-tokens", "3",
    )  # fmt: skip
    chosen = {name: value for name, value in fake[0].choices.items() if name not in ("trace", "progress", "journal")}
    assert chosen == {"strategy": "hedged", "hedge_after": "2s", "max_concurrency": "7", "retry": "2"}
    assert fake[0].choices["journal"].path == Path("j")
    told = {name: value for name, value in fake[0].wire.items() if value not in (None, False)}
    assert told == {
        "url": "http://127.0.0.1:9", "model": "m", "api": "chat", "stream": True, "http2": True,
        "headers": {"X-A": os.environ["HOME"]}, "connect_timeout": 10.0,
    }  # fmt: skip
    assert fake[0].asked[0]["max_tokens"] == 3


def test_a_key_from_the_environment_or_a_file_authorises(
    files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    (files / "key").write_text("from-file\n")
    for flags, key in [((), "canary"), (("--api-key-file", "key"), "from-file")]:
        call("http://127.0.0.1:9", "--model", "m", "--items", "items.txt", *flags)
        assert fake[-1].wire["headers"] == {"Authorization": f"Bearer {key}"}


def test_a_mock_target_is_served_for_as_long_as_it_is_called(files: Path, fake: list[Fake]) -> None:
    assert call("mock:", "--items", "items.txt").exit_code == 0
    assert fake[0].wire["url"].startswith("http://127.0.0.1:")
    assert fake[0].asked[0]["model"] == "mock"


def test_a_key_on_the_command_line_gets_a_warning_and_is_nowhere(files: Path, fake: list[Fake]) -> None:
    result = call("mock:", "--items", "items.txt", "--out", "o", "--header", "Authorization: Bearer canary")
    assert result.stderr.startswith("warning: the value of Authorization stands on the command line")
    assert "canary" not in result.output + (files / "o").read_text()


def test_help_names_the_commands_and_a_mistyped_one_its_neighbour() -> None:
    shown = CliRunner().invoke(app, ["dispatch", "--help"], prog_name="loadgen")
    assert "Make a batch or a grid of calls" in shown.stdout
    wrong = CliRunner().invoke(app, ["dispatch", "rum"], prog_name="loadgen")
    assert wrong.exit_code == 2
    assert "error: there is no command 'rum'\n       perhaps run?" in wrong.stderr


def test_a_batch_over_several_servers_is_one_of_nodes(files: Path, fake: list[Fake]) -> None:
    result = call("mock:", "mock:", "--items", "items.txt")
    assert (result.exit_code, fake) == (2, [])
    assert result.stderr == (
        "error: a batch goes to one URL, not 2\n       `loadgen nodes run` spreads items over several servers\n"
    )


def test_reasons_are_one_line() -> None:
    assert output.reason(ValueError("a\n b")) == "ValueError: a b"
    assert output.reason(TimeoutError()) == "TimeoutError"
    assert output.reason("500: x") == "500: x"
