"""Options: what is taken, what is refused and how that is said, from flags, files and keywords alike."""

import inspect
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from loadgen import config as configs
from loadgen.cli.options import flags
from loadgen.config import OPTIONS, Config, RunOptions, redacted, resolve, values
from loadgen.errors import ConfigError, LoadgenError
from loadgen.speech import in_flags

URL = "http://127.0.0.1:8000"
GOOD: dict[str, Any] = {"concurrency": 8, "requests": 100}


def refusal(url: str | None = URL, *, python: bool = False, file: str | None = None, **given: Any) -> ConfigError:
    """What is said of options that can't be used, on the command line or in Python."""
    with nullcontext() if python else in_flags(), pytest.raises(ConfigError) as caught:
        resolve(url, given, config_file=file)
    return caught.value


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("250ms", 0.25),
        ("30s", 30),
        ("2m", 120),
        ("1m30s", 90),
        ("1h", 3600),
        ("0.5", 0.5),
        (2, 2),
        (1.5, 1.5),
        ("10us", 1e-5),
    ],
)
def test_durations_are_seconds_or_carry_their_unit(typed: Any, seconds: float) -> None:
    assert values.duration(typed) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "typed", ["", "s", "10x", "1m 30", "-5s", "0", 0, "nan", "inf", True, None, "1e400", "400d", "500000h", 10**400]
)
def test_what_is_no_duration_is_refused(typed: Any) -> None:
    with pytest.raises(ValueError, match=r"must be|longer than a year"):
        values.duration(typed)


@given(st.floats(min_value=1e-3, max_value=1e6, allow_nan=False))
def test_a_duration_survives_its_own_text(seconds: float) -> None:
    assert values.duration(f"{seconds:.9f}s") == pytest.approx(seconds, rel=1e-6)


@given(st.one_of(st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.none(), st.lists(st.integers())))
def test_every_reader_answers_or_raises_value_error(anything: Any) -> None:
    for name, option in OPTIONS.items():
        if name not in ("header", "extra_body"):  # those read files that a text may name
            try:
                option.read(anything)
            except ValueError as error:
                words = str(error)
            else:
                words = "read"
            assert words, name


@pytest.mark.parametrize(
    ("typed", "stages"),
    [
        ("10/s:30s,50/s:1m", ((10, 10, 30), (50, 50, 60))),
        ("10-50/s:30s", ((10, 50, 30),)),
        ("0-5:1m", ((0, 5, 60),)),
        (["5/s:2", "0.5/s:500ms"], ((5, 5, 2), (0.5, 0.5, 0.5))),
    ],
)
def test_stages_are_steps_and_ramps(typed: Any, stages: Any) -> None:
    assert values.stages(typed) == stages


@pytest.mark.parametrize("typed", ["", "10", "10/s", "a/s:30s", "10/s:0s", "0/s:30s", "10/s:30s,", "1.2.3/s:3s", 7])
def test_what_is_no_stage_is_refused(typed: Any) -> None:
    with pytest.raises(ValueError, match="must"):
        values.stages(typed)


def test_objectives_may_be_given_in_every_shape() -> None:
    wanted = {"ttft": 200.0, "tpot": 50.0}
    assert values.slo(("ttft:200ms", "tpot:50ms")) == wanted
    assert values.slo("ttft:0.2s tpot:50ms") == wanted
    assert values.slo("ttft:200ms,tpot:50ms") == wanted
    assert values.slo({"ttft": "200ms", "tpot": 0.05}) == wanted
    with pytest.raises(ValueError, match='for ttft takes a number as seconds: write "200ms", or "200s" if so many'):
        values.slo({"ttft": 200})


@pytest.mark.parametrize(
    ("typed", "rule"),
    [
        ("ttft:200", 'needs a unit, such as "ttft:200ms"'),
        ("tfft:200ms", "knows no metric 'tfft'"),
        ("ttft", "must look like"),
        ("ttft:1ms ttft:2ms", "gives ttft twice"),
        ("ttft:-1ms", "for ttft must be a duration"),
        (7, "must look like"),
        (("ttft:1ms", "tpot=2ms"), "must look like .*, not 'tpot=2ms'"),
    ],
)
def test_a_bad_objective_names_the_rule(typed: Any, rule: str) -> None:
    with pytest.raises(ValueError, match=rule):
        values.slo(typed)


def test_a_warmup_is_requests_or_a_duration() -> None:
    assert values.warmup("50") == 50
    assert isinstance(values.warmup("50"), int)
    assert values.warmup("5s") == 5.0
    assert isinstance(values.warmup("5s"), float)
    for bad in ("2.5", 2.5, "0", "-3", "x"):
        with pytest.raises(ValueError, match="must"):
            values.warmup(bad)


def test_percentiles_come_sorted_and_once() -> None:
    assert values.percentiles("99,50,99.99,p90,50") == (50.0, 90.0, 99.0, 99.99)
    bad_ones: list[Any] = ["", "0", "100", "a", "50,,90", [], True]
    for bad in bad_ones:
        with pytest.raises(ValueError, match="must"):
            values.percentiles(bad)


def test_a_path_may_begin_at_home() -> None:
    assert values.path("~/x") == str(Path.home() / "x")
    assert values.path(Path("a/b")) == "a/b"
    for bad in ("", "a\0b", 7, "~nobody-of-this-name/x"):
        with pytest.raises(ValueError, match=r"must be a path|nobody has"):
            values.path(bad)


def test_the_error_rate_is_a_share() -> None:
    assert values.share("10%") == pytest.approx(0.1)
    assert values.share(0.25) == 0.25
    with pytest.raises(ValueError, match='such as "10%"'):
        values.share("10")


def test_two_kinds_of_load_name_the_cap_that_was_perhaps_meant() -> None:
    error = refusal(rate="50", concurrency="8")
    assert error.message == "--rate and --concurrency are two kinds of load"
    assert error.way_out == (
        "--rate starts 50 requests a second on a schedule; --concurrency keeps 8 in flight. "
        "To cap a rate, use --max-concurrency 8."
    )
    assert "max_concurrency 8" in refusal(python=True, rate=50, concurrency=8).way_out


@pytest.mark.parametrize("rate", ["0", "-3", 0, -1.5])
def test_a_rate_that_is_not_above_zero_is_named_with_its_value(rate: Any) -> None:
    assert refusal(rate=rate, requests="5").message == f"--rate {rate} must be above 0"


def test_a_real_target_needs_a_load_and_an_end() -> None:
    assert "no load given" in refusal().message
    assert "no end given" in refusal(rate="5").message
    assert "--requests" in refusal(concurrency="5").way_out
    assert resolve(URL, {"burst": 5}).burst == 5
    assert resolve(URL, {"stages": "5/s:3s"}).stages


def test_a_bare_mock_gets_ten_requests_one_at_a_time() -> None:
    bare = resolve("mock:", {})
    assert (bare.concurrency, bare.requests) == (1, 10)
    timed = resolve("mock:", {"duration": "2s"})
    assert (timed.concurrency, timed.requests, timed.duration) == (1, None, 2.0)
    assert "no end given" in refusal("mock:", rate="5").message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({**GOOD, "max_concurrency": 4}, "caps an open loop"),
        ({**GOOD, "arrival": "constant"}, "needs an open loop"),
        ({"rate": 5, "requests": 5, "burstiness": 0.5}, "shapes gamma arrivals"),
        ({"stages": "5/s:3s", "arrival": "gamma"}, "can't have gamma"),
        ({"burst": 5, "requests": 6}, "contradict"),
        ({"burst": 50, "max_concurrency": 6}, "forbids it"),
        ({**GOOD, "cert": __file__}, "--cert needs --key"),
        ({**GOOD, "insecure": True, "cacert": __file__}, "contradict"),
        ({**GOOD, "slo_from": "sent"}, "needs an objective"),
        ({**GOOD, "slo": ["ttft:1s"], "stream": False}, "without a stream"),
        ({**GOOD, "dataset": "/nowhere/x.jsonl"}, "names a dataset that can't be read: No such file"),
        ({**GOOD, "cacert": "/"}, "names a directory"),
        ({**GOOD, "api": "chats"}, "must be one of chat, completions"),
        ({**GOOD, "prompt_field": "q"}, "needs a dataset"),
        ({**GOOD, "dataset": __file__, "input_tokens": 5}, "shapes synthetic prompts"),
        ({**GOOD, "workers": 0}, "must be 1 or more"),
        ({**GOOD, "api_key_env": "NO_SUCH_KEY_HERE"}, "which is not set"),
        ({**GOOD, "api_key_file": "/nowhere"}, "No such file"),
        ({**GOOD, "extra_body": ['{"stream": false}']}, 'may not set "stream"'),
        ({**GOOD, "extra_body": ["{"]}, "is not JSON"),
        ({**GOOD, "extra_body": ["[1]"]}, "must be a JSON object"),
        ({**GOOD, "header": ["no colon"]}, 'must look like "Name: value"'),
        ({**GOOD, "header": ["X y: v"]}, "name that HTTP does not allow"),
        ({**GOOD, "header": ["X: a\r\nEvil: b"]}, "control character"),
        ({**GOOD, "header": ["Content-Length: 3"]}, "loadgen writes that header itself"),
        ({**GOOD, "header": ["X: ${NO_SUCH_KEY_HERE}"]}, "NO_SUCH_KEY_HERE, which is not set"),
    ],
)
def test_what_contradicts_or_is_no_value_is_one_sentence(given: dict[str, Any], words: str) -> None:
    error = refusal(**given)
    assert words in error.message
    assert "\n" not in error.message


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:8000", "perhaps http://localhost:8000"),
        ("ftp://x", "must begin with http://"),
        ("http://", "names no host"),
        ("http://h:99999", "host or port that is none"),
        ("http://h:0", "port 0"),
        ("unix:", "needs the socket's path"),
        ("mock:x", "behind a question mark"),
        ("http://h/#a", "fragment"),
        ("http://a b", "blanks"),
        ("http://a..b:80", "a host that is none"),
        (f"http://{'a' * 64}.x", "a host that is none"),
        ("http://münchen", "a host that is none"),
        ("http://h/é?key=canary", "must be percent-encoded: 'é'"),
        ("", "must be a URL"),
    ],
)
def test_a_mistyped_target_says_what_was_perhaps_meant(url: str, words: str) -> None:
    said = str(refusal(url, **GOOD))
    assert words in said
    assert "canary" not in said


@pytest.mark.parametrize(
    "url",
    [
        "http://[::1]:80",
        "http://[fe80::1%25lo]:80",
        "https://h/v1",
        "https://a-b_1.example.",
        "unix:/run/a.sock",
        "http://h/v1/chat/completions",
    ],
)
def test_every_kind_of_target_is_taken(url: str) -> None:
    assert resolve(url, GOOD).url == url


@pytest.mark.parametrize(
    ("proxy", "words"),
    [
        ("squid:3128", "must begin with http://"),
        ("https://me:canary@h", "must begin with http://"),
        ("http://me:canary@h:99999", "has a host or port that is none"),
        ("http://me:canary@a..b", "has a host that is none"),
        ("", "must begin with http://"),
        (1, "must begin with http://"),
    ],
)
def test_a_proxy_that_nobody_could_reach_is_refused_before_anybody_is_asked(proxy: Any, words: str) -> None:
    said = str(refusal(**GOOD, proxy=proxy))
    assert said.startswith(f"--proxy {words}")
    assert "canary" not in said


@pytest.mark.parametrize(
    ("path", "api", "named"),
    [
        ("/v1/completions", "chat", "completions"),
        ("/v1/chat/completions", "completions", "chat"),
        ("/v1/embeddings/", "chat", "embeddings"),
        ("/api/generate", "ollama_chat", "ollama_generate"),
    ],
)
def test_a_url_with_the_path_of_another_api_is_refused(path: str, api: str, named: str) -> None:
    error = refusal(f"http://u:canary@h{path}", **GOOD, api=api)
    assert error.message == f"http://h{path} ends in the path of {named}, and --api is {api}"
    assert error.way_out == f"give --api {named}, or a URL that ends before that path"
    assert resolve(f"http://h{path}", {**GOOD, "api": named}).api == named
    assert resolve(f"http://h{path.rstrip('/')}/v1", {**GOOD, "api": api}).api == api, "a base, whatever it is called"


@pytest.mark.parametrize("several", ["4,8,16", [4, 8]])
def test_several_loads_at_once_are_phases(several: Any) -> None:
    error = refusal(URL, requests=5, concurrency=several)
    assert error.way_out == "several loads, one after the other, are phases of one run, in its --config"
    assert refusal(URL, requests=5, concurrency="x").way_out == ""


def test_no_target_is_said() -> None:
    assert "no target given" in refusal(None, **GOOD).message


def test_an_unknown_keyword_suggests_the_right_one() -> None:
    error = refusal(python=True, concurency=8)
    assert error.message == "unknown option concurency"
    assert error.way_out == "perhaps concurrency?"


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_gives_options_and_flags_win(tmp_path: Path) -> None:
    file = write(
        tmp_path / "a.yaml", "url: http://h:1\nmax-concurrency: 4\nrate: 50\nduration: 2m\nslo: [ttft:200ms]\n"
    )
    config = resolve(None, {"rate": "70"}, config_file=file)
    assert (config.url, config.rate, config.max_concurrency, config.duration) == ("http://h:1", 70.0, 4, 120.0)
    assert config.slo == {"ttft": 200.0}
    toml = write(tmp_path / "a.toml", 'url = "http://h:1"\nrate = 50\nduration = "2m"\n[header]\nX-A = "b"\n')
    assert resolve(None, {}, config_file=toml).header[0].name == "X-A"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("rate: 1\nrate: 2\n", "line 2: rate is given twice"),
        ("max-concurrency: 1\nmax_concurrency: 2\n", "max-concurrency twice"),
        ("a: &x [1]\nb: *x\n", "line 1: anchors and aliases are not allowed"),
        ("rate: !!python/object/apply:os.system ['true']\n", "the tag"),
        ("rate: [1\n", "is not YAML: line"),
        ("url: mock:\n", 'stands in quotes: url: "mock:"'),
        ("url: h\n rate: 5\n", "keys of one level begin in one column"),
        ("- 1\n- 2\n", "does not hold options"),
        ("", "does not hold options"),
        ("concurency: 4\n", "unknown option concurency in"),
        ("rate: 0\n", "must be above 0"),
        ("stream: 'no'\n", "must be true or false"),
        ("duration: 2020-01-01\n", "must be a duration"),
        ("duration: 1:30\n", "must be a duration"),
        ("rate: 5\nseed: 0x_\n", "line 2: 0x_ can't be read as a number"),
        ("seed: " + "9" * 5000, "line 1: 99999999999999999999 can't be read as a number"),
        ("? [1, 2]\n: 3\n", "a key must be a plain word"),
        ("1: 2\n", "is not an option's name"),
        ("a: " + "[" * 3000 + "]" * 3000, "nested too deeply"),
    ],
)
def test_a_bad_file_is_named_with_what_is_bad(tmp_path: Path, text: str, words: str) -> None:
    file = write(tmp_path / "bad.yaml", text)
    error = refusal(URL, file=file, requests="5")
    assert words in str(error)
    assert "bad.yaml" in error.message


def test_an_unknown_key_of_a_file_suggests_the_files_own_word(tmp_path: Path) -> None:
    assert refusal(URL, file=write(tmp_path / "bad.yaml", "max_concurency: 4\n")).way_out == "perhaps max_concurrency?"


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    assert "ends in .yaml" in refusal(file=write(tmp_path / "a.json", "{}")).message
    assert "No such file" in refusal(file=str(tmp_path / "b.yaml")).message
    (tmp_path / "c.yaml").write_bytes(b"rate: \xff")
    assert "not UTF-8" in refusal(file=str(tmp_path / "c.yaml")).message
    (tmp_path / "d.toml").write_text("rate = 1\nrate = 2\n")
    assert "is not TOML" in refusal(file=str(tmp_path / "d.toml")).message
    (tmp_path / "d.toml").write_text("seed = " + "9" * 5000)
    assert "is not TOML" in refusal(file=str(tmp_path / "d.toml")).message
    (tmp_path / "e.yaml").write_text("#" * (1 << 20) + "#")
    assert "larger than 1 MiB" in refusal(file=str(tmp_path / "e.yaml")).message


def test_references_are_filled_in_where_sent_and_kept_where_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "canary-7f3a")
    secret_file = write(tmp_path / "key", "canary-from-file\n")
    config = resolve(
        URL,
        {
            **GOOD,
            "header": ["X-Token: pre-${CANARY}", f"X-File: @{secret_file}"],
            "extra_body": ['{"user": "${CANARY}", "temperature": 0}'],
        },
    )
    assert [header.value for header in config.header] == ["pre-canary-7f3a", "canary-from-file"]
    assert config.extra_body is not None
    assert config.extra_body.sent == {"user": "canary-7f3a", "temperature": 0}
    stored = redacted(config)
    assert stored["extra_body"] == {"user": "${CANARY}", "temperature": 0}
    assert stored["header"] == {"X-Token": "[redacted]", "X-File": "[redacted]"}
    for text in (repr(stored), repr(config), pretty_repr(config), pretty_repr(config.extra_body)):
        assert "canary" not in text.lower().replace("${canary}", "")


def test_a_body_from_a_file_is_stored_by_its_name_only(tmp_path: Path) -> None:
    file = write(tmp_path / "body.json", '{"user": "canary-7f3a"}')
    config = resolve(URL, {**GOOD, "extra_body": f"@{file}"})
    assert config.extra_body is not None
    assert config.extra_body.sent == {"user": "canary-7f3a"}
    assert redacted(config)["extra_body"] == {"user": f"@{file}"}


def test_credentials_of_a_url_are_never_stored_or_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    config = resolve(
        "http://user:canary-pw@h:8000/v1?key=canary-q", {**GOOD, "proxy": "http://u:canary-px@p:1", "header": []}
    )
    assert "canary" not in repr(redacted(config)) + repr(config) + pretty_repr(config)
    assert redacted(config)["url"] == "http://h:8000/v1?key=[redacted]"
    for url in ("http://u:canary@:99999x", "u:canary@h", "ftp://u:canary@h"):
        assert "canary" not in str(refusal(url, **GOOD))


def test_the_key_comes_from_a_file_a_variable_or_the_usual_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-usual")
    monkeypatch.setenv("MINE", "sk-mine")
    assert configs.api_key(resolve(URL, GOOD)) == "sk-usual"
    assert configs.api_key(resolve(URL, {**GOOD, "api_key_env": "MINE"})) == "sk-mine"
    file = write(tmp_path / "key", "sk-file\n")
    assert configs.api_key(resolve(URL, {**GOOD, "api_key_file": file})) == "sk-file"
    assert configs.api_key(resolve(URL, {**GOOD, "header": {"Authorization": "Basic x"}})) is None
    assert configs.api_key(resolve("mock:", GOOD)) is None
    monkeypatch.delenv("OPENAI_API_KEY")
    assert configs.api_key(resolve(URL, GOOD)) is None


def test_a_key_that_is_none_is_refused_without_being_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "canary one\ntwo")
    assert "canary" not in str(refusal(api_key_env="MINE", **GOOD))
    assert "is empty" in str(refusal(api_key_file=write(tmp_path / "key", "\n"), **GOOD))


def test_two_ways_to_authorise_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINE", "sk-mine")
    error = refusal(api_key_env="MINE", header=["authorization: Bearer canary"], **GOOD)
    assert "sets Authorization" in error.message
    assert "canary" not in str(error)


def test_options_are_the_same_words_everywhere() -> None:
    flag_names = {param.name for param in flags()}
    assert {*OPTIONS, "phases"} == flag_names | {"phases"} == set(RunOptions.__annotations__)  # no flag holds a list
    assert set(Config.__struct_fields__) == {"url", "more_urls", "phases", *OPTIONS}
    for param in flags():
        assert isinstance(param, click.Option)
        assert "--" + str(param.name).replace("_", "-") in param.opts


def test_every_option_explains_itself() -> None:
    for name, option in OPTIONS.items():
        assert option.help.endswith((".", ")")), name
        assert len(option.help) <= 100, name


def test_errors_say_value_and_way_out_and_fit_where_builtins_do() -> None:
    error = refusal(python=True, rate=50, concurrency=8)
    assert isinstance(error, LoadgenError)
    assert isinstance(error, ValueError)
    assert str(error) == f"{error.message}\n{error.way_out}"
    assert str(ConfigError("alone")) == "alone"


def test_resolving_takes_its_options_by_name_only() -> None:
    parameters = inspect.signature(resolve).parameters
    assert [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD] == ["url", "given"]
