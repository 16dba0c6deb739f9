"""``loadgen dispatch bench`` and ``trace``: what stands on which stream, exit statuses, and what is refused."""

import asyncio
import json
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from experiment_fakes import CATALOGUE, FakeCallee, small
from loadgen.cli import app
from loadgen.dispatch.experiment import catalogue, choice, settings
from loadgen.dispatch.experiment.callees import Task
from loadgen.dispatch.experiment.measured import Measured
from loadgen.dispatch.live import Call
from loadgen.errors import ConfigError

pytest_plugins = ["surface_fixtures"]

SMALL = small()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeCallee:
    """Commands call this one, on the small catalogue, in a directory of their own."""
    callee = FakeCallee(time_scale=0.05)

    async def fetch(_: Any) -> catalogue.Catalogue:
        return CATALOGUE

    def chosen(name: str, _settings: Any, options: choice.Options) -> FakeCallee:
        callee.name, callee.trace = name, options.trace
        return callee

    monkeypatch.setattr(choice, "callee", chosen)
    monkeypatch.setattr(settings, "read", lambda path=None: SMALL)
    monkeypatch.setattr(catalogue, "fetch", fetch)
    monkeypatch.chdir(tmp_path)
    return callee


def call(*args: str) -> Result:
    return CliRunner().invoke(app, ["dispatch", *args], prog_name="loadgen")


def test_a_bench_prints_its_tables_and_keeps_everything(fake: FakeCallee, tmp_path: Path) -> None:
    result = call("bench", "--runs", "2", "--no-plots")
    assert result.exit_code == 0, result.output
    assert "Speed-up over sequential, paired by run" in result.stdout
    assert result.stdout.splitlines()[-1].startswith(
        "loadgen-experiment/sim/   (experiment.json, runs.jsonl, summary.json"
    )
    lines = result.stderr.splitlines()
    assert len(lines) == 20
    assert lines[-1].startswith("20/20  run 2")
    directory = tmp_path / "loadgen-experiment" / "sim"
    assert json.loads((directory / "summary.json").read_text())["problems"] == []
    assert (directory / "summary.txt").read_text() in result.stdout


def test_json_is_the_only_thing_on_standard_output(fake: FakeCallee) -> None:
    result = call("bench", "--runs", "1", "--no-plots", "--json", "--quiet")
    assert json.loads(result.stdout)["baseline"] == "sequential"
    assert result.stderr == ""


def test_the_second_time_nothing_is_run_and_the_same_is_said(fake: FakeCallee) -> None:
    first = call("bench", "--runs", "1", "--no-plots")
    count = len(fake.tasks)
    second = call("bench", "--runs", "1", "--no-plots")
    assert len(fake.tasks) == count
    assert second.stdout == first.stdout
    assert second.stderr == "10 of 10 runs are on record and aren't made again: nothing is left to run\n"


def test_each_callee_has_a_directory_of_its_own(fake: FakeCallee, tmp_path: Path) -> None:
    for name in ("sim", "http"):
        assert call("bench", "--callee", name, "--runs", "1", "--strategies", "auto", "--no-plots").exit_code == 0
    assert sorted(path.name for path in (tmp_path / "loadgen-experiment").iterdir()) == ["http", "sim"]


def test_wrong_answers_fail_the_bench(fake: FakeCallee, monkeypatch: pytest.MonkeyPatch) -> None:
    right = fake.measure

    async def wrong(task: Task) -> Measured:
        measured = await right(task)
        if task.cell.strategy == "auto":
            swapped = (msgspec.structs.replace(measured.calls[0], answer="another's"), *measured.calls[1:])
            return msgspec.structs.replace(measured, calls=swapped)
        return measured

    monkeypatch.setattr(fake, "measure", wrong)
    result = call("bench", "--runs", "1", "--no-plots")
    assert result.exit_code == 1
    assert "PROBLEM: auto: 25 % of the answers are not those of sequential" in result.stdout


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.usefixtures("with_hangup")
def test_a_signal_keeps_what_was_measured_and_says_how_to_go_on(
    fake: FakeCallee, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    right, before = fake.measure, signal.getsignal(number)

    async def stopped(task: Task) -> Measured:
        if len(fake.tasks) == 3:
            signal.raise_signal(number)
            await asyncio.Event().wait()
        return await right(task)

    fake.measure = stopped  # type: ignore[method-assign]
    result = call("bench", "--runs", "1", "--no-plots")
    assert result.exit_code == status
    assert signal.getsignal(number) == before
    assert result.stderr.splitlines()[-1].strip() == "what has a record is kept: the same command goes on from there"
    assert len((tmp_path / "loadgen-experiment" / "sim" / "runs.jsonl").read_text().splitlines()) == 3


def test_a_summary_that_can_not_be_written_does_not_count_as_nothing_done(fake: FakeCallee, tmp_path: Path) -> None:
    (tmp_path / "loadgen-experiment" / "sim" / "summary.json").mkdir(parents=True)
    result = call("bench", "--runs", "1", "--no-plots")
    assert result.exit_code == 1
    error, way_out = result.stderr.splitlines()[-2:]
    assert error == "error: can't write the summary to loadgen-experiment/sim: Is a directory"
    assert way_out.strip() == "what has a record is kept: the same command goes on from there"


def test_plots_that_can_not_be_drawn_are_refused_before_anything_is_run(
    fake: FakeCallee, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = call("bench", "--runs", "1", "--plots")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: plots need matplotlib, which is not installed\n")
    assert not fake.tasks


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["--strategies", "hedgd"], "error: --strategies 'hedgd' names hedgd"),
        (["--scenarios", ","], "error: --scenarios ',' names nothing"),
        (["--runs", "0"], "error: --runs 0 must be 1 or more"),
        (["--speed", "-1"], "error: --speed -1 must be above 0"),
        (["--seed", "x"], "error: --seed x must be a whole number"),
    ],
)
def test_what_can_not_be_done_exits_2_with_one_sentence(fake: FakeCallee, args: list[str], error: str) -> None:
    result = call("bench", *args)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[0] == error
    assert fake.tasks == []


@pytest.mark.parametrize(
    ("name", "options", "error"),
    [
        ("htp", choice.Options(), "there is no callee 'htp'"),
        ("sim", choice.Options(url="http://127.0.0.1:1", model="m"), "url is for callee=mcp"),
        ("mcp", choice.Options(url="http://127.0.0.1:1"), "url and model go together"),
        ("mcp", choice.Options(model="m"), "url and model go together"),
    ],
)
def test_a_callee_that_is_none_is_refused(name: str, options: choice.Options, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        choice.callee(name, settings.read(), options)


def test_a_trace_tells_each_call_and_the_totals(fake: FakeCallee, monkeypatch: pytest.MonkeyPatch) -> None:
    right = fake.measure

    async def told(task: Task) -> Measured:
        measured = await right(task)
        for index, ((row, col), one) in enumerate(zip(task.grid.pairs, measured.calls, strict=True)):
            assert fake.trace is not None
            took = one.seconds or 0.0
            fake.trace(Call(one.ended_s, index, (row, col), ok=True, seconds=took, row=row, column=col))
        return measured

    monkeypatch.setattr(fake, "measure", told)
    result = call("trace", "--scenario", "all", "--strategy", "parallel")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert "scenario all · parallel · http" in lines[0]
    assert sum("vibration" in line for line in lines) == 2
    assert any("6 calls in" in line for line in lines)
    assert lines[-1].startswith(" the service ran 20 × as fast")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.usefixtures("with_hangup")
def test_a_trace_that_is_stopped_adds_up_what_it_told(fake: FakeCallee, number: signal.Signals, status: int) -> None:
    async def stopped(task: Task) -> Measured:
        assert fake.trace is not None
        fake.trace(Call(2.0, 0, None, ok=True, seconds=2.0))
        signal.raise_signal(number)
        await asyncio.Event().wait()
        raise AssertionError

    fake.measure = stopped  # type: ignore[method-assign]
    result = call("trace", "--scenario", "all")
    assert result.exit_code == status
    assert "1 calls in 2.0 s: 1 ok, 0 failed" in result.stdout


def test_a_trace_of_what_failed_exits_1(fake: FakeCallee, monkeypatch: pytest.MonkeyPatch) -> None:
    right = fake.measure

    async def failed(task: Task) -> Measured:
        return msgspec.structs.replace(await right(task), error="DispatchError: the tool fell over")

    monkeypatch.setattr(fake, "measure", failed)
    result = call("trace", "--scenario", "all")
    assert result.exit_code == 1
    assert result.stderr.splitlines() == ["error: DispatchError: the tool fell over"]


def test_a_trace_of_an_unknown_scenario_lists_them(fake: FakeCallee) -> None:
    result = call("trace", "--scenario", "9")
    assert result.exit_code == 2
    assert result.stderr.splitlines()[1].strip() == "there are all, temperatures"
