"""Estimates: the published examples, and what must hold for any nodes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.node.estimate import estimate, makespan


@pytest.mark.parametrize(
    ("times", "batch", "best"),
    [
        ([0.1, 1.0, 1.0], 100, 8.4),
        ([0.10, 0.12, 0.11], 100, 3.7),
        ([0.02, 0.3, 0.3, 0.3], 200, 3.34),
        ([0.02, 0.02, 0.02], 200, 1.34),
        ([0.1, 0.1, 0.1, 0.1], 100, 2.5),
    ],
)
def test_the_optimum_of_the_published_examples(times: list[float], batch: int, best: float) -> None:
    assert makespan(times, [1] * len(times), batch) == pytest.approx(best, abs=1e-9)


def test_the_published_modes_take_what_was_published() -> None:
    first = estimate([0.1, 1.0, 1.0], [1, 1, 1], 100)
    assert [first.sequential, first.parallel] == pytest.approx([10.0, 33.0])
    third = estimate([0.02, 0.3, 0.3, 0.3], [1] * 4, 200)
    assert [third.sequential, third.parallel] == pytest.approx([4.0, 15.0])
    # Without looking ahead, hybrid gives a slow node an item at the end.
    assert [third.hybrid, third.saved] == pytest.approx([3.6, 3.6 - 3.34])


def test_no_mode_beats_auto_and_slots_count() -> None:
    for batch in (1, 2, 7, 50, 333):
        modes = estimate([0.3, 0.1, 0.7, 0.2], [1, 2, 1, 3], batch)
        assert modes.auto <= min(modes.sequential, modes.parallel, modes.hybrid), batch
    assert makespan([1.0], [4], 8) == 2.0


@given(
    nodes=st.lists(st.tuples(st.floats(1e-4, 100.0), st.integers(1, 4)), min_size=1, max_size=6),
    batch=st.integers(1, 60),
    top_k=st.integers(1, 6),
)
def test_no_mode_beats_auto_by_so_much_as_a_last_bit(nodes: list[tuple[float, int]], batch: int, top_k: int) -> None:
    times, slots = [time for time, _ in nodes], [many for _, many in nodes]
    modes = estimate(times, slots, batch, top_k=top_k)
    assert modes.auto <= min(modes.sequential, modes.parallel, modes.hybrid)


def test_an_empty_batch_takes_no_time() -> None:
    assert estimate([1.0, 2.0], [1, 1], 0) == estimate([5.0, 3.0], [1, 1], 0)
    assert makespan([1.0], [1], 0) == 0.0


def test_hybrid_uses_the_fastest_few_only() -> None:
    assert estimate([1.0, 2.0, 3.0], [1, 1, 1], 2, top_k=1).hybrid == 2.0
