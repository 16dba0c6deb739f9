"""What the experiment's summary says: intervals, pairs, matching answers, phases."""

import math

import msgspec
import pytest

from experiment_fakes import measured, record
from loadgen.dispatch.experiment import settings, student, summary, table
from loadgen.dispatch.experiment.catalogue import Grid
from loadgen.dispatch.experiment.measured import Attempt, Call, Measured
from loadgen.dispatch.experiment.record import Cell, Record, make, phases

SETTINGS = settings.read()


@pytest.mark.parametrize(
    ("freedom", "t"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (30, 2.0423), (120, 1.9799), (100_000, 1.9600)],
)
def test_students_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert student.quantile(0.975, freedom) == pytest.approx(t, abs=5e-5)


def test_students_t_has_a_closed_form_at_one_and_two_degrees() -> None:
    for share in (0.5, 0.6, 0.9, 0.995, 0.9999):
        assert student.quantile(share, 1) == pytest.approx(math.tan(math.pi * (share - 0.5)), rel=1e-9, abs=1e-9)
        p = 2 * share - 1
        assert student.quantile(share, 2) == pytest.approx(p * math.sqrt(2 / (1 - p * p)), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("share", "freedom"), [(0.4, 3), (1.0, 3), (0.975, 0)])
def test_a_quantile_that_is_none_is_refused(share: float, freedom: int) -> None:
    with pytest.raises(ValueError, match="degrees of freedom"):
        student.quantile(share, freedom)


def test_statistics_of_three_runs() -> None:
    got = summary.stats([10.0, 14.0, 12.0])
    assert got is not None
    assert (got.n, got.mean, got.sd, got.min, got.max) == (3, 12.0, 2.0, 10.0, 14.0)
    assert (got.p50, got.p95, got.p99) == (12.0, 14.0, 14.0)
    assert got.cv == pytest.approx(1 / 6)
    half = 4.30265 * 2 / math.sqrt(3)
    assert got.ci95 == pytest.approx((12 - half, 12 + half), rel=1e-5)


def test_a_single_run_has_no_spread_and_none_has_no_statistics() -> None:
    got = summary.stats([3.0])
    assert got is not None
    assert (got.sd, got.cv, got.ci95) == (None, None, None)
    assert summary.stats([]) is None


def cell(run: int, strategy: str, scenario: str = "106") -> Cell:
    return Cell(run, scenario, strategy)


def row(summed: summary.Summary, strategy: str) -> summary.Row:
    return next(found for found in summed.rows if found.strategy == strategy)


def test_speed_ups_are_paired_by_run() -> None:
    """Not the ratio of the means, which is 5.0 here."""
    records = [
        record(cell(1, "sequential"), wall_s=10),
        record(cell(2, "sequential"), wall_s=90),
        record(cell(2, "hedged"), wall_s=10),
        record(cell(1, "hedged"), wall_s=10),
        record(cell(3, "hedged"), wall_s=1),  # without its pair
    ]
    got = row(summary.summarise(records, SETTINGS, callee="sim"), "hedged").speedup
    assert got is not None
    assert (got.n, got.mean) == (2, 5.0)
    assert (got.min, got.max) == (1.0, 9.0)


def test_a_fast_wrong_answer_does_not_win() -> None:
    records = [
        record(cell(1, "sequential"), answers=("yes", "no")),
        record(cell(1, "auto"), answers=("yes", "yes"), wall_s=1),
    ]
    summed = summary.summarise(records, SETTINGS, callee="http")
    assert row(summed, "auto").answer_match == 0.5
    assert row(summed, "sequential").answer_match == 1.0
    assert summed.problems == (
        "auto: 50 % of the answers are not those of sequential: a fast wrong answer doesn't win",
    )


def test_a_model_may_answer_otherwise_the_next_time() -> None:
    """What isn't the same is told then, and is no failure."""
    records = [record(cell(1, "sequential")), record(cell(1, "auto"), answers=("yes", "yes"))]
    summed = summary.summarise(records, SETTINGS, callee="mcp", exact=False)
    assert row(summed, "auto").answer_match == 0.5
    assert summed.problems == ()


def test_answers_of_other_rows_never_match() -> None:
    ours = msgspec.structs.replace(record(cell(1, "auto")), rows=("power",))
    summed = summary.summarise([record(cell(1, "sequential")), ours], SETTINGS, callee="http")
    assert row(summed, "auto").answer_match == 0.0


def test_what_the_baseline_did_not_answer_is_its_own_problem() -> None:
    failed = msgspec.structs.replace(
        record(cell(1, "sequential"), answers=("yes", None)), ok=False, error="TimeOut: late"
    )
    summed = summary.summarise([failed, record(cell(1, "auto"))], SETTINGS, callee="http")
    assert row(summed, "auto").answer_match == 1.0
    assert summed.problems == ("sequential: 1 of 1 runs have a cell without a real answer",)


def test_without_answers_there_is_nothing_to_match() -> None:
    silent = [msgspec.structs.replace(record(cell(1, name)), answers=None) for name in ("sequential", "auto")]
    summed = summary.summarise(silent, SETTINGS, callee="sim")
    assert row(summed, "auto").answer_match is None
    assert summed.problems == ()


def test_a_run_with_a_cell_that_failed_is_no_run_to_win_with() -> None:
    records = [
        record(cell(1, "sequential")),
        record(cell(1, "auto"), wall_s=0.1, answers=("yes", None)),
        record(cell(2, "auto"), wall_s=4.0),
    ]
    assert records[1].error == "TimeoutError: no answer within 90 s"
    summed = summary.summarise(records, SETTINGS, callee="http")
    got = row(summed, "auto")
    assert (got.runs, got.ok, got.error_rate) == (2, 1, 0.25)
    assert got.wall is not None
    assert got.wall.mean == 4.0
    assert summed.problems == ("auto: 1 of 2 runs have a cell without a real answer",)


def test_an_empty_answer_is_no_answer() -> None:
    got = record(cell(1, "auto"), answers=("yes", " "))
    assert not got.ok
    assert got.errors == {"NoAnswer": 1}


def test_missing_cells_fail_the_run() -> None:
    grid = Grid(("a", "b"), ("c",), {})
    got = make(cell(1, "auto"), grid, Measured(wall_s=1, calls=()), started_at="now", time_scale=1.0, answers=False)
    assert (got.ok, got.error) == (False, "2 of 2 cells are missing")


def test_seconds_are_the_services_whatever_the_scale() -> None:
    grid = Grid(("a", "b"), ("c", "d"), {})
    for scale in (1.0, 0.05):
        one = make(
            cell(1, "parallel"), grid, measured(grid, 2, 7, scale), started_at="now", time_scale=scale, answers=True
        )
        got = row(summary.summarise([one], SETTINGS, callee="http"), "parallel")
        assert got.wall is not None
        assert got.per_call is not None
        assert got.phases is not None
        if scale == 1.0:
            expected = got
        assert got.wall.mean == pytest.approx(expected.wall.mean if expected.wall else 0)
        assert got.per_call.p95 == pytest.approx(expected.per_call.p95 if expected.per_call else 0)
        assert got.phases.tail == pytest.approx(expected.phases.tail if expected.phases else 0)


def test_the_phases_of_a_pass_add_up() -> None:
    calls = (
        Call(started_s=0.0, ended_s=12.0, attempts=(
            Attempt("first", "cancelled", 0, 0.0, 12.0), Attempt("hedge", "ok", 200, 8.0, 12.0)), hedge_won=True),
        Call(started_s=3.0, ended_s=9.0, limiter_s=1.0, rate_s=0.5, backoff_s=2.0, attempts=(
            Attempt("first", "failed", 500, 3.0, 4.0), Attempt("retry", "ok", 200, 6.0, 9.0))),
    )  # fmt: skip
    got = phases(Measured(wall_s=12.0, calls=calls))
    assert (got.first_pass, got.retries, got.tail) == (3.0, 3.0, 6.0)
    assert (got.queued, got.limiter, got.rate, got.backoff, got.hedge) == (1.5, 1.0, 0.5, 2.0, 4.0)
    assert got.in_call == 12.0 + 6.0 - 2.0 - 4.0


def test_requests_are_counted_by_kind() -> None:
    calls = (
        Call(started_s=0.0, ended_s=9.0, answer="yes", hedge_won=True, attempts=(
            Attempt("first", "cancelled", 0, 0.0, 9.0), Attempt("hedge", "ok", 200, 8.0, 9.0))),
        Call(started_s=0.0, ended_s=5.0, answer="no", attempts=(
            Attempt("first", "rejected", 429, 0.0, 1.0), Attempt("retry", "ok", 200, 2.0, 5.0))),
    )  # fmt: skip
    grid = Grid(("a",), ("b", "c"), {})
    got = make(cell(1, "hedged"), grid, Measured(wall_s=9, calls=calls), started_at="now", time_scale=1.0, answers=True)
    assert got.attempts == {"first": 2, "hedge": 1, "retry": 1}
    assert got.sent == 4
    summed = row(summary.summarise([got], SETTINGS, callee="http"), "hedged")
    assert (summed.sent_per_call, summed.retry_rate, summed.hedges_per_call, summed.hedges_won) == (2.0, 0.5, 0.5, 1.0)


def test_the_share_of_calls_beyond_the_claim_is_told() -> None:
    slow = msgspec.structs.replace(record(cell(1, "hedged")), call_s=(16.0, 16.1))
    got = row(summary.summarise([slow], SETTINGS, callee="sim"), "hedged").per_call
    assert got is not None
    assert (got.p50, got.p95, got.over_claim) == (16.0, 16.1, 0.5)


def test_a_cell_counts_once() -> None:
    summed = summary.summarise([record(cell(1, "auto"), wall_s=w) for w in (3.0, 5.0)], SETTINGS, callee="sim")
    assert row(summed, "auto").runs == 1


def all_records() -> list[Record]:
    return [
        record(Cell(run, scenario, strategy.name), wall_s=wall + run)
        for run in (1, 2, 3)
        for scenario in ("106", "109")
        for wall, strategy in enumerate(SETTINGS.strategies, start=1)
    ]


def test_the_table_shows_ours_beside_what_was_published() -> None:
    text = table.render(summary.summarise(all_records(), SETTINGS, callee="sim"), SETTINGS)
    lines = text.splitlines()
    assert lines[1].split() == ["scenario", "calls", "sequential", "parallel", "adaptive", "hedged", "auto"]
    walls, published = (line.split() for line in lines if line.startswith("109 ") and "(" not in line)
    assert walls == ["109", "2", "3.0±2.5", "4.0±2.5", "5.0±2.5", "6.0±2.5", "7.0±2.5"]
    assert published == ["109", "566.0", "218.8", "84.6", "43.0"]
    assert next(line for line in lines if line.startswith("sent per call")).split()[3:] == ["1.00"] * 5
    assert "claim that hedging keeps p95 at 16 s" in text
    assert "PROBLEM" not in text


def test_the_tables_fit_a_terminal_however_large_the_figures_are() -> None:
    for scale in (1, 123.4, 45_678.9):
        records = [
            record(Cell(run, scenario, strategy.name), wall_s=scale * (wall + run * 7 % 5))
            for run in (1, 2, 3)
            for scenario in ("106", "109")
            for wall, strategy in enumerate(SETTINGS.strategies, start=1)
        ]
        lines = table.render(summary.summarise(records, SETTINGS, callee="sim"), SETTINGS).splitlines()
        assert max(map(len, lines)) <= 80
        # Of what doesn't fit side by side, every part has its own heading.
        assert sum(line.split()[-1:] == ["auto"] for line in lines) >= 4


def test_the_table_says_what_is_wrong_last() -> None:
    records = [record(cell(1, "sequential")), record(cell(1, "auto"), answers=("no", "no"))]
    text = table.render(summary.summarise(records, SETTINGS, callee="http"), SETTINGS)
    assert text.splitlines()[-1].startswith("PROBLEM: auto: 50 % of the answers are not those of sequential")
