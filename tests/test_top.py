"""The full view on a terminal: what it draws and leaves there, which view a run gets, and both commands on one."""

import contextlib
import io
import json
import os
import pty
import secrets
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import looks
from loadgen import _core
from loadgen.cli import app, progress
from loadgen.cli.full import FullView
from loadgen.cli.view import View
from loadgen.metrics.snapshot import SessionState
from loadgen.session import describe
from loadgen.tui import screen
from loadgen.tui.terminal import Terminal
from loadgen.tui.watch import OwnRun, Watch

pytest_plugins = ["surface_fixtures"]

LOOKS = looks.looks()
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"


# --- the terminal


class Screen:
    """A pseudo-terminal: what is drawn on one side is read from the other."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.master, slave = pty.openpty()
        self.slave = os.fdopen(slave, "w+b", buffering=0)
        self.text = io.TextIOWrapper(self.slave, encoding="utf-8", write_through=True)
        self.resize(columns, rows)

    def resize(self, columns: int, rows: int) -> None:
        termios.tcsetwinsize(self.slave.fileno(), (rows, columns))

    def drawn(self) -> str:
        found = b""
        while select.select([self.master], [], [], 0)[0]:
            found += os.read(self.master, 65_536)
        return found.decode()

    @property
    def modes(self) -> list[Any]:
        return termios.tcgetattr(self.slave.fileno())

    def close(self) -> None:
        os.close(self.master)
        with contextlib.suppress(OSError):
            self.text.close()


@pytest.fixture
def tty() -> Iterator[Screen]:
    made = Screen()
    yield made
    made.close()


def test_only_changed_lines_are_sent(tty: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    with Terminal(tty.text) as terminal:
        assert tty.drawn() == ""  # nothing before the first drawing
        terminal.draw([[("one", "bold")], [("two", "")]])
        first = tty.drawn()
        assert first.startswith(ENTER)
        assert first.endswith("\x1b[2J\x1b[1;1H\x1b[1mone\x1b[0m\x1b[K\x1b[2;1Htwo\x1b[K")
        terminal.draw([[("one", "bold")], [("2", "")]])
        assert tty.drawn() == "\x1b[2;1H2\x1b[K"
        terminal.draw([[("one", "bold")]])
        assert tty.drawn() == "\x1b[2;1H\x1b[K"
        terminal.draw([[("one", "bold")]])
        assert tty.drawn() == ""
        tty.resize(60, 20)
        terminal.draw([[("one", "bold")]])
        assert (terminal.size, tty.drawn()) == ((60, 20), "\x1b[2J\x1b[1;1H\x1b[1mone\x1b[0m\x1b[K")
    assert tty.drawn().endswith(LEAVE)


def test_without_colour_there_is_none(tty: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    with Terminal(tty.text) as terminal:
        terminal.draw(screen.lines(LOOKS["limited"], 80, 24))
        drawn = tty.drawn()
    assert "\x1b[1m CLIENT-LIMITED: " in drawn
    assert not any(f"\x1b[{code}m" in drawn for code in ("1;31", "31", "32", "36"))


def test_a_terminal_is_restored_after_a_problem(tty: Screen) -> None:
    before = tty.modes
    terminal = Terminal(tty.text, tty.text)

    def draw() -> None:
        with terminal:
            terminal.draw([])
            assert tty.modes != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        draw()
    assert tty.modes == before
    assert tty.drawn().endswith(LEAVE)
    terminal.close()
    assert tty.drawn() == ""


def test_keys_come_at_once_and_are_not_shown(tty: Screen) -> None:
    with Terminal(tty.text, tty.text) as terminal:
        terminal.draw([])
        assert terminal.key() == ""
        tty.drawn()
        os.write(tty.master, b"xq")
        assert terminal.key(5.0) == "xq"
        assert tty.drawn() == ""


def test_a_terminal_that_went_away_ends_nothing() -> None:
    tty = Screen()
    with Terminal(tty.text, tty.text) as terminal:
        terminal.draw([])
        tty.close()
        tty = Screen()  # takes the descriptor, so that it is no other file's
        terminal.draw([[("text", "")]])
    tty.close()


def test_a_drawing_after_ctrl_z_begins_anew(tty: Screen) -> None:
    before = tty.modes
    kept = signal.getsignal(signal.SIGTSTP)
    with Terminal(tty.text, tty.text) as terminal:
        terminal.draw([[("one", "")]])
        tty.drawn()
        handler: Any = signal.getsignal(signal.SIGTSTP)
        # As the signal would, but that this process must not stop.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("loadgen.tui.terminal.os.kill", lambda pid, number: None)
            handler(signal.SIGTSTP, None)
        assert (tty.modes, tty.drawn().endswith(LEAVE)) == (before, True)
        terminal.draw([[("one", "")]])
        assert tty.drawn().startswith(ENTER)
        assert tty.modes != before
    assert signal.getsignal(signal.SIGTSTP) == kept


# --- which view a run gets


@pytest.mark.parametrize(
    ("ui", "size", "kind"),
    [
        ("auto", (80, 24), FullView),
        ("auto", (79, 24), progress.BarView),
        ("auto", (80, 23), progress.BarView),
        ("full", (40, 10), FullView),
        ("bar", (200, 60), progress.BarView),
        ("none", (200, 60), View),
    ],
)
def test_a_run_gets_the_view_that_fits_its_terminal(
    tty: Screen, monkeypatch: pytest.MonkeyPatch, ui: str, size: tuple[int, int], kind: type[View]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    tty.resize(*size)
    with progress.view(ui, tty.text) as view:
        assert type(view) is kind


def test_what_is_no_terminal_gets_lines_whatever_was_asked_for(tty: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    assert type(progress.view("full", io.StringIO())) is progress.PlainView
    monkeypatch.setenv("TERM", "dumb")
    assert type(progress.view("full", tty.text)) is progress.PlainView


# --- the commands, on segments and terminals of their own


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where live metrics lie for this test, and for what it starts."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "loadgen"


# No other run of this machine has it: whoever names none watches the newest, wherever on the machine that is.
RUN = secrets.token_hex(12)


def segment(memory: Path, run: str = RUN) -> _core.Segment:
    made = _core.Segment.create(run, [memory])
    made.describe(describe.written(looks.ABOUT))
    made.begin(0)
    made.counter("issued", phase=0).increment(12)
    made.counter("ok", phase=0).increment(10)
    made.series("ttft", phase=0).record(92_000_000)
    return made


def loadgen(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "loadgen", *words], capture_output=True, text=True, timeout=60, check=False
    )


class Command:
    """A command on a terminal of its own, as a user has it."""

    def __init__(self, *words: str, columns: int = 80, rows: int = 24) -> None:
        self.output = ""
        self.pid, self._master = pty.fork()
        if self.pid == 0:  # pragma: no cover  the child
            os.execv(sys.executable, [sys.executable, "-m", "loadgen", *words])
        termios.tcsetwinsize(self._master, (rows, columns))

    def until(self, found: Callable[[str], bool]) -> None:
        """Read what it draws until that is found."""
        end = time.monotonic() + 30
        while not found(self.output):
            ready, _, _ = select.select([self._master], [], [], max(0, end - time.monotonic()))
            assert ready, f"not within 30 s:\n{self.output}"
            try:
                self.output += os.read(self._master, 65_536).decode(errors="replace")
            except OSError:  # the other side has closed
                pytest.fail(f"it ended before:\n{self.output}")

    def press(self, keys: bytes) -> None:
        os.write(self._master, keys)

    def hang_up(self) -> int:
        """Close the terminal, as a user closes its window; the exit status."""
        os.close(self._master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def status(self) -> int:
        """Wait for its end, and return its exit status."""
        with contextlib.suppress(OSError):  # the other side has closed
            while data := os.read(self._master, 65_536):
                self.output += data.decode(errors="replace")
        os.close(self._master)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def test_top_draws_until_q_and_leaves_the_terminal_as_it_was(memory: Path) -> None:
    made = segment(memory)
    top = Command("top", RUN)
    top.until(lambda text: "llama-3-8b" in text and "in flight" in text)
    top.press(b"q")
    assert top.status() == 0
    assert top.output.rstrip().endswith(LEAVE)
    assert made.state == "live"


def test_top_ends_with_its_run_and_leaves_the_last_state(memory: Path) -> None:
    made = segment(memory)
    top = Command("top", RUN[:20], columns=120, rows=40)
    top.until(lambda text: "llama-3-8b" in text)
    made.counter("failed", phase=0).increment(2)
    made.advance("complete")
    made.remove()
    assert top.status() == 0
    after = top.output.rpartition(LEAVE)[2]
    assert "the run has ended" in after
    assert "ok 10   failed 2" in after
    assert "\x1b" not in after


def test_ctrl_c_leaves_and_says_so(memory: Path) -> None:
    made = segment(memory)
    top = Command("top", RUN)
    top.until(lambda text: "llama-3-8b" in text)
    top.press(b"\x03")
    assert top.status() == 130
    assert top.output.count(ENTER) == top.output.count(LEAVE) == 1
    assert made.state == "live"


@pytest.mark.usefixtures("with_hangup")
def test_a_terminal_that_is_closed_ends_the_view_and_not_the_run(memory: Path) -> None:
    made = segment(memory)
    top = Command("top", RUN)
    top.until(lambda text: "llama-3-8b" in text)
    assert top.hang_up() == 129
    assert made.state == "live"


def test_a_pipe_gets_one_state_without_colour(memory: Path) -> None:
    made = segment(memory)
    top = loadgen("top", RUN)
    assert (top.returncode, top.stderr) == (0, "")
    assert "llama-3-8b · http://10.0.0.5:8000" in top.stdout
    assert "in flight 2   ok 10   failed 0" in top.stdout
    assert "\x1b" not in top.stdout
    assert made.path is not None


def test_a_killed_writer_is_said_to_be_gone(memory: Path) -> None:
    script = (
        "import sys, test_top, pathlib\n"
        f"made = test_top.segment(pathlib.Path({str(memory)!r}), {RUN!r})\n"
        "print('made', flush=True)\n"
        "sys.stdin.read()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == b"made\n"
    top = Command("top", RUN)
    top.until(lambda text: "llama-3-8b" in text)
    writer.kill()
    writer.communicate()
    assert top.status() == 1
    for text in (top.output.rpartition(LEAVE)[2], loadgen("top", RUN).stdout):
        assert "the writer is gone: killed. The log has what ended:" in text
        assert "loadgen report /home/ann/loadgen-runs/20261120T211405Z-7f3a" in text


def test_without_a_run_there_is_an_error(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    top = loadgen("top", RUN)
    assert (top.returncode, top.stdout) == (2, "")
    assert f"error: no run of this machine that shows live metrics begins with '{RUN}'" in top.stderr
    monkeypatch.setattr("loadgen._core.segments", lambda directories: [])
    refused = CliRunner().invoke(app, ["top"], prog_name="loadgen")
    assert refused.exit_code == 2
    assert "error: no run of this machine shows live metrics" in refused.stderr


def test_a_foreign_file_is_refused(memory: Path) -> None:
    memory.mkdir(mode=0o700)
    file = memory / "7f3a.series"
    file.write_bytes(b"\x89LGSER\r\n" + bytes(8192))
    file.chmod(0o600)
    top = loadgen("top", str(file))
    assert top.returncode == 2
    assert "can't look into the live metrics" in top.stderr


def test_a_run_has_the_screen_and_its_report_stands_below(memory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    load = ("--concurrency", "2", "--duration", "1.5s", "--warmup", "3", "--workers", "1")
    run = Command("run", "mock:?ttft=20ms&gap=1ms", *load)
    run.until(lambda text: "phase 2 of 2" in text)
    assert run.status() == 0
    assert run.output.count(ENTER) == run.output.count(LEAVE) == 1
    drawn, _, report = run.output.partition(LEAVE)
    assert "q shows two lines only" in drawn
    assert "chunk gap" in drawn
    assert " 0 failed" in report
    over = loadgen("top", next((memory.parent / "loadgen-runs").iterdir()).name)
    assert over.returncode == 0
    assert "is over. These are its final numbers:" in over.stdout
    monkeypatch.setattr("loadgen._core.segments", lambda directories: [])
    refused = CliRunner().invoke(app, ["top"], prog_name="loadgen")
    assert refused.exit_code == 2
    assert "error: no run of this machine goes on" in refused.stderr
    assert "\n       the newest one here is over: loadgen report loadgen-runs/" in refused.stderr


def test_q_during_a_run_shows_two_lines_instead(memory: Path) -> None:
    run = Command("run", "mock:?ttft=20ms&gap=1ms", "--concurrency", "1", "--duration", "30s", "--workers", "1")
    run.until(lambda text: "in flight" in text)
    run.press(b"q")
    run.until(lambda text: "in flight" in text.rpartition(LEAVE)[2])
    run.press(b"\x03")
    assert run.status() == 130
    assert run.output.count(ENTER) == 1


@pytest.mark.parametrize("ui", ["full", "bar"])
@pytest.mark.usefixtures("with_hangup")
def test_a_run_whose_terminal_is_closed_writes_its_report(memory: Path, ui: str) -> None:
    run = Command("run", "mock:?ttft=20ms", "--concurrency", "2", "--duration", "1h", "--workers", "1", "--ui", ui)
    run.until(lambda text: "in flight" in text)
    assert run.hang_up() == 129
    report = json.loads(next(memory.parent.rglob("report.json")).read_text())
    assert (report["run"]["status"], report["run"]["reason"]) == ("interrupted", "SIGHUP")
    counts = report["phases"][0]["counts"]
    assert (counts["cancelled"], counts["ok"]) == (0, counts["issued"])


def test_ones_own_run_is_looked_at_without_a_file() -> None:
    made = _core.Segment.create("7f3a", [])
    made.describe(describe.written(looks.ABOUT))
    watch = Watch(OwnRun(made))
    made.begin(0)
    look = watch.look()
    assert (look.about, look.run, look.state) == (looks.ABOUT, "7f3a", SessionState.LIVE)
