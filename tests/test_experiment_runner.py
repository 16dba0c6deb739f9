"""The experiment's runner and its files: order, resuming, several processes, and what can't be gone on with."""

import itertools
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from experiment_fakes import FakeCallee, fetch, record, small
from loadgen.dispatch.experiment import store
from loadgen.dispatch.experiment.callees import Task
from loadgen.dispatch.experiment.catalogue import Catalogue
from loadgen.dispatch.experiment.measured import Measured
from loadgen.dispatch.experiment.record import Cell
from loadgen.dispatch.experiment.runner import Experiment, Plan, Progress
from loadgen.dispatch.experiment.settings import Scenario, Sources
from loadgen.dispatch.experiment.store import Store
from loadgen.errors import ConfigError, DispatchError

PROCESS = [sys.executable, str(Path(__file__).with_name("experiment_process.py"))]
LIMIT_S = 60


def experiment(out: Path, callee: FakeCallee | None = None, **plan: object) -> Experiment:
    return Experiment(callee or FakeCallee(), out, small(), Plan(**{"runs": 2, **plan}), fetch=fetch)  # type: ignore[arg-type]


def test_every_strategy_runs_each_scenario_as_often_as_asked(tmp_path: Path) -> None:
    callee = FakeCallee()
    summed = experiment(tmp_path, callee).run()
    pairs = itertools.product(("all", "temperatures"), [strategy.name for strategy in small().strategies])
    assert Counter((task.cell.scenario, task.cell.strategy) for task in callee.tasks) == dict.fromkeys(pairs, 2)
    assert {len(task.grid.pairs) for task in callee.tasks} == {6, 2}
    assert [row.runs for row in summed.rows] == [2] * 10


def test_the_order_of_strategies_is_shuffled_by_the_seed(tmp_path: Path) -> None:
    def order(seed: int) -> list[Cell]:
        return experiment(tmp_path, seed=seed, runs=5).cells()

    assert order(1) == order(1)
    assert order(1) != order(2)
    by_run = [[cell.strategy for cell in order(1) if (cell.run, cell.scenario) == (run, "all")] for run in range(1, 6)]
    assert len({tuple(names) for names in by_run}) > 1
    assert {frozenset(names) for names in by_run} == {frozenset(s.name for s in small().strategies)}


def test_strategies_of_one_run_meet_the_same_service_and_runs_another(tmp_path: Path) -> None:
    callee = FakeCallee()
    experiment(tmp_path, callee).run()
    seeds: dict[tuple[int, str], set[int]] = {}
    for task in callee.tasks:
        seeds.setdefault((task.cell.run, task.cell.scenario), set()).add(task.seed)
    assert {len(found) for found in seeds.values()} == {1}
    assert len({seed for found in seeds.values() for seed in found}) == len(seeds)


def test_what_has_a_record_is_not_run_again(tmp_path: Path) -> None:
    experiment(tmp_path, strategies=("hedged",)).run()
    callee = FakeCallee()
    summed = experiment(tmp_path, callee, strategies=("hedged", "sequential")).run()
    assert {task.cell.strategy for task in callee.tasks} == {"sequential"}
    assert sum(row.runs for row in summed.rows) == 8


def test_a_failed_run_is_a_record_too(tmp_path: Path) -> None:
    class Failing(FakeCallee):
        async def measure(self, task: Task) -> Measured:
            return msgspec.structs.replace(await super().measure(task), error="DispatchError: the tool fell over")

    summed = experiment(tmp_path, Failing(), strategies=("auto",)).run()
    assert [(row.runs, row.ok) for row in summed.rows] == [(2, 0), (2, 0)]
    assert summed.problems == ("auto: 4 of 4 runs have a cell without a real answer",)
    callee = FakeCallee()
    experiment(tmp_path, callee, strategies=("auto",)).run()
    assert callee.tasks == []


def test_a_callee_that_can_not_be_measured_ends_the_experiment_and_keeps_what_was(tmp_path: Path) -> None:
    class Ending(FakeCallee):
        async def measure(self, task: Task) -> Measured:
            if len(self.tasks) == 3:
                raise DispatchError("the mock server is gone")
            return await super().measure(task)

    with pytest.raises(DispatchError, match="the mock server is gone"):
        experiment(tmp_path, Ending()).run()
    assert len(Store(tmp_path / "sim").records()) == 3


def test_each_cell_is_told_when_it_begins_and_when_it_has_ended(tmp_path: Path) -> None:
    told: list[Progress] = []
    plan = Plan(strategies=("auto",), scenarios=("all",), runs=2)
    Experiment(FakeCallee(), tmp_path, small(), plan, told=told.append, fetch=fetch).run()
    assert [(p.done, p.of, p.cell and p.cell.run, p.record is None) for p in told] == [
        (0, 2, 1, True),
        (1, 2, 1, False),
        (1, 2, 2, True),
        (2, 2, 2, False),
    ]
    # The next time only the run that is new; what needs no running any more is told first.
    told.clear()
    Experiment(
        FakeCallee(), tmp_path, small(), msgspec.structs.replace(plan, runs=3), told=told.append, fetch=fetch
    ).run()
    assert [(p.done, p.of, p.cell and p.cell.run) for p in told] == [(2, 3, None), (2, 3, 3), (3, 3, 3)]


def test_a_scenario_that_keeps_nothing_is_an_error_before_anything_runs(tmp_path: Path) -> None:
    empty = msgspec.structs.replace(small(), scenarios=(Scenario("all"), Scenario("x", sensors=("flow", "sound"))))
    callee = FakeCallee()
    with pytest.raises(DispatchError, match="scenario x keeps no sensor of pump") as raised:
        Experiment(callee, tmp_path, empty, fetch=fetch).run()
    assert raised.value.way_out == "none of oil temperature, outlet temperature, vibration holds 'flow' or 'sound'"
    assert callee.tasks == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"service": "R4"}, 'service was "R0" and is "R4"'),
        ({"time_scale": 0.05}, "time_scale was 1.0 and is 0.05"),
    ],
)
def test_records_of_another_experiment_are_never_added_to(tmp_path: Path, change: dict[str, object], said: str) -> None:
    experiment(tmp_path, strategies=("auto",)).run()
    before = (tmp_path / "sim" / store.RUNS).read_bytes()
    with pytest.raises(ConfigError, match="holds another experiment") as raised:
        experiment(tmp_path, FakeCallee(**change)).run()  # type: ignore[arg-type]
    assert said in raised.value.message
    assert "--out DIR" in raised.value.way_out
    assert (tmp_path / "sim" / store.RUNS).read_bytes() == before


def test_other_sensors_are_another_experiment(tmp_path: Path) -> None:
    experiment(tmp_path, strategies=("auto",)).run()

    async def fewer(sources: Sources) -> Catalogue:
        return Catalogue("pump", ("vibration", "oil temperature"), {"bearing wear": "it shakes"})

    with pytest.raises(ConfigError, match="another experiment: catalogue"):
        Experiment(FakeCallee(), tmp_path, small(), fetch=fewer).run()


def test_colours_and_published_times_are_no_other_experiment(tmp_path: Path) -> None:
    experiment(tmp_path, strategies=("auto",)).run()
    other = msgspec.structs.replace(
        small(),
        published={},
        strategies=tuple(msgspec.structs.replace(s, colour="#000000") for s in small().strategies),
    )
    Experiment(FakeCallee(), tmp_path, other, Plan(strategies=("auto",), runs=2), fetch=fetch).run()


def test_the_files_are_private(tmp_path: Path) -> None:
    experiment(tmp_path / "out", strategies=("auto",)).run()
    directory = tmp_path / "out" / "sim"
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


def test_a_file_where_the_directory_should_be(tmp_path: Path) -> None:
    (tmp_path / "sim").write_text("")
    with pytest.raises(ConfigError, match="can't write the experiment to"):
        experiment(tmp_path).run()


# --- several processes


def test_two_processes_share_the_work_and_lose_or_tear_no_line(tmp_path: Path) -> None:
    running = [subprocess.Popen([*PROCESS, str(tmp_path), "12"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=LIMIT_S)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    cells = 12 * len(small().scenarios) * len(small().strategies)
    assert said == [f"{cells}\n"] * 2
    lines = (tmp_path / "sim" / store.RUNS).read_text().splitlines()
    found = Counter((one["run"], one["scenario"], one["strategy"]) for one in map(json.loads, lines))
    assert len(found) == cells
    assert set(found.values()) == {1}


def test_appends_from_many_threads_are_whole_lines(tmp_path: Path) -> None:
    """Each opens the file anew, so its lock is against the others' too."""
    kept = Store.open(tmp_path, {})
    wide = msgspec.structs.replace(record(Cell(1, "s", "auto")), error="x" * 200_000)

    def write(strategy: str) -> None:
        for run in range(1, 11):
            kept.append(msgspec.structs.replace(wide, run=run, strategy=strategy))

    threads = [threading.Thread(target=write, args=(f"s{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept.records()) == 40
    assert kept.damaged == 0


def test_after_a_kill_in_the_middle_of_a_line_the_rest_is_run_and_nothing_twice(tmp_path: Path) -> None:
    killed = subprocess.run([*PROCESS, str(tmp_path), "3", "20"], check=False, timeout=LIMIT_S, capture_output=True)
    assert killed.returncode == -9
    kept = Store(tmp_path / "sim")
    assert len(kept.records()) == 20
    before = {cell.cell: cell.started_at for cell in kept.records()}
    done = subprocess.run([*PROCESS, str(tmp_path), "3"], check=True, timeout=LIMIT_S, capture_output=True)
    cells = 3 * len(small().scenarios) * len(small().strategies)
    assert done.stdout.decode() == f"{cells}\n"
    after = {cell.cell: cell.started_at for cell in kept.records()}
    assert len(after) == cells
    assert before.items() <= after.items()
    assert kept.damaged == 0
    assert (kept.directory / store.RUNS).read_bytes().count(b"\n") == cells


def test_a_cell_that_another_process_is_at_is_left_to_it(tmp_path: Path) -> None:
    kept = Store.open(tmp_path, {})
    script = (
        "import sys; from pathlib import Path; from loadgen.dispatch.experiment.store import Store\n"
        "with Store(Path(sys.argv[1])).claimed(7) as ours:\n    print(ours, flush=True); sys.stdin.read()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == "True\n"
        with kept.claimed(7) as ours, kept.claimed(8) as next_one:
            assert (ours, next_one) == (False, True)
        other.stdin.close()
    with kept.claimed(7) as ours:
        assert ours


# --- the file


def test_a_line_that_is_no_record_is_counted_and_passed_over(tmp_path: Path) -> None:
    kept = Store.open(tmp_path, {})
    kept.append(record(Cell(1, "106", "auto")))
    with (tmp_path / store.RUNS).open("ab") as file:
        file.write(b'{"no": "record"}\n\xff\xfe\n')
    kept.append(record(Cell(2, "106", "auto")))
    assert [one.run for one in kept.records()] == [1, 2]
    assert kept.damaged == 2


def test_a_full_disk_is_named_and_what_was_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Store.open(tmp_path, {})
    kept.append(record(Cell(1, "106", "auto")))
    before = (tmp_path / store.RUNS).read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DispatchError, match=r"can't add run 2, scenario 106, auto to .*: No space left on device"):
        kept.append(record(Cell(2, "106", "auto")))
    assert (tmp_path / store.RUNS).read_bytes() == before


def test_a_manifest_that_is_none_says_which_file(tmp_path: Path) -> None:
    (tmp_path / store.MANIFEST).write_text("{")
    with pytest.raises(ConfigError, match=r"experiment\.json can't be read"):
        Store.open(tmp_path, {})
