"""Delays and sample orders: their means and spreads, their seeds, and that they are the plan's own numbers."""

import itertools
import statistics
from collections.abc import Callable, Iterator
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

import loadgen
from loadgen import TimedIssueStrategy, constant_delays, gamma_delays, poisson_delays, uniform_delays
from loadgen.session.arrival import Arrival
from loadgen.session.order import ORDERS, SampleOrder, name_of

SEEDS = st.integers(0, 2**64 - 1)
RATES = st.floats(0.001, 1e6)


def first(n: int, delays: Iterator[int]) -> list[int]:
    return list(itertools.islice(delays, n))


@pytest.mark.parametrize(
    ("delays", "mean_ns", "variation"),
    [
        (constant_delays(400), 2_500_000, 0.0),
        (poisson_delays(400, 1), 2_500_000, 1.0),
        (gamma_delays(400, 4.0, 1), 2_500_000, 0.5),
        (gamma_delays(400, 0.25, 1), 2_500_000, 2.0),
        (uniform_delays("1ms", 0.004, 1), 2_500_000, 3e6 / 12**0.5 / 2.5e6),
    ],
)
def test_delays_have_their_mean_and_their_spread(delays: Iterator[int], mean_ns: int, variation: float) -> None:
    taken = first(100_000, delays)
    assert all(type(delay) is int and delay >= 1 for delay in taken)
    assert statistics.fmean(taken) == pytest.approx(mean_ns, rel=0.02)
    assert statistics.pstdev(taken) / mean_ns == pytest.approx(variation, rel=0.03, abs=1e-6)


def test_uniform_delays_stay_within_their_bounds() -> None:
    # A nanosecond of slack: each delay is the difference of two rounded times.
    assert all(999_999 <= delay <= 4_000_001 for delay in first(10_000, uniform_delays(0.001, 0.004, 2)))


def test_constant_delays_do_not_drift() -> None:
    assert sum(first(30_000, constant_delays(3))) == 10_000 * 10**9


@given(RATES, SEEDS)
def test_delays_are_the_steps_of_the_plan(rate: float, seed: int) -> None:
    made: list[tuple[Iterator[int], Arrival]] = [
        (poisson_delays(rate, seed), Arrival("poisson")),
        (gamma_delays(rate, 0.5, seed), Arrival("gamma", burstiness=0.5)),
        (constant_delays(rate), Arrival("constant")),
    ]
    for delays, arrival in made:
        starts = list(itertools.accumulate(first(200, delays)))
        offsets = first(201, TimedIssueStrategy(rate, arrival=arrival).plan(seed).offsets())
        due = offsets[1:] if arrival.kind == "constant" else offsets[:200]
        # A nanosecond holds one start: a second one due in it comes in the next.
        assert starts == list(itertools.accumulate(due, lambda at, due: max(at + 1, due), initial=0))[1:]


@given(SEEDS)
def test_the_same_seed_gives_the_same_delays_and_another_others(seed: int) -> None:
    makers: list[Callable[[int], Iterator[int]]] = [
        lambda seed: poisson_delays(7, seed),
        lambda seed: gamma_delays(7, 2, seed),
        lambda seed: uniform_delays(0.1, 0.2, seed),
    ]
    for delays in makers:
        assert first(300, delays(seed)) == first(300, delays(seed))
        assert first(300, delays(seed)) != first(300, delays(seed ^ 1))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: constant_delays(0), "a rate must be finite and above 0, not 0"),
        (lambda: poisson_delays(-5, 0), "not -5"),
        (lambda: poisson_delays(float("nan"), 0), "not NaN"),
        (lambda: poisson_delays(float("inf"), 0), "not inf"),
        (lambda: poisson_delays(2e9, 0), "at most 1e9"),
        (lambda: gamma_delays(5, 0, 0), "burstiness must be finite and above 0, not 0"),
        (lambda: gamma_delays(5, -1e300, 0), "burstiness"),
        (lambda: uniform_delays(2, 1, 0), r"low \(2\) <= high \(1\)"),
        (lambda: uniform_delays(-1, 1, 0), "low must be 0 or more, not -1"),
        (lambda: uniform_delays(0, 0, 0), "high must be above 0, not 0"),
        (lambda: poisson_delays(5, -1), r"a seed is a whole number from 0 to 2\*\*64 - 1, not -1"),
        (lambda: poisson_delays(5, 2**64), "a seed is"),
    ],
)
def test_delays_that_can_not_be_are_refused_when_made(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_delays_end_with_an_error_rather_than_wrap() -> None:
    delays = constant_delays(1e-9)
    assert sum(first(18, delays)) == pytest.approx(18 * 10**18)
    with pytest.raises(OverflowError, match="584 years"):
        next(delays)


def test_threads_that_share_an_iterator_share_its_delays_out() -> None:
    shared = poisson_delays(5, 9)
    taken: list[list[int]] = [[] for _ in range(4)]
    threads = [Thread(target=lambda mine: mine.extend(first(5_000, shared)), args=(mine,)) for mine in taken]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(itertools.chain(*taken)) == sorted(first(20_000, poisson_delays(5, 9)))


# --- sample orders


@given(st.integers(1, 200), SEEDS)
def test_each_epoch_without_replacement_is_a_permutation_of_its_own(n: int, seed: int) -> None:
    order = loadgen.WithoutReplacement(n, seed)
    epochs = [first(n, order) for _ in range(3)]
    assert all(sorted(epoch) == list(range(n)) for epoch in epochs)
    if n >= 50:
        assert epochs[0] != epochs[1] != epochs[2]


@given(st.sampled_from(list(ORDERS.values())), st.integers(1, 1000), SEEDS, st.integers(0, 3000))
def test_an_order_is_a_function_of_seed_and_index(kind: type[SampleOrder], n: int, seed: int, i: int) -> None:
    walked = first(i + 1, kind(n, seed))
    order = kind(n, seed)
    assert order[i] == walked[i]
    assert next(order) == walked[0], "a look ahead leaves the iteration where it was"
    assert all(0 <= sample < n for sample in walked)


@given(SEEDS)
def test_the_other_orders_do_what_their_names_say(seed: int) -> None:
    assert first(7, loadgen.Sequential(3, seed)) == [0, 1, 2, 0, 1, 2, 0]
    assert first(5, loadgen.Single(9, seed)) == [0] * 5
    drawn = first(4000, loadgen.WithReplacement(4, seed))
    assert all(800 < drawn.count(sample) < 1200 for sample in range(4))


def test_seeds_matter_where_there_is_chance() -> None:
    for kind in (loadgen.WithReplacement, loadgen.WithoutReplacement):
        assert first(50, kind(50, 1)) == first(50, kind(50, 1)) != first(50, kind(50, 2))


@pytest.mark.parametrize("kind", ORDERS.values(), ids=str)
@pytest.mark.parametrize("n", [0, -1, 2**32])
def test_an_order_over_nothing_is_refused(kind: type[SampleOrder], n: int) -> None:
    with pytest.raises(ValueError, match=f"from 1 to 4294967295 samples, not {n}"):
        kind(n)


def test_the_base_is_no_order_and_a_name_is_one_of_four() -> None:
    with pytest.raises(TypeError, match="make one of Sequential, WithoutReplacement, WithReplacement, Single"):
        SampleOrder(3)
    assert name_of("single") == name_of(loadgen.Single) == name_of(loadgen.Single(3)) == "single"
    for wrong in ("shuffled", SampleOrder, 3):
        with pytest.raises(ValueError, match="take one of sequential, without_replacement"):
            name_of(wrong)  # type: ignore[arg-type]
    assert repr(loadgen.Single(3, seed=4)) == "Single(3, seed=4)"
