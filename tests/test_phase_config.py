"""A phase as an object: what it may be, what the engine is told of it, and what of it is shown."""

import json
import resource
from typing import Any

import msgspec
import pytest
from rich.pretty import pretty_repr

import loadgen
from loadgen.config import resolve
from loadgen.errors import ConfigError
from loadgen.session import machine
from loadgen.session.phase import (
    Drain,
    Limits,
    PhaseConfig,
    PhaseSettings,
    PhaseType,
    check,
    phases_of,
    stored,
)
from loadgen.session.phase_plan import PhasePlan, plan_of
from loadgen.session.query import Query
from loadgen.session.scoring import NumericAnswer
from loadgen.session.strategy import BurstStrategy, ConcurrencyStrategy, TimedIssueStrategy

pytest_plugins = ["surface_fixtures"]


ABOUT = {"name": "d", "sha256": "0" * 64, "samples": 5, "note": None}
LOW: dict[str, Any] = {"name": "low", "rate": 5, "requests": 9}
HIGH: dict[str, Any] = {"name": "high", "concurrency": 8, "requests": 9}


def closed(name: str = "a", **given: Any) -> PhaseConfig:
    return PhaseConfig(**{"name": name, "strategy": ConcurrencyStrategy(2), "limits": Limits(samples=5), **given})


def test_one_phase_in_place_of_a_list_is_refused_in_words() -> None:
    words = "phases is PhaseConfig, one phase\ngive a list of phases"
    one: Any = closed()
    with pytest.raises(ConfigError, match=words):
        loadgen.run("mock:", phases=one)
    with pytest.raises(ConfigError, match=words):
        loadgen.BenchmarkSession(loadgen.HttpIssuer("mock:")).run(one)


def test_phases_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="a session without phases"):
        check([])
    with pytest.raises(ConfigError, match="two phases are named a"):
        check([closed(), closed()])
    with pytest.raises(ConfigError, match="the last phase, w, is a warm-up"):
        check([closed(), closed("w", type="warmup")])
    with pytest.raises(ConfigError, match=r"65,536 phases; a session has at most 65,535"):
        check([closed()] * 65_536)
    check([closed(), closed("w", type=PhaseType.WARMUP), closed("b")])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"limits": Limits()}, "phase a has no end"),
        ({"strategy": TimedIssueStrategy(5), "limits": Limits()}, "phase a has no end"),
        ({"strategy": BurstStrategy(3), "limits": Limits(samples=4)}, "a burst of 3 and a limit of 4 requests"),
        ({"type": "warm"}, "type 'warm' must be one of warmup, performance, accuracy"),
        ({"strategy": ConcurrencyStrategy}, "phase a: <class .*ConcurrencyStrategy'> is no load strategy"),
        ({"strategy": 8}, "phase a: 8 is no load strategy"),
        ({"name": ""}, "name '' must not be empty"),
        ({"seed": -1}, "seed -1 must be 0 or more"),
        ({"order": "random"}, "phase a: there is no order 'random'"),
    ],
)
def test_a_phase_that_makes_no_sense_is_refused_when_it_is_made(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        closed(**given)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PhaseSettings(timeout="soon"), "timeout must be a duration"),
        (lambda: PhaseSettings(headers={"Host: x": "y"}), "headers has a header name that HTTP does not allow"),
        (lambda: PhaseSettings(slo={"itl": "1ms"}), "slo knows no metric 'itl'"),
        (lambda: Limits(samples=0), "samples 0 must be 1 or more"),
        (lambda: Limits(duration="0s"), "duration '0s' must be above 0"),
        (lambda: Drain(timeout=-1), "timeout -1 must be 0 or more"),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused_when_it_is_made(make: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()


def test_a_setting_left_out_is_the_runs_and_none_is_none() -> None:
    run = resolve("http://h", {"concurrency": 1, "requests": 1, "model": "m", "output_tokens": 5, "slo": "ttft:1s"})
    assert PhaseSettings().applied(run) == run
    other = PhaseSettings(output_tokens=None, slo={"ttft": "20ms"}, headers={"X-A": "b"}, timeout="2s")
    applied = msgspec.structs.replace(other, stream=False).applied(run)
    assert (applied.model, applied.output_tokens, applied.slo, applied.timeout) == ("m", None, {"ttft": 20.0}, 2.0)
    assert (applied.stream, applied.header[0].value) == (False, "b")
    assert PhaseSettings.of(applied).applied(run) == applied


def test_no_secret_shows_in_a_phases_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-7f3a")
    settings = PhaseSettings(headers={"X-Key": "${CANARY}"}, extra_body={"user": "${CANARY}"})
    phase = closed(settings=settings)
    run = resolve("http://h", {"concurrency": 1, "requests": 1})
    plan = plan_of(phase, run, ABOUT, (1, 1))
    assert "canary-7f3a" in plan.json()
    query = Query(0, 0, b'{"user": "canary-7f3a"}', (("X-Key", "canary-7f3a"),), 0)
    shown = [repr(phase), repr(plan), repr(query), json.dumps(plan.meta), json.dumps(stored(phase, run))]
    shown += [pretty_repr(phase), pretty_repr(plan), pretty_repr(query)]
    assert not [text for text in shown if "canary-7f3a" in text]


def plan(given: dict[str, Any], **beside: Any) -> tuple[PhasePlan, dict[str, Any]]:
    config = resolve("http://h", {"phases": [given], **beside})
    made = plan_of(phases_of(config)[0], config, ABOUT, (1, 1))
    return made, json.loads(made.json())


def test_the_engine_is_told_how_a_phases_requests_differ() -> None:
    assert "request" not in plan(LOW)[1]
    _, told = plan({**LOW, "api": "completions", "stream": False, "timeout": "5s", "header": {"X-A": "b"}}, timeout=9)
    assert told["request"] == {"api": "completions", "stream": False, "timeout_s": 5.0, "headers": [["X-A", "b"]]}
    assert plan({**LOW, "header": []}, header={"X-A": "b"})[1]["request"] == {"headers": []}


def test_the_engine_is_told_each_phases_own_end_order_and_seed() -> None:
    made, told = plan({**LOW, "order": "single", "seed": 7, "duration": "3s", "drain": "5s", "unique_prompts": True})
    assert (told["requests"], told["duration_s"], told["order"], told["seed"]) == (9, 3.0, "single", 7)
    assert (told["drain"], told["drain_timeout_s"], told["unique_prompts"]) == (True, 5.0, True)
    assert "place" not in told
    assert made.meta["settings"] == {"unique_prompts": True}


def test_a_warmup_hands_over_unless_told_to_drain_and_draws_other_prompts() -> None:
    config = resolve(
        "http://h", {"phases": [{**HIGH, "type": "warmup"}, {**LOW, "name": "b", "type": "warmup", "drain": True}, LOW]}
    )
    first, second, low = (plan_of(phase, config, ABOUT) for phase in phases_of(config))
    assert (first.drain, second.drain, low.drain) == (False, True, True)
    assert first.seed == second.seed != low.seed == 0


def test_an_accuracy_phase_keeps_its_answers() -> None:
    config = resolve(
        "http://h", {"phases": [{**LOW, "type": "accuracy", "scorer": "numeric", "target_field": "answer"}]}
    )
    (phase,) = phases_of(config)
    assert (phase.scorer, phase.settings.target_field) == (NumericAnswer(), "answer")
    assert json.loads(plan_of(phase, config, ABOUT, (1, 1)).json())["request"] == {"save_responses": True}
    assert stored(phase, config)["save_responses"] is True


def test_workers_and_descriptors_follow_the_heaviest_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "cores", lambda: 64.0)
    config = resolve("http://h", {"phases": [{**HIGH, "concurrency": 3}, {**LOW, "max_concurrency": 5}]})
    assert machine.workers(config, phases_of(config)) == 5
    monkeypatch.setattr(resource, "getrlimit", lambda _: (80, 512))
    config = resolve("http://h", {"phases": [LOW, {**HIGH, "concurrency": 1000}]})
    with pytest.raises(ConfigError) as caught:
        machine.reserve_descriptors(config, phases_of(config), workers=1)
    assert caught.value.way_out == "raise the limit (ulimit -Hn), or lower concurrency of phase high to 440"
