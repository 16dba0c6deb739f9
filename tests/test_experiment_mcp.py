"""The published case from end to end: an MCP tool server over stdio, whose strategy is FMSR_STRATEGY."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from loadgen import _core
from loadgen.dispatch.experiment import hardware, mcp_client, settings
from loadgen.dispatch.experiment.callees import Task
from loadgen.dispatch.experiment.callees.mcp import McpCallee, Server
from loadgen.dispatch.experiment.catalogue import Grid
from loadgen.dispatch.experiment.record import Cell
from loadgen.dispatch.experiment.settings import ToolServer, command
from loadgen.dispatch.live import Call
from loadgen.errors import DispatchError

pytest.importorskip("mcp", reason="the extra mcp is not installed")
pytest.importorskip("httpx2", reason="the extra mcp is not installed")

ROOT = Path(__file__).parents[1]
TOOL = settings.read().tool
GRID = Grid(("vibration", "oil temperature"), ("bearing wear", "leak", "fouling"), {})
PLAIN = {"latency": {"kind": "constant", "seconds": 0.2}}


def related(environment: dict[str, str], mock: dict[str, Any] | None = None) -> Any:
    """Have the tool do the grid once, on a mock server."""

    async def ask() -> Any:
        with _core.MockServer(json.dumps({"words": "prompt", **(mock or {})})) as server:
            told = {"FMSR_URL": server.url, **environment}
            async with mcp_client.connected(command(TOOL.command), told) as client:
                arguments = {"sensors": list(GRID.rows), "failure_modes": list(GRID.cols)}
                return await mcp_client.call(client, TOOL.name, arguments, timeout_s=60)

    return asyncio.run(ask())


def test_what_the_tool_gives_is_the_same_whatever_the_strategy() -> None:
    given = [related({"FMSR_STRATEGY": name}) for name in ("sequential", "adaptive_ceiling", "hedged")]
    given.append(related({}))  # as published: two at a time
    assert all(one == given[0] for one in given)
    cells = given[0]["cells"]
    assert [(cell["sensor"], cell["failure_mode"]) for cell in cells] == GRID.pairs
    assert len({cell["answer"] for cell in cells}) == 6
    assert {cell["error"] for cell in cells} == {None}
    assert given[0]["by_sensor"]["vibration"]["leak"] == cells[1]["answer"]
    assert given[0]["by_failure_mode"]["leak"]["vibration"] == cells[1]["answer"]


def test_an_unknown_strategy_lists_the_choices() -> None:
    with pytest.raises(
        DispatchError, match=r"(?s)FMSR_STRATEGY 'fastest'.*sequential, parallel, adaptive_ceiling, hedged"
    ):
        related({"FMSR_STRATEGY": "fastest"})


def test_cells_that_fail_are_unknown_with_their_reason() -> None:
    given = related({"FMSR_STRATEGY": "parallel"}, {"error_rate": 1.0, "error_status": 400})
    assert [cell["answer"] for cell in given["cells"]] == [None] * 6
    assert all("400" in cell["error"] for cell in given["cells"])


def measure(callee: McpCallee, strategy: str = "hedged", grid: Grid = GRID) -> Any:
    return asyncio.run(callee.measure(Task(Cell(1, "106", strategy), grid, 7)))


def test_a_grid_is_measured_call_by_call_while_it_goes_on() -> None:
    told: list[Call] = []
    measured = measure(McpCallee(TOOL, PLAIN, time_scale=0.05, trace=told.append))
    assert measured.error is None
    assert [call.answer is not None for call in measured.calls] == [True] * 6
    assert [[attempt.kind for attempt in call.attempts] for call in measured.calls] == [["first"]] * 6
    assert all(call.seconds is not None and call.seconds >= 0.01 for call in measured.calls)
    assert measured.wall_s >= max(call.ended_s for call in measured.calls)
    assert {(call.row, call.column) for call in told} == set(GRID.pairs)
    assert measured.limits[0][1] >= 6


def test_a_stalled_call_is_hedged_after_the_scaled_delay() -> None:
    """Half of the prompts stall for 12 s of the service; each is asked again after 8 s of it, which are 0.4 s here."""
    stalls = {**PLAIN, "stall": {"share": 0.5, "low_s": 12.0, "high_s": 13.0, "of_item": 1.0}}
    calls = measure(McpCallee(TOOL, stalls, time_scale=0.05)).calls
    hedged = [call.attempts for call in calls if len(call.attempts) > 1]
    assert 0 < len(hedged) < 6
    for first, copy in hedged:
        assert (first.kind, copy.kind) == ("first", "hedge")
        assert copy.start_s - first.start_s >= 0.4


@pytest.mark.skipif(not hardware.PROC.is_dir(), reason="this system has no /proc")
def test_the_hardware_is_that_of_the_tool_server() -> None:
    measured = measure(McpCallee(TOOL, PLAIN, time_scale=0.05))
    assert measured.hardware is not None
    assert measured.hardware.threads.max < 20
    assert 10e6 < measured.hardware.rss.max < 500e6


def test_a_tool_that_fails_is_a_result() -> None:
    measured = measure(McpCallee(ToolServer(TOOL.command, "absent"), PLAIN, time_scale=0.05))
    assert measured.error is not None
    assert measured.error.startswith("DispatchError: the MCP tool absent")
    assert [call.answer for call in measured.calls] == [None] * 6


def test_a_tool_server_that_does_not_start_ends_the_experiment() -> None:
    with pytest.raises(DispatchError, match="can't start the MCP server"):
        measure(McpCallee(ToolServer(("/no/such/tool",), "relate"), PLAIN, time_scale=0.05))


def test_a_users_own_tool_may_tell_nothing_but_answers(tmp_path: Path) -> None:
    own = tmp_path / "own.py"
    own.write_text(
        "from mcp.server import MCPServer\n"
        "server = MCPServer('own', log_level='WARNING')\n"
        "@server.tool()\n"
        "def relate(sensors: list[str], failure_modes: list[str]) -> dict[str, object]:\n"
        "    pairs = [(s, f) for f in failure_modes for s in sensors][1:]\n"
        "    return {'cells': [{'sensor': s, 'failure_mode': f, 'answer': s + f} for s, f in pairs]}\n"
        "server.run()\n"
    )
    measured = measure(McpCallee(ToolServer((sys.executable, str(own)), "relate"), PLAIN, time_scale=0.05))
    said = [call.answer for call in measured.calls]
    assert said == [None, *(f"{row}{col}" for row, col in GRID.pairs[1:])]
    assert measured.calls[0].error == "NoAnswer: the tool's result lacks the cell"
    assert measured.calls[1].seconds is None


def test_a_server_that_is_there_is_used_as_it_is() -> None:
    with _core.MockServer("{}") as server:
        callee = McpCallee(TOOL, None, server=Server(server.url, "mock"), time_scale=1.0)
        measured = measure(callee, "parallel")
        truth = json.loads(server.truth())
    assert truth["requests"] == 6
    assert measured.error is None
    assert callee.describe()["server"] == {"url": server.url, "model": "mock"}


def test_nothing_is_left_behind() -> None:
    before = hardware.children(os.getpid())
    measure(McpCallee(TOOL, PLAIN, time_scale=0.05))
    assert hardware.children(os.getpid()) == before


def test_the_example_gets_the_same_answers_with_every_strategy() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "mcp_grid" / "client.py"), "sequential", "hedged"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["sequential", "hedged"]
    assert all(line.endswith("the same answers") for line in lines)
