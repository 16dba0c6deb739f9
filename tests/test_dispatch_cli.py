"""``loadgen dispatch run``: what is asked, written and shown, and how it ends."""

import csv
import io
import json
import os
import signal
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from loadgen.cli import app
from loadgen.cli.dispatch import output, run
from loadgen.dispatch.live import Call
from loadgen.dispatch.progress import Progress
from loadgen.dispatch.requests import Answer
from loadgen.dispatch.result import AttemptStats, Batch, CallStats, PlainNode
from loadgen.errors import ConfigError, DispatchError, JournalError

pytest_plugins = ["surface_fixtures"]


def call(*args: str) -> Result:
    return CliRunner().invoke(app, ["dispatch", "run", *args], prog_name="loadgen")


class Columns:
    """The statistics of a batch in which each call took a second, and call 1 was won by a copy."""

    def __init__(self, count: int) -> None:
        self.count = count

    def stats(self, position: int) -> CallStats | None:
        first = AttemptStats("first", 0, 200, "ok", 0.0, 1.0)
        attempts: tuple[AttemptStats, ...] = (first,)
        if position == 0:
            attempts = (
                AttemptStats("first", 0, 429, "rejected", 0.0, 0.1),
                AttemptStats("retry", 0, 200, "ok", 0.1, 1.0),
            )
        if position == 1:
            attempts = (
                AttemptStats("first", 0, 0, "lost", 0.0, 9.0),
                AttemptStats("hedge", 0, 200, "ok", 8.0, 9.0),
            )
        ended = attempts[-1].ended
        assert ended is not None
        return CallStats(0.0, 0.0, None, ended, attempts, len(attempts) - 1, {"limit": 0.0})

    def told(self, position: int) -> None:
        return None

    def totals(self) -> dict[str, Any]:
        return {"attempts": self.count + 1, "hedges": 1, "hedges_won": 1, "retries": 0, "push_backs": 2}

    def nodes(self) -> list[PlainNode]:
        return []

    def trace(self) -> dict[str, list[float]]:
        return {"limit": [4, 2, 3]}


class Fake:
    """Stands in for the dispatcher: answers each body by a function, and tells the trace."""

    def __init__(self, answer: Callable[[int, Any], Any], choices: Mapping[str, Any]) -> None:
        self.answer = answer
        self.choices = choices
        self.strategy = choices.get("strategy", "auto")
        self.asked: list[Any] = []
        self.wire: dict[str, Any] = {}

    def requests(self, bodies: Sequence[dict[str, Any]], **wire: Any) -> Batch[Any]:
        self.wire = wire
        self.asked = list(bodies)
        values: list[Any] = []
        errors: dict[int, BaseException] = {}
        for index, body in enumerate(self.asked):
            try:
                values.append(Answer(self.answer(index, body), finish="stop"))
            except (KeyboardInterrupt, DispatchError):
                raise
            except Exception as error:  # noqa: BLE001 - what a call raised is its outcome
                values.append(None)
                errors[index] = error
            failed = errors.get(index)
            self.choices["trace"](Call(1.0, index, index, failed is None, values[-1], failed, 1.0))
        return Batch(values, errors, Columns(len(values)), wall_s=9.0, strategy="hedged", restored={}, abandoned=0)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "NO_COLOR", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "items.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "rows.txt").write_text("pump\n=fan\n")
    (tmp_path / "cols.txt").write_text("wear\nheat\n")
    (tmp_path / "grid.txt").write_text("{row}, {col}?\n")
    return tmp_path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    """The dispatchers made; set ``answers`` of the module's run to change what they answer."""
    made: list[Fake] = []

    def make(choices: Mapping[str, Any]) -> Fake:
        made.append(Fake(ANSWERS["answer"], choices))
        return made[-1]

    monkeypatch.setattr(run, "_dispatcher", make)
    monkeypatch.setitem(ANSWERS, "answer", lambda index, body: f"answer {index}")
    return made


ANSWERS: dict[str, Callable[[int, Any], Any]] = {}


@pytest.fixture
def stopped(here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls that Ctrl-C stops before any has an answer, and after this progress was shown."""

    def stop(*args: str, shown: Progress | None = None) -> Result:
        def answer(index: int, body: Any) -> str:
            if shown is not None:
                fake[-1].choices["progress"].show(shown)
            raise KeyboardInterrupt

        monkeypatch.setitem(ANSWERS, "answer", answer)
        result = call("mock:", "--items", "items.txt", *args)
        assert result.exit_code == 130
        return result

    return stop


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


# --- what comes out


def test_answers_are_lines_on_standard_output_and_the_summary_stands_beside_them(here: Path, fake: list[Fake]) -> None:
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


def test_a_file_takes_the_answers_and_standard_output_the_summary(here: Path, fake: list[Fake]) -> None:
    (here / "a.jsonl").write_text("old")
    result = call("mock:", "--items", "items.txt", "--out", "a.jsonl")
    assert result.stdout.startswith("\n 3 calls")
    assert len(lines((here / "a.jsonl").read_text())) == 3
    assert stat.S_IMODE((here / "a.jsonl").stat().st_mode) == 0o600
    assert not list(here.glob(".a.jsonl*"))


def test_a_grids_matrix_is_a_sheet_that_runs_no_formula(
    here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["=cmd()", "-5", "-5.5e3", '"; @x']
    monkeypatch.setitem(ANSWERS, "answer", lambda index, body: answers[index])
    result = call("mock:", "--rows", "rows.txt", "--cols", "cols.txt", "--template", "grid.txt", "--matrix", "m.csv")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert list(csv.reader(io.StringIO((here / "m.csv").read_text()))) == [
        ["", "wear", "heat"],
        ["pump", "'=cmd()", "-5"],
        ["'=fan", "-5.5e3", '"; @x'],
    ]
    assert fake[0].asked[2]["messages"][0]["content"] == "=fan, wear?"


def test_a_failed_cell_is_unknown_with_its_reason_and_shifts_no_other(
    here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
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
    rows = list(csv.reader(io.StringIO((here / "m.csv").read_text())))
    assert rows[1:] == [["pump", "a0", "unknown: TimeoutError: no answer in 90 s"], ["'=fan", "a2", "a3"]]
    failed = lines((here / "o").read_text())[1]
    assert (failed["ok"], failed["row"], failed["col"]) == (False, "pump", "heat")
    assert failed["error"] == "TimeoutError: no answer in 90 s"
    assert "value" not in failed
    assert " 1 failed    TimeoutError: no answer in 90 s: pump × heat" in result.stdout


def test_json_is_the_summary_and_nothing_else(here: Path, fake: list[Fake]) -> None:
    result = call("mock:", "--items", "items.txt", "--json", "--out", "a")
    found = json.loads(result.stdout)
    assert (found["calls"], found["ok"], found["hedges_won"], found["limit"]) == (3, 3, 1, [4, 3])
    assert found["sequential_s"] == 11.0
    assert found["longest"] == {"name": "two", "seconds": 9.0, "kind": "hedge", "won_s": 9.0}


def test_quiet_prints_answers_only(here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(index: int, body: Any) -> str:
        fake[-1].choices["progress"].show(Progress(total=3, done=index, seconds=60.0))
        return "a"

    monkeypatch.setitem(ANSWERS, "answer", answer)
    result = call("mock:", "--items", "items.txt", "--quiet")
    assert len(lines(result.stdout)) == 3
    assert result.stderr == ""
    assert "dispatch: 1 / 3" in call("mock:", "--items", "items.txt").stderr


def test_live_prints_each_call_by_its_name(here: Path, fake: list[Fake]) -> None:
    result = call("mock:", "--rows", "rows.txt", "--cols", "cols.txt", "--template", "grid.txt", "--live", "--out", "o")
    rows = [line.split() for line in result.stderr.splitlines()]
    assert rows[0] == ["time", "answer", "row", "column", "took", "kind"]
    assert rows[3] == ["1.0", "s", "answer", "2", "=fan", "wear", "1.0", "s", "first"]


def test_what_is_no_plain_file_takes_the_answers_and_keeps_its_place(here: Path, fake: list[Fake]) -> None:
    os.mkfifo(here / "pipe")
    reader = os.open(here / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert call("mock:", "--items", "items.txt", "--out", "pipe").exit_code == 0
        assert len(lines(os.read(reader, 65536).decode())) == 3
    finally:
        os.close(reader)
    assert stat.S_ISFIFO((here / "pipe").stat().st_mode)
    assert call("mock:", "--items", "items.txt", "--out", "/dev/null").exit_code == 0
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_link_goes_on_naming_what_it_named(here: Path, fake: list[Fake]) -> None:
    (here / "far").mkdir()
    (here / "far" / "a.jsonl").write_text("old")
    (here / "a").symlink_to("far/a.jsonl")
    assert call("mock:", "--items", "items.txt", "--out", "a").exit_code == 0
    assert (here / "a").is_symlink()
    assert len(lines((here / "far" / "a.jsonl").read_text())) == 3


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
def test_a_flag_that_does_nothing_is_told(here: Path, fake: list[Fake], flags: list[str], words: str) -> None:
    result = call("mock:", "--items", "items.txt", "--quiet", *flags)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"warning: {words}") if words else result.stderr == ""


# --- what is passed on


def test_flags_reach_the_dispatcher_and_the_connection(here: Path, fake: list[Fake]) -> None:
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
    here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary")
    (here / "key").write_text("from-file\n")
    for flags, key in [((), "canary"), (("--api-key-file", "key"), "from-file")]:
        call("http://127.0.0.1:9", "--model", "m", "--items", "items.txt", *flags)
        assert fake[-1].wire["headers"] == {"Authorization": f"Bearer {key}"}


def test_a_mock_target_is_served_for_as_long_as_it_is_called(here: Path, fake: list[Fake]) -> None:
    assert call("mock:", "--items", "items.txt").exit_code == 0
    assert fake[0].wire["url"].startswith("http://127.0.0.1:")
    assert fake[0].asked[0]["model"] == "mock"


# --- how it ends


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
    here: Path, fake: list[Fake], args: list[str], error: str
) -> None:
    before = sorted(here.iterdir())
    result = call(*args)
    assert result.exit_code == 2
    assert result.stderr.startswith(error)
    assert result.stdout == ""
    assert not any(one.asked for one in fake)
    assert sorted(here.iterdir()) == before


def test_a_dispatchers_word_is_told_as_its_flag(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Refusing:
        @staticmethod
        def from_env(prefix: str, **choices: Any) -> None:
            assert prefix == "LOADGEN_"
            raise ConfigError(f"hedge_after {choices['hedge_after']} must be above 0", "give a delay")

    import loadgen.dispatch

    monkeypatch.setattr(loadgen.dispatch, "Dispatcher", Refusing, raising=False)
    result = call("mock:", "--items", "items.txt", "--hedge-after", "0")
    assert result.exit_code == 2
    assert result.stderr == "error: --hedge-after 0 must be above 0\n       give a delay\n"


def only_the_first(index: int, _: Any) -> str:
    if index:
        raise ConnectionError("refused")
    return "a"


def test_too_many_failures_exit_1_after_the_answers(
    here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
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
    here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
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
    here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ANSWERS, "answer", only_the_first)
    result = call("mock:", "--items", "items.txt", "--journal", "j")
    assert result.exit_code == 1
    assert result.stderr.endswith("       run it again, and only these are called: the others are in j\n")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.usefixtures("with_hangup")
def test_a_signal_keeps_what_was_answered(
    here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    def answer(index: int, body: Any) -> str:
        if index == 2:
            os.kill(os.getpid(), number)
        return f"a{index}"

    monkeypatch.setitem(ANSWERS, "answer", answer)
    before = signal.getsignal(number)
    result = call("mock:", "--items", "items.txt", "--out", "o", "--journal", "j")
    assert result.exit_code == status
    assert [one["value"] for one in lines((here / "o").read_text())] == ["a0", "a1"]
    assert result.stderr == (
        "error: stopped when 2 of 3 calls had an answer\n"
        "       what finished is in j: run it again, and only the rest is called\n"
    )
    assert signal.getsignal(number) == before


def test_stopped_before_any_answer_it_names_no_file_that_was_not_written(
    here: Path, stopped: Callable[..., Result]
) -> None:
    result = stopped("--out", "o")
    assert not (here / "o").exists()
    assert result.stderr == (
        "error: stopped when 0 of 3 calls had an answer\n       with --journal FILE a batch can be gone on with\n"
    )


def test_stopped_before_any_answer_it_says_why_there_was_none(stopped: Callable[..., Result]) -> None:
    result = stopped("--quiet", shown=Progress(total=3, attempts=20, failure="Connection refused"))
    assert result.stderr == (
        "error: stopped when 0 of 3 calls had an answer: none of 20 attempts succeeded: Connection refused\n"
        "       with --journal FILE a batch can be gone on with\n"
    )


def test_stopped_before_any_answer_an_older_file_stays(here: Path, stopped: Callable[..., Result]) -> None:
    (here / "o").write_text("old")
    stopped("--out", "o")
    assert (here / "o").read_text() == "old"
    assert not list(here.glob(".o*"))


def test_a_batch_that_breaks_off_keeps_what_was_answered_and_exits_1(
    here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(index: int, body: Any) -> str:
        if index == 1:
            raise JournalError("can't write the journal j: No space left on device", "make room")
        return "a"

    monkeypatch.setitem(ANSWERS, "answer", answer)
    result = call("mock:", "--items", "items.txt", "--out", "o")
    assert result.exit_code == 1
    assert result.stderr == "error: can't write the journal j: No space left on device\n       make room\n"
    assert len(lines((here / "o").read_text())) == 1


def test_a_disk_that_refuses_the_answers_is_said_and_leaves_the_older_file(
    here: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(28, "No space left on device")

    (here / "o").write_text("old")
    monkeypatch.setattr(os, "fsync", refuse)
    result = call("mock:", "--items", "items.txt", "--out", "o")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: can't write --out o: No space left on device")
    assert (here / "o").read_text() == "old"
    assert not list(here.glob(".o*"))


def test_a_key_on_the_command_line_gets_a_warning_and_is_nowhere(here: Path, fake: list[Fake]) -> None:
    result = call("mock:", "--items", "items.txt", "--out", "o", "--header", "Authorization: Bearer canary")
    assert result.stderr.startswith("warning: the value of Authorization stands on the command line")
    assert "canary" not in result.output + (here / "o").read_text()


def test_help_names_the_commands_and_a_mistyped_one_its_neighbour() -> None:
    shown = CliRunner().invoke(app, ["dispatch", "--help"], prog_name="loadgen")
    assert "Make a batch or a grid of calls" in shown.stdout
    wrong = CliRunner().invoke(app, ["dispatch", "rum"], prog_name="loadgen")
    assert wrong.exit_code == 2
    assert "error: there is no command 'rum'\n       perhaps run?" in wrong.stderr


def test_reasons_are_one_line() -> None:
    assert output.reason(ValueError("a\n b")) == "ValueError: a b"
    assert output.reason(TimeoutError()) == "TimeoutError"
    assert output.reason("500: x") == "500: x"
