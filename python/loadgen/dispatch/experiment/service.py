"""The service behind the calls: one of the re-created regimes, told to the mock server at another pace."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
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


def options(service: Mapping[str, Any], time_scale: float, seed: int) -> list[str]:
    """Return the options of ``loadgen mock`` that make it a service.

    Args:
        service: As the simulator describes one: ``latency``, ``stall``, ``error``, ``slots``, ``most``, ``rate``,
            ``outages``; seconds.
        time_scale: Seconds of the mock for one of the service.
        seed: Of everything drawn.

    Raises:
        DispatchError: If the mock can't be that service.
    """

    def ms(seconds: float) -> str:
        return f"{seconds * time_scale * 1e3:.6g}ms"

    # The answer's words begin where the prompt says, so that an answer in the wrong cell is a wrong answer.
    words = ["--seed", str(seed), "--ttft", _latency(service["latency"], ms), "--words", "prompt"]
    if stall := service.get("stall"):
        of_item = stall.get("of_item", 0.0)
        words += ["--stall-rate", f"{stall['share'] * (1 - of_item):.6g}"]
        words += ["--prompt-stall-rate", f"{stall['share'] * of_item:.6g}"]
        words += ["--stall-time", f"uniform:{ms(stall['low_s'])},{ms(stall['high_s'])}"]
    if error := service.get("error"):
        words += ["--error-rate", f"{error['share']:.6g}", "--error-status", str(error.get("status", 500))]
    if slots := service.get("slots"):
        words += ["--capacity", str(slots)]
        if most := service.get("most"):
            words += ["--queue", str(most - slots), "--queue-status", "500"]
    if rate := service.get("rate"):
        hint = ":retry_after=fraction" if rate.get("retry_after", True) else ""
        words += ["--rate-limit", f"{rate['per_s'] / time_scale:.6g}:burst={rate['burst']:g}{hint}"]
    for outage in service.get("outages", ()):
        words += ["--outage", f"{ms(outage['from_s'])}:{ms(outage['to_s'] - outage['from_s'])}"]
    return words


def _latency(latency: Mapping[str, Any], ms: Any) -> str:
    kind = latency["kind"]
    if kind == "constant":
        return str(ms(latency["seconds"]))
    if kind == "uniform":
        return f"uniform:{ms(latency['low_s'])},{ms(latency['high_s'])}"
    if kind == "lognormal":
        return f"lognormal:{ms(latency['median_s'])},{latency['sigma']:g}"
    raise DispatchError(f"the mock server can't draw {kind} latencies", "it has constant, uniform and lognormal ones")


@asynccontextmanager
async def mock(words: list[str]) -> AsyncIterator[Mock]:
    """Serve the mock in a process of its own, which is gone afterwards.

    Args:
        words: Options of ``loadgen mock``.

    Raises:
        DispatchError: If it does not start.
    """
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "loadgen", "mock", *words),
        stdin=asyncio.subprocess.DEVNULL,
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
    if child.returncode is None:
        child.terminate()
        try:
            async with asyncio.timeout(_END_S):
                await child.communicate()
        except TimeoutError:
            child.kill()
    await child.communicate()
