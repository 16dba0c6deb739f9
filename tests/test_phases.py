"""A run of several phases: how they are said, what the engine is told of each, and what their report keeps apart."""

import json
import re
import stat
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import msgspec
import pytest
from click.testing import CliRunner, Result

import loadgen
import reports
from loadgen import _core
from loadgen.cli import app, progress
from loadgen.cli.early import error_of
from loadgen.cli.ls import line_of_result
from loadgen.config import PhaseOptions, resolve
from loadgen.config.phases import PER_PHASE
from loadgen.dataset import Dataset, Sample
from loadgen.errors import ConfigError
from loadgen.session import Run, summary
from loadgen.session.order import Sequential
from loadgen.session.phase import (
    Limits,
    PhaseConfig,
    PhaseSettings,
    phases_of,
)
from loadgen.session.phase_plan import plan_of
from loadgen.session.result import SessionResult
from loadgen.session.strategy import ConcurrencyStrategy

pytest_plugins = ["surface_fixtures"]

SCHEMA = json.loads(resources.files("loadgen.report").joinpath("report.schema.json").read_text())
ABOUT = {"name": "d", "sha256": "0" * 64, "samples": 5, "note": None}
LOW: dict[str, Any] = {"name": "low", "rate": 5, "requests": 9}
HIGH: dict[str, Any] = {"name": "high", "concurrency": 8, "requests": 9}


def read(*listed: Any, file: Path | None = None, **beside: Any) -> list[PhaseOptions]:
    given = {"phases": list(listed), **beside} if listed else beside
    return list(resolve("http://h", given, config_file=None if file is None else str(file)).phases)


def refusal(*listed: Any, **beside: Any) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read(*listed, **beside)
    return caught.value


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


# --- how they are said


def test_what_stands_beside_the_phases_is_the_default_of_each() -> None:
    low, high = read(LOW, {**HIGH, "model": "b", "timeout": "5s"}, model="a", timeout="30s", seed=3, slo="ttft:1s")
    assert (low.options.model, low.options.timeout, low.options.seed) == ("a", 30.0, 3)
    assert (high.options.model, high.options.timeout, high.options.seed) == ("b", 5.0, 3)
    assert low.options.slo == high.options.slo == {"ttft": 1000.0}
    assert (low.type, high.type) == ("performance", "performance")


def test_a_load_beside_the_phases_is_for_those_without_their_own() -> None:
    low, high, burst = read(
        {"name": "low"}, HIGH, {"name": "burst", "burst": 3}, rate=50, arrival="constant", max_concurrency=4, requests=7
    )
    assert (low.options.rate, low.options.arrival, low.options.max_concurrency) == (50.0, "constant", 4)
    assert (high.options.concurrency, high.options.rate, high.options.max_concurrency) == (8, None, None)
    assert (burst.options.burst, burst.options.rate, burst.options.requests) == (3, None, None)


def test_a_shape_beside_the_phases_holds_for_the_loads_it_fits() -> None:
    closed, gamma, stages = read(
        HIGH, LOW, {"name": "stages", "stages": "1/s:3s"}, arrival="gamma", burstiness=0.5, concurrency=2
    )
    assert closed.options.arrival == "poisson"
    assert (gamma.options.arrival, gamma.options.burstiness) == ("gamma", 0.5)
    assert (stages.options.arrival, stages.options.burstiness) == ("poisson", None)


def test_null_takes_a_default_away_and_prompts_of_its_own_replace_the_others(tmp_path: Path) -> None:
    file = str(write(tmp_path / "d.txt", "one\n"))
    plain, made, none = read(
        LOW, {**HIGH, "input_tokens": 4}, {**LOW, "name": "none", "slo": None, "dataset": None},
        dataset=file, slo="ttft:1s", slo_from="sent",
    )  # fmt: skip
    assert (plain.options.dataset, plain.options.slo_from) == (file, "sent")
    assert (made.options.dataset, made.options.input_tokens) == (None, 4)
    assert (none.options.dataset, none.options.slo, none.options.slo_from) == (None, None, None)


@pytest.mark.parametrize(
    ("drain", "drains", "seconds"), [(None, None, 60.0), (True, True, 60.0), (False, False, 60.0), ("5s", True, 5.0)]
)
def test_a_phase_drains_as_its_type_does_or_as_it_says(drain: Any, drains: bool | None, seconds: float) -> None:
    (phase,) = read({**LOW, "drain": drain}, drain="60s")
    assert (phase.drains, phase.options.drain) == (drains, seconds)


YAML = """
url: http://h
concurrency: 4
phases:
  - {name: low, rate: 5, requests: 9, input-tokens: 3}
  - name: 2
    requests: 7
"""


def test_a_file_lists_phases_and_flags_win_over_them(tmp_path: Path) -> None:
    file = write(tmp_path / "p.yaml", YAML)
    low, two = read(file=file)
    assert (low.name, low.options.rate, low.options.input_tokens) == ("low", 5.0, 3)
    assert (two.name, two.options.concurrency, two.options.requests) == ("2", 4, 7)
    low, two = read(file=file, requests=3, concurrency=1)
    assert [(phase.options.concurrency, phase.options.rate, phase.options.requests) for phase in (low, two)] == [
        (1, None, 3),
        (1, None, 3),
    ]
    (other,) = read(HIGH, file=file)
    assert (other.name, other.options.concurrency) == ("high", 8)
    toml = write(tmp_path / "p.toml", 'url = "http://h"\n[[phases]]\nname = "a"\nburst = 2\n')
    assert read(file=toml)[0].options.burst == 2


@pytest.mark.parametrize(
    ("listed", "beside", "message", "way_out"),
    [
        ([], {"phases": []}, "phases must be a list of phases, at least one", "{name: low"),
        ([], {"phases": {"a": 1}}, "phases must be a list of phases", ""),
        (["low"], {}, "phase 1 must be a mapping of options", "such as {name: low"),
        ([LOW, {"rate": 5}], {}, "phase 2 has no name", "name: low"),
        ([{**HIGH, "name": "a\nb"}], {}, "name of phase 1 must not hold control characters", ""),
        ([{**LOW, "concurency": 3}], {}, "unknown option concurency in phase low", "perhaps concurrency?"),
        ([{**LOW, "max-concurency": 3}], {}, "unknown option max_concurency in phase low", "perhaps max_concurrency?"),
        ([{**LOW, "workers": 3}], {}, "workers in phase low is the whole run's, not a phase's", "beside phases"),
        ([{**LOW, "warmup": 3}], {}, "warmup in phase low is the whole run's", "a phase of its own: {name: warmup"),
        ([LOW], {"warmup": 3}, "warmup and phases both say what comes before", "{name: warmup, type: warmup"),
        ([{**LOW, "type": "warm"}], {}, "type 'warm' in phase low must be one of warmup, performance, accuracy", ""),
        ([{**LOW, "rate": 0}], {}, "rate 0 in phase low must be above 0", ""),
        ([{**LOW, "drain": "soon"}], {}, "drain soon in phase low must be a duration", ""),
        ([{**LOW, "requests": 1, "input-tokens": 2, "input_tokens": 3}], {}, "gives input_tokens twice", ""),
        ([{1: 2}], {}, "phase 1: 1 is not an option's name", ""),
        ([{**LOW, "scorer": "numeric"}], {}, "scorer in phase low needs an accuracy phase", "type: accuracy"),
        ([{"name": "low", "requests": 5}], {}, "phase low: no load given", "give concurrency 8"),
        ([{"name": "low", "rate": 5}], {}, "phase low: no end given", "give requests 1000"),
        ([{**LOW, "concurrency": 3}], {}, "phase low: rate and concurrency are two kinds of load", ""),
        ([{**HIGH, "arrival": "constant"}], {}, "phase high: arrival constant needs an open loop", ""),
        ([{**LOW, "dataset": "no.jsonl"}], {}, "dataset no.jsonl in phase low names a dataset that can't be read", ""),
        ([LOW], {"cert": __file__}, "cert needs key", ""),
        ([LOW], {"phasess": [LOW]}, "unknown option phasess", "perhaps phases?"),
    ],
)  # fmt: skip
def test_what_can_not_be_used_is_named_with_its_phase(
    listed: list[Any], beside: dict[str, Any], message: str, way_out: str
) -> None:
    error = refusal(*listed, **beside)
    assert message in error.message
    assert way_out in error.way_out


def test_an_error_in_a_file_names_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "p.yaml", "phases:\n  - {name: low, rat: 5}\n")
    assert "unknown option rat in phase low in " in str(refusal(file=file))
    assert "p.yaml" in str(refusal(file=file))


def test_a_list_of_phases_that_is_left_empty_in_a_file_is_no_run_without_phases(tmp_path: Path) -> None:
    file = write(tmp_path / "p.yaml", "url: 'mock:'\nphases:\n")
    with pytest.raises(ConfigError, match=r"phases in .*p\.yaml must be a list of phases, at least one"):
        resolve(None, {}, config_file=str(file))


def test_a_phase_on_a_mock_server_has_no_load_of_its_own() -> None:
    with pytest.raises(ConfigError, match="phase a: no load given"):
        resolve("mock:", {"phases": [{"name": "a"}]})


# --- a run of them


def closed(name: str = "a", **given: Any) -> PhaseConfig:
    return PhaseConfig(**{"name": name, "strategy": ConcurrencyStrategy(2), "limits": Limits(samples=5), **given})


def test_each_phase_has_its_own_prompts_bodies_and_model(core: ModuleType, here: Path) -> None:
    write(here / "a.txt", "one\ntwo\n")
    write(here / "b.jsonl", '{"question": "three"}\n')
    result = loadgen.run(
        "http://h",
        model="m",
        dataset="a.txt",
        phases=[
            {"name": "warmup", "type": "warmup", "concurrency": 1, "requests": 2},
            LOW,
            {**HIGH, "dataset": "b.jsonl", "model": "n", "api": "completions", "output_tokens": 5},
            {**LOW, "name": "again", "dataset": "./a.txt"},
        ],
    )
    engine = core.ENGINES[0]
    warmup, low, high, again = engine.bodies
    assert warmup is low is again  # what is the same is held once
    assert [json.loads(body)["messages"][0]["content"] for body in low.bodies] == ["one", "two"]
    assert [json.loads(body) for body in high.bodies] == [{"prompt": "three", "model": "n", "max_tokens": 5}]
    assert [phase.name for phase in result.perf_results] == ["low", "high", "again"]
    names = [phase.dataset.name if phase.dataset else "" for phase in result.phases]
    assert names == ["a.txt", "a.txt", "b.jsonl", "a.txt"]
    assert result.report["run"]["model"] is None
    assert result.phase("high").settings == {"api": "completions", "model": "n", "output_tokens": 5}
    assert result.phase("low").settings == {"model": "m"}
    jsonschema.validate(result.report, SCHEMA)


def test_phases_may_be_objects_with_ready_prompts(core: ModuleType, here: Path) -> None:
    prompts = Dataset("mine", "f" * 64, [Sample(prompt="hello")])
    phases = [closed("a", dataset=prompts, order=Sequential), closed("b", seed=3, settings=PhaseSettings(model="z"))]
    result = Run(resolve("mock:", {}, needs_load=False), phases=phases).execute()
    engine = core.ENGINES[0]
    assert [phase["name"] for phase in engine.phases] == ["a", "b"]
    assert [phase["order"] for phase in engine.phases] == ["sequential", "without_replacement"]
    assert json.loads(engine.bodies[0].bodies[0])["messages"][0]["content"] == "hello"
    assert [phase["name"] for phase in result.report["run"]["config"]["phases"]] == ["a", "b"]


def test_run_takes_objects_and_no_load_beside_them(core: ModuleType, here: Path) -> None:
    result = loadgen.run("mock:", phases=[closed("a"), closed("b")], seed=3)
    assert [phase.name for phase in result.phases] == ["a", "b"]
    with pytest.raises(ConfigError, match="requests has no phase that takes it"):
        loadgen.run("mock:", phases=[closed()], requests=5)
    with pytest.raises(ConfigError, match="mappings and PhaseConfig objects mixed"):
        loadgen.run("mock:", phases=[closed(), LOW])


def test_objectives_are_a_phases_own(core: ModuleType, here: Path) -> None:
    result = loadgen.run("mock:", phases=[{**LOW, "slo": "ttft:1s"}, {**HIGH, "slo": None}], slo="latency:9s")
    assert result.phase("low").report["goodput"]["slo"] == {"ttft": 1000.0}
    assert result.phase("high").report["goodput"] is None


def test_the_stored_options_hold_each_phase_and_no_secret(
    core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "canary-7f3a")
    phases = [{**LOW, "header": {"X-Key": "${CANARY}"}, "extra_body": {"user": "${CANARY}"}}, HIGH]
    result = loadgen.run("mock:", phases=phases)
    low, high = result.report["run"]["config"]["phases"]
    assert low["header"] == {"X-Key": "[redacted]"}
    assert low["extra_body"] == {"user": "${CANARY}"}
    assert (high["load"]["kind"], high["load"]["n"], high["requests"], high["drain"]) == ("concurrency", 8, 9, 240.0)
    assert core.ENGINES[0].phases[0]["request"]["headers"] == [["X-Key", "canary-7f3a"]]
    for file in result.dir.iterdir():
        # The fake log keeps the phase as it came; the real one leaves headers out (test_no_log_of_a_phase_...).
        assert file.name == "run.log" or b"canary-7f3a" not in file.read_bytes(), file


def test_a_phase_whose_headers_authorise_leaves_the_key_to_the_others(
    core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary")
    phases = [{**LOW, "header": {"Authorization": "Bearer mine"}}, HIGH]
    loadgen.run("http://h", model="m", phases=phases)
    assert core.ENGINES[0].config["api_key"] == "sk-canary"


def test_a_run_ends_with_the_phase_that_was_refused_and_names_the_rest(core: ModuleType, here: Path) -> None:
    core.Script.reason, core.Script.failed = "early", 9
    config = resolve("http://h", {"model": "m", "phases": [LOW, {**HIGH, "api": "completions"}]})
    result = Run(config).execute()
    assert [phase["name"] for phase in core.ENGINES[0].phases] == ["low"]
    assert (result.status, result.reason) == (
        "failed",
        "phase low: stopped early: the first answers were all refusals",
    )
    message, way_out = error_of(result, config)
    assert message.startswith("404 from http://h/v1/chat/completions after 9 requests")
    assert way_out.startswith("stopped early in phase low; 9 of 9 requests were sent.")


def test_a_server_that_dies_after_a_phase_was_there_and_its_address_is_right(core: ModuleType, here: Path) -> None:
    def dies(engine: Any) -> None:
        if len(engine.phases) == 2:
            core.Script.reason, core.Script.failed, core.Script.refusal = "early", 9, "connect"

    core.Script.on_poll = dies
    config = resolve("http://h", {"model": "m", "phases": [LOW, HIGH]})
    result = Run(config).execute()
    assert [phase.counts.ok > 0 for phase in result.phases] == [True, False]
    assert result.reason == (
        "phase high: stopped early: its first answers were all refusals, though the server had answered well before"
    )
    message, way_out = error_of(result, config)
    assert message.startswith("no connection to http://h/v1/chat/completions after 9 requests")
    assert way_out.startswith("it answered in phase low: is it still up?\n")


def test_every_measured_phase_counts_for_the_status_and_is_named() -> None:
    def judged(*phases: dict[str, Any]) -> tuple[str, str | None]:
        asked = {"config": {"phases": [{"name": phase["name"]} for phase in phases]}}
        return summary.verdict({"status": "complete", "reason": None, "phases": list(phases), "meta": asked}, 0.1)

    good = reports.phase("good")
    assert judged(good, reports.phase("w", ok=0, failed=9, kind="warmup"), good) == ("complete", None)
    bad = reports.phase("bad", ok=80, failed=20)
    assert judged(good, bad) == ("failed", "phase bad: 20.0 % of the requests failed; 10 % are allowed")
    none = reports.phase("none", ok=0, failed=2, kind="accuracy")
    assert judged(good, none, bad) == ("failed", "phase none: no request succeeded")


# --- what a person sees


def call(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), prog_name="loadgen")


FILE = """
url: http://u:canary@h:1
model: m
phases:
  - {name: heat, type: warmup, concurrency: 2, requests: 3}
  - name: low
    rate: 5
    duration: 10s
    header: {X-Key: canary-7f3a}
  - {name: high, burst: 5, api: completions, stream: false, model: n, output_tokens: 3, slo: 'latency:1s'}
"""


def test_a_dry_run_shows_every_phase_and_a_request_of_each(core: ModuleType, here: Path) -> None:
    write(here / "p.yaml", FILE)
    result = call("run", "--config", "p.yaml", "--dry-run")
    assert (result.exit_code, core.ENGINES) == (0, [])
    assert "canary" not in result.output
    for line in (
        "phase      heat, warmup: closed loop, 2 in flight, until 3 requests",
        "phase      low, performance: Poisson 5 req/s, until 10 s",
        "phase      high, performance: burst of 5",
        "           completions, not streamed, model n",
        "           objectives latency ≤ 1000 ms",
        "X-Key: [redacted]",
        "POST http://h:1/v1/completions",
    ):
        assert line in result.stdout.splitlines()
    bodies = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert [(body["model"], "stream" in body) for body in bodies] == [("m", True), ("m", True), ("n", False)]


def test_a_dry_run_shows_what_scores_an_accuracy_phase_and_the_first_right_answer(core: ModuleType, here: Path) -> None:
    write(here / "q.jsonl", '{"question": "Legs of a duck?", "answer": "Two.\\n#### 2"}\n')
    write(
        here / "p.yaml",
        "phases: [{name: q, type: accuracy, dataset: q.jsonl, concurrency: 1, requests: 1, scorer: numeric}]",
    )
    result = call("run", "http://h:1", "--config", "p.yaml", "--dry-run", "--model", "m")
    assert (result.exit_code, core.ENGINES) == (0, [])
    assert r"           scored     by numeric answer, the first target: Two.\n#### 2" in result.stdout.splitlines()


def test_progress_says_which_of_how_many(core: ModuleType, here: Path) -> None:
    write(here / "p.yaml", FILE)
    result = call("run", "--config", "p.yaml", "--ui", "bar")
    assert result.exit_code == 0, result.output
    assert "low (phase 2 of 3): Poisson 5 req/s, run in loadgen-runs/" in result.stderr
    config = resolve("http://h", {"phases": [LOW]})
    low = plan_of(phases_of(config)[0], config, ABOUT, (2, 3))
    assert progress.bottom_line(low, core.LIVE, [], 80).startswith(" phase 2 of 3  TTFT p50")
    many = msgspec.structs.replace(low, place=(10, 12))
    assert progress.bottom_line(many, core.LIVE, [], 80).startswith(f" {'10/12':<14}TTFT p50")
    assert progress.bottom_line(low, core.LIVE, [], 50).startswith(" TTFT p50")


def test_a_list_of_runs_says_how_many_phases(core: ModuleType, here: Path) -> None:
    line = line_of_result(loadgen.run("mock:", phases=[LOW, HIGH]))
    assert line.load == "2 phases: Poisson 5 req/s; closed loop, 8 in flight"
    assert (line.ok, line.ttft_p50) == (18, None)


def test_a_phase_that_was_not_begun_is_said(core: ModuleType, here: Path) -> None:
    run = Run(resolve("mock:", {"phases": [LOW, HIGH]}))
    core.Script.on_poll = lambda engine: run.stop("SIGINT", 0.0)
    result = run.execute()
    from loadgen.report.sentences import alarms

    assert alarms(result)[-1] == "INTERRUPTED: stopped by Ctrl-C (SIGINT). Not begun: high."


# --- over the real core


def test_phases_keep_their_rows_settings_and_numbers_apart(here: Path) -> None:
    with _core.MockServer(json.dumps({"ttft": 1, "gap": 0})) as server:
        result = loadgen.run(
            server.url,
            output_tokens=4,
            phases=[
                {"name": "warmup", "type": "warmup", "concurrency": 2, "requests": 7},
                {"name": "low", "rate": 400, "requests": 20, "slo": "ttft:10s"},
                {"name": "heat", "type": "warmup", "concurrency": 2, "requests": 5, "drain": True},
                {"name": "high", "concurrency": 4, "requests": 30, "api": "completions", "stream": False,
                 "order": "sequential", "input_tokens": 9, "header": {"X-Canary": "canary-7f3a"}, "slo": "latency:20s"},
            ],
        )  # fmt: skip
        truth = json.loads(server.truth(rows=True))
    assert [(phase.name, phase.counts.ok) for phase in result.phases] == [
        ("warmup", 7),
        ("low", 20),
        ("heat", 5),
        ("high", 30),
    ]
    assert truth["requests"] == 62
    low, high = result.perf_results
    assert low.ttft.count == 20
    assert (high.ttft.count, high.latency.count) == (0, 30)
    assert {request.streamed for request in high.requests} == {False}
    assert [request.sample for request in high.requests if request.id == min(r.id for r in high.requests)] == [0]
    assert low.dataset is not None
    assert high.dataset is not None
    assert low.dataset.sha256 != high.dataset.sha256
    assert (low.report["goodput"]["slo"], high.report["goodput"]["slo"]) == ({"ttft": 10_000.0}, {"latency": 20_000.0})
    assert (low.report["goodput"]["from"], high.report["goodput"]["from"]) == ("planned", "sent")
    assert high.order == "sequential"
    jsonschema.validate(result.report, SCHEMA)
    assert summary.report_of(result.dir) == result.report
    for file in result.dir.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert b"canary-7f3a" not in file.read_bytes(), file


def test_the_example_runs_and_stands_on_its_page(tmp_path: Path) -> None:
    root = Path(__file__).parents[1]
    example = root / "examples" / "phases.yaml"
    assert f"```yaml\n{example.read_text()}```" in (root / "docs" / "phases.md").read_text()
    quick = {"requests": 20, "out": tmp_path / "run"}
    result = loadgen.run("mock:", config=example, **quick)  # type: ignore[arg-type]
    assert [phase.name for phase in result.perf_results] == ["steady", "saturated"]
    assert [phase.report["goodput"]["slo"] for phase in result.perf_results] == [
        {"ttft": 200.0, "tpot": 20.0},
        {"tpot": 20.0},
    ]


def test_the_page_names_every_key_of_a_phase() -> None:
    page = (Path(__file__).parents[1] / "docs" / "phases.md").read_text()
    table = page[page.index("| key | meaning |") : page.index("Everything else")]
    named = set(re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line)))
    assert named == {*PER_PHASE, "name", "type", "drain", "scorer", "target_field"}


def test_only_phases_that_save_answers_have_them(here: Path) -> None:
    result = loadgen.run(
        "mock:",
        output_tokens=2,
        phases=[{**HIGH, "requests": 6}, {"name": "kept", "burst": 4, "save_responses": True}],
    )
    kept = {request.id for request in result.phase("kept").requests}
    assert {request for request, _, _ in _core.read_texts(result.dir, "answers")} == kept


def test_a_result_says_all_of_its_phases(here: Path) -> None:
    result = loadgen.run("mock:", output_tokens=2, phases=[{**HIGH, "requests": 6}, {"name": "b", "burst": 4}])
    assert isinstance(result, SessionResult)
    with pytest.raises(LookupError, match=r"2 performance phases \(high, b\); use phase\(name\)"):
        _ = result.performance
    assert result.phase("b").load["kind"] == "burst"
