"""A batch that was killed goes on where it was: the command line, a real server, and ``kill -9``."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from journal_support import finished, requests, wait_for
from loadgen import Dispatcher, _core
from loadgen.dispatch import Journal

ITEMS = 120


@pytest.fixture
def server() -> Iterator[_core.MockServer]:
    with _core.MockServer(json.dumps({"ttft": 20.0, "gap": 0.0, "output_tokens": 2})) as server:
        yield server


def command(server: _core.MockServer, here: Path, *more: str) -> list[str]:
    (here / "items.txt").write_text("".join(f"question {n}\n" for n in range(ITEMS)))
    return [
        sys.executable, "-m", "loadgen", "dispatch", "run", server.url, "--items", str(here / "items.txt"),
        "--strategy", "parallel", "--workers", "4", "--journal", str(here / "j"), "--out", str(here / "o"), *more,
    ]  # fmt: skip


def test_killed_in_the_middle_only_the_rest_is_called_again(server: _core.MockServer, tmp_path: Path) -> None:
    with subprocess.Popen(command(server, tmp_path, "--quiet")) as first:
        wait_for(lambda: finished(tmp_path / "j") >= 20)
        first.kill()
    assert first.returncode == -signal.SIGKILL
    assert not (tmp_path / "o").exists()
    had, before = finished(tmp_path / "j"), requests(server)
    assert 20 <= had < ITEMS
    second = subprocess.run(command(server, tmp_path), capture_output=True, text=True, check=False)
    assert second.returncode == 0, second.stderr
    assert requests(server) - before == ITEMS - had
    answers = [json.loads(line) for line in (tmp_path / "o").read_text().splitlines()]
    assert [one["item"] for one in answers] == [f"question {n}" for n in range(ITEMS)]
    assert all(one["ok"] and one["value"] for one in answers)
    assert sum(one.get("restored", False) for one in answers) == had
    assert f"{had} from the journal" in second.stdout


def test_interrupted_it_keeps_the_answers_and_says_how_to_go_on(server: _core.MockServer, tmp_path: Path) -> None:
    with subprocess.Popen(command(server, tmp_path), stderr=subprocess.PIPE, text=True) as first:
        wait_for(lambda: finished(tmp_path / "j") >= 20)
        first.send_signal(signal.SIGINT)
        _, said = first.communicate(timeout=60)
    assert first.returncode == 130
    answers = (tmp_path / "o").read_text().splitlines()
    had = finished(tmp_path / "j")
    assert len(answers) == had
    assert f"error: stopped when {had} of {ITEMS} calls had an answer" in said
    assert f"what finished is in {tmp_path / 'j'}: run it again" in said
    second = subprocess.run(command(server, tmp_path, "--json"), capture_output=True, text=True, check=True)
    summary = json.loads(second.stdout)
    assert (summary["ok"], summary["restored"], summary["sent"]) == (ITEMS, had, ITEMS - had)


def test_while_another_batch_writes_the_journal_nothing_is_sent(server: _core.MockServer, tmp_path: Path) -> None:
    with Journal(tmp_path / "j").open():
        ended = subprocess.run(command(server, tmp_path), capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert f"error: the journal {tmp_path / 'j'} is being written by another batch" in ended.stderr
    assert requests(server) == 0
    assert not (tmp_path / "o").exists()


def test_another_model_is_another_batch(tmp_path: Path) -> None:
    with _core.MockServer(json.dumps({"models": ["one", "other"], "gap": 0.0, "output_tokens": 2})) as server:
        of_one = command(server, tmp_path, "--quiet", "--model", "one")
        assert subprocess.run(of_one, check=False).returncode == 0
        of_other = command(server, tmp_path, "--model", "other")
        other = subprocess.run(of_other, capture_output=True, text=True, check=False)
        assert other.returncode == 2
        assert 'is of another configuration: model was "one", and now is "other"' in other.stderr
        assert requests(server) == ITEMS


def test_a_key_is_in_no_file(server: _core.MockServer, tmp_path: Path) -> None:
    environment = {**os.environ, "OPENAI_API_KEY": "canary-key"}
    ended = subprocess.run(
        command(server, tmp_path, "--extra-body", '{"user": "${OPENAI_API_KEY}"}'),
        env=environment, capture_output=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0
    for path in [path for path in tmp_path.rglob("*") if path.is_file()]:
        assert b"canary" not in path.read_bytes(), path
    assert b"canary" not in ended.stdout + ended.stderr


def test_a_journal_of_requests_keeps_references_not_what_they_stand_for(
    server: _core.MockServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USER_TOKEN", "canary-token")
    dispatcher = Dispatcher("parallel", journal=Journal(tmp_path / "j", config={"prompt": "v1"}), progress=False)
    for restored in (0, 2):
        batch = dispatcher.requests(["a", "b"], url=server.url, model="mock", extra_body={"user": "${USER_TOKEN}"})
        assert batch.ok
        assert batch.totals["restored"] == restored
    head = json.loads((tmp_path / "j").read_bytes().splitlines()[0])
    assert head["config"]["extra_body"] == {"user": "${USER_TOKEN}"}
    assert head["config"]["prompt"] == "v1"
    assert b"canary" not in (tmp_path / "j").read_bytes()
