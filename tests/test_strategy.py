"""Load strategies: their plans, what they issue on a virtual clock, and that the engine does the same."""

import asyncio
import enum
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import loadgen
from fake_issuer import FakeIssuer
from loadgen import BurstStrategy, ConcurrencyStrategy, LoadStrategy, Plan, TimedIssueStrategy, create_load_strategy
from loadgen.session import RequestTable
from loadgen.session.arrival import Arrival, Stage
from loadgen.session.issuer import Issuer
from loadgen.session.strategy import PlannedStrategy, is_planned

MS = 1_000_000

STRATEGIES: list[PlannedStrategy] = [
    ConcurrencyStrategy(3),
    BurstStrategy(700),
    TimedIssueStrategy(5),
    TimedIssueStrategy(5, arrival="constant", max_concurrency=2),
    TimedIssueStrategy(5, arrival="gamma", burstiness=0.5),
    TimedIssueStrategy(5, arrival=Arrival("uniform", low=0.5, high=1.5)),
    TimedIssueStrategy(stages="0-50/s:10s,20/s:3s", arrival="constant"),
]


def execute(strategy: LoadStrategy, issuer: FakeIssuer) -> int:
    return asyncio.run(strategy.execute(issuer))


def after(issuer: FakeIssuer) -> list[int]:
    """When each request was issued, in nanoseconds after the start."""
    return [request.issued_ns - issuer.start_ns for request in issuer.issued]


# --- plans


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.words)
@given(seed=st.integers(0, 2**63), cuts=st.lists(st.integers(0, 800), max_size=5))
def test_blocks_of_a_plan_join_seamlessly(strategy: PlannedStrategy, seed: int, cuts: list[int]) -> None:
    def plan() -> Plan:
        return strategy.plan(seed, samples=7, order="with_replacement")

    walked = list(itertools.islice(plan(), 900))
    cut = plan()
    for start in cuts:
        offsets, samples = cut.block(start, 10)
        pairs = list(zip([None] * len(samples) if offsets is None else offsets, samples, strict=True))
        assert pairs == walked[start : start + 10]


def test_a_plan_is_as_long_as_its_load() -> None:
    lengths = [strategy.plan(1).length for strategy in STRATEGIES]
    assert lengths == [None, 700, None, None, None, None, 310]
    assert len(list(STRATEGIES[-1].plan(1))) == 310
    assert len(list(BurstStrategy(256).plan(1))) == 256, "a whole block is not the end's mark"


def test_a_plan_says_what_it_can_not_give() -> None:
    with pytest.raises(ValueError, match="a closed loop has no times"):
        ConcurrencyStrategy(3).plan(0).offsets()
    with pytest.raises(ValueError, match="a block has at most 1048576 requests, not 1048577"):
        BurstStrategy(3).plan(0).block(0, 2**20 + 1)
    with pytest.raises(ValueError, match="from 1 to 4294967295 samples, not 0"):
        BurstStrategy(3).plan(0, samples=0)
    with pytest.raises(ValueError, match="there is no order 'shuffled'"):
        BurstStrategy(3).plan(0, order="shuffled")
    with pytest.raises(ValueError, match="a rate must be finite and above 0, not -1"):
        Plan({"kind": "rate", "rate": -1.0, "arrival": {"kind": "poisson"}}, seed=0, samples=1, order="single")
    with pytest.raises(ValueError, match="the load of a plan"):
        Plan({"kind": "nope"}, seed=0, samples=1, order="single")


def test_a_plan_draws_its_samples_by_the_order() -> None:
    plan = TimedIssueStrategy(5).plan(3, samples=9, order=loadgen.WithoutReplacement)
    assert [sample for _, sample in itertools.islice(plan, 30)] == list(
        itertools.islice(loadgen.WithoutReplacement(9, seed=3), 30)
    )


# --- the same in the engine


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize(
    "given",
    [
        {"rate": 2000, "arrival": "constant", "requests": 300},
        {"rate": 2000, "arrival": "poisson", "requests": 300},
        {"stages": "100-3000/s:200ms"},
        {"burst": 50},
    ],
    ids=lambda given: next(iter(given)),
)
def test_the_engine_plans_what_the_strategy_does(tmp_path: Path, given: dict[str, Any], workers: int) -> None:
    result = loadgen.run("mock:", **given, workers=workers, seed=11, output_tokens=1, out=tmp_path / "run")
    told = {name: value for name, value in given.items() if name != "requests"}
    pattern = next(iter(told))
    strategy = create_load_strategy({"pattern": pattern, **({"n": told["burst"]} if pattern == "burst" else told)})
    table: RequestTable = result.performance.requests
    rows = sorted(table, key=lambda request: request.id)
    planned = list(
        itertools.islice(strategy.plan(11, samples=_samples(result), order="without_replacement"), len(rows))
    )
    start = rows[0].planned_ns
    assert start is not None
    # The phase's start is not in a row: the first arrival tells it.
    assert planned[0][0] is not None
    start -= planned[0][0]
    assert [(row.planned_ns - start, row.sample) for row in rows if row.planned_ns is not None] == planned
    assert len(rows) == (given.get("requests") or strategy.plan(11).length)


def _samples(result: loadgen.SessionResult) -> int:
    return int(result.performance.report["dataset"]["samples"])


# --- on a virtual clock


@pytest.mark.parametrize("n", [1, 3, 40])
def test_a_closed_loop_keeps_exactly_n_in_flight_until_the_limit(n: int) -> None:
    issuer = FakeIssuer(lambda i: (i % 7 + 1) * MS, requests=200)
    assert execute(ConcurrencyStrategy(n), issuer) == len(issuer.issued) == 200
    assert issuer.most_in_flight == n


@given(st.integers(1, 20), st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_a_slot_is_never_left_empty(n: int, service: list[int]) -> None:
    issuer = FakeIssuer(lambda i: service[i] * MS, requests=len(service))
    execute(ConcurrencyStrategy(n), issuer)
    free = [0] * n
    for at, ms in zip(after(issuer), service, strict=True):
        slot = free.index(min(free))
        assert at == free[slot], "each goes out the moment a slot is free"
        free[slot] += ms * MS


def test_a_closed_loop_leaves_the_slots_that_an_earlier_phase_still_holds() -> None:
    issuer = FakeIssuer(lambda _: 10 * MS, requests=6, busy=(4 * MS, 25 * MS))
    assert execute(ConcurrencyStrategy(2), issuer) == 6
    assert issuer.most_in_flight == 2
    assert after(issuer) == [4 * MS, 14 * MS, 24 * MS, 25 * MS, 34 * MS, 35 * MS]


def test_a_closed_loop_ends_with_its_duration() -> None:
    issuer = FakeIssuer(lambda _: 10 * MS, duration_ns=95 * MS)
    assert execute(ConcurrencyStrategy(4), issuer) == 40
    assert execute(ConcurrencyStrategy(4), FakeIssuer(requests=0)) == 0


@pytest.mark.parametrize("arrival", ["constant", "poisson", "gamma", "uniform"])
def test_an_open_loop_issues_at_the_plans_times_without_drift(arrival: str) -> None:
    strategy = TimedIssueStrategy(1000, arrival=arrival)
    issuer = FakeIssuer(lambda _: 10**10, requests=20_000, seed=5, issue_ns=900)
    assert execute(strategy, issuer) == 20_000
    offsets = list(itertools.islice(strategy.plan(5).offsets(), 20_000))
    assert [request.planned_ns - issuer.start_ns for request in issuer.issued] == offsets
    # One issue is still under way at worst where several are due together.
    assert all(0 <= at - offset < 5 * MS for at, offset in zip(after(issuer), offsets, strict=True))
    assert after(issuer)[-1] - offsets[-1] < MS, "what an issue costs adds up to nothing"
    assert strategy.late == 0


def test_late_requests_go_out_at_once_and_are_counted() -> None:
    strategy = TimedIssueStrategy(1000, arrival="constant")
    issuer = FakeIssuer(requests=100, issue_ns=3 * MS)
    assert execute(strategy, issuer) == 100
    assert after(issuer) == [3 * MS * i for i in range(100)]
    # Request i is due at i ms and leaves at 3 i ms: late by more than 5 ms from the fourth on.
    assert strategy.late == 97
    assert execute(strategy, FakeIssuer(requests=10)) == 10
    assert strategy.late == 0, "counted per phase"


def test_an_open_loop_ends_with_its_plan_or_its_phase() -> None:
    stages = TimedIssueStrategy(stages="10/s:1s,100/s:1s", arrival="constant")
    assert execute(stages, FakeIssuer()) == 110
    assert execute(stages, FakeIssuer(duration_ns=1_500 * MS)) == 60
    issuer = FakeIssuer(requests=7)
    assert execute(TimedIssueStrategy(10, arrival="constant"), issuer) == 7
    assert issuer.now_ns() - issuer.start_ns == 600 * MS, "it doesn't wait for the time of one more"


def test_a_cap_bounds_an_open_loop_and_what_it_holds_back_is_not_late() -> None:
    strategy = TimedIssueStrategy(100, arrival="constant", max_concurrency=3)
    issuer = FakeIssuer(lambda _: 60 * MS, requests=30)
    assert execute(strategy, issuer) == 30
    assert issuer.most_in_flight == 3
    assert after(issuer)[:7] == [0, 10 * MS, 20 * MS, 60 * MS, 70 * MS, 80 * MS, 120 * MS]
    assert [request.planned_ns - issuer.start_ns for request in issuer.issued] == [10 * MS * i for i in range(30)]
    assert strategy.late == 0


def test_a_cap_is_left_when_the_phase_stops() -> None:
    issuer = FakeIssuer(lambda _: 10**12, duration_ns=100 * MS)
    assert execute(TimedIssueStrategy(1000, max_concurrency=2), issuer) == 2


def test_a_burst_goes_out_at_the_start_and_lets_answers_in_between() -> None:
    issuer = FakeIssuer()
    turns = 0

    async def watched() -> int:
        nonlocal turns
        going = asyncio.ensure_future(BurstStrategy(100).execute(issuer))
        while not going.done():
            turns += 1
            await asyncio.sleep(0)
        return going.result()

    assert asyncio.run(watched()) == 100
    assert after(issuer) == [0] * 100
    assert {request.planned_ns for request in issuer.issued} == {issuer.start_ns}
    assert turns >= 6, "others get a turn between groups of 16"
    assert execute(BurstStrategy(100), FakeIssuer(requests=30)) == 30


def test_what_the_issuer_raises_is_not_swallowed() -> None:
    class Broken(FakeIssuer):
        def issue(self, sample: int | None = None, planned_ns: int | None = None) -> int | None:
            raise ConnectionError("gone")

    for strategy in STRATEGIES:
        with pytest.raises(ConnectionError, match="gone"):
            execute(strategy, Broken())


def test_a_users_own_strategy_needs_execute_alone() -> None:
    class Pairs(LoadStrategy):
        async def execute(self, issuer: Issuer) -> int:
            issued = 0
            while await issuer.until(issuer.start_ns + issued * MS):
                if issuer.issue() is None or issuer.issue(sample=0) is None:
                    break
                issued += 2
            return issued

    pairs = Pairs()
    pairs.on_complete(0)
    issuer = FakeIssuer(requests=10)
    assert execute(pairs, issuer) == 10
    assert [request.sample for request in issuer.issued] == [None, 0] * 5


def test_only_a_built_in_strategy_runs_by_its_plan() -> None:
    class Own(ConcurrencyStrategy):
        async def execute(self, issuer: Issuer) -> int:
            return 0

    protocols: list[LoadStrategy] = list(STRATEGIES)
    assert all(is_planned(strategy) for strategy in protocols)
    assert not is_planned(Own(3))
    assert not is_planned(None)


# --- making one


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ConcurrencyStrategy(0), "concurrency must be 1 or more, not 0"),
        (lambda: ConcurrencyStrategy(-2), "concurrency must be 1 or more, not -2"),
        (lambda: ConcurrencyStrategy(n=True), "concurrency must be a whole number, not True"),
        (lambda: BurstStrategy(0), "burst must be 1 or more, not 0"),
        (lambda: TimedIssueStrategy(0), "rate must be above 0, not 0"),
        (lambda: TimedIssueStrategy(float("nan")), "rate must be a finite number, not nan"),
        (TimedIssueStrategy, r"has a rate \(None\) or stages \(None\): give exactly one"),
        (lambda: TimedIssueStrategy(5, stages="5/s:1s"), "give exactly one"),
        (lambda: TimedIssueStrategy(5, max_concurrency=0), "max_concurrency must be 1 or more, not 0"),
        (lambda: TimedIssueStrategy(5, arrival="often"), "there is no arrival 'often': take one of poisson, constant"),
        (lambda: TimedIssueStrategy(5, burstiness=2), "burstiness shapes gamma arrivals, and these are poisson"),
        (lambda: TimedIssueStrategy(5, arrival="gamma", burstiness=0), "burstiness must be above 0, not 0"),
        (lambda: TimedIssueStrategy(5, arrival=Arrival("gamma"), burstiness=2), "give it once"),
        (lambda: TimedIssueStrategy(5, arrival={"kind": "gamma", "burstiness": "x"}), "an arrival can't be"),
        (lambda: Arrival("uniform", low=0.5, high=1.0), r"low \+ high = 2"),
        (lambda: Arrival("uniform", low=0.5), "high must be a number, not None"),
        (lambda: Arrival("poisson", low=0.5, high=1.5), "low and high bound uniform gaps"),
        (lambda: TimedIssueStrategy(stages="x"), "stages must look like .*, not 'x'"),
        (lambda: TimedIssueStrategy(stages=[]), "stages must be text"),
        (lambda: TimedIssueStrategy(stages=[(1, 2)]), r"a stage is .*, not \(1, 2\)"),
        (lambda: TimedIssueStrategy(stages=[(0, 0, 5)]), "a rate above 0 in one of them"),
        (lambda: TimedIssueStrategy(stages=[Stage(1, -2, 5)]), "rate at its end must be 0 or more, not -2"),
        (lambda: TimedIssueStrategy(stages=[Stage(1, 2, 0)]), "a stage's seconds must be above 0, not 0"),
        (lambda: TimedIssueStrategy(stages=[{"from": 1, "seconds": 0}]), "a stage can't be"),
        (lambda: TimedIssueStrategy(stages="5/s:1s", arrival="gamma"), "stages can't have gamma arrivals"),
    ],
)
def test_a_strategy_that_can_not_be_is_refused_when_made(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_stages_are_the_same_however_they_are_written() -> None:
    written: list[Any] = [
        "10/s:1s,10-50/s:2s",
        ["10/s:1s", "10-50/s:2s"],
        [(10, 10, 1), (10, 50, 2)],
        [Stage(10, 10, 1), {"from": 10, "to": 50, "seconds": 2}],
    ]
    made = [TimedIssueStrategy(stages=stages) for stages in written]
    assert len(set(made)) == 1
    assert made[0].load()["stages"] == [
        {"from": 10.0, "to": 10.0, "seconds": 1.0},
        {"from": 10.0, "to": 50.0, "seconds": 2.0},
    ]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda s: s.words)
def test_what_the_engine_is_told_makes_the_same_strategy(strategy: PlannedStrategy) -> None:
    told = json.loads(json.dumps(strategy.load()))
    again = create_load_strategy({**told, "max_concurrency": strategy.max_concurrency})
    assert again == strategy
    assert (again.words, hash(again)) == (strategy.words, hash(strategy))
    assert again != "something else"


def test_a_strategy_shows_how_it_is_made() -> None:
    assert [repr(strategy) for strategy in STRATEGIES[:4]] == [
        "ConcurrencyStrategy(n=3)",
        "BurstStrategy(n=700)",
        "TimedIssueStrategy(rate=5.0, arrival=Arrival(kind='poisson', burstiness=None, low=None, high=None))",
        (
            "TimedIssueStrategy(rate=5.0, arrival=Arrival(kind='constant', burstiness=None, low=None, high=None), "
            "max_concurrency=2)"
        ),
    ]


class _Pattern(enum.Enum):
    RATE = "rate"


class _Load(msgspec.Struct):
    pattern: str
    rate: float | None = None
    n: int | None = None


def test_the_factory_reads_mappings_and_structs() -> None:
    assert create_load_strategy({"pattern": "concurrency", "n": 4}) == ConcurrencyStrategy(4)
    assert create_load_strategy({"kind": "burst", "n": 4}) == BurstStrategy(4)
    assert create_load_strategy({"pattern": _Pattern.RATE, "rate": "2.5"}) == TimedIssueStrategy(2.5)
    assert create_load_strategy(_Load("rate", rate=2)) == TimedIssueStrategy(2)
    gamma = create_load_strategy({"pattern": "rate", "rate": 2, "arrival": "gamma", "burstiness": 3})
    assert gamma == TimedIssueStrategy(2, arrival="gamma", burstiness=3)
    assert gamma.words == "gamma (burstiness 3) 2 req/s"


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({}, "a load needs a pattern: one of concurrency, rate, stages, burst"),
        ({"pattern": None, "n": 3}, "a load needs a pattern"),
        ({"pattern": "concurency", "n": 3}, r"'concurency' \(did you mean concurrency\?\): take one of concurrency"),
        ({"pattern": "zzz"}, "there is no load pattern 'zzz': take one of concurrency, rate, stages, burst"),
        ({"pattern": 3}, "there is no load pattern 3"),
        ({"pattern": "poisson", "rate": 3}, "'poisson' is how gaps spread: the pattern is rate or stages"),
        ({"pattern": "rate", "kind": "burst"}, "one pattern, and this has 'rate' and the kind 'burst'"),
        ({"pattern": "rate"}, "needs 'rate'"),
        ({"pattern": "rate", "rate": 3, "arival": "poisson"}, r"no 'arival' \(did you mean arrival\?\)"),
        ({"pattern": "concurrency", "n": 3, "max_concurrency": 3}, "has no 'max_concurrency': it has n"),
        ({"pattern": "concurrency", "n": 0}, "concurrency must be 1 or more, not 0"),
    ],
)
def test_the_factory_says_what_it_can_not_make_and_names_the_choices(config: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        create_load_strategy(config)
