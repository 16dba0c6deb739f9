"""The command line: exit statuses, what stands on which stream, signals, and that it can't be hurt by what it reads."""

import json
import os
import signal
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
from click.shell_completion import CompletionItem, ShellComplete

from cli_support import call, errors
from loadgen.cli import app
from loadgen.errors import RunError
from loadgen.session import Run, run_dir

pytest_plugins = ["surface_fixtures"]


# --- run


def test_a_good_run_exits_0_and_reports_on_standard_output(core: ModuleType, here: Path) -> None:
    result = call("run", "mock:")
    assert result.exit_code == 0
    assert "10 ok   0 failed   0 cancelled" in result.stdout
    assert errors(result) == []
    assert core.SERVERS[0].stopped == 1


def test_json_is_the_only_thing_on_standard_output(core: ModuleType, here: Path) -> None:
    result = call("run", "mock:", "--json")
    report = json.loads(result.stdout)
    assert report == json.loads(next(here.rglob("report.json")).read_text())
    assert report["run"]["source"] == "log"


def test_quiet_prints_nothing_when_all_is_well(core: ModuleType, here: Path) -> None:
    result = call("run", "mock:", "--quiet")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")


def test_a_run_above_its_error_rate_exits_1_after_its_report(core: ModuleType, here: Path) -> None:
    core.Script.failed = 2
    result = call("run", "mock:")
    assert result.exit_code == 1
    assert "FAILED: 20.0 % of the requests failed; 10 % are allowed." in result.stdout
    assert errors(result) == ["error: 20.0 % of the requests failed; 10 % are allowed"]
    assert call("run", "mock:", "--max-error-rate", "20%").exit_code == 0


def test_an_early_stop_says_the_servers_words_and_what_was_sent(core: ModuleType, here: Path) -> None:
    core.Script.reason, core.Script.failed = "early", 8
    result = call("run", "http://127.0.0.1:9", "--model", "nope", "--concurrency", "8", "--requests", "8")
    assert result.exit_code == 1
    assert result.stdout == ""
    directory = next(here.rglob("report.json")).parent.relative_to(here)
    assert errors(result) == [
        "error: 404 from http://127.0.0.1:9/v1/chat/completions after 8 requests: the model `nope` does not exist",
        f"       stopped early; 8 of 8 requests were sent. Report: {directory}",
    ]


@pytest.mark.parametrize(
    ("api", "model", "has", "way_out"),
    [
        ("chat", "nope", " (the server has: tiny)", None),
        ("chat", "tiny", "", "it lists models, but has no path of chat: another --api, or another path in the URL"),
        ("ollama_chat", "tiny", "", "does it speak Ollama's API? OpenAI's is --api chat, completions or embeddings"),
    ],
)
def test_a_404_names_the_models_where_that_is_missing_and_the_api_where_the_path_is(
    core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch, api: str, model: str, has: str, way_out: str | None
) -> None:
    core.Script.reason, core.Script.failed, core.Script.status, core.Script.message = "early", 8, 404, "File Not Found"
    monkeypatch.setattr("loadgen.session.models.ask", lambda config, api_key: ["tiny"])
    first, *more = errors(call("run", "http://127.0.0.1:9", "--api", api, "--model", model, "--burst", "8"))
    assert first.endswith(f" after 8 requests: File Not Found{has}")
    assert (f"       {way_out}" in more) is (way_out is not None)
    assert more[-1].startswith("       stopped early")


def test_a_refused_key_shows_how_to_give_one(core: ModuleType, here: Path) -> None:
    core.Script.reason, core.Script.failed, core.Script.status, core.Script.message = "early", 8, 401, "no key"
    result = call("run", "http://127.0.0.1:9/v1", "--model", "m", "--burst", "8")
    assert errors(result)[:2] == [
        "error: 401 from http://127.0.0.1:9/v1/chat/completions after 8 requests: no key",
        "       check the API key: --api-key-env NAME or --api-key-file FILE",
    ]


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (["http://h", "--rate", "50", "--concurrency", "8"], "error: --rate and --concurrency are two kinds of load"),
        (["http://h", "--rate", "0"], "error: --rate 0 must be above 0"),
        (["http://h"], "error: no load given: how many requests at a time, or how many a second?"),
        (["http://h", "--rate", "5"], "error: no end given: after how many requests, or how long, does the run stop?"),
        ([], "error: no target given"),
        (["mock:", "--key", "no"], "error: --key no names a PEM file that can't be read: No such file or directory"),
        (["mock:", "--out", "file"], "error: can't write the run to file: a file stands in the way"),
        (["mock:?ttfd=3"], "error: a mock server has no option ttfd"),
        (["mock:", "--ui", "x"], "error: Invalid value for '--ui': 'x' is not one of 'auto', 'full', 'bar', 'none'"),
        (["mock:", "--concurency", "3"], "error: there is no option --concurency"),
        (["mock:", "--rate"], "error: Option '--rate' requires an argument"),
        (["mock:", "again"], "error: target 2, again, must be a whole URL; perhaps http://again"),
        (["http://127.0.0.1:9", "--burst", "1"], "error: can't ask http://127.0.0.1:9/v1/models: connection refused"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_exits_2_with_one_sentence(
    core: ModuleType, here: Path, args: list[str], error: str
) -> None:
    (here / "file").write_text("")
    result = call("run", *args)
    assert result.exit_code == 2
    assert errors(result)[0] == error
    assert all(line.startswith("       ") for line in errors(result)[1:])
    assert len(errors(result)) <= 3
    assert result.stdout == ""
    assert core.ENGINES == []
    assert [path.name for path in here.iterdir()] == ["file"]


def test_a_dataset_without_the_field_names_those_it_has(core: ModuleType, here: Path) -> None:
    (here / "mine.jsonl").write_text('{"question": "q", "answer": "a"}\n')
    result = call("run", "mock:", "--dataset", "mine.jsonl", "--prompt-field", "prompt")
    assert result.exit_code == 2
    assert errors(result) == [
        'error: no field "prompt" in mine.jsonl, line 1 (fields: question, answer)',
        "       name the one to send: --prompt-field question",
    ]


def test_flags_win_over_the_file(core: ModuleType, here: Path) -> None:
    (here / "load.yaml").write_text("url: 'mock:?ttft=5'\nconcurrency: 4\nrequests: 7\nslo: ['ttft:1s']\n")
    assert call("run", "--config", "load.yaml", "--requests", "9").exit_code == 0
    assert core.SERVERS[0].config == {"ttft": 5.0}
    phase = core.ENGINES[0].phases[0]
    assert (phase["load"], phase["requests"]) == ({"kind": "concurrency", "n": 4}, 9)


def test_a_literal_key_on_the_command_line_gets_a_warning(
    core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = call("run", "mock:", "--header", "Authorization: Bearer canary")
    assert result.exit_code == 0
    assert errors(result)[0].startswith("warning: the value of Authorization stands on the command line")
    assert "canary" not in result.output
    monkeypatch.setenv("KEY", "canary")
    assert "warning" not in call("run", "mock:", "--header", "Authorization: Bearer ${KEY}").stderr
    (here / "load.yaml").write_text("header: ['Authorization: Bearer canary']\n")
    assert "warning" not in call("run", "mock:", "--config", "load.yaml").stderr


def test_a_dry_run_sends_nothing_and_shows_no_secret(
    core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "canary-7f3a")
    (here / "d.jsonl").write_text('{"prompt": "hello\\u001b[2J"}\n')
    result = call(
        "run", "http://u:canary@h:1", "--rate", "5", "--duration", "10s", "--warmup", "3", "--dataset", "d.jsonl",
        "--header", "X-Key: ${CANARY}", "--extra-body", '{"user": "${CANARY}", "temperature": 0}', "--dry-run",
    )  # fmt: skip
    assert result.exit_code == 0
    assert core.ENGINES == []
    assert "canary" not in result.output.lower().replace("${canary}", "")
    assert "\x1b" not in result.output
    assert "phase      warmup: Poisson 5 req/s, until 3 requests" in result.stdout
    assert "phase      performance: Poisson 5 req/s, until 10 s" in result.stdout
    body = json.loads(result.stdout.splitlines()[-1].replace("\\x1b", "\\u001b"))
    assert body["messages"][0]["content"] == "hello\x1b[2J"
    assert body["temperature"] == 0
    assert not (here / "loadgen-runs").exists()


def test_a_dry_run_with_json_is_an_object_in_the_words_of_a_report(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-value")
    done = call(
        "run", "http://u:canary-pw@h:1", "--rate", "5", "--requests", "20", "--header", "X-Key: ${CANARY}",
        "--extra-body", '{"user": "${CANARY}"}', "--slo", "ttft:1s", "--dry-run", "--json",
    )  # fmt: skip
    assert (done.exit_code, done.stderr) == (0, "")
    assert "canary" not in done.stdout.lower().replace("${canary}", "")
    plan = json.loads(done.stdout)
    assert (plan["config"]["url"], plan["config"]["rate"]) == ("http://h:1", 5.0)
    assert plan["workers"] >= 1
    (phase,) = plan["phases"]
    assert (phase["name"], phase["type"], phase["requests"], phase["duration_s"]) == (
        "performance", "performance", 20, None,
    )  # fmt: skip
    assert phase["load"]["words"] == "Poisson 5 req/s"
    assert set(phase["dataset"]) >= {"name", "sha256", "samples"}
    request = phase["request"]
    assert (request["method"], request["url"]) == ("POST", "http://h:1/v1/chat/completions")
    assert list(request["headers"]) == ["X-Key"]
    assert (request["body"]["model"], request["body"]["user"], request["body"]["stream"]) == (None, "${CANARY}", True)
    assert not (here / "loadgen-runs").exists()


def test_a_dry_run_of_several_phases_with_json_tells_each(here: Path) -> None:
    (here / "p.yaml").write_text(
        "phases:\n- {name: low, concurrency: 1, requests: 5}\n- {name: high, stages: '5/s:2s,9/s:1s', model: m}\n"
    )
    done = call("run", "mock:", "--config", "p.yaml", "--dry-run", "--json")
    assert done.exit_code == 0, done.stderr
    low, high = json.loads(done.stdout)["phases"]
    assert (low["name"], low["requests"], low["request"]["body"]["model"]) == ("low", 5, "mock")
    assert (high["name"], high["duration_s"], high["request"]["body"]["model"]) == ("high", 3.0, "m")
    assert high["settings"] == {"model": "m"}


def test_a_dry_run_names_the_endpoint_that_the_load_would_go_to(here: Path) -> None:
    for url in ("http://h:1", "http://h:1/v1", "http://h:1/v1/chat/completions"):
        done = call("run", url, "--dry-run", "--model", "m", "--rate", "5", "--requests", "1")
        assert "POST http://h:1/v1/chat/completions\n" in done.stdout
        assert '{"stream":true,"stream_options":{"include_usage":true},' in done.stdout


def test_a_third_signal_while_the_report_is_made_keeps_the_firsts_status(
    core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(run: Run) -> None:
        run._state = "reporting"
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("two signals let the report be made")
        os.kill(os.getpid(), signal.SIGTERM)

    reached: list[str] = []
    monkeypatch.setattr(Run, "execute", execute)
    done = call("run", "mock:")
    assert done.exit_code == 143
    assert reached
    assert "loadgen report" in done.stderr


@pytest.mark.usefixtures("with_hangup")
def test_a_terminal_that_is_gone_is_told_of_twice_and_leaves_requests_in_flight_their_grace(
    core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(run: Run) -> None:
        run._state = "running"
        os.kill(os.getpid(), signal.SIGHUP)  # from the shell,
        os.kill(os.getpid(), signal.SIGHUP)  # and from the kernel
        before_the_second.extend(graces)
        os.kill(os.getpid(), signal.SIGTERM)
        raise RunError("enough")

    graces: list[tuple[str, float]] = []
    before_the_second: list[tuple[str, float]] = []
    monkeypatch.setattr(Run, "execute", execute)
    monkeypatch.setattr(Run, "stop", lambda _, why, grace: graces.append((why, grace)))
    call("run", "mock:", "--grace", "7s")
    assert before_the_second == [("SIGHUP", 7.0)]
    assert graces == [("SIGHUP", 7.0), ("SIGHUP", 0.0)]


# --- report


def test_report_finds_the_newest_run_and_one_by_its_id(core: ModuleType, here: Path) -> None:
    call("run", "mock:", "--requests", "11")
    run_id = next((here / "loadgen-runs").iterdir()).name.rpartition("-")[2]
    for args in ([], [run_id], [run_id[:2]]):
        result = call("report", *args)
        assert result.exit_code == 0
        assert "11 ok" in result.stdout


def test_report_of_a_killed_run_exits_0_and_says_what_it_is(core: ModuleType, here: Path) -> None:
    call("run", "mock:")
    directory = next((here / "loadgen-runs").iterdir())
    log = json.loads((directory / "run.log").read_text())
    (directory / "run.log").write_text(json.dumps({**log, "status": "killed"}))
    (directory / "report.json").unlink()
    result = call("report")
    assert result.exit_code == 0
    assert "INTERRUPTED: the process ended before the run did." in result.stdout
    assert json.loads((directory / "report.json").read_text())["run"]["reason"] == "killed"


def test_report_of_a_run_that_is_still_going_writes_nothing(core: ModuleType, here: Path) -> None:
    call("run", "mock:", "--out", "loadgen-runs/20260101T000000Z-aa11")
    directory = here / "loadgen-runs/20260101T000000Z-aa11"
    log = json.loads((directory / "run.log").read_text())
    (directory / "run.log").write_text(json.dumps({**log, "status": "killed"}))
    (directory / "report.json").unlink()
    lock = os.open(directory / ".lock", os.O_RDWR)
    try:
        import fcntl

        fcntl.flock(lock, fcntl.LOCK_EX)
        result = call("report", "aa11")
        listed = call("ls")
    finally:
        os.close(lock)
    assert result.exit_code == 0
    assert "INTERRUPTED: the run is still going." in result.stdout
    assert not (directory / "report.json").exists()
    assert listed.stdout.splitlines()[1].endswith("running")


def test_report_takes_other_percentiles_without_touching_the_stored_ones(core: ModuleType, here: Path) -> None:
    call("run", "mock:")
    stored = next(here.rglob("report.json")).read_bytes()
    result = call("report", "--percentiles", "10,99.99", "--json")
    assert {"p10", "p99_99"} <= set(json.loads(result.stdout)["phases"][0]["metrics"]["latency"])
    assert next(here.rglob("report.json")).read_bytes() == stored
    assert "--percentiles 0 must be above 0" in call("report", "--percentiles", "0").stderr


def test_report_falls_back_to_the_stored_one_when_the_log_is_gone(core: ModuleType, here: Path) -> None:
    call("run", "mock:")
    next(here.rglob("run.log")).unlink()
    result = call("report")
    assert result.exit_code == 0
    assert "10 ok" in result.stdout
    assert errors(result) == ["warning: the run log is gone; this is the stored report"]


@pytest.mark.parametrize(
    ("content", "words"),
    [("{", "is not a report"), ('{"schema": 99}', "has schema 99; this version reads 1"), ("[]", "is not a report")],
)
def test_a_stored_report_that_is_none_is_an_error(core: ModuleType, here: Path, content: str, words: str) -> None:
    directory = here / "loadgen-runs" / "20260101T000000Z-aa11"
    directory.mkdir(parents=True)
    (directory / "report.json").write_text(content)
    result = call("report")
    assert result.exit_code == 2
    assert words in result.stderr


def test_report_without_any_run_shows_the_way_to_one(core: ModuleType, here: Path) -> None:
    result = call("report")
    assert result.exit_code == 2
    assert errors(result) == [
        "error: there is no run in loadgen-runs",
        "       name its directory, or make one: loadgen run mock:",
    ]


# --- mock


def test_mock_names_its_faults(core: ModuleType) -> None:
    result = call("mock", "--list-faults")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "crlf     ends lines with CR LF"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--port", "99999"], "--port 99999 must be a port"),
        (["--ttft", "fast"], "--ttft fast must be a"),
        (["--error-rate", "20"], "must be a share"),
        (["--tls-cert", "x.pem"], "--tls-cert and --tls-key go together"),
        (["--api-key-env", "NO_SUCH_KEY_HERE"], "which is not set"),
    ],
)
def test_mock_refuses_what_is_no_setting(core: ModuleType, args: list[str], words: str) -> None:
    result = call("mock", *args)
    assert result.exit_code == 2
    assert words in result.stderr


def test_a_mock_that_can_not_start_leaves_signals_as_they_were(
    core: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken(_: str) -> None:
        raise OSError("the address is taken")

    monkeypatch.setattr(core, "MockServer", taken)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    result = call("mock")
    assert result.exit_code == 2
    assert "can't start: the address is taken" in result.stderr
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


# --- the whole


def test_help_and_version_exit_0(core: ModuleType) -> None:
    for args in (["--help"], ["run", "--help"], ["report", "-h"], ["mock", "-h"], ["ls", "-h"], ["clean", "-h"]):
        result = call(*args)
        assert result.exit_code == 0
        assert "Usage: loadgen" in result.stdout
    assert call("--version").stdout.startswith("loadgen ")


def test_help_of_run_shows_every_option_under_a_heading(core: ModuleType) -> None:
    from loadgen.config import OPTIONS

    text = call("run", "--help").stdout
    for heading in ("Load:", "Prompts:", "Connection:", "Results:"):
        assert heading in text
    for name in OPTIONS:
        assert "--" + name.replace("_", "-") in text
    assert "Other:" in text  # --help itself


def test_an_unknown_command_suggests_the_right_one() -> None:
    result = call("rum")
    assert result.exit_code == 2
    assert errors(result) == ["error: there is no command 'rum'", "       perhaps run?"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (("http://127.0.0.1:8000",), "loadgen run http://127.0.0.1:8000"),
        (("mock:", "--rate", "5"), "loadgen run mock:"),
        (("dispatch", "unix:/s", "--items", "i"), "loadgen dispatch run unix:/s"),
    ],
)
def test_a_target_in_place_of_a_command_is_for_run(typed: tuple[str, ...], meant: str) -> None:
    result = call(*typed)
    assert result.exit_code == 2
    assert errors(result)[1] == f"       perhaps {meant}?"


def test_a_key_in_a_target_in_place_of_a_command_is_not_shown() -> None:
    assert "canary" not in call("http://me:canary@127.0.0.1:1").output


def test_shell_completion_knows_commands_and_choices() -> None:
    assert "run" in {item.value for item in offered(start="r")}
    assert {item.value for item in offered("run", "--arrival", start="p")} == {"poisson"}
    assert "--max-concurrency" in {item.value for item in offered("run", start="--max-")}


def test_every_command_is_a_click_command() -> None:
    context = click.Context(app)
    for name in app.list_commands(context):
        command: Any = app.get_command(context, name)
        assert command.name == name


# --- what the shell is offered


def offered(*args: str, start: str = "") -> list[CompletionItem]:
    return ShellComplete(app, {}, "loadgen", "_LOADGEN_COMPLETE").get_completions(list(args), start)


@pytest.mark.parametrize(
    "command", [("dispatch", "run"), ("dispatch", "trace"), ("dispatch", "simulate")], ids=lambda words: words[1]
)
def test_strategies_are_offered(command: tuple[str, str]) -> None:
    assert [item.value for item in offered(*command, "--strategy")] == [
        "sequential", "parallel", "adaptive_ceiling", "hedged", "auto",
    ]  # fmt: skip
    assert [item.value for item in offered(*command, "--strategy", start="a")] == ["adaptive_ceiling", "auto"]


@pytest.mark.parametrize("command", [("report",), ("events",), ("dispatch", "simulate", "--run")], ids=" ".join)
def test_runs_are_offered_by_their_ids_the_newest_first(here: Path, command: tuple[str, ...]) -> None:
    for name in ("20260101T000000Z-7f3a", "20260102T000000Z-00aa"):
        (here / "loadgen-runs" / name).mkdir(parents=True)
        (here / "loadgen-runs" / name / run_dir.LOG).touch()
    assert [(item.value, item.help) for item in offered(*command)] == [
        ("00aa", "20260102T000000Z-00aa"),
        ("7f3a", "20260101T000000Z-7f3a"),
    ]
    assert [item.value for item in offered(*command, start="7")] == ["7f3a"]
    assert [item.value for item in offered(*command, start="20260101")] == ["20260101T000000Z-7f3a"]
    for typed in ("./x", "loadgen-runs/2", "elsewhere"):
        assert [(item.type, item.value) for item in offered(*command, start=typed)] == [("dir", typed)]


def test_top_is_offered_the_runs_that_go_on(here: Path) -> None:
    (here / "loadgen-runs" / "20260101T000000Z-7f3a").mkdir(parents=True)
    (here / "loadgen-runs" / "20260101T000000Z-7f3a" / run_dir.LOG).touch()
    with run_dir.create(None, "00aa") as going:
        (going.path / run_dir.LOG).touch()
        assert [item.value for item in offered("top")] == ["00aa"]
