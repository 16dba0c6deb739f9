"""Dispatch in virtual time: the named strategies beside another simulation of them, and what `auto` reaches where."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from harness.bench import Bench
from harness.figures import Spread
from harness.table import Baseline, Line, Mark
from loadgen import _core
from loadgen.dispatch import regime
from loadgen.dispatch.simulate import Simulation, simulate

# None of these seeds were used to find what `auto` does.
_SEEDS, _HEDGED_SEEDS = 200, 5_000
_NAMED = {"sequential": 470.0, "parallel": 244.0, "adaptive_ceiling": 76.0, "hedged": 25.9}
_MARKS = {
    "R0": (20.0, 30.0, 1.12),
    "R1": (18.0, 26.0, 1.10),
    "R2": (None, None, None),
    "R3": (20.0, 28.0, 1.10),
    "R4": (24.0, 30.0, 1.17),
    "R5": (85.0, 122.0, 1.13),
    "R6": (20.0, 29.0, 1.14),
}
_RANDOM = 200


def regimes(bench: Bench) -> Iterator[Line]:
    """The table of the contract: wall and requests of every strategy on every regime."""
    quick = bench.quick
    yield from _named(20 if quick else _SEEDS, 100 if quick else _HEDGED_SEEDS)
    for name, marks in _MARKS.items():
        bench.say(f"dispatch-sim: {name}")
        yield from _auto(name, marks, 20 if quick else _SEEDS)
    yield from _speed_up(20 if quick else _SEEDS)
    yield from _random(bench, 10 if quick else _RANDOM)
    yield _cost()


def _named(seeds: int, hedged_seeds: int) -> Iterator[Line]:
    r0 = regime.named("R0")
    for strategy, found in _NAMED.items():
        count = hedged_seeds if strategy == "hedged" else seeds
        (one,) = simulate(r0, strategies=(strategy,), seeds=count)
        ratio = Spread.of([one.mean_s / found])
        baseline = Baseline("published", Spread.of([found]))
        what = f"{strategy} on R0, mean wall of {count:,}"
        yield Line("dispatch-sim", what, "s", Spread.of([one.mean_s]), Mark(1.1, 0.9), baseline, ratio)
        if strategy == "hedged":
            median = one.percentile_s(50)
            ratio, baseline = Spread.of([median / 13.4]), Baseline("published", Spread.of([13.4]))
            yield Line(
                "dispatch-sim", "hedged on R0, median", "s", Spread.of([median]), Mark(1.1, 0.9), baseline, ratio
            )


def _auto(name: str, marks: tuple[float | None, float | None, float | None], seeds: int) -> Iterator[Line]:
    found = {one.strategy: one for one in simulate(regime.named(name), seeds=seeds)}
    ours, theirs = _figures(found["auto"]), _figures(found["hedged"])
    told = zip(("mean wall, s", "p95 wall, s", "requests an item"), ours, theirs, marks, strict=True)
    for what, figure, hedged, mark in told:
        yield Line(
            "dispatch-sim",
            f"auto on {name}, {what}",
            "",
            Spread.of([figure]),
            None if mark is None else Mark(mark),
            Baseline("hedged", Spread.of([hedged])),
        )


def _figures(one: Simulation) -> tuple[float, float, float]:
    """Return mean, p95 and requests an item; the marks of these have two digits, and so do they."""
    return one.mean_s, one.percentile_s(95), round(one.requests_per_item, 2)


def _speed_up(seeds: int) -> Iterator[Line]:
    r0 = regime.named("R0")
    slow, alone = simulate(r0, strategies=("sequential", "auto"), seeds=seeds)
    (remembering,) = simulate(r0, strategies=("auto",), seeds=seeds, policy=f'{{"remembered":{{"limit":{r0.items}}}}}')
    for what, fast, least in (("", alone, 25), (", where it remembers the service", remembering, 33)):
        shares = [b / a for a, b in zip(slow.walls_s, fast.walls_s, strict=True)]
        median = statistics.median(shares)
        yield Line(
            "dispatch-sim",
            f"auto to sequential on R0{what}, median wall",
            "×",
            Spread.of([median]),
            Mark(1 / least),
            note=f"{1 / median:.1f} times as fast; {least} times is the mark",
        )


def _random(bench: Bench, services: int) -> Iterator[Line]:
    ratios, sent, theirs, worse = [], [], [], 0
    for seed in range(services):
        if seed % 50 == 0:
            bench.say(f"dispatch-sim: random services, {seed} of {services}")
        *others, auto = simulate(regime.drawn(seed), seeds=5)
        best = _best(others, auto)
        worse += any(one.failed_share < auto.failed_share for one in others)
        if best is not None:
            ratios.append(auto.mean_s / best.mean_s)
            sent.append(auto.requests_per_item)
            theirs.append(best.requests_per_item)
    low, high = (statistics.quantiles(ratios, n=20)[i] for i in (0, -1))
    yield Line(
        "dispatch-sim",
        f"auto to the best of the four on {services} random services, wall",
        "×",
        Spread.of([statistics.median(ratios)]),
        Mark(1.0),
        note=f"p5 {low:.2f}, p95 {high:.2f}, worst {max(ratios):.2f}; {statistics.fmean(sent):.2f} requests an item, "
        f"the best of the four {statistics.fmean(theirs):.2f}; on {worse} one of the four answers more items",
    )


def _best(others: list[Simulation], auto: Simulation) -> Simulation | None:
    """Return the fastest of those that answer as many items as `auto`: giving items up isn't fast."""
    return min(
        (one for one in others if one.failed_share <= auto.failed_share), key=lambda one: one.mean_s, default=None
    )


def _cost() -> Line:
    r5 = regime.named("R5")
    config = _core.policy_config("auto", 500)
    _core.simulate(config, r5.json, 500, [0])
    spent = []
    for seed in range(5):
        before = time.process_time()
        batches = _core.simulate(config, r5.json, 500, range(20 * seed, 20 * seed + 20))
        spent.append((time.process_time() - before) / sum(batch[1] for batch in batches) * 1e6)
    return Line("dispatch-sim", "CPU of a simulated call, policy and service, auto on R5", "µs", Spread.of(spent))
