"""The full view: its screens as golden files, what it derives, the terminal it draws on, and both commands on one.

``UPDATE_SCREENS=1 pytest tests/test_top.py`` writes the screens anew; read the difference before you commit it.
"""

import contextlib
import io
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

import msgspec
import pytest
from rich.cells import cell_len

import looks
from loadgen import _core
from loadgen.cli import progress
from loadgen.cli import top as cli_top
from loadgen.cli.full import FullView
from loadgen.cli.view import View
from loadgen.errors import MetricsError
from loadgen.metrics.snapshot import CounterStat, SeriesStat, SessionState
from loadgen.session import describe
from loadgen.session.describe import About, AboutPhase
from loadgen.shown import bar
from loadgen.tui import line, screen, table
from loadgen.tui.history import History
from loadgen.tui.look import Look
from loadgen.tui.terminal import Terminal
from loadgen.tui.watch import OwnRun, Watch

GOLDEN = Path(__file__).parent / "screens"
LOOKS = looks.looks()
FOOT = "q leaves; the run goes on"
HOSTILE = "\x1b[2Jevil\x07\u202egnp.exe\x85\x7f"
ENTER, LEAVE = "\x1b[?1049h", "\x1b[?1049l"
TERMINAL = {60: 24, 80: 24, 120: 40, 200: 60}


def shown(look: Look, columns: int, rows: int | None = None, **given: str) -> list[str]:
    return [line.text(each) for each in screen.lines(look, columns, rows, **given)]


# --- what the screen looks like


@pytest.mark.parametrize("columns", TERMINAL)
@pytest.mark.parametrize("name", LOOKS)
def test_a_screen_looks_as_it_was_agreed(name: str, columns: int) -> None:
    text = "\n".join(each.rstrip() for each in shown(LOOKS[name], columns, TERMINAL[columns], foot=FOOT)) + "\n"
    path = GOLDEN / f"top_{name}_{columns}.txt"
    if os.environ.get("UPDATE_SCREENS"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs; UPDATE_SCREENS=1 writes it anew"


@pytest.mark.parametrize("name", LOOKS)
def test_a_screen_fits_any_terminal(name: str) -> None:
    for columns in (1, 5, 20, 39, 60, 79, 80, 100, 119, 120, 300):
        for rows in (1, 2, 3, 5, 10, 23, 24, 50, None):
            made = shown(LOOKS[name], columns, rows, foot=FOOT, note="stopping " * 9)
            assert all(cell_len(each) <= max(1, columns - 1) for each in made)
            assert rows is None or len(made) <= rows


def test_what_does_not_fit_is_left_out_the_least_important_first() -> None:
    parts = {
        "req/s": "in flight",
        "times": "p50",
        "trust": "trust",
        "phases": "phases",
        "spread": "▁▁▁▂",
        "second": "by second ",
    }

    def kept(rows: int) -> set[str]:
        text = "\n".join(shown(LOOKS["phases"], 80, rows, foot=FOOT))
        return {name for name, mark in parts.items() if mark in text}

    assert kept(60) == set(parts)
    assert kept(24) == set(parts) - {"second"}
    assert kept(21) == set(parts) - {"second", "spread"}
    assert kept(15) == {"req/s", "times", "trust"}
    assert kept(12) == {"req/s", "times"}
    assert kept(2) == {"req/s"}


def test_the_last_row_says_the_keys_and_the_first_what_is_wrong() -> None:
    made = shown(LOOKS["limited"], 80, 24, foot=FOOT)
    assert (len(made), made[-1]) == (24, f" {FOOT}")
    assert made[0].startswith(" CLIENT-LIMITED: over 1 % of the requests left more than 5 ms late")
    assert shown(LOOKS["open"], 80, 24, note="stopping")[0] == " stopping"


def test_a_killed_run_says_where_its_numbers_are() -> None:
    made = shown(LOOKS["killed"], 80, 24)
    assert made[0] == " the writer is gone: killed. The log has what ended:"
    assert made[1] == "   loadgen report /home/ann/loadgen-runs/20261120T211405Z-7f3a"
    assert "– / 60 s" in "\n".join(made)


def test_a_run_that_is_over_says_so_and_how() -> None:
    assert shown(LOOKS["ended"], 80)[0] == " the run has ended. The exact numbers:"
    interrupted = looks.of(looks.snapshot(state=SessionState.INTERRUPTED), About())
    assert shown(interrupted, 80)[:2] == [" the run was interrupted. The exact numbers:", "   loadgen report 7f3a"]


def test_nothing_from_outside_reaches_the_terminal_as_it_is() -> None:
    about = describe.read(
        describe.written(About(HOSTILE, HOSTILE, HOSTILE, 1, 2, [AboutPhase(HOSTILE, load=HOSTILE)] * 2))
    )
    made = shown(looks.of(looks.snapshot(*looks.counters(), *looks.times()), about), 200)
    assert all(each.isprintable() for each in made)
    assert "evil" in "\n".join(made)
    assert about.directory == ""


def test_wide_letters_take_two_columns() -> None:
    about = msgspec.structs.replace(looks.ABOUT, model="模型" * 30, of=2, phases=[AboutPhase("模型" * 30)] * 2)
    look = looks.of(looks.snapshot(*looks.counters(), *looks.times()), about)
    assert max(cell_len(each) for each in shown(look, 80)) <= 79


def test_each_of_several_nodes_has_a_row_as_far_as_there_is_room() -> None:
    rows = table.nodes(LOOKS["nodes"], 79, None)
    assert [line.text(row).split() for row in rows[1:3]] == [
        ["10.0.0.5:8000", "62", "%", "1,201", "0", "14"],
        ["10.0.0.6:8000", "31.7", "%", "613", "0", "23"],
    ]
    many = {f"node_{n}_issued": n for n in range(16)}
    look = looks.of(looks.snapshot(*looks.counters(**many)))
    made = [line.text(row) for row in table.nodes(look, 79, 24)]
    assert (len(made), made[-1]) == (8, "   and 10 more")
    assert made[1].split()[:3] == ["node", "0", "0"], "a name that isn't told"
    assert table.nodes(LOOKS["open"], 79, None) == []
    nothing_yet = looks.of(looks.snapshot(*looks.counters(node_0_issued=0, node_1_issued=0)))
    assert line.text(table.nodes(nothing_yet, 79, None)[1]).split()[2] == "–"


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://a:1", []),
        (["http://a:1", "http://b:2"], ["a:1", "b:2"]),
        (["mock:", "mock:?ttft=5ms"], ["mock 1", "mock 2 ttft=5ms"]),
        ([f"http://h{n}" for n in range(17)], []),
    ],
)
def test_a_run_says_what_its_targets_are_called(url: Any, told: list[str]) -> None:
    about = describe.about({"config": {"url": url}}, [], 1, Path("/r"))
    assert describe.read(describe.written(about)).nodes == told


# --- pieces of lines


@pytest.mark.parametrize(
    ("values", "room", "drawn"),
    [
        ([0, 1, 2, 4, 8], 9, "▁▂▃▅█"),
        ([8, 4, None, 8], 3, "▅ █"),
        ([0, 0], 5, "▁▁"),
        ([None], 5, " "),
        ([], 5, ""),
    ],
)
def test_a_curve_has_its_newest_value_at_the_right_and_blanks_for_none(
    values: list[float | None], room: int, drawn: str
) -> None:
    assert line.curve(values, room) == drawn


def test_a_spread_puts_neighbours_together_where_there_is_little_room() -> None:
    assert line.spread([1, 0, 8], 5) == "▂ █"
    assert line.spread([1, 1, 3, 1, 0, 0], 3) == "▅█ "
    assert line.spread([], 3) == ""


@pytest.mark.parametrize(("share", "drawn"), [(-1, "────"), (0, "────"), (0.5, "━━──"), (0.65, "━━╸─"), (9, "━━━━")])
def test_a_bar_is_as_full_as_its_share(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn


def test_what_is_cut_says_so() -> None:
    assert line.text(line.cut([("abc", ""), ("defg", "bold")], 5)) == "abcd…"
    assert line.text(line.cut([("abc", "")], 3)) == "abc"
    assert line.text(line.ends([("a long text on the left", "")], [("right", "")], 20)) == "a long text…   right"
    assert line.text(line.ends([("left", "")], [("right", "")], 8)) == "left"


# --- what is derived


def test_a_rate_is_the_phases_until_ten_seconds_were_seen_and_theirs_afterwards() -> None:
    seen = History()
    # The phase began 20 s before somebody looked, and was slow until then.
    for second in range(20, 41):
        done = 20 + (second - 20) * 100
        seen.add(looks.snapshot(*looks.counters(ok=done, failed=0), ns=(100 + second) * looks.S))
        if second == 20:
            assert seen.pace.requests_per_s == pytest.approx(1.0)
            assert seen.pace.cpu is None
    assert seen.pace.requests_per_s == pytest.approx(100.0)


def test_workers_time_is_known_only_from_the_first_look_on() -> None:
    def at(second: int, cpu_s: float) -> Any:
        stats = [CounterStat("worker_cpu", round(cpu_s * looks.S)), CounterStat("loop_stalled", 0)]
        return looks.snapshot(*stats, ns=(100 + second) * looks.S)

    seen = History()
    seen.add(at(50, 30))
    seen.add(at(52, 31))
    assert (seen.pace.cpu, seen.pace.away) == (0.5, 0.0)


def test_each_second_has_its_work_and_its_mean() -> None:
    def at(seconds: float, done: int, count: int, total_ms: int) -> Any:
        ttft = SeriesStat("ttft", count, total_ms * looks.MS, phase=0)
        return looks.snapshot(*looks.counters(ok=done, failed=0), ttft, ns=round((100 + seconds) * looks.S))

    seen = History()
    for given in ((0, 0, 0, 0), (0.5, 3, 1, 10), (1, 10, 4, 100), (1.5, 12, 4, 100), (2, 14, 4, 100), (4, 34, 6, 160)):
        seen.add(at(*given))
    assert seen.done_by_second == [10, 4, 10, 10]  # what was missed is spread evenly
    assert seen.mean_by_second("ttft") == [25 * looks.MS, None, 30 * looks.MS, 30 * looks.MS]


def test_a_series_that_could_not_be_read_whole_stands_as_it_was() -> None:
    seen = History()
    for second, (count, torn) in enumerate([(0, 0), (10, 0), (4, 1), (20, 0)]):
        ttft = SeriesStat("ttft", count, count * 5, phase=0, torn=torn)
        seen.add(looks.snapshot(ttft, ns=(100 + second) * looks.S))
    assert seen.mean_by_second("ttft") == [5, None, 5]


def test_another_phase_begins_anew_and_a_killed_run_stands_still() -> None:
    seen = looks.history(10)
    before = seen.pace
    seen.add(looks.snapshot(*looks.counters(ok=10_000), ns=10**15, alive=False))
    assert seen.pace == before
    seen.add(looks.snapshot(*looks.counters(1), phase=1, phase_ns=200 * looks.S, ns=200 * looks.S))
    assert (seen.done_by_second, seen.pace.requests_per_s) == ([], None)


def test_the_client_is_judged_by_the_reports_own_limits() -> None:
    late = [looks.series("send_late", tuple(v * looks.MS for v in (1, 1, 1, 1, p99, 9, 9))) for p99 in (5, 6)]
    assert [looks.of(looks.snapshot(stat), seen=looks.history(2)).limits for stat in late] == [
        [],
        ["over 1 % of the requests left more than 5 ms late"],
    ]
    # Two workers: 1.79 cores are 89.5 % of each.
    cpu = [looks.of(looks.snapshot(), seen=looks.history(3, cpu=cpu)).limits for cpu in (1.79, 1.81)]
    assert cpu == [[], ["the workers use 90 % of their cores"]]
    away = [looks.of(looks.snapshot(), seen=looks.history(3, away=away)).limits for away in (0.019, 0.021)]
    assert away == [[], ["the workers' loops were away for over 1 % of the time"]]


def test_metrics_of_an_aggregator_are_shown_by_its_names() -> None:
    stats = [CounterStat(name, count, phase=0) for name, count in (("issued", 9), ("completed", 7), ("failed", 2))]
    look = looks.of(looks.snapshot(*stats, looks.series("icl", (5, 6, 7, 8, 9, 9, 9)), missing=3), About())
    assert look.current is not None
    assert (look.current.ok, look.current.failed, look.current.in_flight, look.dropped) == (5, 2, 2, 3)
    text = "\n".join(shown(look, 80))
    assert "chunk gap" in text
    assert "events         3 dropped" in text


def test_failures_are_told_by_class_the_most_frequent_first() -> None:
    look = LOOKS["phases"]
    assert look.current is not None
    assert look.current.failures == [("http", 9), ("timeout", 2), ("connect", 1)]


# --- what a run says of itself


def test_what_a_run_says_of_itself_is_read_as_it_was_written() -> None:
    assert describe.read(describe.written(looks.ABOUT)) == looks.ABOUT


def test_phases_that_have_no_room_are_left_out_from_the_end() -> None:
    told = msgspec.structs.replace(looks.ABOUT, of=65_535, phases=[AboutPhase("é" * 300, load="x" * 300)] * 65_535)
    text = describe.written(told)
    found = describe.read(text)
    assert len(text.encode()) <= describe.ROOM
    assert (found.model, found.of) == (told.model, 65_535)
    assert 3 < len(found.phases) < 20
    assert len(found.phases[0].name) == 200


@pytest.mark.parametrize("text", ["", "{", "[]", '{"model": 5}', '{"phases": [[1]]}', "a program's own words"])
def test_what_is_not_ours_to_read_says_nothing(text: str) -> None:
    assert describe.read(text) == About()


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
    with pytest.raises(MetricsError, match="no run of this machine shows live metrics"):
        cli_top.command.main([], standalone_mode=False)


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
    with pytest.raises(MetricsError, match="no run of this machine goes on") as gone:
        cli_top.command.main([], standalone_mode=False)
    assert gone.value.way_out.startswith("the newest one here is over: loadgen report loadgen-runs/")


def test_q_during_a_run_shows_two_lines_instead(memory: Path) -> None:
    run = Command("run", "mock:?ttft=20ms&gap=1ms", "--concurrency", "1", "--duration", "30s", "--workers", "1")
    run.until(lambda text: "in flight" in text)
    run.press(b"q")
    run.until(lambda text: "in flight" in text.rpartition(LEAVE)[2])
    run.press(b"\x03")
    assert run.status() == 130
    assert run.output.count(ENTER) == 1


def test_ones_own_run_is_looked_at_without_a_file() -> None:
    made = _core.Segment.create("7f3a", [])
    made.describe(describe.written(looks.ABOUT))
    watch = Watch(OwnRun(made))
    made.begin(0)
    look = watch.look()
    assert (look.about, look.run, look.state) == (looks.ABOUT, "7f3a", SessionState.LIVE)
