"""The engine as Python drives it: phases with their own requests, a load issued from outside, completions."""

import asyncio
import json
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from loadgen import _core

PATIENCE_S = 60.0
BODIES = [b'{"model":"mock","prompt":"p","messages":[{"role":"user","content":"%d"}]}' % i for i in range(3)]


@pytest.fixture
def server() -> Iterator[_core.MockServer]:
    with _core.MockServer(json.dumps({"output_tokens": 4, "gap": 0.1})) as server:
        yield server


@contextmanager
def engine(server: _core.MockServer, directory: Path, **told: Any) -> Iterator[_core.Engine]:
    """Start an engine on a directory of its own, and finish it at the end."""
    config: dict[str, Any] = {
        "url": server.url,
        "timeout_s": 30.0,
        "connect_timeout_s": 5.0,
        "stall_timeout_s": 20.0,
        "workers": 2,
        "dir": str(directory),
        "meta": {"id": "test"},
    }
    started = _core.Engine(json.dumps(config | told))
    try:
        yield started
    finally:
        started.finish()


def begin(engine: _core.Engine, **told: Any) -> None:
    phase = {"name": "main", "load": {"kind": "manual"}, "drain_timeout_s": 30.0}
    engine.begin(json.dumps(phase | told), _core.Bodies(BODIES))


def end(engine: _core.Engine) -> dict[str, Any]:
    told = engine.wait(PATIENCE_S)
    assert told is not None
    found: dict[str, Any] = json.loads(told)
    return found


async def completion(engine: _core.Engine) -> Any:
    """Wait on the event loop, as an issuer does, for the one request in flight."""
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(engine.fileno(), readable.set)
    try:
        async with asyncio.timeout(PATIENCE_S):
            await readable.wait()
    finally:
        loop.remove_reader(engine.fileno())
    [told] = engine.take_completions()
    return told


def test_an_event_loop_issues_requests_and_learns_of_each_end(server: _core.MockServer, tmp_path: Path) -> None:
    async def converse(engine: _core.Engine) -> list[Any]:
        told: list[Any] = []
        for sample in (2, None, 0):
            assert engine.issue(sample) == len(told)
            told.append(await completion(engine))
        return told

    with engine(server, tmp_path) as run:
        begin(run, completions="answers")
        start = run.start_ns(PATIENCE_S)
        told = asyncio.run(converse(run))
        run.end_issue()
        account = end(run)
    assert account["counts"] == {"issued": 3, "ok": 3, "failed": 0, "cancelled": 0, "reconnects": 0}
    assert [(request, phase, sample) for request, phase, sample, *_ in told] == [(0, 0, 2), (1, 0, 1), (2, 0, 0)]
    for told_one in told:
        failure, detail, status, finish, tokens_in, tokens_out = told_one[3:9]
        assert (failure, detail, status, finish, tokens_out) == ("none", "none", 200, "stop", 4)
        assert tokens_in > 0
        planned, sent, first_token, done = told_one[12:16]
        assert start is not None
        assert start <= planned <= sent <= first_token <= done
        text, reasoning, error, node, retry_after_ns = told_one[16:]
        assert (node, retry_after_ns) == (0, None)
        assert text
        assert (reasoning, error) == (None, None)
    assert run.issue() is None, "a run that has finished takes no more"


def test_a_batch_of_completions_is_whole_when_the_phase_has_ended(server: _core.MockServer, tmp_path: Path) -> None:
    with engine(server, tmp_path) as run:
        begin(run, completions="ids", requests=200)
        issued = [run.issue() for _ in range(202)]
        assert issued == [*range(200), None, None]
        assert end(run)["reason"] == "requests"
        told = run.take_completions()
        assert run.take_completions() == []
        assert not select.select([run.fileno()], [], [], 0)[0]
    assert sorted(request for request, *_ in told) == list(range(200))
    assert {(failure, text) for _, _, _, failure, *_, text, _, _ in told} == {("none", None)}


def test_a_failure_is_told_with_its_class_and_the_servers_words(tmp_path: Path) -> None:
    with (
        _core.MockServer(json.dumps({"error_rate": 1.0})) as server,
        engine(server, tmp_path, stream=False) as run,
    ):
        begin(run, completions="answers", stop_early=False)
        assert run.issue() == 0
        run.end_issue()
        assert end(run)["counts"]["failed"] == 1
        [told] = run.take_completions()
    assert told[3] == "http"
    assert told[5] >= 400
    assert (told[14], told[16]) == (None, None)
    assert str(told[18]).startswith(f"HTTP {told[5]}")


def test_each_phase_makes_its_own_requests(server: _core.MockServer, tmp_path: Path) -> None:
    load = {"kind": "concurrency", "n": 2}
    requests = [{}, {"api": "completions", "stream": False, "headers": [["x-key", "canary-header"]]}]
    with engine(server, tmp_path) as run:
        for index, request in enumerate(requests):
            begin(run, name=f"phase {index}", load=load, requests=5, request=request)
            assert end(run)["counts"]["ok"] == 5
    truth = json.loads(server.truth())
    summary = json.loads(_core.summarise(tmp_path, "{}"))
    shown = [phase["config"]["request"] for phase in summary["phases"]]
    assert [(request["api"], request["stream"]) for request in shown] == [("chat", True), ("completions", False)]
    assert [phase["metrics"]["ttft"] is not None for phase in summary["phases"]] == [True, False]
    assert truth["requests"] == 10
    assert b"canary-header" not in (tmp_path / "run.log").read_bytes()


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({"max_concurrency": 3}, "max_concurrency on a manual load"),
        ({"request": {"url": "http://h"}}, "unknown field `url`"),
        ({"request": {"headers": [["Content-Length", "1"]]}}, "set by loadgen itself"),
        ({"completions": "some"}, "unknown variant `some`"),
    ],
)
def test_what_a_phase_cannot_have_is_refused(
    server: _core.MockServer, tmp_path: Path, told: dict[str, Any], words: str
) -> None:
    with engine(server, tmp_path) as run:
        with pytest.raises(ValueError, match=words):
            begin(run, **told)
        begin(run)
        with pytest.raises(ValueError, match="sample 3 of 3"):
            run.issue(3)
        run.end_issue()
        end(run)


def test_only_a_manual_phase_is_issued_from_outside(server: _core.MockServer, tmp_path: Path) -> None:
    with engine(server, tmp_path) as run:
        begin(run, load={"kind": "burst", "n": 1})
        with pytest.raises(RuntimeError, match="only a phase whose load is manual"):
            run.issue()
        with pytest.raises(RuntimeError, match="only a phase whose load is manual"):
            run.end_issue()
        assert end(run)["counts"]["ok"] == 1
        assert run.take_completions() == []
