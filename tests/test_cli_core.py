"""The command line over the real core and its mock server: what a person does, and what the process leaves behind."""

import asyncio
import contextlib
import http.client
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import loadgen
from loadgen import _core

LOADGEN = [sys.executable, "-m", "loadgen"]
pytest_plugins = ["surface_fixtures"]

SCHEMA = json.loads(resources.files("loadgen.report").joinpath("report.schema.json").read_text())
PATIENCE_S = 60.0


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in ("OPENAI_API_KEY", "COLUMNS", "NO_COLOR")}
    return {**kept, **extra}


def call(here: Path, *args: str, **extra: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*LOADGEN, *args],
        cwd=here,
        env=environment(**extra),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


@contextlib.contextmanager
def mock(**config: Any) -> Iterator[_core.MockServer]:
    server = _core.MockServer(json.dumps(config))
    try:
        yield server
    finally:
        server.stop()


def report_of(here: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(next(here.rglob("report.json")).read_text())
    jsonschema.validate(report, SCHEMA)
    return report


def until(holds: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait for something that another process does; it may take as long as it needs, but the process must live."""
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert process.poll() is None, "the process ended before it did what the test waits for"
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


# --- good runs


@pytest.mark.parametrize(
    "load",
    [
        ["--concurrency", "4", "--requests", "40"],
        ["--rate", "400", "--requests", "40"],
        ["--rate", "400", "--arrival", "gamma", "--burstiness", "0.5", "--requests", "40", "--max-concurrency", "2"],
        ["--rate", "400", "--arrival", "uniform", "--requests", "40"],
        ["--stages", "100/s:100ms,100-300/s:200ms"],
        ["--burst", "40"],
        ["--concurrency", "4", "--duration", "200ms", "--warmup", "20"],
        ["--concurrency", "4", "--requests", "40", "--no-stream"],
        ["--concurrency", "4", "--requests", "40", "--api", "completions"],
        ["--concurrency", "4", "--requests", "40", "--unique-prompts", "--workers", "2"],
    ],
)
def test_every_load_ends_with_a_valid_report_and_every_request_in_it(here: Path, load: list[str]) -> None:
    done = call(here, "run", "mock:?ttft=1&gap=100us", *load, "--output-tokens", "4")
    assert done.returncode == 0, done.stderr
    report = report_of(here)
    assert report["run"]["status"] == "complete"
    counts = report["phases"][-1]["counts"]
    assert counts["issued"] == counts["ok"] > 0
    if "--duration" not in load and "--stages" not in load:
        assert counts["ok"] == 40


def test_a_streamed_run_measures_what_the_mock_was_told(here: Path) -> None:
    result = loadgen.run("mock:?ttft=20&gap=2", concurrency=2, requests=20, output_tokens=8, slo="ttft:10s")
    phase = result.performance
    assert phase.counts.ok == 20
    assert phase.ttft.min >= 20
    assert phase.latency.min >= 20 + 7 * 2
    assert phase.tokens["source"] == "usage"
    assert phase.tokens["output"] == 160
    assert phase.report["goodput"]["share"] == 1.0
    assert phase.trust.verdict in ("ok", "client_limited", "unknown")


def test_arun_drives_the_real_engine(here: Path) -> None:
    result = asyncio.run(loadgen.arun("mock:", requests=5))
    assert result.performance.counts.ok == 5


def test_the_same_seed_makes_the_same_prompts(here: Path) -> None:
    def sha256(seed: int, out: str) -> str:
        result = loadgen.run("mock:", requests=3, input_tokens=6, seed=seed, out=out)
        prompts = result.performance.dataset
        assert prompts is not None
        return prompts.sha256

    assert sha256(1, "a") == sha256(1, "b") != sha256(2, "c")


def test_a_unix_socket_is_a_target_like_any_other(here: Path) -> None:
    with mock(unix=str(here / "s"), models=["tiny"]):
        result = loadgen.run(f"unix:{here}/s", burst=5)
    assert result.performance.counts.ok == 5
    assert result.report["run"]["model"] == "tiny"


def test_report_derives_the_same_numbers_from_the_log(here: Path) -> None:
    assert call(here, "run", "mock:", "--rate", "500", "--requests", "50", "--slo", "ttft:1s").returncode == 0
    stored = report_of(here)
    again = call(here, "report", "--json")
    assert json.loads(again.stdout) == stored
    other = json.loads(call(here, "report", "--json", "--percentiles", "42").stdout)
    assert "p42" in other["phases"][0]["metrics"]["latency"]


def test_a_run_whose_metrics_lie_elsewhere_than_wanted_says_so(here: Path) -> None:
    (here / "loadgen").mkdir(mode=0o755)
    done = call(here, "run", "mock:", XDG_RUNTIME_DIR=str(here))
    assert done.returncode == 0
    assert re.search(
        r"^warning: .*loadgen.*others may enter it.*; live metrics are in .* instead$", done.stderr, re.MULTILINE
    ), done.stderr
    quiet = call(here, "run", "mock:", "--quiet", XDG_RUNTIME_DIR=str(here))
    assert quiet.stderr == ""
    nowhere = call(here, "run", "mock:", XDG_RUNTIME_DIR=str(here / "nowhere"))
    assert "warning" not in nowhere.stderr


# --- what the server refuses


def test_a_wrong_model_stops_early_with_the_models_there_are(here: Path) -> None:
    with mock(models=["tiny"]) as server:
        done = call(here, "run", server.url, "--model", "llama3", "--concurrency", "8", "--requests", "1000")
    assert done.returncode == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()[1:]
    sent = report_of(here)["phases"][0]["counts"]["issued"]
    assert sent < 100
    assert lines[0] == (
        f"error: 404 from {server.url}/v1/chat/completions after {sent} requests: The model `llama3` does not exist "
        "(the server has: tiny)"
    )
    assert lines[1].startswith(f"       stopped early; {sent} of 1,000 requests were sent. Report: loadgen-runs/")


def test_a_refused_key_stops_early(here: Path) -> None:
    with mock(api_key="right") as server:
        done = call(
            here, "run", server.url, "--model", "mock", "--burst", "500", "--api-key-env", "KEY", KEY="canary-wrong"
        )
        assert done.returncode == 1
        assert "error: 401 from" in done.stderr
        good = call(here, "run", server.url, "--burst", "5", "--api-key-env", "KEY", KEY="right")
        assert good.returncode == 0, good.stderr


def test_a_refused_connection_stops_early(here: Path) -> None:
    with mock() as server:
        url = server.url
    done = call(here, "run", url, "--model", "m", "--concurrency", "8", "--requests", "1000")
    assert done.returncode == 1
    assert f"error: no connection to {url}/v1/chat/completions after" in done.stderr
    assert "connection refused" in done.stderr


def test_a_server_without_tls_says_so_at_once_and_is_named_as_such(here: Path) -> None:
    with mock() as server:
        secure = server.url.replace("http:", "https:")
        named = call(here, "run", secure, "--model", "m", "--burst", "3", "--connect-timeout", "1h")
        unnamed = call(here, "run", secure, "--burst", "3")
    assert (named.returncode, unnamed.returncode) == (1, 2)
    assert "the server does not speak TLS on this port" in named.stderr
    assert "the server does not speak TLS on this port" in unnamed.stderr
    for done in (named, unnamed):
        assert "Else the URL begins with http://" in done.stderr


def test_a_batch_for_a_model_that_the_server_does_not_list_is_warned_of_and_goes_on(here: Path) -> None:
    (here / "items.txt").write_text("one\ntwo\n")
    batch = ("dispatch", "run", "--items", "items.txt", "--quiet", "--model")
    warning = "warning: the server lists no model tini, and may refuse every call\n       perhaps --model tiny?\n"
    with mock(models=["tiny"]) as server:
        done = call(here, *batch, "tini", server.url)
        good = call(here, *batch, "tiny", server.url)
    with mock(models=["tiny"], any_model=True) as server:
        unlisted = call(here, *batch, "tini", server.url)
    assert done.returncode == 1
    assert done.stderr.startswith(warning)
    assert (good.returncode, good.stderr, len(good.stdout.splitlines())) == (0, "", 2)
    assert (unlisted.returncode, unlisted.stderr, len(unlisted.stdout.splitlines())) == (0, warning, 2)


@pytest.mark.parametrize(
    ("fault", "kind"), [("all_500", "http_500"), ("stop_midstream", "body"), ("broken_json", "body")]
)
def test_a_server_that_never_answers_well_fails_the_run(here: Path, fault: str, kind: str) -> None:
    done = call(here, "run", f"mock:?fault={fault}", "--concurrency", "4", "--requests", "40")
    assert done.returncode == 1
    report = report_of(here)
    assert report["phases"][0]["failures"] == {kind: 40}
    assert report["run"]["status"] == "failed"
    assert done.stderr.splitlines()[-1] == "error: no request succeeded"


@pytest.mark.parametrize("fault", ["crlf", "comments", "no_done", "one_byte_writes", "split_utf8", "bom"])
def test_a_stream_that_is_only_unusual_is_no_failure(here: Path, fault: str) -> None:
    done = call(here, "run", f"mock:?fault={fault}", "--concurrency", "4", "--requests", "12", "--output-tokens", "4")
    assert done.returncode == 0, done.stderr
    assert report_of(here)["phases"][0]["tokens"]["output"] == 48


def test_a_disk_without_room_for_the_log_refuses_the_run_before_anything_is_sent(here: Path) -> None:
    with mock() as server:
        done = subprocess.run(
            [*LOADGEN, "run", server.url, "--burst", "3", "--out", "there"],
            cwd=here,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300)),  # its header fits
        )
        assert json.loads(server.truth())["requests"] == 0
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: can't start the run in there: write there/run.log: File too large (os error 27)\n"
        "       make room there, or have the run elsewhere: --out DIR\n"
    )
    assert list(here.iterdir()) == []


# --- interrupts


@contextlib.contextmanager
def started(here: Path, *args: str) -> "Iterator[subprocess.Popen[str]]":
    process = subprocess.Popen(
        [*LOADGEN, *args], cwd=here, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with process:
        try:
            yield process
        finally:
            process.kill()  # nothing where it has ended; a test that failed leaves no process


def in_flight(server: _core.MockServer) -> int:
    return int(json.loads(server.truth())["in_flight"])


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
@pytest.mark.usefixtures("with_hangup")
def test_a_first_signal_lets_requests_in_flight_finish(here: Path, number: signal.Signals, status: int) -> None:
    with mock(ttft="300ms") as server:
        args = ("run", server.url, "--concurrency", "4", "--duration", "1h", "--grace", "60s")
        with started(here, *args) as process:
            until(lambda: in_flight(server) == 4, process)
            process.send_signal(number)
            _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, err
    assert "stopping; requests in flight have 60 s, a second signal ends them" in err
    report = report_of(here)
    assert (report["run"]["status"], report["run"]["reason"]) == ("interrupted", number.name)
    counts = report["phases"][0]["counts"]
    assert counts["ok"] == counts["issued"] >= 4


def test_a_second_signal_cancels_them_and_counts_them(here: Path) -> None:
    with mock(ttft="60m") as server:
        args = ("run", server.url, "--concurrency", "4", "--duration", "1h", "--grace", "1h")
        with started(here, *args) as process:
            until(lambda: in_flight(server) == 4, process)
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert any("stopping" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, err
    assert "4 requests in flight were cancelled" in " ".join(out.split())
    counts = report_of(here)["phases"][0]["counts"]
    assert (counts["issued"], counts["cancelled"]) == (4, 4)


def test_without_grace_the_first_signal_is_enough(here: Path) -> None:
    with mock(ttft="60m") as server, started(here, "run", server.url, "--burst", "4", "--grace", "0") as process:
        until(lambda: in_flight(server) == 4, process)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 143
    assert report_of(here)["phases"][0]["counts"]["cancelled"] == 4


def test_a_killed_run_is_reported_as_far_as_it_went(here: Path) -> None:
    logs = here / "loadgen-runs"
    load = ("--concurrency", "4", "--duration", "1h")
    with mock(ttft="1ms") as server, started(here, "run", server.url, *load) as process:
        until(lambda: any(path.stat().st_size > 20_000 for path in logs.rglob("run.log")), process)
        process.kill()
        process.communicate(timeout=PATIENCE_S)
    listed = call(here, "ls")
    assert listed.stdout.splitlines()[1].endswith("killed")
    done = call(here, "report")
    assert done.returncode == 0, done.stderr
    assert "INTERRUPTED: the process ended before the run did." in done.stdout
    report = report_of(here)
    assert report["run"]["reason"] == "killed"
    assert report["phases"][0]["counts"]["ok"] > 0


def test_a_log_whose_description_is_damaged_or_cut_off_is_reported_all_the_same(here: Path) -> None:
    assert call(here, "run", "mock:", "--concurrency", "4", "--requests", "40", "--out", "whole").returncode == 0
    log = (here / "whole" / "run.log").read_bytes()
    damaged = bytearray(log)
    damaged[256 + 48] ^= 1  # the first byte of the first block's payload
    for name, content, ok in (("damaged", bytes(damaged), 40), ("cut", log[:300], 0)):
        (here / name).mkdir()
        (here / name / "run.log").write_bytes(content)
        done = call(here, "report", f"./{name}")
        assert done.returncode == 0, done.stderr
        report = json.loads((here / name / "report.json").read_text())
        jsonschema.validate(report, SCHEMA)
        assert sum(phase["counts"]["ok"] for phase in report["phases"]) == ok
        assert "unknown target" in done.stdout


# --- secrets, leftovers


def test_no_artefact_of_a_run_holds_a_secret(here: Path) -> None:
    (here / "key").write_text("canary-file\n")
    with mock(models=["m"], api_key="canary-file") as server:
        url = server.url.replace("//", "//user:canary-pw@")
        args = ["--burst", "3", "--header", "X-A: ${CANARY}", "--extra-body", '{"user": "${CANARY}"}']
        runs = [
            call(here, "run", url, *args, "--api-key-file", "key", CANARY="canary-env"),
            call(here, "run", url, *args, "--model", "m", CANARY="canary-env"),
            call(here, "run", url + "/?k=canary-q", *args, "--model", "x", CANARY="canary-env"),
            call(here, "run", url, *args, "--dry-run", CANARY="canary-env"),
            call(here, "report"),
            call(here, "ls"),
        ]
    for done in runs:
        assert "canary" not in done.stdout.lower().replace("${canary}", "")
        assert "canary" not in done.stderr.lower().replace("${canary}", "")
    kept = [path for path in (here / "loadgen-runs").rglob("*") if path.is_file()]
    assert kept
    for path in kept:
        assert b"canary" not in path.read_bytes().replace(b"${CANARY}", b""), path


def test_a_run_leaves_no_process_and_no_file_but_its_own(here: Path) -> None:
    before = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    assert call(here, "run", "mock:").returncode == 0
    assert [path.name for path in here.iterdir()] == ["loadgen-runs"]
    after = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    assert {path for path in after - before if "loadgen" in path.name} == set()


def test_two_runs_at_the_same_time_keep_out_of_each_others_way(here: Path) -> None:
    with contextlib.ExitStack() as stack:
        args = ("run", "mock:?ttft=5", "--requests", "20", "--concurrency", "2")
        for process in [stack.enter_context(started(here, *args)) for _ in range(3)]:
            _, err = process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0, err
    assert len(list((here / "loadgen-runs").iterdir())) == 3


# --- loadgen mock


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("with_hangup")
def test_mock_serves_until_it_is_told_to_stop(here: Path, number: signal.Signals) -> None:
    args = ("mock", "--model", "tiny", "--model", "small", "--fault", "crlf:share=10%", "--ttft", "uniform:1ms,2ms")
    with started(here, *args) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=PATIENCE_S)
        connection.request("GET", "/v1/models")
        names = [model["id"] for model in json.loads(connection.getresponse().read())["data"]]
        connection.close()
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_S)
    assert names == ["tiny", "small"]
    assert process.returncode == 0


@pytest.mark.parametrize("how", [("--quiet",), ("--json",)])
def test_why_no_request_succeeded_is_said_where_no_report_says_it(here: Path, how: tuple[str, ...]) -> None:
    done = call(here, "run", "mock:?fault=500", "--requests", "3", "--concurrency", "1", "--ui", "none", *how)
    assert done.returncode == 1
    assert done.stderr == "error: no request succeeded\n       3 × HTTP 500: Internal error   requests 0, 1, 2\n"
    shown = call(here, "run", "mock:?fault=500", "--requests", "3", "--concurrency", "1", "--ui", "none")
    assert shown.stderr == "error: no request succeeded\n"


def test_mock_says_when_its_port_is_taken(here: Path) -> None:
    with mock() as server:
        done = call(here, "mock", "--port", server.url.rpartition(":")[2])
    assert done.returncode == 2
    assert done.stderr.startswith("error: the mock server can't start: cannot listen on 127.0.0.1:")
    assert "--port 0" in done.stderr


def test_mock_says_when_an_address_is_none_of_this_machine(here: Path) -> None:
    done = call(here, "mock", "--host", "192.0.2.1")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the mock server can't start: cannot listen on 192.0.2.1:0: ")
    assert done.stderr.endswith("       name an address of this machine: --host\n")
    done = call(here, "mock", "--tls-cert", "none.pem", "--tls-key", "none.pem")
    assert (done.returncode, "--port" in done.stderr, "--host" in done.stderr) == (2, False, False)


def test_mock_lists_the_faults_of_the_core(here: Path) -> None:
    lines = call(here, "mock", "--list-faults").stdout.splitlines()
    assert len(lines) == len(_core.mock_faults()) > 50


def test_every_flag_of_mock_is_known_to_the_core(here: Path) -> None:
    from loadgen.session.mock import config_of

    given = [
        ("host", "127.0.0.1"), ("port", "0"), ("threads", "2"), ("seed", "3"), ("ttft", "lognormal:5ms,0.3"),
        ("gap", "exponential:1ms"), ("capacity", "4"), ("queue", "2"), ("coalesce", True), ("events_per_write", "2"),
        ("headers", "slot"), ("flavour", "vllm"), ("model", "a"), ("any_model", True), ("output_tokens", "uniform:2,4"),
        ("tokens_per_chunk", "2"), ("usage", "finish"), ("reasoning", "50%"), ("reasoning_field", "reasoning"),
        ("tool_calls", True), ("rate_limit", "100:burst=10:retry_after=date:header=x-retry"), ("queue_status", "429"),
        ("error_rate", "1%"), ("error_status", "502"), ("stall_rate", "0"), ("refuse_usage", "422"),
        ("fault", "slowloris:every=3:ms=5"),
    ]  # fmt: skip
    with mock(**config_of(given, str)) as server:
        assert server.url.startswith("http://127.0.0.1:")
