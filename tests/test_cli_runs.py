"""``loadgen ls`` and ``loadgen clean``: the runs there are, and their removal."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from cli_support import call, errors
from loadgen.cli import app
from loadgen.cli.clean import choose
from loadgen.metrics import MetricsRegistry
from loadgen.session import describe, run_dir

pytest_plugins = ["surface_fixtures"]


def test_ls_lists_runs_with_what_a_person_asks_first(core: ModuleType, here: Path) -> None:
    call("run", "mock:?ttft=5", "--rate", "5", "--requests", "7")
    lines = call("ls").stdout.splitlines()
    assert lines[0].split() == ["id", "when", "(UTC)", "target", "load", "ok", "failed", "TTFT", "p50", "p99", "status"]
    assert "mock:?ttft=5" in lines[1]
    assert "Poisson 5 req/s" in lines[1]
    assert lines[1].endswith("complete")
    (row,) = json.loads(call("ls", "--json").stdout)
    assert (row["ok"], row["failed"], row["status"]) == (7, 0, "complete")


def test_ls_survives_whatever_lies_among_the_runs(core: ModuleType, here: Path) -> None:
    runs = here / "loadgen-runs"
    (runs / "20260101T000000Z-aa11").mkdir(parents=True)
    (runs / "20260101T000000Z-aa11" / "report.json").write_text('{"schema": 1, "run": {}}')
    (runs / "notes").mkdir()
    (runs / "file").write_text("")
    (runs / "link").symlink_to(here)
    (runs / "\x1b[2J").mkdir()
    (runs / "\x1b[2J" / "run.log").write_text("")
    result = call("ls")
    assert result.exit_code == 0
    assert len(result.stdout.splitlines()) == 3
    assert "unreadable" in result.stdout
    assert "killed" in result.stdout
    assert "\x1b" not in result.output


def make(*names: str) -> list[Path]:
    paths = [run_dir.RUNS / name for name in names]
    for path in paths:
        path.mkdir(parents=True)
        (path / "run.log").write_text("x" * 1000)
    return paths


def test_clean_wants_to_know_which_and_asks_before_it_removes(here: Path) -> None:
    old, new = make("20260101T000000Z-aa11", "20260102T000000Z-bb22")
    assert call("clean").exit_code == 2
    refusal = call("clean", "--keep", "1", stdin="n\n")
    assert refusal.exit_code == 1
    assert "Remove 1 run, 1.0 kB? [y/N]" in refusal.stdout
    assert old.exists()
    unasked = call("clean", "--keep", "1", stdin="")
    assert unasked.exit_code == 2
    assert errors(unasked) == ["error: nobody answers: standard input has ended", "       --yes removes without asking"]
    assert old.exists()
    assert call("clean", "--keep", "1", stdin="y\n").exit_code == 0
    assert (old.exists(), new.exists()) == (False, True)


def test_clean_interrupted_while_it_asks_removes_nothing(here: Path) -> None:
    class Interrupted(io.BytesIO):
        def read1(self, *_: int | None) -> bytes:
            raise KeyboardInterrupt

    (run,) = make("20260101T000000Z-aa11")
    result = CliRunner().invoke(app, ["clean", "--keep", "0"], prog_name="loadgen", input=Interrupted())
    assert (result.exit_code, errors(result)) == (130, [])
    assert run.exists()


def test_clean_removes_nothing_that_no_run_wrote(here: Path) -> None:
    (run,) = make("20260101T000000Z-aa11")
    (run / "thesis.tex").write_text("mine")
    (here / "elsewhere").mkdir()
    (here / "elsewhere" / "run.log").write_text("")
    (run_dir.RUNS / "link").symlink_to(here / "elsewhere")
    (run_dir.RUNS / "notes").mkdir()
    result = call("clean", "--keep", "0", "--yes")
    assert result.exit_code == 1
    assert "a file of somebody else's stays, 'thesis.tex'\n" in result.stderr
    assert [path.name for path in run.iterdir()] == ["thesis.tex"]
    assert (here / "elsewhere" / "run.log").exists()
    assert (run_dir.RUNS / "notes").exists()


def test_clean_leaves_a_run_that_is_still_going(here: Path) -> None:
    with run_dir.create(str(run_dir.RUNS / "20260101T000000Z-aa11")) as going:
        (going.path / "run.log").write_text("")
        assert call("clean", "--keep", "0", "--yes").exit_code == 0
        assert going.path.exists()
    assert call("clean", "--keep", "0", "--yes").exit_code == 0
    assert not going.path.exists()


def test_ls_tells_of_a_running_run_what_its_live_metrics_do(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(here))
    phases = [
        describe.AboutPhase(name, kind, f"load of {name}") for name, kind in (("w", "warmup"), ("p", "performance"))
    ]
    with run_dir.create("elsewhere/mine", "aa11") as going, MetricsRegistry("aa11") as registry:
        (going.path / "run.log").write_text("")
        about = describe.About("m", "http://h:1", str(going.path.absolute()), 1, len(phases), phases)
        for phase in (0, 1):
            for name, count in (("ok", 5), ("failed", 2), ("issued", 9)):
                registry.counter(name, phase=phase).increment(count + phase)
        assert listed("elsewhere") == [None, None, None, None, "running"]  # it hasn't said yet what it is
        registry._segment.describe(describe.written(about))
        assert listed("elsewhere") == ["http://h:1", "load of p", 6, 3, "running"]
        # Nor has `top` only the directory's name to go by.
        seen = call("top", "elsewhere/mine", "--once").stdout
        assert " http://h:1" in seen
        assert max(map(len, seen.splitlines())) > 80
        monkeypatch.setenv("COLUMNS", "72")
        assert max(map(len, call("top", "elsewhere/mine", "--once").stdout.splitlines())) <= 72
    assert listed("elsewhere") == [None, None, None, None, "killed"]


def listed(below: str) -> list[Any]:
    (line,) = json.loads(call("ls", below, "--json").stdout)
    return [line[name] for name in ("target", "load", "ok", "failed", "status")]


def test_clean_removes_what_killed_runs_left_in_shared_memory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(here))
    killed = "import os; from loadgen import _core; kept = _core.Segment.create('killed'); os._exit(9)"
    assert subprocess.run([sys.executable, "-c", killed], check=False).returncode == 9
    with MetricsRegistry("going") as registry:
        result = call("clean", "--keep", "0", "--yes")
        assert re.search(r"removed the live metrics of \d+ killed runs?$", result.stderr, re.MULTILINE)
        assert [path.name for path in (here / "loadgen").iterdir()] == ["going.series"]
        assert registry.path == here / "loadgen" / "going.series"
    assert not list((here / "loadgen").iterdir())


def test_clean_chooses_by_number_and_by_age(here: Path) -> None:
    import datetime as dt

    paths = make(*(f"2026010{day}T000000Z-aa1{day}" for day in range(5, 0, -1)))
    now = dt.datetime(2026, 1, 6, tzinfo=dt.UTC)
    assert choose(paths, 2, None, now) == paths[2:]
    assert choose(paths, None, 3 * 86400.0, now) == paths[3:]
    assert choose(paths, 4, 3 * 86400.0, now) == paths[4:]
    assert "days are written 7d" in call("clean", "--older-than", "7x").stderr


def test_clean_asks_with_the_age_and_its_unit(here: Path) -> None:
    make("20260101T000000Z-aa11")
    asked = CliRunner().invoke(app, ["clean", "--older-than", "7"], input="n\n", prog_name="loadgen")
    assert asked.exit_code == 1
    assert "Remove 1 run older than 7 s, " in asked.output
    assert "removed 1 of 1 run older than 7 d, " in call("clean", "--older-than", "7d", "--yes").stderr
