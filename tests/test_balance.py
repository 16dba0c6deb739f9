"""A run over several nodes: how that is said, what is refused, and where requests went, node by node."""

import json
import socket
from collections import Counter
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

import loadgen
from loadgen import _core
from loadgen.cli import app
from loadgen.config import redacted, resolve
from loadgen.config.nodes import balance_of, balance_words
from loadgen.config.target import names, words
from loadgen.dataset import Dataset, Sample, Sessions, load
from loadgen.errors import ConfigError, DatasetError, TargetError
from loadgen.session import prepare
from loadgen.speech import in_flags

pytest_plugins = ["surface_fixtures"]

A, B, C = "http://a:1", "http://b:2", "http://c:3"
GOOD: dict[str, Any] = {"concurrency": 4, "requests": 40}
ENDS = ("sample.complete", "error.client")
SCHEMA = json.loads(resources.files("loadgen.report").joinpath("report.schema.json").read_text())


def call(*args: str) -> Result:
    return CliRunner().invoke(app, list(args), prog_name="loadgen")


def refusal(*urls: str, **given: Any) -> ConfigError:
    with in_flags(), pytest.raises(ConfigError) as caught:
        resolve(urls, {**GOOD, **given})
    return caught.value


def by_session(path: Path, *sessions: Any, field: str = "session") -> str:
    records = [{"prompt": f"question {number}", field: session} for number, session in enumerate(sessions)]
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def nowhere() -> str:
    """A URL where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


# --- how it is said


def test_one_url_is_a_list_of_one() -> None:
    assert resolve([A], GOOD) == resolve(A, GOOD)
    assert redacted(resolve(A, GOOD))["url"] == A
    assert balance_of(resolve(A, GOOD)) is None


def test_several_urls_stay_in_their_order_and_show_no_credentials() -> None:
    config = resolve([A, "http://me:secret@b?key=secret"], GOOD)
    assert config.urls == (A, "http://me:secret@b?key=secret")
    assert redacted(config)["url"] == [A, "http://b?key=[redacted]"]
    assert "secret" not in repr(config)


@pytest.mark.parametrize("form", ["url: [http://a:1, http://b:2]", "url:\n- http://a:1\n- http://b:2\n"])
def test_a_file_may_list_them_and_the_command_line_wins(tmp_path: Path, form: str) -> None:
    file = tmp_path / "load.yaml"
    file.write_text(f"{form}\nbalance: weighted\nweights: [3, 1]\n")
    config = resolve(None, GOOD, config_file=str(file))
    assert (config.urls, config.weights) == ((A, B), (3, 1))
    assert resolve([C, A], GOOD, config_file=str(file)).urls == (C, A)


@pytest.mark.parametrize(
    ("in_file", "balance"),
    [
        ("balance: weighted\nweights: [3, 1]", "round_robin"),
        ("balance: weighted\nweights: [3, 1]", "least_in_flight"),
        ("balance: session\nsession_field: user\ndataset: p.txt", "least_in_flight"),
    ],
)
def test_another_balance_takes_what_the_file_says_of_its_own_with_it(here: Path, in_file: str, balance: str) -> None:
    (here / "p.txt").write_text("one\n")
    (here / "load.yaml").write_text(f"url: [{A}, {B}]\n{in_file}\n")
    config = resolve(None, {**GOOD, "balance": balance}, config_file="load.yaml")
    assert (config.balance, config.weights, config.session_field) == (balance, None, None)
    with pytest.raises(ConfigError, match="weights needs nodes that are weighted"):
        resolve(None, {**GOOD, "balance": balance, "weights": "3,1"}, config_file="load.yaml")


def test_weights_of_a_file_stay_where_they_are_meant(here: Path) -> None:
    (here / "load.yaml").write_text(f"url: [{A}, {B}]\nweights: [3, 1]\n")
    assert resolve(None, {**GOOD, "balance": "weighted"}, config_file="load.yaml").weights == (3, 1)
    with pytest.raises(ConfigError, match="weights needs nodes that are weighted, and the balance is round_robin"):
        resolve(None, GOOD, config_file="load.yaml")
    phases = [{"name": "shares", "concurrency": 1, "requests": 1, "balance": "weighted"}]
    (shares,) = resolve(None, {"balance": "round_robin", "phases": phases}, config_file="load.yaml").phases
    assert (shares.options.balance, shares.options.weights) == ("weighted", (3, 1)), "of a phase that has them weighted"


@pytest.mark.parametrize(
    ("given", "told", "said"),
    [
        ({}, {"kind": "round_robin"}, "round robin"),
        ({"balance": "least_in_flight"}, {"kind": "least_in_flight"}, "least in flight"),
        ({"balance": "weighted", "weights": "3,1"}, {"kind": "weighted", "weights": [3, 1]}, "weighted 3:1"),
        ({"balance": "weighted", "weights": [2, 2]}, {"kind": "weighted", "weights": [2, 2]}, "weighted 2:2"),
    ],
)
def test_a_balance_is_told_the_engine_and_the_reader(given: Any, told: Any, said: str) -> None:
    balance = balance_of(resolve([A, B], {**GOOD, **given}))
    assert balance == told
    assert balance is not None
    assert balance_words(balance) == said


@pytest.mark.parametrize(
    ("urls", "said"),
    [
        (A, A),
        ([A], A),
        ([A, B], f"{A}, {B}"),
        ([A, B, C, C], f"{A}, {B} and 2 more"),
        (["mock:", "mock:", A], "mock 1, mock 2 and 1 more"),
    ],
)
def test_targets_take_few_words(urls: Any, said: str) -> None:
    assert words(urls) == said


@pytest.mark.parametrize(
    ("urls", "told"),
    [
        ([A, B], [A, B]),
        ([A, "mock:?ttft=5ms"], [A, "mock:?ttft=5ms"]),
        (["mock:", "mock:"], ["mock 1", "mock 2"]),
        (["mock:?ttft=5ms", A, "mock:"], ["mock 1 ttft=5ms", A, "mock 2"]),
        (["http://h", B, "http://h"], ["http://h #1", B, "http://h #2"]),
    ],
)
def test_no_two_targets_have_one_name(urls: list[str], told: list[str]) -> None:
    assert names(urls) == told


# --- what is refused


@pytest.mark.parametrize(
    ("urls", "given", "message", "way_out"),
    [
        ((A,), {"balance": "session"}, "--balance session spreads requests over several URLs, and there is one",
         "name the others"),
        ((A, B), {"balance": "nearest"}, "--balance nearest must be one of round_robin, least_in_flight", ""),
        ((A, B), {"balance": "weighted"}, "--balance weighted has no weights", "--weights 2,1"),
        ((A, B), {"weights": "2,1"}, "--weights needs nodes that are weighted, and the balance is round_robin",
         "--balance weighted"),
        ((A, B), {"balance": "weighted", "weights": "2,1,1"}, f"--weights has 3 for 2 URLs ({A}, {B})", "each URL"),
        ((A, B), {"balance": "weighted", "weights": "2,0"}, "--weights 2,0 must be whole numbers of at least 1", ""),
        ((A, B), {"balance": "weighted", "weights": []}, "--weights must be whole numbers of at least 1", ""),
        ((A, B), {"session_field": "id"}, "--session-field needs sessions to be balanced by", "--balance session"),
        ((A, B), {"balance": "session", "input_tokens": 5}, "--balance session needs prompts of sessions", "--dataset"),
        ((A, B, A), {}, f"{A} is named twice", "weighted"),
        ((A, "http://A:1/v1/"), {}, f"http://A:1/v1/ is named twice, also as {A}", "weighted"),
        ((A, "ftp://b"), {}, "target 2, ftp://b, must begin with http://, https://, unix: or mock:", ""),
        ((A, {"mock": None}), {}, "target 2 must be a URL", ""),
        ((A,), {"weights": "1"}, "--weights shares requests between several URLs, and there is one", "the others"),
        ((A, B), {"balance": "weighted", "weights": "70000,7001"},
         "--weights are exact after 77,001 requests, and a round has at most 65,536", "about the same: 1000,100"),
        ((), {}, "the targets must be a URL, or a list of them, and the list is empty", ""),
        (tuple(f"http://h{n}" for n in range(65)), {}, "the targets are 65 URLs; a run has at most 64", ""),
        ((A, "unix:/run/s"), {"proxy": "http://p"}, "--proxy can't lead to unix:", ""),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_what_was_given(urls: Any, given: Any, message: str, way_out: str) -> None:
    error = refusal(*urls, **given)
    assert error.message.startswith(message)
    assert way_out in (error.way_out or "")


def test_what_is_not_the_same_server_with_the_same_credentials_is_another() -> None:
    urls = (A, "https://a:1", "http://a:1/other", "http://a", "http://a:1?key=1", "http://a:1?key=2", "http://me@a:1")
    assert resolve(urls, GOOD).urls == urls


@pytest.mark.parametrize("weights", [[70_000, 7_000], [65_535, 1]])
def test_weights_that_make_a_round_are_taken(weights: list[int]) -> None:
    assert resolve([A, B], {**GOOD, "balance": "weighted", "weights": weights}).weights == tuple(weights)


def test_a_secret_in_a_list_of_targets_is_not_in_its_refusal() -> None:
    assert "secret" not in str(refusal(A, "http://me:secret@b:port"))


def test_several_servers_of_the_mock_are_several() -> None:
    assert resolve(["mock:", "mock:"], GOOD).urls == ("mock:", "mock:")
    assert resolve(["mock:", "mock:"], {}).requests == 10, "and need no load, as one doesn't"
    assert refusal("mock:", A, concurrency=None, requests=None).message.startswith("no load given")


# --- phases


PHASES: list[dict[str, Any]] = [
    {"name": "shares", "concurrency": 2, "requests": 8},
    {"name": "turns", "concurrency": 2, "requests": 8, "balance": "round_robin"},
    {"name": "least", "concurrency": 2, "requests": 8, "balance": "least_in_flight"},
]


def test_each_phase_may_be_balanced_in_its_own_way(here: Path) -> None:
    result = loadgen.run(["mock:", "mock:"], phases=PHASES, balance="weighted", weights=[3, 1], output_tokens=2)
    shares, turns, least = result.phases
    assert [node.ok for node in shares.nodes] == [6, 2]
    assert [node.ok for node in turns.nodes] == [4, 4]
    assert sum(node.ok for node in least.nodes) == 8
    assert [phase.report["config"]["balance"]["kind"] for phase in result.phases] == [
        "weighted", "round_robin", "least_in_flight",
    ]  # fmt: skip
    assert turns.settings == {"balance": "round_robin", "weights": None}


def test_a_flag_for_the_balance_wins_over_the_phases_own(tmp_path: Path) -> None:
    file = tmp_path / "load.yaml"
    file.write_text(
        "url: [http://a:1, http://b:2]\nphases:\n"
        "- {name: shares, concurrency: 1, requests: 1, balance: weighted, weights: [3, 1]}\n"
    )
    config = resolve(None, {"balance": "least_in_flight"}, config_file=str(file))
    assert (config.phases[0].options.balance, config.phases[0].options.weights) == ("least_in_flight", None)


def test_a_policy_spreads_its_requests_itself(here: Path) -> None:
    # An answer that takes its time: of those that are over at once, the first node could have each.
    session = loadgen.BenchmarkSession(loadgen.HttpIssuer(["mock:?ttft=20", "mock:?ttft=20"]))
    phase = loadgen.PhaseConfig(
        name="adaptive", strategy=loadgen.AdaptiveStrategy(8), limits=loadgen.Limits(samples=40)
    )
    result = session.run([phase])
    nodes = result.phase("adaptive").nodes
    assert sum(node.ok for node in nodes) == 40
    assert all(node.ok for node in nodes), "the least busy one takes turns too"


def test_a_balance_beside_a_policy_is_refused(here: Path) -> None:
    phase = loadgen.PhaseConfig(
        name="adaptive",
        strategy=loadgen.AdaptiveStrategy(8),
        limits=loadgen.Limits(samples=4),
        settings=loadgen.PhaseSettings(balance="least_in_flight"),
    )
    with pytest.raises(ConfigError, match="balanced by least_in_flight, and its policy says where each attempt goes"):
        loadgen.BenchmarkSession(loadgen.HttpIssuer(["mock:", "mock:"])).run([phase])


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (None, "phase shares: balance weighted has no weights"),
        ([3, 1, 1], "phase shares: weights has 3 for 2 URLs (mock:, mock:)"),
        ([65_537, 65_536], "phase shares: weights are exact after 131,073 requests"),
    ],
)
def test_weights_of_a_phase_made_in_python_are_checked_before_anything_starts(
    here: Path, weights: list[int] | None, said: str
) -> None:
    phase = loadgen.PhaseConfig(
        name="shares",
        strategy=loadgen.ConcurrencyStrategy(2),
        limits=loadgen.Limits(samples=4),
        settings=loadgen.PhaseSettings(balance="weighted", weights=weights),
    )
    with pytest.raises(ConfigError) as caught:
        loadgen.BenchmarkSession(loadgen.HttpIssuer(["mock:", "mock:"])).run([phase])
    assert caught.value.message.startswith(said)
    assert not list(here.iterdir()), "nor is there a directory of it"


# --- sessions


@pytest.mark.parametrize("field", ["session", "session_id", "conversation_id", "user"])
def test_the_session_is_found_by_its_name(tmp_path: Path, field: str) -> None:
    prompts = load(by_session(tmp_path / "p.jsonl", "x", 7, field=field), sessions=Sessions())
    assert [sample.session for sample in prompts] == ["x", "7"]
    assert [sample.session for sample in load(tmp_path / "p.jsonl")] == [None, None], "where nobody asked"


def test_the_session_is_taken_from_the_field_that_is_named(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "hi", "session": "no", "meta": {"of": "yes"}}\n')
    assert load(path, sessions=Sessions("meta.of"))[0].session == "yes"


@pytest.mark.parametrize("session", [None, "", "  ", True, [1], {"a": 1}, 1.5])
def test_a_record_without_a_session_is_an_error_that_names_it(tmp_path: Path, session: Any) -> None:
    path = by_session(tmp_path / "p.jsonl", "x", session)
    with pytest.raises(
        DatasetError, match=r"no session in field \"session\" of .*, line 2 .fields: prompt, session"
    ) as e:
        load(path, sessions=Sessions())
    assert "session_field=NAME" in (e.value.way_out or "")


def test_a_dataset_without_sessions_is_refused_before_anything_is_sent(here: Path) -> None:
    (here / "p.txt").write_text("one\ntwo\n")
    done = call("run", "mock:", "mock:", "--balance", "session", "--dataset", "p.txt")
    assert (done.exit_code, "no field that names a session" in done.stderr) == (2, True)
    done = call("run", "mock:", "mock:", "--balance", "session")
    assert (done.exit_code, "made prompts belong to no session" in done.stderr) == (2, True)


def test_samples_of_ones_own_need_sessions_too(here: Path) -> None:
    prompts = Dataset("mine", "0" * 64, [Sample(prompt="a", session="x"), Sample(prompt="b")])
    phase = loadgen.PhaseConfig(
        name="own", strategy=loadgen.BurstStrategy(2), dataset=prompts,
        settings=loadgen.PhaseSettings(balance="session"),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="phase own is balanced by session, and sample 1 of mine is of none"):
        loadgen.BenchmarkSession(loadgen.HttpIssuer(["mock:", "mock:"])).run([phase])


def test_requests_of_a_session_go_to_one_node_in_every_run(here: Path) -> None:
    path = by_session(here / "p.jsonl", *(f"s{number % 8}" for number in range(24)))
    places: list[dict[int, int]] = []
    for workers in (1, 2):
        urls = ["mock:", "mock:", "mock:"]
        result = loadgen.run(
            urls, balance="session", dataset=path, workers=workers, concurrency=4, requests=48, output_tokens=2
        )
        found: dict[int, int] = {}
        for request in result.performance.requests:
            assert request.node is not None
            assert found.setdefault(request.sample % 8, request.node) == request.node
        places.append(found)
    assert places[0] == places[1]
    assert len(set(places[0].values())) > 1


# --- runs


def test_nodes_of_unequal_speed_show_what_they_are(here: Path) -> None:
    urls = ["mock:?ttft=2ms&gap=0", "mock:?ttft=40ms&gap=0"]
    result = loadgen.run(urls, concurrency=4, requests=60, output_tokens=4, slo="ttft:20ms", balance="least_in_flight")
    jsonschema.validate(result.report, SCHEMA)
    phase = result.performance
    fast, slow = phase.nodes
    assert (fast.url, slow.url) == tuple(urls)
    assert (fast.name, slow.name) == ("mock 1 ttft=2ms&gap=0", "mock 2 ttft=40ms&gap=0")
    assert fast.ok + slow.ok == phase.counts.ok == 60
    assert fast.ok > slow.ok, "who answers sooner has fewer in flight"
    assert fast.ttft.min >= 2
    assert slow.ttft.min >= 40
    assert (fast.goodput > 0, slow.goodput) == (True, 0.0)
    assert slow.report["goodput"]["requests"] == 0
    assert fast.share == fast.ok / 60
    rates = [node.requests_per_s for node in phase.nodes]
    assert sum(rate or 0 for rate in rates) == pytest.approx(phase.throughput.requests_per_s)
    tokens = [node.output_tokens_per_s or 0 for node in phase.nodes]
    assert sum(tokens) == pytest.approx(phase.throughput.output_tokens_per_s)
    assert Counter(request.node for request in phase.requests) == {0: fast.ok, 1: slow.ok}
    assert result.report["run"]["config"]["url"] == urls


def test_a_node_that_refuses_fails_alone_and_its_share_is_said(here: Path) -> None:
    dead = nowhere()
    done = call(
        "run", "mock:?ttft=1ms", dead, "--model", "mock", "--concurrency", "4", "--requests", "40", "--output-tokens",
        "2", "--out", "r",
    )  # fmt: skip
    assert done.exit_code == 1
    assert "50.0 % of the requests failed; 10 % are allowed" in done.stderr
    report = json.loads((here / "r" / "report.json").read_text())
    jsonschema.validate(report, SCHEMA)
    good, bad = report["phases"][0]["nodes"]
    assert [good["ok"], good["failed"], bad["ok"], bad["failed"]] == [20, 0, 0, 20]
    assert bad["failures"] == {"connect": 20}
    assert bad["metrics"]["latency"] is None
    assert dead in done.stdout, "a row of the table"
    again = call("report", "r", "--json")
    assert json.loads(again.stdout)["phases"][0]["nodes"] == report["phases"][0]["nodes"]


def test_events_say_at_which_of_several_nodes_a_request_ended(here: Path) -> None:
    config: dict[str, Any] = {
        "concurrency": 4,
        "requests": 40,
        "output_tokens": 2,
        "events": True,
        "max_error_rate": 1,
        "model": "m",
    }
    result = loadgen.run(["mock:?any-model=1", nowhere()], out=here / "r", **config)
    lines = [json.loads(line) for line in call("events", "r").stdout.splitlines()]
    of = {kind: Counter(one["data"]["node"] for one in lines if one["type"] == kind) for kind in ENDS}
    good, bad = result.performance.nodes
    assert of["sample.complete"] == {0: good.ok, 1: bad.failed}
    assert of["error.client"] == {1: bad.failed}
    loadgen.run("mock:", requests=4, events=True, out=here / "one")
    ends = [json.loads(line) for line in call("events", "one", "--topic", "sample.complete").stdout.splitlines()]
    assert len(ends) == 4
    assert not any("node" in one["data"] for one in ends)


def test_no_node_that_lets_anybody_in_ends_the_run_early(here: Path) -> None:
    done = call("run", nowhere(), nowhere(), "--model", "m", "--concurrency", "2", "--requests", "5000")
    assert done.exit_code == 1
    assert "no connection to http://127.0.0.1:" in done.stderr
    assert "stopped early" in done.stderr


def test_every_node_is_asked_for_its_model_and_they_must_agree(here: Path) -> None:
    servers = [_core.MockServer(json.dumps({"models": [model]})) for model in ("one", "one", "two")]
    one, same, other = (server.url for server in servers)
    try:
        assert prepare.model_of(resolve([one, same], GOOD)) == "one"
        with pytest.raises(TargetError) as caught:
            prepare.model_of(resolve([one, other, "mock:"], GOOD))
        assert caught.value.message == (f"the targets serve different models: {one} one, {other} two, mock: mock")
        assert "model=NAME" in (caught.value.way_out or "")
        assert prepare.model_of(resolve([one, other], {**GOOD, "model": "two"})) == "two"
        result = loadgen.run([one, same], requests=6, concurrency=1, output_tokens=2)
        assert [node.ok for node in result.performance.nodes] == [3, 3]
    finally:
        for server in servers:
            server.stop()


def test_a_node_with_several_models_is_named(here: Path) -> None:
    server = _core.MockServer(json.dumps({"models": ["one", "two"]}))
    try:
        with pytest.raises(TargetError) as caught:
            prepare.model_of(resolve(["mock:", server.url], GOOD))
    finally:
        server.stop()
    assert caught.value.message == f"the server at {server.url} has 2 models: one, two"


def test_the_key_goes_to_every_node_and_into_no_file(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "canary-key")
    servers = [_core.MockServer(json.dumps({"api_key": "canary-key"})) for _ in range(2)]
    try:
        result = loadgen.run([server.url for server in servers], requests=8, concurrency=2, output_tokens=2)
    finally:
        for server in servers:
            server.stop()
    assert [node.ok for node in result.performance.nodes] == [4, 4]
    kept = b"".join(file.read_bytes() for file in result.dir.iterdir())
    assert b"canary" not in kept


def test_one_target_has_no_nodes(here: Path) -> None:
    result = loadgen.run("mock:", requests=4)
    assert result.performance.nodes == ()
    assert result.report["phases"][0]["nodes"] is None
    assert {request.node for request in result.performance.requests} == {0}


def test_a_dry_run_shows_the_targets_and_their_balance(core: ModuleType, here: Path) -> None:
    done = call(
        "run", A, "http://me:secret@b:2", "--balance", "weighted", "--weights", "3,1", "--burst", "4", "--dry-run"
    )
    assert done.exit_code == 0, done.stderr
    assert f"target     {A}\n           http://b:2, chat, streamed\nbalance    weighted 3:1\n" in done.stdout
    assert "secret" not in done.stdout
    assert core.ENGINES == []
