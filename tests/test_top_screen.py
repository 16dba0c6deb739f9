"""The full view's screens as golden files, and what it derives.

``UPDATE_SCREENS=1 pytest tests/test_top_screen.py`` writes the screens anew; read the difference before you commit it.
"""

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len

import looks
from loadgen.metrics.snapshot import CounterStat, SeriesStat, SessionState
from loadgen.session import describe
from loadgen.session.describe import About, AboutPhase
from loadgen.shown import bar
from loadgen.tui import line, screen, table
from loadgen.tui.history import History
from loadgen.tui.look import Look

GOLDEN = Path(__file__).parent / "screens"
LOOKS = looks.looks()
FOOT = "q leaves; the run goes on"
HOSTILE = "\x1b[2Jevil\x07\u202egnp.exe\x85\x7f"
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
