"""A run from its options to its result: what the engine is told, what is kept, and what happens when it is stopped."""

import asyncio
import json
import math
import stat
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import loadgen
import reports
from loadgen.config import resolve
from loadgen.errors import ConfigError, RunError
from loadgen.session import Run, summary
from loadgen.session.metric import Metric
from loadgen.session.phase import PhaseType, phases_of
from loadgen.session.phase_plan import PhasePlan, plan_of
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
    assert judged(reports.phase(ok=89, failed=11)) == ("failed", "11.0 % of the requests failed; 10 % are allowed")
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
