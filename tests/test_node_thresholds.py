"""The published rules: their examples, and both sides of each line that they draw."""

import pytest

from loadgen.errors import ConfigError
from loadgen.node.thresholds import Decision, Thresholds, describe, workers_for

DECIDE = Thresholds().decide


def test_the_published_examples_have_the_published_modes() -> None:
    examples = [
        ([0.1, 1.0, 1.0], 100, "sequential", "dominant_node"),
        ([0.10, 0.12, 0.11], 100, "parallel", "balanced_cluster"),
        ([0.02, 0.3, 0.3, 0.3], 200, "sequential", "dominant_node"),
        ([0.02, 0.02, 0.02], 200, "parallel", "balanced_cluster"),
        ([0.1, 0.1, 0.1, 0.1], 100, "parallel", "balanced_cluster"),
    ]
    for times, batch, mode, reason in examples:
        chosen = DECIDE(times, batch)
        assert (chosen.mode, chosen.reason) == (mode, reason), times


def test_a_dominant_node_wins_over_a_small_batch() -> None:
    # The published sample says small_batch here, its rules say dominant_node: the rules win.
    chosen = DECIDE([1.0, 8.5], 10)
    assert chosen == Decision("sequential", "dominant_node", "Fastest node is 8.5x faster - sequential wins", 1, (0,))


@pytest.mark.parametrize(
    ("ratio", "batch", "reason"),
    [
        (5.0, 500, "dominant_node"),
        (4.99, 500, "hybrid_parallel"),
        (3.0, 500, "hybrid_parallel"),
        (2.99, 500, "balanced_cluster"),
        (4.0, 1, "small_batch"),
        (4.0, 19, "small_batch"),
        (4.0, 20, "default_sequential"),
        (4.0, 49, "default_sequential"),
        (4.0, 50, "default_sequential"),
        (4.0, 51, "hybrid_parallel"),
        (1.0, 19, "small_batch"),
        (1.0, 20, "balanced_cluster"),
    ],
)
def test_each_line_is_where_it_was_drawn(ratio: float, batch: int, reason: str) -> None:
    assert DECIDE([1.0, 1.0, 1.0, ratio], batch).reason == reason


def test_hybrid_needs_three_nodes_and_takes_the_three_fastest() -> None:
    assert DECIDE([1.0, 4.0], 100).reason == "default_sequential"
    chosen = DECIDE([4.0, 2.0, 1.0, 3.0], 100)
    assert (chosen.mode, chosen.nodes, chosen.workers) == ("hybrid", (2, 1, 3), 6)


def test_one_node_works_alone() -> None:
    chosen = DECIDE([0.3], 500)
    assert (chosen.mode, chosen.reason, chosen.workers, chosen.nodes) == ("sequential", "single_node", 1, (0,))


def test_the_published_words() -> None:
    assert DECIDE([1.0, 2.1], 100).detail == "Speed ratio 2.1x - parallel is efficient"
    assert DECIDE([1.0, 2.1], 10).detail == "Batch size 10 too small for parallel overhead"
    urls = ["http://a", "http://b", "http://c", "http://d"]
    assert describe(DECIDE([2.0, 1.0, 20.0, 3.0], 100), urls) == "Sequential mode: Using http://b"
    assert describe(DECIDE([1.0] * 4, 100), urls) == "Parallel mode: Using 8 workers across 4 nodes"


@pytest.mark.parametrize(
    ("nodes", "batch", "workers"),
    [(4, 1, 1), (4, 7, 7), (4, 8, 8), (4, 49, 8), (30, 49, 49), (4, 50, 8), (30, 50, 60), (4, 199, 8), (4, 200, 16)],
)
def test_workers_follow_the_batch(nodes: int, batch: int, workers: int) -> None:
    assert workers_for(nodes, batch) == workers


@pytest.mark.parametrize(
    ("wrong", "word"),
    [
        ({"dominant_ratio": 0.5}, "dominant_ratio"),
        ({"dominant_ratio": float("nan")}, "dominant_ratio"),
        ({"dominant_ratio": 2.0}, "balanced_ratio"),
        ({"small_batch": 0}, "small_batch"),
        ({"hybrid_top_k": 0}, "hybrid_top_k"),
    ],
)
def test_a_threshold_that_makes_no_sense_is_named(wrong: dict[str, float], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        Thresholds(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("times", [[], [0.0, 1.0], [-1.0]])
def test_times_must_be_times(times: list[float]) -> None:
    with pytest.raises(ValueError, match="times above 0"):
        DECIDE(times, 10)
