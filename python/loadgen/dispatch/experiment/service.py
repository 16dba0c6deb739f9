"""The service behind the calls: one of the re-created regimes, told to the mock server at another pace."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from loadgen.errors import DispatchError

_START_S = 30.0
_END_S = 5.0


class Mock(msgspec.Struct, frozen=True):
    """A mock server that is up.

    Args:
        url: Where it listens.
        pid: Its process.
    """

    url: str
    pid: int


def config(service: Mapping[str, Any], time_scale: float, seed: int) -> dict[str, Any]:
    """Return the mock server's configuration that makes it a service.

    Args:
        service: As the simulator describes one: ``latency``, ``stall``, ``error``, ``slots``, ``most``, ``rate``,
            ``outages``; seconds.
        time_scale: Seconds of the mock for one of the service.
        seed: Of everything drawn.

    Raises:
        DispatchError: If the mock can't be that service.
    """

    def ms(seconds: float) -> float:
        return seconds * time_scale * 1e3

    # Words by prompt: an answer in the wrong cell is then a wrong answer.
    told: dict[str, Any] = {"seed": seed, "ttft": _latency(service["latency"], ms), "words": "prompt"}
    if stall := service.get("stall"):
        of_item = stall.get("of_item", 0.0)
        told["stall_rate"] = stall["share"] * (1 - of_item)
        told["prompt_stall_rate"] = stall["share"] * of_item
        told["stall_time"] = {"uniform": {"low": ms(stall["low_s"]), "high": ms(stall["high_s"])}}
    if error := service.get("error"):
        told["error_rate"], told["error_status"] = error["share"], error.get("status", 500)
    if slots := service.get("slots"):
        told["capacity"] = slots
        if most := service.get("most"):
            told["queue"], told["queue_status"] = most - slots, 500
    if rate := service.get("rate"):
        told["rate_limit"] = {"rps": rate["per_s"] / time_scale, "burst": rate["burst"]}
        told["rate_limit"]["retry_after"] = "fraction" if rate.get("retry_after", True) else "absent"
    if outages := service.get("outages"):
        told["outages"] = [{"after": ms(one["from_s"]), "lasts": ms(one["to_s"] - one["from_s"])} for one in outages]
    return told


def _latency(latency: Mapping[str, Any], ms: Callable[[float], float]) -> Any:
    kind = latency["kind"]
    if kind == "constant":
        return ms(latency["seconds"])
    if kind == "uniform":
        return {"uniform": {"low": ms(latency["low_s"]), "high": ms(latency["high_s"])}}
    if kind == "lognormal":
        return {"lognormal": {"median": ms(latency["median_s"]), "sigma": latency["sigma"]}}
    raise DispatchError(f"the mock server can't draw {kind} latencies", "it has constant, uniform and lognormal ones")


@asynccontextmanager
async def mock(told: Mapping[str, Any]) -> AsyncIterator[Mock]:
    """Serve the mock in a process of its own, which is gone afterwards; also if this one is killed.

    Args:
        told: Its configuration.

    Raises:
        DispatchError: If it does not start.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "loadgen.dispatch.experiment.mock_server", msgspec.json.encode(told).decode()),
        stdin=asyncio.subprocess.PIPE,  # its end is what ends the server
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for us, who then end it
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        async with asyncio.timeout(_START_S):
            url = (await child.stdout.readline()).decode().strip()
        if not url:
            said = (await child.stderr.read()).decode(errors="replace").strip()
            raise DispatchError(f"the mock server did not start: {said or 'it says nothing'}")
        yield Mock(url, child.pid)
    except TimeoutError:
        raise DispatchError(f"the mock server did not start within {_START_S:g} s") from None
    finally:
        await _end(child)


async def _end(child: asyncio.subprocess.Process) -> None:
    try:
        async with asyncio.timeout(_END_S):
            await child.communicate()
    except TimeoutError:
        child.kill()
        await child.wait()
