"""The examples of dispatch run: the grid by itself, the SDKs' against the mock server where they are installed."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from loadgen import _core

EXAMPLES = Path(__file__).parents[1] / "examples"


def run(name: str, *arguments: str, **env: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("strategy", ["hedged", "parallel"])
def test_the_grid_prints_its_matrix_and_what_it_cost(strategy: str) -> None:
    lines = run("dispatch_grid.py", LOADGEN_STRATEGY=strategy).splitlines()
    assert lines[0] == "bearing wear  vibration: True temperature: True pressure: False"
    assert lines[1] == "leak          vibration: False temperature: False pressure: True"
    assert re.fullmatch(rf"12 calls in \S+ s with {strategy}: \d+ attempts, .*", lines[4])


@pytest.mark.parametrize("sdk", ["openai", "litellm"])
def test_an_sdk_is_dispatched_against_the_mock_server(sdk: str) -> None:
    if importlib.util.find_spec(sdk) is None:
        pytest.skip(f"{sdk} is not installed: pip install {sdk} to run this")
    with _core.MockServer('{"error_rate": 0.2, "error_status": 429}') as server:
        base = f"{server.url}/v1"
        env = {"OPENAI_BASE_URL": base, "OPENAI_API_BASE": base, "OPENAI_API_KEY": "sk-local"}
        out = run(f"{sdk}_dispatch.py", "one", "two", "three", LITELLM_LOCAL_MODEL_COST_MAP="True", **env)
    assert [line.partition(":")[0] for line in out.splitlines()[:3]] == ["one", "two", "three"]
    assert re.search(r"<Batch of 3 calls, \w+, \S+ s>, .*[1-9]\d* tokens", out)
