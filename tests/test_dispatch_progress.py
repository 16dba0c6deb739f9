"""What is seen of a batch while it goes on: the line, the user's function, the live trace."""

import io
import re

import pytest

from loadgen.dispatch import progress
from loadgen.dispatch.live import Call, Live, row_of
from loadgen.dispatch.progress import BarView, CallView, KeptView, LineView, Progress, View, clock, line, view
from loadgen.errors import ConfigError

BUSY = Progress(
    done=38, total=77, ok=37, failed=1, in_flight=24, waiting=15, limit=32, hedges=5, hedges_won=4, retries=1,
    push_backs=2, seconds=9.5, restored=7,
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# --- which view


@pytest.mark.parametrize(
    ("choice", "out", "kind"),
    [
        (None, Terminal(), BarView),
        ("auto", Terminal(), BarView),
        (True, Terminal(), BarView),
        (False, Terminal(), View),
        ("auto", io.StringIO(), View),
        (True, io.StringIO(), LineView),
        (print, io.StringIO(), CallView),
    ],
)
def test_the_view_fits_the_choice_and_the_place(
    choice: progress.Choice, out: io.StringIO, kind: type[View], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    found = view(choice, out)
    assert type(found) is kind
    assert (found.interval_s is None) is (kind is View)


def test_a_dumb_terminal_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert type(view("auto", Terminal())) is View


def test_another_choice_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"progress 'bars' is none"):
        view("bars")


# --- what they say


def test_the_line_says_all_where_there_is_room() -> None:
    assert line("dispatch", BUSY, 180) == (
        " dispatch  ━━━━━━━━━━━━━╸──────────────  38 / 77   7 from the journal   in flight 24   limit 32   "
        "hedges 5 (4 won)   retries 1   push-backs 2   failed 1   about 12.0 s left"
    )


def test_a_service_that_never_answers_well_is_told_from_a_slow_one() -> None:
    down = Progress(total=200, waiting=200, limit=40, attempts=10)
    assert "0 / 200   none of 10 attempts succeeded" in line("dispatch", down, 80)
    assert "none of" not in line("dispatch", down._replace(in_flight=10), 180)  # they are still under way
    assert "none of" not in line("dispatch", down._replace(ok=1, done=1), 180)
    resumed = down._replace(ok=7, done=7, restored=7)  # what a journal had tells nothing of the service
    assert "none of 10 attempts succeeded" in line("dispatch", resumed, 180)


def test_the_reason_stands_where_no_attempt_has_succeeded() -> None:
    refused = Progress(total=200, waiting=200, limit=40, attempts=29, failure="Connection refused", seconds=10.0)
    assert line("dispatch", refused, 80) == (" dispatch  0 / 200   none of 29 attempts succeeded: Connection refused")
    assert line("dispatch", refused, 60) == " dispatch  0 / 200   none of 29 attempts succeeded: Connectio"[:59]
    out = io.StringIO()
    LineView(out, "dispatch").show(refused)
    assert out.getvalue() == (
        "dispatch: 0 / 200, none of 29 attempts succeeded: Connection refused, in flight 0, limit 40\n"
    )
    moments = refused._replace(ok=1, done=1, in_flight=3)
    assert "refused" not in line("dispatch", moments, 180)  # it is there, and has its moments


def test_a_service_that_went_down_is_not_taken_for_a_busy_one() -> None:
    gone = Progress(
        total=500, done=22, ok=22, waiting=478, limit=49, attempts=93, failure="Connection refused", seconds=10.0
    )
    assert line("dispatch", gone, 80) == " dispatch  22 / 500   none in flight, the latest failure: Connection refused"
    assert "left" not in line("dispatch", gone, 200)  # what it did before tells nothing of when it will be back
    asked = gone._replace(in_flight=1)
    assert "refused" not in line("dispatch", asked, 200)
    assert "about 3 min 37 s left" in line("dispatch", asked, 200)
    assert "none in flight" not in line("dispatch", gone._replace(waiting=0), 200)


def test_what_a_server_says_is_short_and_harmless_in_the_line() -> None:
    said = Progress(total=2, attempts=9, failure="HTTP 503: \x1b[2J\n" + "sorry " * 99)
    text = line("dispatch", said, 400)
    assert "HTTP 503: \\x1b[2J sorry sorry" in text
    assert text.isprintable()
    assert len(text) < 200


def test_what_is_kept_is_there_after_the_end_and_shown_by_the_other_view() -> None:
    told: list[Progress] = []
    kept = KeptView(CallView(told.append))
    assert view(kept) is kept
    assert kept.interval_s == CallView.interval_s
    with kept:
        kept.show(BUSY)
    assert told == [kept.latest] == [BUSY]
    unseen = KeptView(View())
    assert unseen.interval_s is not None  # it is told although nothing is shown
    assert unseen.latest == Progress()


@pytest.mark.parametrize("width", range(20, 180, 7))
def test_the_line_never_fills_the_terminals_last_column_and_keeps_what_is_done(width: int) -> None:
    text = line("dispatch", BUSY, width)
    assert len(text) < width
    assert "38 / 77" in text


def test_narrow_it_leaves_out_the_least_first() -> None:
    assert line("dispatch", BUSY, 80) == (
        " dispatch  ━━━━━━───────  38 / 77   in flight 24   failed 1   about 12.0 s left"
    )
    assert line("dispatch", BUSY, 60) == " dispatch  ━━━╸────  38 / 77   failed 1   about 12.0 s left"
    assert line("dispatch", BUSY, 39) == " dispatch  38 / 77   failed 1"


@pytest.mark.parametrize("width", range(40, 200, 40))
def test_the_bar_is_as_wide_whatever_is_told_beside_it(width: int) -> None:
    bars = [
        len([c for c in line("dispatch", progress, width) if c in "━╸─"])
        for progress in (Progress(total=9), BUSY, BUSY._replace(push_backs=0, failed=0), BUSY._replace(done=77))
    ]
    assert bars == [bars[0]] * 4
    assert 8 <= bars[0] <= 28


def test_before_anything_is_done_no_end_is_foretold() -> None:
    assert line("d", Progress(total=10, in_flight=3), 40) == " d  ────────  0 / 10   in flight 3"
    assert Progress(done=5, total=10, restored=5, seconds=4).eta_s is None


def test_the_end_is_foretold_by_what_was_called_not_by_what_was_restored() -> None:
    assert Progress(done=60, total=100, restored=50, seconds=5.0).eta_s == pytest.approx(20.0)


def test_while_more_may_come_there_is_no_bar() -> None:
    assert line("d", Progress(done=4, in_flight=3), 60) == " d  4 done   in flight 3"


def test_the_bar_is_redrawn_in_place_and_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "60")
    out = Terminal()
    with BarView(out, "d") as bar:
        bar.show(Progress(done=1, total=2, in_flight=1, seconds=2.0))
        bar.show(Progress(done=2, total=2, failed=1))
    assert out.getvalue().split("\r\x1b[K") == [
        "",
        " d  ━━━━────  1 / 2   in flight 1   about 2.0 s left\r",
        " d  ━━━━━━━━  2 / 2   in flight 0   failed 1\r",
        "",
    ]


def test_failures_are_red_unless_colour_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    out = Terminal()
    BarView(out, "d").show(Progress(done=2, total=2, failed=1))
    assert "\x1b[31mfailed\x1b[0m 1" in out.getvalue()


def test_plain_lines_say_the_same() -> None:
    out = io.StringIO()
    lines = LineView(out, "dispatch")
    lines.show(BUSY)
    assert out.getvalue() == ""  # a short batch needs none
    lines.show(BUSY._replace(seconds=10.0))
    assert out.getvalue() == (
        "dispatch: 38 / 77, 7 from the journal, in flight 24, limit 32, hedges 5 (4 won), retries 1, push-backs 2, "
        "failed 1, about 12.6 s left\n"
    )


def test_a_users_function_is_told() -> None:
    told: list[Progress] = []
    view(told.append).show(BUSY)
    assert told == [BUSY]


def test_a_terminal_that_went_away_is_no_error() -> None:
    out = Terminal()
    bar = BarView(out, "d")
    bar.show(BUSY)
    out.close()
    bar.show(BUSY)
    bar.close()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0544, "54 ms"),
        (1.0, "1.0 s"),
        (15.46, "15.5 s"),
        (99.96, "1 min 40 s"),
        (478, "7 min 58 s"),
        (7260, "2 h 01 min"),
    ],
)
def test_times_read_well(seconds: float, text: str) -> None:
    assert clock(seconds) == text


# --- the live trace


def test_each_call_is_a_line_and_the_end_adds_them_up() -> None:
    out = io.StringIO()
    live = Live(out, title="scenario 108")
    live(Call(2.9, 0, None, ok=True, value="Yes.\nIt does", seconds=2.9, row="pump-3", column="bearing wear"))
    live(Call(11.0, 1, {"q": 1}, ok=True, value="No", seconds=11.0, kind="hedge", attempts=2, hedges=1))
    live(Call(12.0, 2, "p", ok=False, error=TimeoutError("no answer in 90 s"), seconds=1.0, kind="retry", attempts=4))
    live(Call(0.0, 3, "old", ok=True, value=7, kind="journal"))
    live.total(12.5)
    assert [re.sub(r" {2,}", "|", text).strip("|") for text in out.getvalue().splitlines()] == [
        " scenario 108",
        "time|answer|row|column|took|kind",
        "2.9 s|Yes. It does|pump-3|bearing wear|2.9 s|first",
        "11.0 s|No|#2|{'q': 1}|11.0 s|hedge of 2",
        "12.0 s|✗ TimeoutError: no answer i…|#3|p|1.0 s|retry of 4",
        "0 ms|7|#4|old|0 ms|journal",
        " 4 calls in 12.5 s: 3 ok, 1 failed",
        " 7 sent, 1 of them hedges; settled by 1 first, 1 hedge, 1 retry, 1 journal",
        " 14.9 s in calls, 1.2 at a time",
    ]


def test_a_list_has_an_item_where_a_grid_has_row_and_column_and_what_was_never_made_has_no_kind() -> None:
    out = io.StringIO()
    live = Live(out)
    live(Call(2.9, 4, "x", ok=False, error="GaveUp", kind="", attempts=0, column="pump-3"))
    live.total(3.0)
    assert [re.sub(r" {2,}", "|", text).strip("|") for text in out.getvalue().splitlines()] == [
        "time|answer|call|item|took|kind",
        "2.9 s|✗ GaveUp|#5|pump-3|0 ms",
        " 1 calls in 3.0 s: 0 ok, 1 failed",
        " 0 sent, 0 of them hedges; settled by nothing",
        " 0 ms in calls, 0.0 at a time",
    ]


@pytest.mark.parametrize("row", ["sensor " * 9, None])
@pytest.mark.parametrize("width", [64, 80, 100, 113, 200])
def test_a_line_of_a_call_fits_the_terminal(width: int, row: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    out = Terminal()
    live = Live(out)
    long = "x" * 90
    live(Call(2.9, 0, None, ok=True, value=long, seconds=700, kind="hedge", attempts=3, row=row, column=long))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) < width
    assert lines[0].find("took") + len("took") == lines[1].find("hedge of 3") - 2


def test_what_a_model_wrote_cannot_reach_the_terminal() -> None:
    text = row_of(Call(0, 0, "i", ok=True, value="\x1b[2Jgone\u202e", row="\x1b]0;title\x07", column="c"))
    assert text.isprintable()
    assert "\\x1b[2Jgone\\u202e" in text


def test_a_reader_that_left_ends_no_batch() -> None:
    out = io.StringIO()
    live = Live(out)
    out.close()
    live(Call(0, 0, "i", ok=True))
    live.total()
