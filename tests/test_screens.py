"""What a person sees, as golden files at 80 and 200 columns: reports, the list of runs.

``UPDATE_SCREENS=1 pytest tests/test_screens.py`` writes the files anew; read the difference before you commit it.
"""

import io
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import reports
from goldens import golden
from loadgen.cli import ls
from loadgen.report import figures, screen
from loadgen.session.result import SessionResult
from loadgen.shown import plain

RUN = Path("loadgen-runs/20261120T211405Z-7f3a")
SLO = reports.GOODPUT
OPEN: dict[str, Any] = {"rate": 50, "duration": 60, "slo": "ttft:300ms"}
CLOSED: dict[str, Any] = {"concurrency": 8}
LISTED: list[dict[str, Any]] = [
    {"name": "warmup", "type": "warmup", "concurrency": 4, "requests": 50},
    {"name": "low", "rate": 50, "duration": 60, "slo": "ttft:300ms"},
    {"name": "a name that is much too long for a column", "concurrency": 8, "requests": 2990, "api": "completions",
     "timeout": 30, "stall_timeout": 20},
    {"name": "numbers", "type": "accuracy", "concurrency": 1, "requests": 6, "model": "other", "order": "sequential",
     "scorer": "numeric"},
    {"name": "never", "burst": 10, "header": {"X-A": "canary"}},
]  # fmt: skip
HOSTILE = "\x1b[2Jevil[bold red]\x07\u202egnp.exe <script>"


NONE = {"issued": 0, "ok": 0, "failed": 0, "cancelled": 0, "in_flight": 0, "reconnects": 0}
UNSAMPLED = dict.fromkeys(("send_lateness_us", "cpu_share", "steal", "throttled"))
THROUGHPUT = ("requests_per_s", "output_tokens_per_s", "total_tokens_per_s", "ramp_s", "drain_s", "steady")
TOKENS = ("source", "input", "output", "input_mean", "output_mean", "chunks_per_read", "tokens_per_chunk", "gaps")


def limited() -> dict[str, Any]:
    late = "31 % of the requests left more than 5 ms late; 412 of 600 requests/s were achieved"
    busy = "for 97 % of the time a worker used 90 % of its core or more (1 workers, the busiest 99 % on average)"
    return reports.trust(
        "client_limited",
        reasons=[late, busy],
        suggestion="try --workers 4",
        send_lateness_us={"p50": 1400.0, "p99": 81_000.0, "max": 90_000.0},
        cpu_share=0.99,
        steal=0.02,
        throttled=0.11,
    )


def failing() -> dict[str, Any]:
    details = [
        reports.failure("http_429", 1200, list(range(10)), message="slow down"),
        reports.failure("stall", 2, [1204, 2210]),
        reports.failure("connect", 1, [17], words="connection refused"),
    ]
    failures = {"stall": 2, "http_429": 1200, "connect": 1}
    return reports.phase(ok=1788, failed=1203, failures=failures, failure_details=details)


def million() -> dict[str, Any]:
    big = reports.phase(ok=999_998, failed=2, duration_s=4210.7)
    big["throughput"] |= {"requests_per_s": 237.5, "output_tokens_per_s": 30_399.4, "total_tokens_per_s": 58_912.0}
    big["tokens"] |= {"input": 120_123_456, "output": 128_000_256}
    return big


CASES: dict[str, dict[str, Any]] = {
    "open": reports.report(reports.phase(failed=2, goodput=SLO), options=OPEN),
    "closed": reports.report(reports.phase(ok=1319), options=CLOSED),
    "ten": reports.report(reports.phase(ok=10), options={"concurrency": 1}, samples=1000, log_bytes=4100),
    "million": reports.report(million(), options=CLOSED, log_bytes=913_000_000),
    "not_streamed": reports.report(reports.phase(streamed=False), options={**CLOSED, "stream": False}),
    "failing": reports.report(
        failing(), options=OPEN, status="failed", reason="40.2 % of the requests failed; 10 % are allowed"
    ),
    "client_limited": reports.report(reports.phase(trust=limited()), options={"rate": 600, "duration": 60}),
    "interrupted": reports.report(
        reports.phase(ok=1203, cancelled=41), options=OPEN, status="interrupted", reason="SIGINT"
    ),
    "killed": reports.report(
        reports.phase(ok=1203, counts={**NONE, "issued": 1244, "ok": 1203, "in_flight": 41}),
        options=OPEN,
        status="interrupted",
        reason="killed",
        lost={"blocks": 1, "rows": 12, "tail_bytes": 100},
    ),
    "nothing": reports.report(
        reports.phase(
            ok=0,
            failed=8,
            throughput=dict.fromkeys(THROUGHPUT) | {"requests_per_s": 0.0},
            tokens=dict.fromkeys(TOKENS) | {"rows_without_usage": 0, "events": 0, "chunks": 0, "rows_without_itl": 0},
            trust=reports.trust("unknown", reasons=["the run was too short for a tick"], **UNSAMPLED),
        ),
        options=CLOSED,
        status="failed",
        reason="no request succeeded",
    ),
    "nodes": reports.report(
        reports.phase(
            ok=2687,
            failed=300,
            goodput=SLO,
            config={"name": "performance", "balance": {"kind": "weighted", "weights": [5, 3, 2]}},
            nodes=[
                reports.node(0, 1494, 0, 2987, 41.8),
                reports.node(1, 896, 0, 2987, 92.1),
                reports.node(2, 297, 300, 2987, 241.0),
            ],
        ),
        options={**OPEN, "balance": "weighted", "weights": "5,3,2"},
        url=["http://10.0.0.5:8000", "http://10.0.0.6:8000", "http://a-name-that-is-much-too-long.example.org:8000/v1"],
    ),
    "two_phases": reports.report(reports.phase("low"), reports.phase("high", failed=1), options=OPEN),
    "phases": reports.report(
        reports.phase("warmup", kind="warmup", trust=limited()),
        reports.phase("low", goodput=SLO),
        reports.phase("a name that is much too long for a column", failed=3, streamed=True, trust=limited()),
        reports.phase("numbers", ok=6, kind="accuracy", reason="requests"),
        options={"phases": LISTED},
        status="interrupted",
        reason="SIGTERM",
    ),
    "cold": reports.report(
        reports.phase(
            "warmup",
            ok=28,
            kind="warmup",
            counts={**NONE, "issued": 40, "ok": 28, "failed": 12},
            failure_details=[
                reports.failure("http_503", 11, [0, 1, 2], message="the model is loading"),
                reports.failure("timeout", 1, [31]),
            ],
        ),
        reports.phase(),
        options={**OPEN, "warmup": 40, "events": True},
    ),
    "own_percentiles": reports.report(
        reports.phase(percentiles=(1.0, 50.0, 99.99)), options={**CLOSED, "percentiles": "1,50,99.99"}
    ),
    "hostile": reports.report(
        {
            **failing(),
            "failure_details": [reports.failure(HOSTILE, 1, [1], HOSTILE, HOSTILE)],
            "trust": reports.trust("client_limited", reasons=[HOSTILE], notes=[HOSTILE], suggestion=HOSTILE),
        },
        options=CLOSED,
        model=HOSTILE,
        status="interrupted",
        reason=HOSTILE,
    ),
    "wide_letters": reports.report(reports.phase(), options=CLOSED, model="模型" * 30),
}  # fmt: skip


def accurate(**changes: Any) -> dict[str, Any]:
    """A report of an accuracy phase, as its scores would make it."""
    phase = reports.phase("gsm8k", ok=1312, failed=7, kind="accuracy", finish={"stop": 1290, "length": 22})
    found = reports.report(phase, options=CLOSED)
    scorer = {"numeric": {"tolerance": 0.0, "relative": 0.0}}
    about = {"scorer": scorer, "words": "numeric answer"}
    found["phases"][0]["scoring"] = {**about, "path": "/d.jsonl", "prompt_field": None, "target_field": None}
    found["phases"][0]["accuracy"] = {
        **about,
        "issued": 1319,
        "scored": 1292,
        "samples": 1292,
        "not_scored": {"no number found": 20, "failed": 7},
        "errors": 0,
        "mean": 791 / 1292,
        "of_all": 791 / 1319,
        "is_binary": True,
        "ci95": [0.5854, 0.6384],
        "interval": "wilson",
        "file": "scores-0.jsonl",
        **changes,
    }
    return found


def unscored() -> dict[str, Any]:
    found = accurate()
    found["phases"][0]["accuracy"] = None
    return found


CASES |= {
    "accuracy": accurate(),
    "accuracy_grades": accurate(
        words="ROUGE-L (F1)",
        samples=440,
        mean=0.41231,
        of_all=0.40384,
        is_binary=False,
        ci95=[0.3981, 0.4265],
        interval="normal, clustered by sample",
    ),
    "accuracy_none": accurate(
        scored=0,
        samples=0,
        mean=None,
        of_all=0.0,
        is_binary=False,
        ci95=None,
        interval=None,
        not_scored={"no number found": 1312, "failed": 7},
    ),
    "accuracy_unscored": unscored(),
}


def shown(name: str, width: int | None) -> str:
    out = io.StringIO()
    screen.show(SessionResult.of(RUN, json.loads(json.dumps(CASES[name]))), out, width)
    return out.getvalue()


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TERM"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("name", CASES)
def test_a_report_looks_as_it_was_agreed(name: str, width: int) -> None:
    text = shown(name, width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    golden(f"report_{name}_{width}", text)


@pytest.mark.parametrize("width", [20, 40, 60, 100, 119, 500])
@pytest.mark.parametrize("name", CASES)
def test_no_line_is_wider_than_the_terminal(name: str, width: int) -> None:
    assert max(cell_len(line) for line in shown(name, width).splitlines()) <= width


def test_nothing_from_outside_reaches_the_terminal_as_it_is() -> None:
    for width in (80, 200):
        text = shown("hostile", width)
        assert "\x1b" not in text
        assert "\x07" not in text
        assert "\u202e" not in text
        assert "[bold red]" in text  # shown as text, not obeyed as markup


def test_without_a_terminal_there_is_no_colour_and_a_width_of_100() -> None:
    text = shown("client_limited", None)
    assert "\x1b" not in text
    assert 80 < max(cell_len(line) for line in text.splitlines()) <= 100


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def on_terminal(name: str) -> str:
    out = Terminal()
    screen.show(SessionResult.of(RUN, json.loads(json.dumps(CASES[name]))), out, 80)
    return out.getvalue()


def test_a_terminal_gets_colour_unless_it_asks_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[1;31m" in on_terminal("client_limited")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "31m" not in on_terminal("client_limited")


def test_the_client_as_bottleneck_is_the_first_thing_said() -> None:
    assert shown("client_limited", 80).split()[0] == "CLIENT-LIMITED:"


def test_a_warm_up_that_was_limited_is_no_alarm_of_the_phase_that_was_not() -> None:
    of_both = [reports.phase("warmup", kind="warmup", trust=limited()), reports.phase()]
    out = io.StringIO()
    made = reports.report(*of_both, options={**OPEN, "warmup": 40})
    screen.show(SessionResult.of(RUN, json.loads(json.dumps(made))), out, 80)
    assert "CLIENT-LIMITED" not in out.getvalue()


def test_thousands_stand_apart_at_a_million() -> None:
    assert "999,998 ok   2 failed   0 cancelled" in shown("million", 80)


def test_a_percentile_without_support_is_no_number() -> None:
    text = shown("ten", 80)
    assert "–*" in text
    assert " * not bounded with 95 % confidence (p75 takes 13 values); –* would only be\n   the maximum" in text


def columns(text: str) -> list[str]:
    (head,) = (line for line in text.splitlines() if "mean ± sd" in line)
    return [word for word in head.split() if word[0] == "p" and word[1].isdigit()]


def with_percentiles(width: int, *percentiles: float, ok: int = 2987) -> str:
    # As `loadgen report --percentiles` makes it: the run itself was asked for others.
    made = reports.report(reports.phase(ok=ok, percentiles=percentiles), options=OPEN)
    out = io.StringIO()
    screen.show(SessionResult.of(RUN, made), out, width)
    return out.getvalue()


@pytest.mark.parametrize("asked", [(10.0, 50.0, 95.0, 99.0, 99.9), (25.0,), (99.999,)])
def test_the_percentiles_asked_for_are_the_columns_and_no_others(asked: tuple[float, ...]) -> None:
    for width in (80, 100, 200):
        assert columns(with_percentiles(width, *asked)) == [f"p{p:g}" for p in asked]


def test_a_wider_terminal_shows_no_fewer_percentiles_and_the_same_rows() -> None:
    shown_before = 0
    for width in range(60, 201):
        text = with_percentiles(width, 1.0, 5.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
        found = columns(text)
        assert len(found) >= shown_before
        assert ("no room for" in text) == (len(found) < 10)
        assert text.count("from sent") == 2
        shown_before = len(found)
    assert shown_before == 10


def test_what_has_no_room_is_named() -> None:
    text = with_percentiles(60, *reports.DEFAULT)
    assert columns(text) == ["p50", "p90", "p99"]
    assert "no room for p75, p95, p99.9: a wider terminal" in text
    assert "no room" not in with_percentiles(80, *reports.DEFAULT)


def test_no_number_is_parted_from_its_unit() -> None:
    units = ("%", "ms", "s", "µs", "req/s", "tok/s", "requests/s", "MB", "values")
    for name in CASES:
        for width in (48, 55, 63, 72, 80, 91, 100, 120):
            lines = [line.split() for line in shown(name, width).splitlines()]
            for before, after in itertools.pairwise(lines):
                if before and after and before[-1][-1].isdigit():
                    assert after[0].rstrip(".,;)") not in units, (name, width)


def test_the_command_that_shows_a_report_again_can_be_copied_at_any_width() -> None:
    for width in range(40, 201):
        assert " again       loadgen report 7f3a" in shown("open", width).splitlines()


def test_the_steady_state_is_told_only_where_its_window_is_telling() -> None:
    def throughput(rate: float, until_s: float) -> str:
        made = reports.phase()
        made["throughput"]["steady"] |= {"requests_per_s": rate, "to_s": until_s}
        out = io.StringIO()
        screen.show(SessionResult.of(RUN, reports.report(made, options=CLOSED)), out, 120)
        return out.getvalue()

    assert "60.0 req/s in steady state (from 1 s to 58 s)" in throughput(60.0, 58.0)
    assert "steady" not in throughput(60.0, 30.0)  # 29 of 60 s
    assert "steady" not in throughput(0.5, 58.0)  # 28 requests
    assert "steady" not in throughput(49.9, 58.0)  # no other than the mean


def test_objectives_stand_in_the_order_of_the_table() -> None:
    slo = {"latency": 900.0, "tpot": 12.0, "ttft": 150.0}  # as the core sorts them
    made = reports.report(reports.phase(goodput={**SLO, "slo": slo}), options=CLOSED)
    out = io.StringIO()
    screen.show(SessionResult.of(RUN, made), out, 140)
    assert "98.7 % of all within ttft ≤ 150 ms, tpot ≤ 12 ms, latency ≤ 900 ms" in out.getvalue()


def test_a_suggestion_that_is_an_option_becomes_a_sentence() -> None:
    made = reports.phase(trust={**limited(), "suggestion": "--workers 2"})
    out = io.StringIO()
    screen.show(SessionResult.of(RUN, reports.report(made, options=CLOSED)), out, 120)
    assert "Try --workers 2." in out.getvalue()


def test_one_value_has_no_deviation() -> None:
    (row,) = (line for line in with_percentiles(100, 50.0, ok=1).splitlines() if line.startswith(" TTFT"))
    assert "±" not in row


@pytest.mark.parametrize(
    ("value", "places"), [(0.0392, 4), (0.392, 3), (3.92, 2), (39.2, 1), (392.0, 1), (0.0039, 5), (1e-9, 6)]
)
def test_a_row_has_three_digits_that_matter(value: float, places: int) -> None:
    assert figures.decimals([value]) == places


def test_a_result_prints_as_a_line() -> None:
    result = SessionResult.of(RUN, CASES["two_phases"])
    low = "'low': 2987 ok, 0 failed, 49.77 req/s, TTFT p50 91.8 ms p99 243.8 ms"
    assert (
        repr(result)
        == str(result)
        == f"<SessionResult 7f3a complete; {low}; {low.replace('low', 'high').replace('0 failed', '1 failed')}>"
    )
    assert repr(result.phases[0]) == str(result.phases[0]) == f"<PhaseResult {low}>"
    nothing = SessionResult.of(RUN, CASES["nothing"])
    assert repr(nothing) == "<SessionResult 7f3a failed (no request succeeded); 'performance': 0 ok, 8 failed, 0 req/s>"


def test_the_list_of_runs_is_in_columns() -> None:
    good = "7f3a|2026-11-20 21:14:05|http://10.0.0.5:8000|Poisson 50 req/s|2,987|2|91.8 ms|244 ms|complete"
    far = f"00aa|2026-11-19 09:00:00|http://{'h' * 60}|closed loop, 8 in flight|9|0|–|–|interrupted"
    rows = [good.split("|"), far.split("|")]
    for width in (80, 120, 200):
        golden(f"ls_{width}", "\n".join(ls.table(rows, width)) + "\n")


def test_a_target_that_all_runs_share_leaves_its_room_where_that_is_short() -> None:
    good = "7f3a|2026-11-20 21:14:05|http://10.0.0.5:8000|Poisson 50 req/s|2,987|2|91.8 ms|244 ms|complete"
    half = "00aa|2026-11-19 09:00:00|http://10.0.0.5:8000|Poisson 5 req/s|9|0|–|–|interrupted"
    rows = [good.split("|"), half.split("|")]
    head, first, second, target = ls.table(rows, 80)
    assert "target" not in head
    assert ("Poisson 50 req" in first, "Poisson 5 req/s" in second) == (True, True)
    assert target == "target of all: 10.0.0.5:8000"
    assert [len(ls.table(rows, width)) for width in (120, None)] == [3, 3]
    rows[1][2] = "http://10.0.0.6:8000"
    _, first, second = ls.table(rows, 80)
    assert ("  …5:8" in first, "  …6:8" in second) == (True, True)


def test_times_below_each_other_have_three_digits_and_their_units_in_line() -> None:
    assert figures.times_ms([1.2, 12.341, 1500.0, 0.3, None, 0.0]) == [
        "1.20 ms",
        "12.3 ms",
        "1.50 s ",
        "300 µs",
        "–",
        "0 µs",
    ]
    assert figures.times_ms([130_000.0, 9.996, 99.96]) == ["2.17 min", "10.0 ms ", "100 ms "]
    assert figures.times_ms([]) == []


def test_the_list_of_runs_fits_the_terminal_and_keeps_ids_and_numbers_whole() -> None:
    about = ["7f3a", "2026-11-20 21:14:05", "http://模型" + "h" * 60, "Poisson 50 req/s, 8 in flight at most"]
    row = [*about, "2,987", "2", "91.8 ms", "244 ms", "interrupted"]
    for width in range(76, 201):
        lines = ls.table([row], width)
        assert max(cell_len(line) for line in lines[:2]) <= width
        assert lines[1].startswith("7f3a")
        assert lines[1].endswith("2,987       2   91.8 ms  244 ms  interrupted")


def test_the_list_of_runs_shows_no_p99_that_its_values_cannot_support() -> None:
    few = ls.line_of_result(SessionResult.of(RUN, CASES["ten"]))
    many = ls.line_of_result(SessionResult.of(RUN, CASES["closed"]))
    assert (few.ttft_p99, many.ttft_p99) == (None, 243.8449)


def test_the_list_of_runs_has_the_time_that_a_report_has_first() -> None:
    of_open = ls.line_of_result(SessionResult.of(RUN, CASES["open"]))
    closed = ls.line_of_result(SessionResult.of(RUN, CASES["closed"]))
    assert (of_open.ttft_p50, closed.ttft_p50) == (91.9, 91.8)  # from planned, from sent


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0004, "0.4 µs"), (0.3, "300 µs"), (1.5, "1.5 ms"), (241.3, "241 ms"), (999.7, "1 s"), (1610, "1.61 s"),
     (130_000, "2.17 min"), (9_000_000, "150 min"), (0, "0 µs"), (None, "–"), (float("nan"), "–")],
)  # fmt: skip
def test_times_carry_the_unit_that_fits(value: float | None, text: str) -> None:
    assert figures.time_ms(value) == text


def test_shares_never_round_to_all_or_nothing() -> None:
    assert [figures.share(v) for v in (0.0, 0.0001, 0.987, 0.9999, 1.0)] == [
        "0 %",
        "< 0.1 %",
        "98.7 %",
        "> 99.9 %",
        "100 %",
    ]


def test_spans_and_sizes_are_in_whole_units() -> None:
    spans = [figures.clock(v) for v in (0.25, 5.06, 38, 125, 3600, 7380)]
    assert spans == ["250 ms", "5.1 s", "38 s", "2 min 05 s", "60 min", "2 h 03 min"]
    assert [figures.size(v) for v in (12, 4100, 1_100_000, 913_000_000)] == ["12 B", "4.1 kB", "1.1 MB", "913 MB"]


def test_text_of_others_is_escaped_where_it_is_said() -> None:
    assert plain(HOSTILE) == "\\x1b[2Jevil[bold red]\\x07\\u202egnp.exe <script>"
