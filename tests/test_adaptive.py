"""A dispatch policy as a load: what it sends, what the report tells of it, and the same with one's own transport."""

import asyncio
import json
from importlib import resources
from pathlib import Path

import jsonschema
import pytest

import loadgen
from fake_issuer import FakeIssuer
from loadgen import AdaptiveStrategy, Limits, PhaseConfig, SessionResult, create_load_strategy
from loadgen.report import sentences, title
from loadgen.session.strategy import is_planned

SCHEMA = json.loads(resources.files("loadgen.report").joinpath("report.schema.json").read_text())
MS = 1_000_000


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> SessionResult:
    """A run against a server that takes eight at once, lets eight more wait, and fails now and then."""
    strategy = AdaptiveStrategy(32, "adaptive_ceiling", policy={"retry": {"base_s": 0.001, "most_s": 0.01}})
    phase = PhaseConfig(name="knee", strategy=strategy, limits=Limits(samples=300))
    return loadgen.run(
        "mock:?ttft=1&capacity=8&queue=8&error_rate=0.05",
        phases=[phase],
        output_tokens=4,
        max_error_rate=1,
        out=tmp_path_factory.mktemp("knee") / "run",
    )


def test_each_request_is_one_row_however_many_attempts_it_had(ran: SessionResult) -> None:
    phase = ran.phase("knee")
    told = phase.report["dispatch"]
    assert phase.counts.issued == 300 == told["firsts"]
    rows = list(phase.requests)
    assert [row.id for row in sorted(rows, key=lambda row: row.id)] == list(range(300))
    assert sum(max(row.attempt_count, 1) for row in rows) == told["attempts"] > 300
    assert told["push_backs"] > 0
    assert told["limit_least"] < 32 == told["limit_most"]


def test_the_report_keeps_to_its_schema_and_holds_the_limit_over_time(ran: SessionResult) -> None:
    report = json.loads((ran.dir / "report.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    trace = report["phases"][0]["dispatch"]["trace"]
    assert len({len(column) for column in trace.values()}) == 1
    assert min(trace["limit"]) < 32
    assert max(trace["in_flight"]) <= 32
    assert trace["t_ns"] == sorted(trace["t_ns"])


def test_the_report_says_attempts_and_limit_in_words(ran: SessionResult) -> None:
    phase = ran.phase("knee")
    lines = {sentence.label: sentence.text for sentence in sentences.about_phase(ran, phase)}
    assert lines["attempts"].startswith(f"{phase.report['dispatch']['attempts']:,} attempts")
    assert "push-back" in lines["attempts"]
    assert "0 hedges" in lines["attempts"]
    assert "at once at the end" in lines["limit"]
    assert "to 32 meanwhile" in lines["limit"]
    assert title.load(phase) == "adaptive (adaptive_ceiling), 32 in flight at most"


def test_a_phase_without_a_policy_has_no_such_lines() -> None:
    result = loadgen.run("mock:", concurrency=2, requests=4, output_tokens=2)
    assert result.performance.report["dispatch"] is None
    assert {"attempts", "limit"}.isdisjoint(line.label for line in sentences.about_phase(result, result.performance))


def test_the_settings_of_a_phase_are_those_of_its_attempts() -> None:
    strategy = AdaptiveStrategy(4, "hedged", policy={"attempt_timeout_s": 3.0})
    told = strategy.load_of(stream=True, timeout_s=9.0, stall_timeout_s=2.0)["policy"]
    assert (told["streaming"], told["attempt_timeout_s"], told["stall_timeout_s"]) == (True, 3.0, 2.0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"strategy": "hedgehog"}, "the choices are sequential, parallel, adaptive_ceiling, hedged, auto"),
        ({"max_concurrency": 0}, "max_concurrency"),
        ({"policy": {"retries": 1}}, "retries"),
        ({"policy": {"attempt_timeout_s": -1.0}}, "attempt_timeout_s must be finite and above 0 seconds, not -1"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_rule(given: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AdaptiveStrategy(**{"max_concurrency": 8, "strategy": "hedged", **given})  # type: ignore[arg-type]


def test_an_adaptive_load_needs_an_end() -> None:
    with pytest.raises(loadgen.ConfigError, match="has no end"):
        PhaseConfig(name="endless", strategy=AdaptiveStrategy(8, "hedged"))


def test_it_is_made_from_a_mapping_and_equal_to_one_of_the_same_words() -> None:
    made = create_load_strategy({"pattern": "adaptive", "max_concurrency": 8, "strategy": "hedged"})
    assert made == AdaptiveStrategy(8, "hedged") != AdaptiveStrategy(9, "hedged")
    assert is_planned(made)
    assert hash(made) == hash(AdaptiveStrategy(8, "hedged"))
    with pytest.raises(ValueError, match="needs 'max_concurrency'"):
        create_load_strategy({"pattern": "adaptive"})


def test_with_a_transport_of_ones_own_the_limit_holds_and_every_request_is_one_attempt() -> None:
    issuer = FakeIssuer(lambda number: (5 + number % 3) * MS, requests=50, busy=(3 * MS,))
    issued = asyncio.run(AdaptiveStrategy(4, "hedged").execute(issuer))
    assert issued == len(issuer.issued) == 50
    assert issuer.most_in_flight == 5  # the fifth is the earlier phase's


def test_a_run_ended_from_outside_tells_what_its_policy_did(tmp_path: Path) -> None:
    phase = PhaseConfig(
        name="cut", strategy=AdaptiveStrategy(4, "hedged"), limits=Limits(samples=100_000, duration="0.3s")
    )
    result = loadgen.run("mock:?ttft=2", phases=[phase], output_tokens=1, out=tmp_path / "run")
    cut = result.phase("cut")
    assert cut.report["reason"] == "duration"
    assert 0 < cut.counts.issued < 100_000
    assert cut.counts.ok == cut.counts.issued == cut.report["dispatch"]["ok"]
