"""Against a gateway in the middle, LiteLLM: real 429s, a real 401, and streams that it rewrote."""

from collections.abc import Iterator

import pytest
from conftest import LITELLM, SERVERS, Loadgen, Server, started

KEY = "sk-local-test"


@pytest.fixture(scope="module")
def gateway(llamacpp: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A LiteLLM proxy in front of llama.cpp; skips where LiteLLM isn't installed."""
    program = LITELLM / "bin" / "litellm"
    if not program.exists():
        pytest.skip(f"{program} is not there: `make test-real` installs it where pip can")
    config = tmp_path_factory.mktemp("litellm") / "litellm.yaml"
    config.write_text((SERVERS / "litellm.yaml").read_text().replace("UPSTREAM", llamacpp.url))
    command = [str(program), "--config", str(config), "--host", "127.0.0.1", "--port", "0"]
    with started(command, r".*Uvicorn running on (http://\S+)", LITELLM_LOCAL_MODEL_COST_MAP="True") as server:
        yield server


def test_its_streams_are_counted_as_the_server_counts(loadgen: Loadgen, gateway: Server, llamacpp: Server) -> None:
    before = llamacpp.counters()["tokens_predicted_total"]
    options = ("--model", "free", "--concurrency", "2", "--requests", "10", "--output-tokens", "8")
    ended = loadgen(gateway.url, *options, OPENAI_API_KEY=KEY)
    assert ended.phase["counts"]["ok"] == 10
    assert ended.phase["tokens"]["output"] == llamacpp.counters()["tokens_predicted_total"] - before


def test_its_rate_limit_is_a_failure_of_its_own_kind(loadgen: Loadgen, gateway: Server) -> None:
    options = ("--model", "tiny", "--concurrency", "1", "--requests", "12", "--output-tokens", "2")
    ended = loadgen(gateway.url, *options, status=1, OPENAI_API_KEY=KEY)
    assert 0 < ended.phase["counts"]["ok"] < 12
    assert ended.phase["counts"]["failed"] == 12 - ended.phase["counts"]["ok"]
    assert any("429" in name for name in ended.phase["failures"])


def test_a_wrong_key_is_nowhere_to_be_read(loadgen: Loadgen, gateway: Server) -> None:
    """Without a database LiteLLM answers 400 to a key it doesn't know."""
    canary = "sk-canary-5b1f"
    options = ("--model", "free", "--concurrency", "4", "--requests", "40", "--save-responses")
    ended = loadgen(gateway.url, *options, status=1, OPENAI_API_KEY=canary)
    assert ended.phase["counts"]["failed"] == 40
    assert canary not in ended.stdout + ended.stderr
    written = [path for path in ended.folder.rglob("*") if path.is_file()]
    assert written
    assert [path for path in written if canary.encode() in path.read_bytes()] == []
