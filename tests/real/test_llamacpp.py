"""The whole of loadgen against the real llama.cpp server, compared with what the server itself counts."""

import json
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import RUN_S, Ended, Loadgen, Server, serve_llamacpp, silent_port

# llama.cpp may stop early on a random model; told not to, its answers have exactly the length asked for.
FULL = ("--extra-body", '{"ignore_eos": true}')
QUANTILES = ("p50", "p75", "p90", "p95", "p99", "p99_9", "max")
STREAM_ONLY = ("ttft", "tpot")


class Counted:
    """What llama.cpp counted while a block ran."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._before = server.counters()

    def __getitem__(self, name: str) -> float:
        return self._server.counters()[name] - self._before[name]


def check_whole(ended: Ended, requests: int) -> None:
    """Check what holds in every good run."""
    counts = ended.phase["counts"]
    assert counts["issued"] == counts["ok"] == requests
    assert (counts["failed"], counts["cancelled"], counts["in_flight"]) == (0, 0, 0)
    assert ended.report["run"]["status"] == "complete"
    assert ended.metric("latency")["count"] == requests


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_stream_is_counted_token_by_token_as_the_server_does(
    loadgen: Loadgen, llamacpp: Server, api: str, figures: Callable[[str], None]
) -> None:
    counted = Counted(llamacpp)
    options = ("--api", api, "--concurrency", "1", "--requests", "40", "--output-tokens", "64", *FULL)
    ended = loadgen(llamacpp.url, *options)
    check_whole(ended, 40)
    tokens = ended.phase["tokens"]
    assert tokens["source"] == "usage"
    assert tokens["output"] == 40 * 64 == counted["tokens_predicted_total"]
    assert tokens["input"] == counted["prompt_tokens_total"] + counted["prompt_tokens_cached_total"]
    for name in STREAM_ONLY:
        assert ended.metric(name)["count"] == 40
    for quantile in QUANTILES:
        assert ended.metric("ttft")[quantile] <= ended.metric("latency")[quantile]
    # With one request at a time, no client can see less than the server spent on it.
    seen_s = {name: ended.metric(name)["mean"] * 40 / 1000 for name in ("ttft", "latency")}
    assert seen_s["ttft"] >= counted["prompt_seconds_total"]
    assert seen_s["latency"] >= counted["prompt_seconds_total"] + counted["tokens_predicted_seconds_total"]
    own = counted["tokens_predicted_seconds_total"] / counted["tokens_predicted_total"] * 1000
    figures(
        f"{api}: TPOT {ended.metric('tpot')['mean']:.3f} ms, the server's own {own:.3f} ms a token;"
        f" TTFT {ended.metric('ttft')['mean']:.2f} ms,"
        f" of which the server spent {counted['prompt_seconds_total'] / 40 * 1000:.2f} ms on the prompt"
    )


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_whole_answer_has_no_first_token(loadgen: Loadgen, llamacpp: Server, api: str) -> None:
    options = ("--api", api, "--no-stream", "--concurrency", "2", "--requests", "10", "--output-tokens", "8", *FULL)
    ended = loadgen(llamacpp.url, *options)
    check_whole(ended, 10)
    assert ended.phase["tokens"]["output"] == 80
    for name in STREAM_ONLY:
        assert ended.phase["metrics"][name] is None


def test_gsm8k_in_a_closed_loop(
    loadgen: Loadgen, llamacpp: Server, gsm8k: Path, figures: Callable[[str], None]
) -> None:
    options = ("--dataset", str(gsm8k), "--concurrency", "8", "--requests", "400", "--output-tokens", "32", *FULL)
    counted = Counted(llamacpp)
    ended = loadgen(llamacpp.url, *options)
    check_whole(ended, 400)
    assert ended.phase["dataset"]["name"] == "gsm8k_test.jsonl"
    assert ended.phase["dataset"]["samples"] == 1319
    assert ended.phase["tokens"]["output"] == 400 * 32 == counted["tokens_predicted_total"]
    assert max(ended.phase["series"]["in_flight"]) <= 8
    rate = ended.phase["throughput"]["requests_per_s"]
    figures(f"gsm8k, closed loop 8: {rate:.1f} req/s, TTFT p50 {ended.metric('ttft')['p50']:.1f} ms")


def test_gsm8k_in_an_open_loop(loadgen: Loadgen, llamacpp: Server, gsm8k: Path, figures: Callable[[str], None]) -> None:
    options = ("--dataset", str(gsm8k), "--rate", "20", "--duration", "5s", "--output-tokens", "32", *FULL)
    ended = loadgen(llamacpp.url, *options)
    issued = ended.phase["counts"]["issued"]
    assert issued > 0
    check_whole(ended, issued)
    for quantile in QUANTILES:
        # From the plan on there is never less than from the sending on.
        assert ended.metric("response_ttft")[quantile] >= ended.metric("ttft")[quantile]
    figures(f"gsm8k, Poisson 20/s: {issued} requests, TTFT p50 {ended.metric('ttft')['p50']:.1f} ms")


def test_the_same_seed_sends_the_same_requests(loadgen: Loadgen, llamacpp: Server) -> None:
    options = (
        "--rate",
        "100",
        "--requests",
        "30",
        "--seed",
        "7",
        "--input-tokens",
        "40",
        "--output-tokens",
        "1",
        *FULL,
    )
    first, second = (loadgen(llamacpp.url, *options).phase for _ in range(2))
    assert [first["tokens"][name] for name in ("input", "output")] == [
        second["tokens"][name] for name in ("input", "output")
    ]
    assert first["dataset"]["sha256"] == second["dataset"]["sha256"]


def test_unique_prompts_get_nothing_from_the_servers_prefix_cache(
    loadgen: Loadgen, llamacpp: Server, tmp_path: Path
) -> None:
    dataset = tmp_path / "one.txt"
    dataset.write_text("tell me everything about " + "the history of " * 40)
    options = ("--dataset", str(dataset), "--concurrency", "1", "--requests", "10", "--output-tokens", "1", *FULL)
    repeated = Counted(llamacpp)
    loadgen(llamacpp.url, *options)
    cached = repeated["prompt_tokens_cached_total"]
    unique = Counted(llamacpp)
    ended = loadgen(llamacpp.url, *options, "--unique-prompts")
    each = ended.phase["tokens"]["input"] / 10
    assert cached > 8 * each * 0.9
    # What every chat begins with is all that two of them share.
    assert unique["prompt_tokens_cached_total"] < 10 * each * 0.2


def test_a_wrong_path_stops_the_run_early(loadgen: Loadgen, llamacpp: Server) -> None:
    options = ("--model", "tiny", "--concurrency", "4", "--requests", "10000")
    ended = loadgen(llamacpp.url + "/nowhere/v1", *options, status=1)
    assert "404" in ended.stderr
    assert "/nowhere/v1/chat/completions" in ended.stderr
    assert ended.phase["counts"]["issued"] < 200
    assert ended.phase["counts"]["ok"] == 0


def test_a_prompt_beyond_the_context_is_a_failure_with_the_servers_words(loadgen: Loadgen, llamacpp: Server) -> None:
    options = ("--concurrency", "1", "--requests", "3", "--input-tokens", "4000", "--output-tokens", "1")
    ended = loadgen(llamacpp.url, *options, status=1)
    assert ended.phase["counts"]["failed"] == ended.phase["counts"]["issued"] == 3
    assert sum(ended.phase["failures"].values()) == 3
    assert ended.phase["metrics"]["latency"] is None


def test_nobody_listens(loadgen: Loadgen) -> None:
    with silent_port() as port:
        options = ("--model", "m", "--concurrency", "4", "--requests", "10000")
        ended = loadgen(f"http://127.0.0.1:{port}", *options, status=1)
    assert "refused" in ended.stderr
    assert ended.phase["counts"]["issued"] < 200


def test_a_key_opens_the_server_and_is_nowhere_to_be_read(loadgen: Loadgen) -> None:
    canary = "sk-canary-5b1f"
    options = (
        "--model",
        "tiny",
        "--concurrency",
        "4",
        "--requests",
        "10000",
        "--output-tokens",
        "8",
        "--save-responses",
        *FULL,
    )
    with serve_llamacpp(canary) as server:
        refused = loadgen(server.url, *options, status=1, OPENAI_API_KEY="")
        opened = loadgen(server.url, *options, "--requests", "20", OPENAI_API_KEY=canary)
    assert "401" in refused.stderr
    assert refused.phase["counts"]["issued"] < 200
    check_whole(opened, 20)
    assert canary not in opened.stdout + opened.stderr
    written = [path for path in opened.folder.rglob("*") if path.is_file()]
    assert {path.name for path in written} >= {"run.log", "report.json"}
    assert [path for path in written if canary.encode() in path.read_bytes()] == []


def wait_for(server: Server, counter: str, more_than: float, run: subprocess.Popen[str]) -> None:
    """Wait until the server has counted that much of a run."""
    deadline = time.monotonic() + RUN_S
    while (counted := server.counters()[counter]) <= more_than:
        assert run.poll() is None, f"the run ended when {counter} was {counted}: {run.communicate()}"
        assert time.monotonic() < deadline, f"{counter} was {counted} after {RUN_S:g} s, not above {more_than}"
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_leaves_a_whole_report(
    loadgen: Loadgen, llamacpp: Server, number: signal.Signals, status: int
) -> None:
    before = llamacpp.counters()["tokens_predicted_total"]
    options = ("--rate", "20", "--duration", "100s", "--output-tokens", "32", *FULL)
    child, out = loadgen.start(llamacpp.url, *options)
    wait_for(llamacpp, "tokens_predicted_total", before + 320, child)
    child.send_signal(number)
    ended = loadgen.finish(child, out)
    assert ended.status == status, ended.stderr
    assert ended.report["run"]["status"] == "interrupted"
    counts = ended.phase["counts"]
    assert counts["ok"] >= 5
    assert counts["issued"] == counts["ok"] + counts["failed"] + counts["cancelled"] + counts["in_flight"]
    assert counts["issued"] < 2000
    assert (counts["failed"], counts["in_flight"]) == (0, 0)
    assert json.loads((out / "report.json").read_text()) == ended.report


def test_a_server_that_dies_ends_the_run_with_typed_failures(loadgen: Loadgen) -> None:
    with serve_llamacpp() as server:
        # No --timeout: on a machine that is busy enough it would cut off each request, and the server would count none.
        options = ("--concurrency", "4", "--requests", "10000", "--output-tokens", "16", *FULL)
        child, out = loadgen.start(server.url, *options)
        wait_for(server, "tokens_predicted_total", 160, child)
        server.process.kill()
        ended = loadgen.finish(child, out)
    assert ended.status == 1, ended.stderr
    counts = ended.phase["counts"]
    assert counts["ok"] >= 5
    assert counts["failed"] > 0
    assert sum(ended.phase["failures"].values()) == counts["failed"]


def test_kept_answers_are_the_servers_own(loadgen: Loadgen, llamacpp: Server) -> None:
    options = ("--concurrency", "1", "--requests", "2", "--output-tokens", "8", "--save-responses", *FULL)
    ended = loadgen(llamacpp.url, *options, "--extra-body", '{"ignore_eos": true, "temperature": 0, "seed": 1}')
    kept: list[Any] = [path.name for path in ended.folder.iterdir()]
    assert "answers.log" in kept
    assert (ended.folder / "answers.log").stat().st_size > 0
