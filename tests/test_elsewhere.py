"""Options of other load generators are answered with ours: on the command line, in files, in Python, on the page."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadgen import config
from loadgen.cli import app
from loadgen.config import elsewhere
from loadgen.errors import ConfigError

PAGE = Path(__file__).parents[1] / "docs" / "how-to" / "moving.md"


def said(*args: str) -> list[str]:
    """What the command line says of an option that it doesn't have."""
    return CliRunner().invoke(app, list(args), prog_name="loadgen").stderr.splitlines()


@pytest.mark.parametrize(
    ("flag", "way_out"),
    [
        ("--num-prompts", "here it is --requests"),
        ("--request-rate", "here it is --rate"),
        ("--goodput", "here it is --slo"),
        ("--vus", "here it is --concurrency"),
        ("-n", "here it is --requests"),
        ("--random-input-len", "here it is --input-tokens"),
        ("--base-url", "the server is named without an option: loadgen run http://127.0.0.1:8000"),
    ],
)
def test_an_option_of_another_load_generator_is_answered_with_ours(flag: str, way_out: str) -> None:
    assert said("run", "mock:", flag, "3") == [f"error: there is no option {flag}", f"       {way_out}"]


@pytest.mark.parametrize(
    ("flag", "way_out"),
    [
        ("--concurency", "perhaps --concurrency, --max-concurrency?"),
        ("--api-key", "perhaps --api-key-env, --api-key-file, --key?"),
        ("--vux", "`loadgen run --help` says more"),  # no nearer to --ui than any other flag of a few letters
    ],
)
def test_a_mistyped_option_is_compared_without_its_hyphens(flag: str, way_out: str) -> None:
    assert said("run", "mock:", flag, "3")[1] == f"       {way_out}"


def test_a_command_is_not_told_of_an_option_that_it_has_not() -> None:
    assert said("dispatch", "run", "mock:", "--num-prompts", "3")[1] == "       `loadgen dispatch run --help` says more"
    assert said("dispatch", "run", "mock:", "--random-output-len", "3")[1] == "       here it is --output-tokens"


def test_a_keyword_and_a_key_of_another_load_generator_are_answered_with_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as keyword:
        config.resolve("mock:", {"num_prompts": 3})
    assert keyword.value.way_out == "here it is requests"
    file = tmp_path / "run.yaml"
    file.write_text('target: "http://h"\n')
    with pytest.raises(ConfigError) as key:
        config.resolve(None, {}, config_file=str(file))
    assert key.value.way_out == "here it is url"
    file.write_text('url: "mock:"\nphases:\n  - {name: low, vus: 3, requests: 5}\n')
    with pytest.raises(ConfigError) as in_phase:
        config.resolve(None, {}, config_file=str(file))
    assert in_phase.value.way_out == "here it is concurrency"


@pytest.mark.parametrize(
    ("theirs", "ours"), [("e2el", "latency"), ("request_latency", "latency"), ("inter-token-latency", "tpot")]
)
def test_an_objective_of_another_load_generator_is_answered_with_ours(theirs: str, ours: str) -> None:
    with pytest.raises(ConfigError, match=f"^slo {theirs}:2s knows no metric '{theirs}'; here it is {ours}$"):
        config.resolve("mock:", {"slo": f"{theirs}:2s"})


@pytest.mark.parametrize(
    ("option", "value", "way_out"),
    [
        ("rate", "inf", "all at once is --burst, so many at a time --concurrency"),
        ("rate", "4,8", "several loads, one after the other, are phases of one run, in its --config"),
        ("tokenizer", "meta-llama/Llama-3.1-8B", "it takes a file, the model's tokenizer.json: nothing is fetched"),
        (
            "dataset",
            "random",
            "it takes a file of prompts; without one they are made, as long as --input-tokens says",
        ),
    ],
)
def test_a_value_that_another_load_generator_takes_has_its_way_out(option: str, value: str, way_out: str) -> None:
    assert said("run", "mock:", f"--{option}", value)[1] == f"       {way_out}"
    with pytest.raises(ConfigError) as keyword:
        config.resolve("mock:", {option: value})
    assert "--" not in keyword.value.way_out.replace("--config", "")


def test_a_variable_in_place_of_the_server_is_told_where_to_stand(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text("url: ${SERVER}\n")
    with pytest.raises(ConfigError, match=r"^\$\{SERVER\} takes no \$\{ENV\}: give it in front of --config"):
        config.resolve(None, {}, config_file=str(file))


def test_thresholds_are_answered_with_where_a_run_is_judged(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text('url: "mock:"\nthresholds:\n  ttft: ["p(95)<300"]\n')
    with pytest.raises(ConfigError) as key:
        config.resolve(None, {}, config_file=str(file))
    assert key.value.way_out.endswith("docs/how-to/gate.md has the lines for it")


def test_no_word_of_ours_is_taken_for_one_of_theirs() -> None:
    assert [name for name in config.OPTIONS if elsewhere.ours(name, config.OPTIONS)] == []


def test_the_page_calls_options_what_errors_call_them() -> None:
    beside: dict[str, str] = {}
    for row in re.findall(r"^\| (`.+) \|$", PAGE.read_text(), re.MULTILINE):
        here, *others = row.split(" | ")
        for theirs in re.findall(r"`--([a-z-]+)", " ".join(others)):
            beside[theirs] = beside.get(theirs, "") + here
    told = {theirs: elsewhere.ours(theirs, config.OPTIONS) for theirs in beside}
    assert sum(name != "" for name in told.values()) >= 20
    for theirs, name in told.items():
        spelled = "loadgen run URL" if name == elsewhere.TARGET else f"--{name.replace('_', '-')}"
        assert not name or f"`{spelled}`" in beside[theirs], f"--{theirs} is {name} in an error, and not on the page"
