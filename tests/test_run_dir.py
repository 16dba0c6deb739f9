"""Directories of runs: where a run's files go, whose they are, and how a run is found again."""

import os
from pathlib import Path
from types import ModuleType

import pytest

import loadgen
from loadgen import private_file
from loadgen.errors import ConfigError, ReportError
from loadgen.session import run_dir

pytest_plugins = ["surface_fixtures"]


def test_a_directory_of_ones_own_is_used_as_it_is(core: ModuleType, here: Path) -> None:
    result = loadgen.run("mock:", out="deep/er/mine")
    assert result.dir == Path("deep/er/mine")
    with pytest.raises(ConfigError, match="holds a run already"):
        loadgen.run("mock:", out="deep/er/mine")


def test_where_a_run_can_not_be_written_is_said(core: ModuleType, here: Path) -> None:
    (here / "file").write_text("")
    for out in ("file", "file/below"):
        with pytest.raises(ConfigError, match="a file stands in the way"):
            loadgen.run("mock:", out=out)
    assert (here / "file").read_text() == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_said(core: ModuleType, here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        loadgen.run("mock:", out="locked/run")


def test_a_lock_is_not_followed_through_a_link(here: Path) -> None:
    (here / "victim").write_text("keep")
    (here / "run").mkdir()
    (here / "run" / ".lock").symlink_to(here / "victim")
    with pytest.raises(ConfigError, match="can't write the run"):
        run_dir.create("run")
    assert (here / "victim").read_text() == "keep"


def test_a_directory_belongs_to_one_run_at_a_time(here: Path) -> None:
    with run_dir.create("mine") as mine:
        assert run_dir.is_running(mine.path)
        with pytest.raises(ConfigError, match="still going"):
            run_dir.create("mine")
    assert not run_dir.is_running(mine.path)


def make(name: str) -> Path:
    path = run_dir.RUNS / name
    path.mkdir(parents=True)
    (path / "run.log").write_text("")
    return path


def test_a_run_is_found_by_path_by_id_and_by_age(here: Path) -> None:
    old, new = make("20260101T000000Z-aa11"), make("20260102T000000Z-ab22")
    assert run_dir.find(None) == new
    assert run_dir.find("aa") == old
    assert run_dir.find("20260102") == new
    assert run_dir.find(str(old)) == old
    with pytest.raises(ReportError, match="2 runs begin with a"):
        run_dir.find("a")
    with pytest.raises(ReportError, match="no run in loadgen-runs begins with zz"):
        run_dir.find("zz")
    with pytest.raises(ReportError, match="there is no directory"):
        run_dir.find("./no")


def test_without_runs_the_way_to_one_is_shown(here: Path) -> None:
    with pytest.raises(ReportError) as caught:
        run_dir.find(None)
    assert "loadgen run mock:" in caught.value.way_out


def test_a_file_is_written_in_full_or_not_at_all(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = here / "report.json"
    private_file.write(target, b"one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        private_file.write(target, b"two")
    assert target.read_bytes() == b"one"
    assert [file.name for file in here.iterdir()] == ["report.json"]
