"""Real 429s, from LiteLLM's proxy: a batch through the dispatcher beside asyncio with a semaphore and retries."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from harness.bench import Bench
from harness.errors import BenchError
from harness.figures import Spread
from harness.servers import Mock
from harness.table import Baseline, Line

FAMILY = "dispatch-litellm"
PROGRAM = Path(".venvs") / "litellm" / "bin" / "litellm"
_KEY = "sk-local-test"
_START_S = 180.0
_TRIES = 12
_AT_ONCE = 16


@dataclass
class Pass:
    """What one way of making the calls came to."""

    wall_s: float = 0.0
    sent: int = 0
    refused: int = 0
    failed: int = 0


Ask = Callable[[str], Awaitable[str]]


def against_429s(bench: Bench) -> Iterator[Line]:
    """Calls sent, 429s met and the wall time of a batch, both ways in turns; each has a limit of its own."""
    program = bench.root / PROGRAM
    if not program.exists():
        note = f"{PROGRAM} is not there: `make bench` installs it where pip can"
        yield Line(FAMILY, "a batch against a proxy's rate limit", "", None, note=note)
        return
    calls, rpm, repeats = (6, 60, 1) if bench.quick else (40, 30, 3)
    ours, theirs = [], []
    with Mock(ttft=200, output_tokens=4) as mock:
        models = [f"{who}-{n}" for n in range(repeats) for who in ("ours", "theirs")]
        with _proxy(program, mock.url, models, rpm) as url:
            for n in range(repeats):
                bench.say(f"{FAMILY}: pass {n + 1} of {repeats}, {calls} calls at {rpm} a minute")
                ours.append(asyncio.run(_measured(_dispatched, url, f"ours-{n}", calls)))
                theirs.append(asyncio.run(_measured(_by_semaphore, url, f"theirs-{n}", calls)))
    what = f"{calls} calls, {rpm} a minute allowed"
    for figure, unit, pick in (
        ("wall", "s", lambda one: one.wall_s),
        ("sent per call", "", lambda one: one.sent / calls),
        ("429s met", "", lambda one: float(one.refused)),
        ("calls failed", "", lambda one: float(one.failed)),
    ):
        yield Line(
            FAMILY,
            f"{what}: {figure}",
            unit,
            Spread.of([pick(one) for one in ours]),
            baseline=Baseline("asyncio + semaphore", Spread.of([pick(one) for one in theirs])),
        )


async def _measured(way: Callable[[Ask, list[str]], Awaitable[int]], url: str, model: str, calls: int) -> Pass:
    done = Pass()
    async with httpx2.AsyncClient(
        base_url=url, headers={"authorization": f"Bearer {_KEY}"}, timeout=60, trust_env=False
    ) as client:

        async def ask(question: str) -> str:
            done.sent += 1
            asked = [{"role": "user", "content": question}]
            answer = await client.post(
                "/v1/chat/completions", json={"model": model, "messages": asked, "max_tokens": 4}
            )
            done.refused += answer.status_code == 429
            answer.raise_for_status()
            return str(answer.json()["choices"][0]["message"]["content"])

        began = time.monotonic()
        done.failed = await way(ask, [f"What is {n} + {n}?" for n in range(calls)])
        done.wall_s = time.monotonic() - began
    return done


async def _dispatched(ask: Ask, questions: list[str]) -> int:
    from loadgen import Dispatcher

    batch = await Dispatcher("auto", progress=False).arun(ask, questions)
    return len(batch.errors)


async def _by_semaphore(ask: Ask, questions: list[str]) -> int:
    """What most people write: so many at once, and a failed call again after 1, 2, 4 … at most 30 s, with jitter."""
    gate = asyncio.Semaphore(_AT_ONCE)
    failed = 0

    async def one(question: str) -> None:
        nonlocal failed
        async with gate:
            for attempt in range(_TRIES):
                try:
                    await ask(question)
                except httpx2.HTTPError:
                    await asyncio.sleep(random.uniform(0.5, 1.0) * min(30.0, 2.0**attempt))
                else:
                    return
            failed += 1

    await asyncio.gather(*map(one, questions))
    return failed


@contextmanager
def _proxy(program: Path, upstream: str, models: list[str], rpm: int) -> Iterator[str]:
    """Run the proxy in front of a server until the context ends; each model has its own limit."""
    told = {
        "model_list": [
            {
                "model_name": model,
                "litellm_params": {
                    "model": "openai/mock",
                    "api_base": f"{upstream}/v1",
                    "api_key": "none",
                    "rpm": rpm,
                },
            }
            for model in models
        ],
        "router_settings": {"num_retries": 0, "optional_pre_call_checks": ["enforce_model_rate_limits"]},
        "litellm_settings": {"telemetry": False},
        "general_settings": {"master_key": _KEY},
    }
    with tempfile.TemporaryDirectory(prefix="lg-") as made:
        config = Path(made) / "litellm.yaml"
        config.write_text(json.dumps(told))  # JSON is YAML
        said = Path(made) / "said"
        child = subprocess.Popen(
            [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", "0"],
            stdin=subprocess.DEVNULL,
            stdout=said.open("wb"),
            stderr=subprocess.STDOUT,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
            start_new_session=True,
        )
        try:
            yield _address(child, said)
        finally:
            os.killpg(child.pid, signal.SIGTERM)
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def _address(child: subprocess.Popen[bytes], said: Path) -> str:
    """Wait until it says where it listens: the port is the system's choice."""
    until = time.monotonic() + _START_S
    while time.monotonic() < until and child.poll() is None:
        if found := re.search(r"Uvicorn running on (http://\S+)", said.read_text(errors="replace")):
            return found[1]
        time.sleep(0.2)
    raise BenchError(f"LiteLLM's proxy did not start: {said.read_text(errors='replace')[-500:]}")
