"""The command line in a process of its own: signals, a reader that goes away, and what an import brings along."""

import importlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytest_plugins = ["surface_fixtures"]

TESTS = Path(__file__).parent
DRIVER = [sys.executable, str(TESTS / "with_fake_core.py")]


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("OPENAI_API_KEY", "COLUMNS", "NO_COLOR")}
    return {**kept, "PYTHONPATH": str(TESTS), **extra}


def start(here: Path, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*DRIVER, *args],
        cwd=here,
        env=environment(FAKE_POLLS="hold"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.usefixtures("with_hangup")
def test_a_signal_ends_the_run_with_its_report_and_its_status(here: Path, number: signal.Signals, status: int) -> None:
    process = start(here, "run", "mock:")
    assert process.stdout is not None
    assert process.stdout.readline() == "polled\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    assert "INTERRUPTED: stopped by" in out
    report = json.loads(next(here.rglob("report.json")).read_text())
    assert (report["run"]["status"], report["run"]["reason"]) == ("interrupted", number.name)
    assert "Traceback" not in err


def test_a_hangup_that_nohup_ignores_ends_nothing(here: Path) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        process = start(here, "run", "mock:")
    finally:
        signal.signal(signal.SIGHUP, before)
    assert process.stdout is not None
    assert process.stdout.readline() == "polled\n"
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143, err
    assert json.loads(next(here.rglob("report.json")).read_text())["run"]["reason"] == "SIGTERM"


def test_a_signal_before_anything_is_sent_leaves_nothing(here: Path) -> None:
    os.mkfifo(here / "slow.jsonl")  # reading the configuration waits for a writer that never comes
    (here / "load.yaml").write_text("dataset: slow.jsonl\n")
    code = (
        "import fake_core, os, signal; fake_core.install()\n"
        "import loadgen.session.prepare as prepare\n"
        "prepare.plan = lambda *_, **__: os.kill(os.getpid(), signal.SIGTERM)\n"
        "import sys; sys.argv = ['loadgen', 'run', 'mock:']\n"
        "from loadgen.cli import main; main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=here,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 143
    assert done.stderr == "error: stopped before anything was sent\n"
    assert not (here / "loadgen-runs").exists()


def test_a_reader_that_goes_away_ends_the_report_quietly(here: Path) -> None:
    subprocess.run([*DRIVER, "run", "mock:"], cwd=here, env=environment(), capture_output=True, check=True)
    process = subprocess.Popen(
        [*DRIVER, "report", "--json"], cwd=here, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_python_m_loadgen_is_the_same_command(here: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "loadgen", "--version"], env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("loadgen ")


HEAVY = {"zmq", "asyncio", "yaml", "rich", "click", "msgspec", "numpy", "loadgen.session", "loadgen.config"}


def loaded(code: str) -> set[str]:
    code = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_loadgen_imports_nothing_heavy() -> None:
    assert loaded("import loadgen") & HEAVY == set()
    assert loaded("import loadgen; loadgen.ConfigError") & (HEAVY - {"loadgen.errors"}) == set()


def test_a_runs_way_to_its_first_request_imports_no_terminal_library() -> None:
    names = loaded("import loadgen.cli, loadgen.cli.run, loadgen.session.runner")
    assert names & {"rich", "yaml", "zmq", "asyncio", "loadgen.report.screen"} == set()


def test_what_few_runs_use_is_imported_by_those() -> None:
    names = loaded("import loadgen.cli, loadgen.cli.run, loadgen.session.runner")
    few = {"dataset.records", "metrics.snapshot", "metrics.registry", "session.mock", "session.scoring.named"}
    assert names & {f"loadgen.{name}" for name in few} == set()


PACKAGES = ("", ".dataset", ".dispatch", ".metrics", ".node", ".session.scoring")


@pytest.mark.parametrize("package", [f"loadgen{room}" for room in PACKAGES])
def test_a_packages_names_are_imported_when_they_are_first_used(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nope'"):
        _ = module.nope
