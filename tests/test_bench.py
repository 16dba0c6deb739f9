"""The benches' harness: its arithmetic, what it says of a process, and that all of it runs. No figure is asserted."""

import http.client
import json
import math
import os
import select
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import run as bench_run
from harness import process
from harness.errors import BenchError
from harness.figures import Spread, Work, gap_cv, number, off_grid_us, percentile, ratios, slope_us, undisturbed
from harness.nodes_mock import shares
from harness.nodes_sim import EXAMPLES
from harness.package import dependencies
from harness.request import Catcher
from harness.servers import Mock
from harness.table import HEADINGS, Baseline, Line, Mark, render, summary

ROOT = Path(__file__).resolve().parents[1]
# Families of which --quick gives no figure, or none without wrk or LiteLLM.
_NOT_QUICK = ("wheel", "log", "event-batch", "series-load", "dispatch-litellm")


def test_a_slope_leaves_out_what_both_runs_paid_once() -> None:
    assert slope_us(Work(0.3 + 0.01, 1_000), Work(0.3 + 0.05, 5_000)) == pytest.approx(10.0)


def test_there_is_no_slope_between_runs_of_one_length() -> None:
    with pytest.raises(BenchError, match="the long run did 5 units, the short one 5"):
        slope_us(Work(1, 5), Work(2, 5))


def test_runs_for_a_time_are_taken_again_where_the_long_one_did_no_more() -> None:
    less, more = (Work(1, 5), Work(2, 4)), (Work(1, 5), Work(2, 6))
    pairs = iter([less, more, less])
    assert undisturbed(*less, lambda: next(pairs)) == more
    assert undisturbed(*more, lambda: pytest.fail("it was good")) == more
    taken: list[int] = []

    def never_more() -> tuple[Work, Work]:
        taken.append(1)
        return less

    assert (undisturbed(*less, never_more), len(taken)) == (less, 3)


def test_a_spread_says_its_median_and_its_ends() -> None:
    assert str(Spread.of([3.0, 1.0, 2.0])) == "2.00 (1.00–3.00)"
    assert str(Spread.of([12_345.6])) == "12,346"
    with pytest.raises(BenchError, match="nothing was measured"):
        Spread.of([])


def test_the_shares_of_bare_loops_are_those_of_the_least_time() -> None:
    assert [shares(times, items, best) for times, items, best in EXAMPLES] == [
        [84, 8, 8],
        [37, 30, 33],
        [167, 11, 11, 11],
        [67, 67, 66],
        [25, 25, 25, 25],
    ]
    with pytest.raises(BenchError, match=r"101 items don't fit into 2\.5 s"):
        shares((0.1, 0.1, 0.1, 0.1), 101, 2.5)


def test_ratios_are_taken_pair_by_pair() -> None:
    assert ratios(Spread.of([1.0, 4.0]), Spread.of([2.0, 1.0])).values == (0.5, 4.0)


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.0123, "0.0123"), (0.15, "0.150"), (9.5, "9.50"), (640, "640")]
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_percentiles_are_nearest_rank() -> None:
    values = list(range(1, 1_001))
    assert [percentile(values, p) for p in (50, 99, 99.9, 100)] == [500, 990, 999, 1_000]
    assert percentile([7], 0.1) == 7


def test_regular_arrivals_have_cv_0_and_exponential_ones_1() -> None:
    assert gap_cv([0, 10, 20, 30]) == 0
    moments = [0.0]
    for n in range(100_000):
        moments.append(moments[-1] - 1e6 * math.log(1 - (n + 0.5) / 100_000))
    assert gap_cv([round(moment) for moment in moments]) == pytest.approx(1, abs=0.01)


def test_a_constant_delay_is_not_off_the_grid() -> None:
    assert off_grid_us([5_000 + n * 1_000_000 for n in range(9)], 1_000) == 0
    assert off_grid_us([0, 1_002_000, 2_000_000, 3_002_000], 1_000) == pytest.approx(1.0)


def test_the_ratio_is_judged_where_there_is_one() -> None:
    wrk = Baseline("wrk", Spread.of([7.0]))
    line = Line("A", "cost", "µs", Spread.of([9.0]), Mark(1.15), wrk, Spread.of([9 / 7]))
    assert line.verdict == "miss"
    assert line.cells() == ("A", "cost, µs", "≤ 1.15 × wrk", "9.00", "wrk 7.00", "1.29", "miss")


def test_a_mark_may_have_two_ends() -> None:
    cv = Mark(1.1, 0.9)
    assert [Line("t", "cv", "", Spread.of([x]), cv).verdict for x in (0.8, 0.9, 1.1, 1.2)] == [
        "miss",
        "pass",
        "pass",
        "miss",
    ]


def test_an_error_counts_on_both_sides() -> None:
    mark = Mark(0.5, -0.5)
    assert str(mark) == "± 0.5"
    assert [mark.holds(x) for x in (-0.6, -0.5, 0.5, 0.6)] == [False, True, True, False]
    assert str(Spread.of([-1.0, 2.0])) == "0.500 (-1.00 to 2.00)"


def test_what_was_not_measured_is_never_a_pass() -> None:
    lines = [Line("A", "x", "", None, Mark(1), note="no server"), Line("B", "y", "", Spread.of([1.0]))]
    assert [line.verdict for line in lines] == ["not measured", ""]
    assert summary(lines) == "0 pass, 0 miss, 1 not measured"
    shown = render(lines).splitlines()
    assert len(shown) == 5
    assert all(heading in shown[0] for heading in HEADINGS)
    assert shown[3].strip() == "no server"


def test_a_process_is_measured_and_its_output_kept() -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sum(range(3_000_000)); sys.exit(3)"
    finished = process.run([sys.executable, "-c", code], timeout_s=60)
    assert (finished.status, finished.stdout, finished.stderr) == (3, "out\n", "err\n")
    assert finished.cpu_s > 0
    assert finished.began_ns < finished.ended_ns
    with pytest.raises(BenchError, match=r"ended with status 3: err"):
        process.checked(finished, [sys.executable])


def test_a_childs_peak_is_its_own_and_not_its_spawners() -> None:
    ballast = bytearray(os.urandom(1) * 200_000_000)
    finished = process.run([sys.executable, "-S", "-c", "pass"], timeout_s=60)
    assert finished.peak_bytes < 100_000_000 < len(ballast)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open to wait for a process that isn't a child")
def test_what_takes_too_long_is_killed_and_gone() -> None:
    watched: list[int] = []
    with pytest.raises(BenchError, match=r"took longer than 1 s and was killed"):
        process.run(
            [shutil.which("sleep") or "/bin/sleep", "600"],
            timeout_s=1,
            watch=lambda pid: watched.append(os.pidfd_open(pid)),
            every_s=0.05,
        )
    ended, _, _ = select.select(watched[:1], [], [], 10)
    assert ended == watched[:1]
    for descriptor in watched:
        os.close(descriptor)


def test_a_command_that_is_not_there_says_so() -> None:
    with pytest.raises(BenchError, match=r"could not be started: .*No such file"):
        process.run(["/nonexistent/command"], timeout_s=60)


def test_wrk_is_given_what_was_caught() -> None:
    with Catcher() as catcher:
        where = urlsplit(catcher.url)
        connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=10)
        connection.request("POST", "/v1/x", b'{"stream": true, "a": "\xc3\xa9\\n"}', {"X-Mine": 'a"b'})
        answer = connection.getresponse()
        assert answer.getheader("Content-Type") == "text/event-stream"
        assert answer.read().endswith(b"data: [DONE]\n\n")
        connection.close()
    request = catcher.caught()
    script = request.lua()
    assert request.path == "/v1/x"
    assert 'wrk.headers["X-Mine"] = "a\\034b"' in script
    assert r'wrk.body = "{\034stream\034: true, \034a\034: \034\195\169\092n\034}"' in script
    assert "Host" not in script
    assert "Content-Length" not in script


def test_a_catcher_that_caught_nothing_says_so() -> None:
    with Catcher() as catcher:
        pass
    with pytest.raises(BenchError, match="sent no request"):
        catcher.caught()


def test_the_mock_tells_rows_after_a_reset_only() -> None:
    body = json.dumps({"model": "mock", "messages": [{"role": "user", "content": "hi"}], "stream": True})
    with Mock(output_tokens=3, ttft=1) as mock:
        where = urlsplit(mock.url)
        for _ in range(2):
            mock.reset()
            connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=10)
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            assert connection.getresponse().read().count(b"data: ") >= 4
            connection.close()
        rows = mock.rows()
        assert mock.cpu_s() >= 0
    assert len(rows.arrival_ns) == len(rows.done_ns) == 1
    assert rows.ttft_ms[0] >= 1


def test_the_runtime_dependencies_are_those_of_the_metadata() -> None:
    (line,) = dependencies(None)  # type: ignore[arg-type]  # it looks at the installed package only
    assert line.ours is not None
    assert line.ours.median == 5
    assert "click, msgspec, pyyaml, pyzmq, rich" in line.note


def test_an_unknown_family_is_named_with_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        bench_run.main(["--only", "A,C"])
    assert ended.value.code == 2
    assert "no family is called 'C'; choose from A, B1" in capsys.readouterr().err


def test_the_quick_version_measures_every_family(tmp_path: Path) -> None:
    told = tmp_path / "bench.json"
    ended = subprocess.run(
        [sys.executable, ROOT / "benches" / "run.py", "--quick", "--json", told],
        capture_output=True,
        check=False,
        text=True,
        timeout=600,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    lines = json.loads(told.read_text())["lines"]
    assert {line["family"] for line in lines} == set(bench_run.FAMILIES)
    missing = [line for line in lines if line["ours"] is None and line["family"] not in _NOT_QUICK]
    assert missing == []
    assert "ours: median (min–max)" in ended.stdout
