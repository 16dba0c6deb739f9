"""A run from its options to its result: what the engine is told, what is kept, and what happens when it is stopped."""

import asyncio
import http.server
import json
import math
import os
import resource
import socketserver
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import loadgen
import reports
from loadgen import private_file
from loadgen.config import resolve
from loadgen.errors import ConfigError, ReportError, RunError, TargetError
from loadgen.session import Run, machine, mock, models, run_dir, summary
from loadgen.session.metric import Metric
from loadgen.session.phase import PhasePlan, PhaseType, phases_of, plan_of
from loadgen.session.result import PhaseResult, SessionResult

pytest_plugins = ["surface_fixtures"]

DATASET = {"name": "d", "sha256": "0" * 64, "samples": 5, "note": None}


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_run_returns_typed_numbers_and_leaves_its_files(core: ModuleType, here: Path) -> None:
    result = loadgen.run("mock:", rate=50, requests=200, slo={"ttft": "300ms"}, input_tokens=8)
    phase = result.performance
    assert (result.status, result.reason) == ("complete", None)
    assert phase.counts.ok == 200
    assert phase.ttft.p99 == phase.report["metrics"]["ttft"]["p99"]
    assert phase.goodput == 49.2
    assert phase.trust.verdict == "ok"
    assert result.phase("performance") == phase
    assert result.dir.parent == Path("loadgen-runs")
    assert result.dir.name.endswith(f"Z-{result.id}")
    assert json.loads((result.dir / "report.json").read_text()) == result.report
    assert mode(result.dir) == 0o700
    assert all(mode(file) == 0o600 for file in result.dir.iterdir())
    assert {file.name for file in result.dir.iterdir()} == {"run.log", "report.json", ".lock"}


def test_the_engine_is_told_what_the_options_say(core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "sk-canary")
    loadgen.run(
        "http://u:canary-pw@h:1",
        model="m",
        rate=50,
        arrival="gamma",
        burstiness=0.5,
        duration="2s",
        max_concurrency=4,
        warmup=3,
        header={"X-Canary": "canary-header"},
        api_key_env="MINE",
        timeout="5s",
        workers=2,
        seed=7,
        unique_prompts=True,
        input_tokens=4,
        output_tokens=9,
    )
    engine = core.ENGINES[0]
    told = engine.config
    assert told["url"] == "http://u:canary-pw@h:1"
    assert (told["api_key"], told["headers"], told["timeout_s"], told["workers"]) == (
        "sk-canary",
        [["X-Canary", "canary-header"]],
        5.0,
        2,
    )
    warmup, measured = engine.phases
    assert (warmup["type"], warmup["requests"], warmup["drain"]) == ("warmup", 3, False)
    assert warmup["seed"] != measured["seed"] == 7
    assert measured["load"] == {"kind": "rate", "rate": 50.0, "arrival": {"kind": "gamma", "burstiness": 0.5}}
    assert (measured["duration_s"], measured["requests"], measured["max_concurrency"]) == (2.0, None, 4)
    assert measured["unique_prompts"] is True
    body = json.loads(engine.bodies[0].bodies[0])
    assert (body["model"], body["max_tokens"]) == ("m", 9)
    assert "stream" not in body
    assert "canary" not in json.dumps(told["meta"]).lower().replace("x-canary", "")


def test_a_file_gives_the_options_and_keywords_win(core: ModuleType, here: Path) -> None:
    (here / "load.toml").write_text('url = "mock:"\nrequests = 7\nconcurrency = 2\n')
    assert loadgen.run(config=here / "load.toml", requests=9).performance.counts.ok == 9
    assert core.ENGINES[0].phases[0]["load"] == {"kind": "concurrency", "n": 2}


def test_no_secret_is_in_any_file_of_a_run(core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    loadgen.run("http://u:canary-pw@h:1/?q=canary-q", model="m", burst=3, header={"X-A": "canary-header"})
    for file in (here / "loadgen-runs").rglob("*"):
        if file.is_file():
            assert b"canary" not in file.read_bytes(), file


def plans(**given: Any) -> list[PhasePlan]:
    config = resolve("http://h", given)
    return [plan_of(phase, config, DATASET) for phase in phases_of(config)]


def test_every_load_reaches_the_engine_in_its_words() -> None:
    def load(**given: Any) -> Any:
        return json.loads(plans(**given)[-1].json())["load"]

    assert load(concurrency=8, requests=1) == {"kind": "concurrency", "n": 8}
    assert load(burst=8) == {"kind": "burst", "n": 8}
    assert load(rate=2, arrival="uniform", requests=1)["arrival"] == {"kind": "uniform", "low": 0.0, "high": 2.0}
    assert load(rate=2, arrival="gamma", requests=1)["arrival"] == {"kind": "gamma", "burstiness": 1.0}
    assert load(stages="1-5/s:3s")["stages"] == [{"from": 1.0, "to": 5.0, "seconds": 3.0}]


def test_a_warmup_is_never_harder_than_the_load() -> None:
    def warmup(**given: Any) -> Any:
        plan = plans(**given)[0]
        assert plan.kind is PhaseType.WARMUP
        return json.loads(plan.json())

    assert warmup(burst=500, warmup=20)["load"] == {"kind": "concurrency", "n": 20}
    assert warmup(burst=500, warmup="2s")["load"] == {"kind": "concurrency", "n": 64}
    assert warmup(stages="0-5/s:3s,50/s:1s", warmup="2s")["load"]["rate"] == 5.0
    timed = warmup(rate=5, requests=9, warmup="2s")
    assert (timed["requests"], timed["duration_s"]) == (None, 2.0)


def test_a_stop_reaches_the_engine_once_and_ends_the_run(core: ModuleType, here: Path) -> None:
    run = Run(resolve("mock:", {"warmup": 3, "requests": 5}))
    core.Script.on_poll = lambda engine: run.stop("SIGINT", 10.0)
    result = run.execute()
    engine = core.ENGINES[0]
    assert engine.stops == [10.0]
    assert [phase["name"] for phase in engine.phases] == ["warmup"]
    assert engine.finished == 1
    assert (result.status, result.reason) == ("interrupted", "SIGINT")
    assert core.SERVERS[0].stopped == 1


def test_a_stop_before_anything_was_sent_leaves_nothing(core: ModuleType, here: Path) -> None:
    run = Run(resolve("mock:", {}))
    run.stop("SIGINT", 10.0)
    with pytest.raises(RunError, match=r"stopped before anything was sent \(SIGINT\)"):
        run.execute()
    assert list(here.iterdir()) == []
    assert core.SERVERS[0].stopped == 1


def test_an_interrupted_program_keeps_what_completed(core: ModuleType, here: Path) -> None:
    def interrupt(engine: Any) -> None:
        if not engine.stops:
            raise KeyboardInterrupt

    core.Script.on_poll = interrupt
    with pytest.raises(KeyboardInterrupt):
        loadgen.run("mock:")
    assert core.ENGINES[0].stops == [0.0]
    assert core.ENGINES[0].finished == 1
    report = json.loads(next(here.rglob("report.json")).read_text())
    assert (report["run"]["status"], report["run"]["reason"]) == ("interrupted", "interrupted")


def test_an_engine_that_breaks_down_leaves_a_report_and_an_error(core: ModuleType, here: Path) -> None:
    def break_down(engine: Any) -> None:
        raise RuntimeError("a worker panicked")

    core.Script.on_poll = break_down
    with pytest.raises(RunError, match="the engine broke down: a worker panicked"):
        loadgen.run("mock:")
    assert core.ENGINES[0].finished == 1
    assert core.SERVERS[0].stopped == 1
    report = json.loads(next(here.rglob("report.json")).read_text())
    assert report["run"]["status"] == "failed"


def test_a_log_that_can_not_be_closed_is_an_error_after_the_report(core: ModuleType, here: Path) -> None:
    core.Script.finish_error = OSError("No space left on device")
    with pytest.raises(RunError, match="No space left on device"):
        loadgen.run("mock:")
    assert next(here.rglob("report.json")).exists()


@pytest.mark.parametrize("error", [ValueError("certificate: no key in it"), OSError("can't create run.log")])
def test_an_engine_that_does_not_start_is_a_config_error_and_leaves_nothing(
    core: ModuleType, here: Path, error: Exception
) -> None:
    core.Script.engine_error = error
    with pytest.raises(ConfigError, match=str(error)):
        loadgen.run("mock:")
    assert list(here.iterdir()) == []


def test_a_run_that_stopped_early_ends_there_and_has_failed(core: ModuleType, here: Path) -> None:
    core.Script.reason, core.Script.failed = "early", 3
    result = loadgen.run("mock:", warmup=3)
    assert [phase["name"] for phase in core.ENGINES[0].phases] == ["warmup"]
    assert result.status == "failed"
    assert result.reason == "stopped early: the first answers were all refusals"


def test_arun_is_the_same_and_leaves_the_loop_free(core: ModuleType, here: Path) -> None:
    async def both() -> tuple[SessionResult, bool]:
        turned = asyncio.Event()
        asyncio.get_running_loop().call_soon(turned.set)
        result = await loadgen.arun("mock:", requests=5)
        return result, turned.is_set()

    result, turned = asyncio.run(both())
    assert result.performance.counts.ok == 5
    assert turned


def test_a_cancelled_arun_stops_the_engine_before_it_returns(core: ModuleType, here: Path) -> None:
    polled = threading.Event()
    core.Script.polls = 10**9
    core.Script.on_poll = lambda engine: polled.set()

    async def cancel() -> None:
        task = asyncio.create_task(loadgen.arun("mock:", requests=5))
        await asyncio.to_thread(polled.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert core.ENGINES[0].finished == 1

    asyncio.run(cancel())
    assert core.ENGINES[0].stops == [0.0]
    report = json.loads(next(here.rglob("report.json")).read_text())
    assert (report["run"]["status"], report["run"]["reason"]) == ("interrupted", "cancelled")


# --- the verdict on a run


def judged(*phases: dict[str, Any], status: str = "complete", reason: str | None = None) -> tuple[str, str | None]:
    return summary.verdict({"status": status, "reason": reason, "phases": list(phases)}, 0.1)


def test_a_run_fails_by_its_error_rate_and_not_below_it() -> None:
    assert judged(reports.phase(ok=90, failed=10)) == ("complete", None)
    assert judged(reports.phase(ok=89, failed=11)) == ("failed", "11.0% of the requests failed; 10% are allowed")
    assert judged(reports.phase(ok=0, failed=3)) == ("failed", "no request succeeded")
    assert judged(reports.phase(ok=0, failed=0)) == ("failed", "no request was sent")


def test_a_warmup_that_fails_fails_no_run() -> None:
    assert judged(reports.phase(ok=0, failed=9, kind="warmup"), reports.phase()) == ("complete", None)


def test_an_interrupt_and_a_full_disk_are_told_before_error_rates() -> None:
    assert judged(reports.phase(ok=0, failed=9), status="interrupted", reason="SIGTERM") == ("interrupted", "SIGTERM")
    assert judged(reports.phase(reason="disk"))[0] == "failed"


# --- results


def test_what_was_not_measured_is_nan_and_passes_no_comparison() -> None:
    phase = PhaseResult.of(Path(), reports.phase(streamed=False))
    assert not phase.ttft
    assert math.isnan(phase.ttft.p99)
    assert not phase.ttft.p99 < 200
    assert math.isnan(phase.goodput)
    assert phase.latency


def test_a_percentile_that_was_not_asked_for_says_so() -> None:
    phase = PhaseResult.of(Path(), reports.phase(percentiles=(50.0, 99.99)))
    assert phase.ttft.p99_99 > phase.ttft.p50
    assert math.isnan(phase.ttft.percentile(12))
    with pytest.raises(AttributeError, match="holds no p99 of ttft"):
        _ = phase.ttft.p99
    with pytest.raises(AttributeError, match="a metric has no mode"):
        _ = phase.ttft.mode


def test_a_metric_knows_what_its_sample_supports() -> None:
    metric = Metric("ttft", reports.metric(50, 90.0, 0.4))
    assert metric.unsupported == ("p95", "p99", "p99_9")
    assert metric.ci95["p50"][0] < metric.p50 < metric.ci95["p50"][1]
    assert "n=50" in repr(metric)


def test_the_performance_shortcut_wants_exactly_one_phase() -> None:
    run: dict[str, Any] = {"id": "a", "status": "complete", "reason": None, "environment": {}}
    two = [reports.phase("a"), reports.phase("b"), reports.phase("w", kind="warmup")]
    result = SessionResult.of(Path("x"), {"run": run, "phases": two})
    with pytest.raises(LookupError, match=r"2 performance phases \(a, b\)"):
        _ = result.performance
    assert result.phase("b").name == "b"
    with pytest.raises(LookupError, match="it has: a, b, w"):
        result.phase("c")


# --- directories of runs


def test_a_directory_of_ones_own_is_used_as_it_is(core: ModuleType, here: Path) -> None:
    result = loadgen.run("mock:", out="deep/er/mine")
    assert result.dir == Path("deep/er/mine")
    with pytest.raises(ConfigError, match="holds a run already"):
        loadgen.run("mock:", out="deep/er/mine")


def test_where_a_run_can_not_be_written_is_said(core: ModuleType, here: Path) -> None:
    (here / "file").write_text("")
    for out in ("file", "file/below"):
        with pytest.raises(ConfigError, match="a file stands in the way"):
            loadgen.run("mock:", out=out)
    assert (here / "file").read_text() == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_directory_without_permission_is_said(core: ModuleType, here: Path) -> None:
    (here / "locked").mkdir(mode=0o500)
    with pytest.raises(ConfigError, match="Permission denied"):
        loadgen.run("mock:", out="locked/run")


def test_a_lock_is_not_followed_through_a_link(here: Path) -> None:
    (here / "victim").write_text("keep")
    (here / "run").mkdir()
    (here / "run" / ".lock").symlink_to(here / "victim")
    with pytest.raises(ConfigError, match="can't write the run"):
        run_dir.create("run")
    assert (here / "victim").read_text() == "keep"


def test_a_directory_belongs_to_one_run_at_a_time(here: Path) -> None:
    with run_dir.create("mine") as mine:
        assert run_dir.is_running(mine.path)
        with pytest.raises(ConfigError, match="still going"):
            run_dir.create("mine")
    assert not run_dir.is_running(mine.path)


def make(name: str) -> Path:
    path = run_dir.RUNS / name
    path.mkdir(parents=True)
    (path / "run.log").write_text("")
    return path


def test_a_run_is_found_by_path_by_id_and_by_age(here: Path) -> None:
    old, new = make("20260101T000000Z-aa11"), make("20260102T000000Z-ab22")
    assert run_dir.find(None) == new
    assert run_dir.find("aa") == old
    assert run_dir.find("20260102") == new
    assert run_dir.find(str(old)) == old
    with pytest.raises(ReportError, match="2 runs begin with a"):
        run_dir.find("a")
    with pytest.raises(ReportError, match="no run in loadgen-runs begins with zz"):
        run_dir.find("zz")
    with pytest.raises(ReportError, match="there is no directory"):
        run_dir.find("./no")


def test_without_runs_the_way_to_one_is_shown(here: Path) -> None:
    with pytest.raises(ReportError) as caught:
        run_dir.find(None)
    assert "loadgen run mock:" in caught.value.way_out


def test_a_file_is_written_in_full_or_not_at_all(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = here / "report.json"
    private_file.write(target, b"one")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        private_file.write(target, b"two")
    assert target.read_bytes() == b"one"
    assert [file.name for file in here.iterdir()] == ["report.json"]


# --- the machine


def test_a_containers_quota_bounds_the_cores(tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert machine.cores(tmp_path) == min(1.5, machine.cores(Path("/nowhere")))
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert machine.cores(tmp_path) == machine.cores(Path("/nowhere"))


def test_workers_follow_cores_and_never_outnumber_the_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    def workers(**given: Any) -> int:
        config = resolve("mock:", {"requests": 5, **given})
        return machine.workers(config, phases_of(config))

    monkeypatch.setattr(machine, "cores", lambda: 64.0)
    assert workers(rate=5) == 8
    assert workers(concurrency=3) == 3
    assert workers(concurrency=3, workers=12) == 12
    monkeypatch.setattr(machine, "cores", lambda: 0.5)
    assert workers(rate=5) == 1


@contextmanager
def limits(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> Iterator[list[int]]:
    raised: list[int] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: raised.append(pair[0]))
    yield raised


def test_the_soft_limit_is_raised_only_as_far_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve("http://h", {"concurrency": 1000, "requests": 5})
    with limits(monkeypatch, 256, 4096) as raised:
        machine.reserve_descriptors(config, phases_of(config), workers=2)
    assert raised == [1000 + 64 + 16]
    with limits(monkeypatch, 2048, 4096) as raised:
        machine.reserve_descriptors(config, phases_of(config), workers=2)
    assert raised == []


def test_too_few_descriptors_are_said_with_what_would_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve("http://h", {"concurrency": 1000, "requests": 5})
    with limits(monkeypatch, 80, 512), pytest.raises(ConfigError) as caught:
        machine.reserve_descriptors(config, phases_of(config), workers=1)
    assert caught.value.message == (
        "1,000 requests in flight need 1,072 file descriptors, and this process may have 512"
    )
    assert caught.value.way_out == "raise the limit (ulimit -Hn), or lower --concurrency to 440"


def test_a_limit_that_may_not_be_raised_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(1, "Operation not permitted")

    config = resolve("http://h", {"concurrency": 1000, "requests": 5})
    with limits(monkeypatch, 80, 4096):
        monkeypatch.setattr(resource, "setrlimit", refuse)
        with pytest.raises(ConfigError, match="the limit of 80 can't be raised"):
            machine.reserve_descriptors(config, phases_of(config), workers=1)
        unbounded = resolve("http://h", {"rate": 5, "requests": 5})
        machine.reserve_descriptors(unbounded, phases_of(unbounded), workers=1)


# --- mock: URLs


def test_a_mock_url_tells_the_server_what_to_be() -> None:
    url = (
        "mock:?ttft=50&gap=10ms&output-tokens=uniform:8,16&model=a&model=b&fault=crlf&fault=stop_midstream:share=10%25"
    )
    assert mock.config_of_url(url) == {
        "ttft": 50.0,
        "gap": 10.0,
        "output_tokens": {"uniform": {"low": 8.0, "high": 16.0}},
        "models": ["a", "b"],
        "faults": ["crlf", {"name": "stop_midstream", "share": 0.1}],
    }
    assert mock.config_of_url("mock:") == {}
    assert mock.config_of_url('mock:?ttft={"normal":{"mean":50,"std":5}}') == {
        "ttft": {"normal": {"mean": 50, "std": 5}}
    }


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mock:?ttfd=5", "no option ttfd"),
        ("mock:?ttft", "must look like"),
        ("mock:?ttft=x", "must be a"),
        ("mock:?ttft=1&ttft=2", "given twice"),
        ("mock:?port=80", "is for `loadgen mock`"),
        ("mock:?ttft={", "is not JSON"),
        ("mock:?ttft=gauss:1,2", "must be one value, or one of"),
        ("mock:?fault=crlf:often=1", "must be a fault's name"),
        ("mock:?rate_limit=0", "must be above 0"),
    ],
)
def test_a_bad_mock_url_names_what_is_bad(url: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mock.config_of_url(url)
    assert words in str(caught.value)


# --- asking a server for its models


class _Handler(http.server.BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, bytes]]
    seen: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, body = self.answers.get(self.path, (404, b"{}"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...

    def address_string(self) -> str:
        return ""


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def serving(answers: dict[str, tuple[int, bytes]], unix: Path | None = None) -> Iterator[tuple[str, list[Any]]]:
    handler = type("Handler", (_Handler,), {"answers": answers, "seen": []})
    server: Any
    if unix is None:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        url = f"http://127.0.0.1:{server.server_address[1]}"
    else:
        server = _UnixServer(str(unix), handler)
        url = f"unix:{unix}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield url, handler.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def listed(*names: str) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}).encode()


def config_for(url: str, **given: Any) -> Any:
    return resolve(url, {"concurrency": 1, "requests": 1, **given})


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_models_are_asked_where_the_base_url_says(tail: str) -> None:
    with serving({"/v1/models": (200, listed("tiny"))}) as (url, seen):
        assert models.only(config_for(url + tail), "sk-a") == "tiny"
    assert seen[0][1]["authorization"] == "Bearer sk-a"


def test_models_are_asked_below_a_prefix_and_with_the_users_headers() -> None:
    with serving({"/gate/v1/models?v=1": (200, listed("tiny"))}) as (url, seen):
        config = config_for(f"{url}/gate?v=1", header={"Authorization": "Custom x"})
        assert models.only(config, None) == "tiny"
    assert seen[0][1]["authorization"] == "Custom x"


def test_userinfo_becomes_basic_authorisation() -> None:
    with serving({"/v1/models": (200, listed("tiny"))}) as (url, seen):
        models.ask(config_for(url.replace("//", "//user:p%40ss@")), None)
    assert seen[0][1]["authorization"] == "Basic dXNlcjpwQHNz"


def test_models_are_asked_through_a_unix_socket(tmp_path: Path) -> None:
    with serving({"/v1/models": (200, listed("tiny"))}, tmp_path / "s") as (url, _):
        assert models.only(config_for(url), None) == "tiny"


def test_models_are_asked_through_the_proxy_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serving({"http://far.example:81/v1/models": (200, listed("tiny"))}) as (proxy, seen):
        config = config_for("http://far.example:81", proxy=proxy.replace("//", "//u:p@"))
        assert models.only(config, None) == "tiny"
    assert seen[0][1]["proxy-authorization"] == "Basic dTpw"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, listed("a", "b")), "the server has 2 models: a, b"),
        ((200, listed()), "lists no model"),
        ((200, b"<html>"), "did not answer with a list of models"),
        ((200, b'{"data": [{"name": "x"}]}'), "did not answer with a list of models"),
        ((401, b"{}"), "answered 401"),
        ((302, b""), "answered 302"),
    ],
)
def test_without_exactly_one_model_the_user_is_asked_to_name_it(answer: tuple[int, bytes], words: str) -> None:
    with serving({"/v1/models": answer}) as (url, _), pytest.raises(TargetError) as caught:
        models.only(config_for(url), None)
    assert words in caught.value.message
    assert "--model" in caught.value.way_out


def test_an_unreachable_server_is_named_without_its_credentials(here: Path) -> None:
    with pytest.raises(TargetError) as caught:
        loadgen.run("http://u:canary@127.0.0.1:9", concurrency=1, requests=1)
    assert caught.value.message == "can't ask http://127.0.0.1:9/v1/models: connection refused"
    assert list(here.iterdir()) == []
