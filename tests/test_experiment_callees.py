"""What stands between the experiment and its callees: the mock as a service, its process, the tool's trace file."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import urllib.parse
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadgen import _core
from loadgen.dispatch import regime
from loadgen.dispatch.experiment import choice, hardware, service, settings, timing, trace_file
from loadgen.dispatch.experiment.callees import Callee, Task
from loadgen.dispatch.experiment.callees.http import HttpCallee
from loadgen.dispatch.experiment.callees.sim import SimCallee
from loadgen.dispatch.experiment.catalogue import Grid
from loadgen.dispatch.experiment.measured import Attempt, Call, Measured
from loadgen.dispatch.experiment.record import Cell
from loadgen.dispatch.live import Call as Told
from loadgen.errors import ConfigError, DispatchError

R0 = {
    "latency": {"kind": "lognormal", "median_s": 3.0, "sigma": 0.35},
    "stall": {"share": 0.085, "low_s": 20.0, "high_s": 90.0, "of_item": 0.0},
    "error": {"share": 0.01, "after_s": 0.2, "status": 500},
}


def answers(url: str) -> bool:
    """Tell whether somebody listens there."""
    where = urllib.parse.urlsplit(url)
    try:
        with socket.create_connection((where.hostname or "", where.port or 0), timeout=10):
            return True
    except ConnectionError:
        return False


def test_a_service_becomes_a_mock_server_of_its_pace() -> None:
    assert service.config(R0, 0.05, 7) == {
        "seed": 7,
        "words": "prompt",
        "ttft": {"lognormal": {"median": pytest.approx(150), "sigma": 0.35}},
        "stall_rate": 0.085,
        "prompt_stall_rate": 0.0,
        "stall_time": {"uniform": {"low": 1000.0, "high": 4500.0}},
        "error_rate": 0.01,
        "error_status": 500,
    }


def test_limits_and_faults_of_a_service_are_the_mocks() -> None:
    described = {
        "latency": {"kind": "constant", "seconds": 2.0},
        "stall": {"share": 0.1, "low_s": 20.0, "high_s": 40.0, "of_item": 0.5},
        "slots": 24,
        "most": 60,
        "rate": {"per_s": 5.0, "burst": 20.0},
        "outages": [{"from_s": 60.0, "to_s": 90.0}],
    }
    assert service.config(described, 0.5, 0) == {
        "seed": 0,
        "words": "prompt",
        "ttft": 1000.0,
        "stall_rate": 0.05,
        "prompt_stall_rate": 0.05,
        "stall_time": {"uniform": {"low": 10_000.0, "high": 20_000.0}},
        "capacity": 24,
        "queue": 36,
        "queue_status": 500,
        "rate_limit": {"rps": 10.0, "burst": 20.0, "retry_after": "fraction"},
        "outages": [{"after": 30_000.0, "lasts": 15_000.0}],
    }


@pytest.mark.parametrize(
    "latency",
    [
        {"kind": "constant", "seconds": 3.0},
        {"kind": "uniform", "low_s": 1.0, "high_s": 2.0},
        {"kind": "lognormal", "median_s": 3.0, "sigma": 0.35},
    ],
)
def test_the_mock_takes_what_it_is_told(latency: dict[str, Any]) -> None:
    limits = {"slots": 4, "most": 9, "rate": {"per_s": 5.0, "burst": 2.0, "retry_after": False}}
    outages = {"outages": [{"from_s": 60.0, "to_s": 90.0}]}
    config = service.config({**R0, "latency": latency, **limits, **outages}, 0.05, 1)
    with _core.MockServer(json.dumps(config)) as server:
        assert server.url.startswith("http://127.0.0.1:")


def test_latencies_that_the_mock_can_not_draw_are_named() -> None:
    with pytest.raises(DispatchError, match="can't draw recorded latencies"):
        service.config({"latency": {"kind": "recorded", "seconds": [1.0]}}, 1.0, 0)


def test_the_mock_is_up_within_and_gone_afterwards() -> None:
    async def used() -> int:
        async with service.mock({"ttft": 0}) as mock:
            assert await asyncio.to_thread(answers, mock.url)
            return mock.pid

    pid = asyncio.run(used())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_mock_is_gone_also_when_the_work_within_fails() -> None:
    pids = []

    async def failing() -> None:
        async with service.mock({"ttft": 0}) as mock:
            pids.append(mock.pid)
            raise DispatchError("the work failed")

    with pytest.raises(DispatchError, match="the work failed"):
        asyncio.run(failing())
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_the_mock_goes_with_whoever_started_it() -> None:
    """Also after a kill, which runs no cleaning up: the end of its standard input is what it waits for."""
    script = (
        "import asyncio, os, signal\n"
        "from loadgen.dispatch.experiment import service\n"
        "async def main():\n"
        "    async with service.mock({}) as mock:\n"
        "        print(mock.url, flush=True)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == -9
    until = time.monotonic() + 20
    while answers(done.stdout.strip()):
        assert time.monotonic() < until, "the mock server is still there"
        time.sleep(0.02)


def test_a_mock_that_does_not_start_says_why() -> None:
    async def wrong() -> None:
        async with service.mock({"ttfd": 3}):
            pass

    with pytest.raises(DispatchError, match=r"the mock server did not start: .*ttfd"):
        asyncio.run(wrong())


# --- callees

GRID = Grid(("vibration", "oil temperature"), ("bearing wear", "leak", "fouling"), {})


def measure(callee: Callee, strategy: str, grid: Grid = GRID) -> Measured:
    return asyncio.run(callee.measure(Task(Cell(1, "106", strategy), grid, 7)))


def test_over_http_each_call_is_a_request_with_its_own_answer() -> None:
    told: list[Told] = []
    callee = HttpCallee({"latency": {"kind": "constant", "seconds": 0.4}}, trace=told.append)
    found = {name: measure(callee, name) for name in ("sequential", "hedged", "auto")}
    for measured in found.values():
        assert [call.error for call in measured.calls] == [None] * 6
        assert [[attempt.kind for attempt in call.attempts] for call in measured.calls] == [["first"]] * 6
        assert all(call.seconds is not None and call.seconds >= 0.02 for call in measured.calls)
    assert len({call.answer for call in found["auto"].calls}) == 6
    assert len({tuple(call.answer for call in measured.calls) for measured in found.values()}) == 1
    assert {(call.row, call.column) for call in told[:6]} == set(GRID.pairs)
    assert found["sequential"].wall_s >= 6 * 0.02


def test_over_http_what_stalls_is_hedged_after_the_scaled_delay() -> None:
    stalls = {
        "latency": {"kind": "constant", "seconds": 0.2},
        "stall": {"share": 0.5, "low_s": 12.0, "high_s": 13.0, "of_item": 1.0},
    }
    calls = measure(HttpCallee(stalls), "hedged").calls
    hedged = [call.attempts for call in calls if len(call.attempts) > 1]
    assert 0 < len(hedged) < 6
    for first, copy in hedged:
        assert (first.kind, copy.kind) == ("first", "hedge")
        assert copy.start_s - first.start_s >= 0.4


def test_in_virtual_time_a_grid_has_times_and_no_answers() -> None:
    told: list[Told] = []
    grid = Grid(tuple(f"sensor {n}" for n in range(9)), tuple(f"mode {n}" for n in range(7)), {})
    callee = SimCallee(regime.read("R0").described, trace=told.append)
    found = {name: measure(callee, name, grid) for name in ("sequential", "hedged")}
    sequential, hedged = found["sequential"], found["hedged"]
    assert sequential.wall_s == pytest.approx(sum(call.seconds or 0 for call in sequential.calls), rel=0.05)
    assert hedged.wall_s == pytest.approx(max(call.ended_s for call in hedged.calls))
    assert hedged.wall_s < sequential.wall_s / 3
    assert sum(attempt.kind == "hedge" for call in hedged.calls for attempt in call.attempts) > 0
    assert {call.answer for call in hedged.calls} == {None}
    assert [call.at_s for call in told[63:]] == sorted(call.ended_s for call in hedged.calls)
    assert measure(callee, "hedged", grid) == hedged


def test_an_unknown_service_is_named() -> None:
    with pytest.raises(ConfigError, match="R9"):
        choice.callee("http", settings.read(), choice.Options(service="R9"))


def test_a_service_may_be_written_down() -> None:
    callee = choice.callee("http", settings.read(), choice.Options(service="constant:2s;slots=3", speed=10))
    assert callee.describe()["service"] == {"latency": {"kind": "constant", "seconds": 2.0}, "slots": 3}
    assert callee.time_scale == 0.1


# --- scaled policies


def test_only_spans_and_rates_are_scaled() -> None:
    config = {
        "hedge": {"kind": "after", "after_s": 8.0, "copies": 1},
        "retry": {"base_s": 0.5, "budget": 0.2, "per_s": 1.0, "jitter": "full"},
        "breaker": None,
        "attempt_timeout_s": 90,
        "call_timeout_s": None,
    }
    assert timing.scaled(config, 0.05) == {
        "hedge": {"after_s": pytest.approx(0.4)},
        "retry": {"base_s": pytest.approx(0.025), "per_s": 20.0},
        "attempt_timeout_s": 4.5,
    }


@pytest.mark.parametrize("profile", [None, "fmsr"])
@pytest.mark.parametrize("strategy", ["sequential", "parallel", "adaptive_ceiling", "hedged", "auto"])
def test_a_scaled_policy_is_one_that_the_core_takes(strategy: str, profile: str | None) -> None:
    overrides = timing.policy(strategy, 0.05, profile=profile)
    plain = json.loads(_core.policy_config(strategy, 63, profile=profile))
    config = json.loads(_core.policy_config(strategy, 63, json.dumps(overrides), profile=profile))
    assert config["attempt_timeout_s"] == pytest.approx(4.5)
    assert config["retry"]["base_s"] == pytest.approx(plain["retry"]["base_s"] / 20)
    assert config["breaker"]["cooldown_s"] == pytest.approx(plain["breaker"]["cooldown_s"] / 20)
    assert config["limit"]["kind"] == plain["limit"]["kind"]
    assert config["push_back"] == plain["push_back"]
    if strategy == "auto":
        assert config["limit"]["ramp_per_s"] == pytest.approx(plain["limit"]["ramp_per_s"] * 20)
        assert config["hedge"] == plain["hedge"]  # it learns its delay
    assert timing.policy(strategy, 1.0, profile=profile) == {}


# --- the trace file


def told(index: int, *, ok: bool = True) -> Told:
    return Told(
        at_s=1.5 + index,
        index=index,
        item=("vibration", f"mode {index}"),
        ok=ok,
        value="yes" if ok else None,
        error=None if ok else TimeoutError("no answer within 90 s"),
        seconds=1.25,
        kind="hedge",
        attempts=2,
        hedges=1,
        row="vibration",
        column=f"mode {index}",
    )


def test_calls_are_read_while_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "trace.jsonl"
    monkeypatch.setenv(trace_file.VARIABLE, str(path))
    seen: list[Told] = []
    reader = trace_file.Reader(path, seen.append)
    reader.read()
    whole = Measured(wall_s=3.0, calls=(Call(started_s=0.0, ended_s=3.0, answer="yes",
                                             attempts=(Attempt("first", "ok", 200, 0.0, 3.0),)),))  # fmt: skip
    with trace_file.Writer() as writer:
        writer.call(told(0))
        reader.read()
        assert [call.column for call in seen] == ["mode 0"]
        writer.call(told(1, ok=False))
        writer.whole(whole)
    before = reader.measured
    reader.read()
    assert (before, reader.measured) == (None, whole)
    assert seen[0] == msgspec.structs.replace(told(0))
    assert (seen[1].ok, seen[1].error, seen[1].index) == (False, "TimeoutError: no answer within 90 s", 1)
    assert path.stat().st_mode & 0o777 == 0o600


def test_half_a_line_waits_for_its_other_half(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    seen: list[Told] = []
    reader = trace_file.Reader(path, seen.append)
    path.write_bytes(b'{"row":"a","column":"b","answer":"yes"}\n{"row":"c"')
    reader.read()
    assert [call.row for call in seen] == ["a"]
    with path.open("ab") as file:
        file.write(b',"column":"d"}\n')
    reader.read()
    assert [call.row for call in seen] == ["a", "c"]


@pytest.mark.parametrize("junk", [b"not JSON\n", b'{"row":1}\n', b"[" * 100_000 + b"\n"])
def test_what_a_tool_should_not_have_written_is_an_error_that_says_so(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "trace.jsonl"
    reader = trace_file.Reader(path)
    path.write_bytes(junk)
    for _ in range(2):
        with pytest.raises(DispatchError, match="the tool wrote to FMSR_TRACE what can't be read from byte 0 on"):
            reader.read()


def test_without_the_variable_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(trace_file.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with trace_file.Writer() as writer:
        writer.call(told(0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not hardware.PROC.is_dir(), reason="this system has no /proc")
def test_a_child_is_known_by_its_parent() -> None:
    before = hardware.children(os.getpid())
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert hardware.children(os.getpid()) - before == {child.pid}
        child.communicate(b"\n")
