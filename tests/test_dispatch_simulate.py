"""`loadgen dispatch simulate`: services in short, strategies beside each other in virtual time, and which to use."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import loadgen
from loadgen import _core
from loadgen.cli import app
from loadgen.dispatch import regime
from loadgen.dispatch import strategy as strategies
from loadgen.dispatch.simulate import Simulation, advise, best_of, simulate
from loadgen.dispatch.strategy import STRATEGIES
from loadgen.errors import ConfigError


def call(*args: str) -> Result:
    return CliRunner().invoke(app, ["dispatch", "simulate", *args], prog_name="loadgen")


# --- the core


def test_the_core_makes_one_batch_a_seed_and_the_same_one_again() -> None:
    items, service = _core.regime("R4")
    config = _core.policy_config("auto", items)
    batches = _core.simulate(config, service, items, [3, 4, 3])
    assert batches[0] == batches[2] != batches[1]
    assert all(attempts >= items and failed == 0 for _, attempts, _, _, failed, _ in batches)


def test_a_whole_batch_comes_with_the_policy_that_made_it_and_replays() -> None:
    items, service = _core.regime("R0")
    config = _core.policy_config("hedged", items)
    wall, policy = _core.simulate_whole(config, service, items, 8, record=True)
    assert wall == _core.simulate(config, service, items, [8])[0][0]
    assert policy.is_done()
    ends = [row[7] for item in range(items) for row in policy.attempts_of(item)]
    assert max(end for end in ends if end is not None) == pytest.approx(wall, abs=1_000)
    recording = policy.recording()
    assert recording is not None
    now, then = _core.replay_policy(config, 8, recording)
    assert now == then


@pytest.mark.parametrize(
    ("service", "items", "words"),
    [
        ("{", 1, "the service can't be read"),
        ('{"latency":{"kind":"constant","seconds":0}}', 1, "latency.seconds must be above 0, not 0"),
        ('{"latency":{"kind":"constant","seconds":1},"slot":1}', 1, "unknown field `slot`"),
        ('{"latency":{"kind":"constant","seconds":1}}', 0, "items must be a whole number from 1 to 10000000, not 0"),
    ],
)
def test_what_cant_be_simulated_is_refused_with_the_rule(service: str, items: int, words: str) -> None:
    with pytest.raises(ValueError, match="(?s)" + words):
        _core.simulate(_core.policy_config("auto", 1), service, items, [0])


# --- services


def test_a_service_is_a_regime_or_a_latency_with_what_is_added_to_it() -> None:
    r0 = regime.read("r0")
    assert (r0.name, r0.items, r0.described["stall"]["share"]) == ("R0", 63, 0.085)
    more = regime.read(
        "lognormal:3s,0.35; stall=8.5%:20s..90s,0.5; error=0.01; slots=24; most=60; rate=5/s,20; outage=30s..1m30s"
    )
    assert more.items is None
    assert more.described == {
        "latency": {"kind": "lognormal", "median_s": 3.0, "sigma": 0.35},
        "stall": {"share": 0.085, "low_s": 20.0, "high_s": 90.0, "of_item": 0.5},
        "error": {"share": 0.01},
        "slots": 24,
        "most": 60,
        "rate": {"per_s": 5.0, "burst": 20.0},
        "outages": [{"from_s": 30.0, "to_s": 90.0}],
    }
    assert len(_core.simulate(_core.policy_config("auto", 9), more.json, 9, range(3))) == 3
    assert regime.read("R0;slots=24").described["slots"] == 24
    assert regime.read("uniform:0.5s..2s").described["latency"] == {"kind": "uniform", "low_s": 0.5, "high_s": 2.0}
    assert regime.read("constant:250ms").described["latency"] == {"kind": "constant", "seconds": 0.25}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("R9", 'no service is named "R9": the choices are R0, R1'),
        ("normal:3s,1", "no latency is called 'normal'"),
        ("lognormal:3s", "lognormal '3s' needs two values with ','"),
        ("constant:0", "constant '0' must be above 0"),
        ("R0;stall=1.2:20s..90s", "stall '1.2' "),
        ("R0;stall=0.1", "stall '0.1' needs two values with ':'"),
        ("R0;slots=0", "slots '0' "),
        ("R0;speed=9", "a service has no part 'speed=9'"),
    ],
)
def test_a_service_that_cant_be_read_says_which_part_and_why(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        regime.read(text)


def test_a_measured_service_draws_what_was_measured_and_fails_as_often() -> None:
    service = regime.measured("run x", [1.0, 2.0, 3.0], [(429, 0.1)])
    assert service.items == 4
    assert service.described["error"] == {"share": 0.25, "after_s": 0.1, "status": 429}
    with pytest.raises(ConfigError, match="run x has no answered request"):
        regime.measured("run x", [], [(500, 1.0)])


# --- strategies


def test_strategies_stand_in_the_order_asked_for_on_the_same_batches() -> None:
    found = simulate(regime.named("R0"), strategies=("auto", "sequential"), seeds=20, first_seed=7)
    assert [one.strategy for one in found] == ["auto", "sequential"]
    auto, sequential = found
    assert all(slow > 10 * fast for slow, fast in zip(sequential.walls_s, auto.walls_s, strict=True))
    assert found == simulate(regime.named("R0"), strategies=("auto", "sequential"), seeds=20, first_seed=7)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("items", [1, 7, 63])
def test_as_many_may_be_in_flight_as_a_dispatcher_allows(strategy: str, items: int) -> None:
    r0 = regime.named("R0")
    (found,) = simulate(r0, items, (strategy,), seeds=20)
    batches = _core.simulate(strategies.read(strategy, {}).config(items), r0.json, items, range(20))
    assert found.walls_s == [batch[0] / 1e9 for batch in batches]


def test_what_is_laid_over_changes_every_strategy() -> None:
    r0 = regime.named("R0")
    (plain,) = simulate(r0, strategies=("hedged",), seeds=5)
    (late,) = simulate(r0, strategies=("hedged",), seeds=5, policy='{"hedge":{"after_s":60}}')
    assert late.mean_s > plain.mean_s
    assert sum(late.hedges) < sum(plain.hedges)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"strategies": ("fastest",)}, 'no strategy is named "fastest"'),
        ({"seeds": 0}, "seeds must be at least 1, not 0"),
        ({"max_concurrency": 0}, "max_concurrency must be a whole number from 1 to 1000000, not 0"),
        ({"policy": '{"hedges":1}'}, "unknown field `hedges`"),
        ({"items": 0}, "items must be a whole number from 1"),
    ],
)
def test_what_a_strategy_cant_be_is_refused(given: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        simulate(regime.named("R0"), **given)  # type: ignore[arg-type]


def test_a_service_without_a_number_of_calls_needs_one() -> None:
    with pytest.raises(ConfigError, match="nothing says how many calls"):
        simulate(regime.read("constant:1s"), seeds=1)


def _one(strategy: str, wall_s: float, requests: int, failed: int = 0) -> Simulation:
    return Simulation(strategy, 100, [wall_s] * 2, [requests] * 2, [0, 0], [0, 0], [failed] * 2)


def test_the_advice_weighs_the_time_against_the_requests_and_names_the_fastest_and_the_cheapest() -> None:
    found = [_one("slow", 100, 100), _one("dear", 8, 260), _one("fair", 10.5, 110), _one("careless", 5, 50, failed=9)]
    assert best_of(found).strategy == "fair"
    assert advise(found) == (
        "use fair: 10.5 s on the mean, for 1.10 requests an item; dear is fastest, by 24%, for 2.60; "
        "slow is cheapest, by 9%, and takes 9.52 times as long"
    )
    assert advise([_one("a", 10, 100), _one("b", 30, 100)]) == (
        "use a: 10.0 s on the mean, for 1.00 requests an item; b takes 3 times as long"
    )


def test_more_requests_that_buy_as_much_time_are_worth_it() -> None:
    assert best_of([_one("slow", 300, 100), _one("hedged", 20, 253)]).strategy == "hedged"


def test_where_nobody_answers_all_the_advice_says_so() -> None:
    said = advise([_one("a", 10, 100, failed=5), _one("b", 9, 100, failed=20)])
    assert said.startswith("use a: ")
    assert "though 5.0% of the items get no answer from any strategy" in said


# --- the command


def test_the_command_compares_all_strategies_and_says_which_to_use() -> None:
    result = call("--seeds", "20")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "R0: 63 calls, 20 batches each, seconds of virtual time"
    assert [line.split()[0] for line in lines[3:8]] == list(STRATEGIES)
    assert lines[-1].startswith("use auto: ")


def test_the_command_prints_json_alone() -> None:
    result = call("--service", "constant:1s;slots=4", "--items", "40", "--strategy", "auto", "--seeds", "3", "--json")
    told = json.loads(result.stdout)
    assert (told["items"], told["batches"], told["use"]) == (40, 3, "auto")
    (auto,) = told["strategies"]
    assert auto["mean_s"] == pytest.approx(10.0, rel=0.2)
    assert len(auto["walls_s"]) == 3


def test_the_command_draws_from_what_a_run_has_measured(tmp_path: Path) -> None:
    run = loadgen.run(
        "mock:?ttft=lognormal:20ms,0.4&error_rate=0.1",
        concurrency=8,
        requests=60,
        output_tokens=1,
        out=str(tmp_path / "run"),
    )
    result = call("--run", str(run.dir), "--strategy", "sequential", "--strategy", "auto", "--seeds", "10", "--json")
    assert result.exit_code == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["service"]["name"] == f"run {run.id}"
    counts = run.performance.counts
    assert told["items"] == counts.ok + counts.failed == 60
    assert len(told["service"]["latency"]["seconds"]) == counts.ok
    assert told["service"]["error"]["share"] == pytest.approx(counts.failed / 60)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--service", "R0", "--run", "x"), "--run and --service both say who is called"),
        (("--seeds", "0"), "--seeds 0 "),
        (("--items", "many"), "--items many "),
        (("--strategy", "fastest"), "no strategy is named"),
        (("--run", "no-such-run"), "no-such-run"),
    ],
)
def test_the_command_refuses_what_cant_be(args: tuple[str, ...], words: str) -> None:
    result = call(*args)
    assert result.exit_code == 2
    assert words in result.stderr
