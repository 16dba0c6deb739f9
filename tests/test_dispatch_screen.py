"""A batch's summary: its numbers from its calls, and the screen that shows them."""

import io
from typing import Any

import msgspec
import pytest

from loadgen.report import batch as report
from loadgen.report.batch import BatchSummary, Counts, Failure, Longest, Settled

HEDGED = BatchSummary(
    strategy="hedged",
    calls=77,
    ok=77,
    failed=0,
    unsettled=0,
    restored=0,
    wall_s=15.5,
    sequential_s=478.0,
    sent=83,
    hedges=5,
    hedges_won=4,
    retries=1,
    rate_limited=0,
    overloaded=0,
    limit=(77, 77),
    p50_s=3.0,
    p95_s=6.1,
    p99_s=10.4,
    longest=Longest("pump-3 × bearing wear", 11.0, "hedge", 10.8),
    failures=[],
)


def shown(batch: BatchSummary, width: int = 116) -> list[str]:
    out = io.StringIO()
    report.show(batch, out, width)
    return out.getvalue().splitlines()


def but(**changes: Any) -> BatchSummary:
    return msgspec.structs.replace(HEDGED, **changes)


def test_the_screen() -> None:
    assert shown(HEDGED) == [
        "",
        " 77 calls · hedged · 15.5 s" + " " * 35 + "sequential would have taken up to 7 min 58 s (30.8 ×)",
        " 77 ok · 83 sent (1.08 a call): 5 hedges, 4 won · 1 retry · 0 rate-limited · limit 77 → 77",
        " per call    p50 3.0 s   p95 6.1 s   p99 10.4 s"
        + " " * 10
        + "longest: pump-3 × bearing wear, 11.0 s (hedge won at 10.8)",
        "",
    ]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 140, 200])
def test_nothing_is_wider_than_the_terminal_and_nothing_is_lost(width: int) -> None:
    lines = shown(HEDGED, width)
    assert max(map(len, lines)) < width
    words = " ".join(lines).split()
    assert words == " ".join(shown(HEDGED, 300)).split()


@pytest.mark.parametrize("width", range(62, 92, 5))
def test_no_part_of_the_outcome_is_torn_where_a_line_can_hold_it(width: int) -> None:
    lines = shown(HEDGED, width)
    assert any(line.rstrip(" ·").endswith("limit 77 → 77") for line in lines)
    assert any("83 sent (1.08 a call): 5 hedges, 4 won" in line for line in lines)


@pytest.mark.parametrize("width", range(60, 121))
def test_what_parts_the_outcome_stands_behind_a_part_and_alone_on_no_line(width: int) -> None:
    assert "·" not in [line.strip() for line in shown(but(limit=(20, 25)), width)]


def test_a_pipe_is_as_wide_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, widest in (("60", 60), (None, 100)):
        monkeypatch.setenv("COLUMNS", columns) if columns else monkeypatch.delenv("COLUMNS")
        out = io.StringIO()
        report.show(HEDGED, out)
        assert widest - 15 < max(map(len, out.getvalue().splitlines())) <= widest


def test_failures_are_told_by_reason_the_most_frequent_first_and_no_more_than_three() -> None:
    failures = [Failure(f"HTTP 50{n}", 4 - n, [f"call {n}"]) for n in range(4)]
    failures.append(Failure("odd", 1, ["x"]))
    lines = shown(but(ok=66, failed=11, failures=failures))
    assert lines[2].startswith(" 66 ok · 11 failed · 83 sent")
    assert lines[4:] == [
        " 4 failed    HTTP 500: call 0, …",
        " 3 failed    HTTP 501: call 1, …",
        " 2 failed    HTTP 502: call 2, …",
        " 2 more failed for 2 other reasons",
        "",
    ]


def test_push_back_that_is_no_rate_limit_is_told_apart() -> None:
    assert "1 retry · 3 rate-limited · 2 overloaded · limit" in shown(but(rate_limited=3, overloaded=2))[2]


def test_a_resumed_batch_counts_what_it_sent_over_what_it_called() -> None:
    line = shown(but(restored=50, sent=30, hedges=0, hedges_won=0, limit=None))[2]
    assert line == " 77 ok · 50 from the journal · 30 sent (1.11 a call): 0 hedges · 1 retry · 0 rate-limited"


def test_a_batch_that_was_all_in_the_journal_has_no_times() -> None:
    nothing = but(restored=77, sent=0, hedges=0, retries=0, sequential_s=None, p50_s=None, longest=None, limit=None)
    assert shown(nothing) == [
        "",
        " 77 calls · hedged · 15.5 s",
        " 77 ok · 77 from the journal · 0 sent: 0 hedges · 0 retries · 0 rate-limited",
        "",
    ]


def test_sequential_itself_is_not_compared_with_sequential() -> None:
    assert shown(but(strategy="sequential", wall_s=470.0))[1] == " 77 calls · sequential · 7 min 50 s"


def test_what_others_wrote_cannot_reach_the_terminal() -> None:
    hostile = "\x1b]0;x\x07[bold]\u202e"
    lines = shown(but(failures=[Failure(hostile, 1, [hostile])], failed=1, longest=Longest(hostile, 1.0, "first")), 300)
    assert all(line.isprintable() for line in lines)
    assert "[bold]" in "".join(lines)


# --- from calls to numbers


def call(seconds: float, **more: Any) -> Settled:
    return Settled(ok=True, seconds=seconds, alone_s=more.pop("alone_s", seconds), **more)


def summary(*calls: Settled | None, counts: Counts | None = None) -> BatchSummary:
    return report.summary("auto", calls, counts or Counts(), 2.0, lambda index: f"call {index}")


def test_percentiles_are_nearest_rank_over_calls_with_an_answer() -> None:
    found = summary(*(call(float(n)) for n in range(1, 101)), Settled(ok=False, seconds=500.0, reason="r"))
    assert (found.p50_s, found.p95_s, found.p99_s) == (50.0, 95.0, 99.0)
    assert found.longest == Longest("call 100", 500.0, "failed", None)


def test_sequential_is_what_the_attempts_took_without_copies() -> None:
    found = summary(call(10.8, alone_s=10.8, kind="hedge", won_s=10.8), call(3.0), call(5.0, alone_s=4.0, kind="retry"))
    assert found.sequential_s == pytest.approx(17.8)
    assert found.longest == Longest("call 0", 10.8, "hedge", 10.8)


def test_what_a_journal_had_and_what_never_started_took_no_time() -> None:
    found = summary(Settled(ok=True, kind="journal"), call(1.0), Settled(ok=False, reason="never"), None)
    assert (found.calls, found.ok, found.failed, found.unsettled, found.restored) == (4, 2, 1, 1, 1)
    assert (found.p50_s, found.sequential_s) == (1.0, 1.0)


def test_failures_are_counted_by_reason_with_the_first_names() -> None:
    bad = [Settled(ok=False, reason="429")] * 5
    found = summary(call(1.0), *bad, Settled(ok=False, reason="refused"))
    assert found.failures == [Failure("429", 5, ["call 1", "call 2", "call 3"]), Failure("refused", 1, ["call 6"])]


def test_nothing_called_is_no_number() -> None:
    found = summary(None, None)
    assert (found.p50_s, found.sequential_s, found.longest) == (None, None, None)
    assert msgspec.json.decode(msgspec.json.encode(found))["unsettled"] == 2
