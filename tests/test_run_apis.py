"""``loadgen run --api …`` for each API: what is sent, what is measured, and what can't be asked of vectors."""

import json
from importlib import resources
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from click.testing import CliRunner, Result

import loadgen
from loadgen import _core
from loadgen.cli import app
from loadgen.config import resolve
from loadgen.config.options import Api
from loadgen.config.secret import shown_endpoint
from loadgen.errors import ConfigError
from loadgen.session import models
from loadgen.speech import in_flags

pytest_plugins = ["surface_fixtures"]

GOOD: dict[str, Any] = {"concurrency": 2, "requests": 12}
SCHEMA = json.loads(resources.files("loadgen.report").joinpath("report.schema.json").read_text())
VECTORS = ("embeddings", "ollama_embed")


def call(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), prog_name="loadgen")


@pytest.mark.parametrize("api", get_args(Api))
@pytest.mark.parametrize("stream", [True, False])
def test_every_api_is_spoken_and_its_tokens_are_the_servers_count(here: Path, api: Any, stream: bool) -> None:
    vectors = api in VECTORS
    options: dict[str, Any] = {} if vectors else {"stream": stream, "output_tokens": 5}
    flavour = "ollama" if api.startswith("ollama") else "openai"
    result = loadgen.run(f"mock:?ttft=1ms&gap=0&flavour={flavour}", api=api, input_tokens=20, **GOOD, **options)
    jsonschema.validate(result.report, SCHEMA)
    phase = result.performance
    assert (phase.counts.ok, phase.counts.failed) == (12, 0), phase.failures
    assert bool(phase.latency)
    assert bool(phase.ttft) == (stream and not vectors)
    assert {request.streamed for request in phase.requests} == {stream and not vectors}
    assert phase.tokens["input"] > 0
    assert phase.tokens["output"] == (None if vectors else 60)
    assert bool(phase.tpot) == (stream and not vectors)
    assert (phase.throughput.output_tokens_per_s is None) == vectors


@pytest.mark.parametrize("api", VECTORS)
def test_a_report_of_vectors_leaves_out_what_they_have_not(here: Path, api: str) -> None:
    done = call("run", "mock:?ttft=1ms", "--api", api, "--concurrency", "2", "--requests", "12")
    assert done.exit_code == 0, done.stderr
    assert f"{api}, not streamed" in done.stdout
    assert " latency" in done.stdout
    assert " in (server's usage)" in done.stdout
    for word in ("TTFT", "TPOT", "output tok/s", "total tok/s"):
        assert word not in done.stdout


@pytest.mark.parametrize("api", VECTORS)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stream": True}, "--stream: {} answers with vectors, which come all at once"),
        ({"output_tokens": 5}, "--output-tokens bounds answers of tokens, and {} answers with vectors"),
        ({"slo": "ttft:1s"}, "--slo ttft judges tokens, and {} answers with vectors"),
        ({"slo": "ntpot:1s"}, "--slo ntpot judges tokens, and {} answers with vectors"),
    ],
)
def test_what_only_texts_have_is_refused_for_vectors(api: str, given: Any, message: str) -> None:
    with in_flags(), pytest.raises(ConfigError) as caught:
        resolve("http://h", {**GOOD, "api": api, **given})
    assert caught.value.message == message.format(api)


def test_vectors_may_have_objectives_of_their_own() -> None:
    assert resolve("http://h", {**GOOD, "api": "embeddings", "slo": "latency:1s"}).slo == {"latency": 1000}


def test_vectors_are_not_scored(here: Path) -> None:
    phases = [{"name": "right", "type": "accuracy", "scorer": "exact", "concurrency": 1, "requests": 1}]
    (here / "p.jsonl").write_text('{"prompt": "a", "answer": "b"}\n')
    with pytest.raises(ConfigError, match="phase right scores answers, and embeddings answers with vectors"):
        loadgen.run("mock:", phases=phases, api="embeddings", dataset="p.jsonl")


def test_the_phases_of_a_run_may_speak_different_apis(here: Path) -> None:
    server = _core.MockServer("{}")
    phases = [{"name": api, "api": api, "concurrency": 1, "requests": 3} for api in get_args(Api)]
    try:
        for base in (server.url, f"{server.url}/v1"):
            result = loadgen.run(base, phases=phases)
            assert [phase.counts.ok for phase in result.phases] == [3] * 6, [p.failures for p in result.phases]
    finally:
        server.stop()


@pytest.mark.parametrize(
    ("api", "end"),
    [
        ("chat", "/v1/chat/completions"),
        ("embeddings", "/v1/embeddings"),
        ("ollama_chat", "/api/chat"),
        ("ollama_generate", "/api/generate"),
        ("ollama_embed", "/api/embed"),
    ],
)
def test_the_way_to_an_api_is_shown_as_the_core_goes_it(api: str, end: str) -> None:
    assert shown_endpoint("http://h", api) == f"http://h{end}"
    assert shown_endpoint(f"http://h{end}", api) == f"http://h{end}"
    assert models.url_of(f"http://h/x{end}") == "/x/v1/models"


def test_a_dry_run_shows_what_each_api_is_sent(here: Path) -> None:
    for api, opening in (
        ("embeddings", '{"input":'),
        ("ollama_embed", '{"input":'),
        ("ollama_chat", '{"stream":true,"messages":'),
        ("chat", '{"stream":true,"stream_options":{"include_usage":true},"messages":'),
    ):
        done = call("run", "http://h:1", "--api", api, "--model", "m", "--burst", "2", "--dry-run")
        assert done.exit_code == 0, done.stderr
        assert f"\n{opening}" in done.stdout
        assert ("answers    as long" in done.stdout) == (api not in VECTORS)
