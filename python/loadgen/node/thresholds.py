"""The published rules for choosing a mode by thresholds, in the published order, with the published words.

They look at the fastest and the slowest node and at the size of the batch. ``auto`` does better without them
(docs/nodes.md); they are here for those who rely on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import msgspec

from loadgen.errors import ConfigError

Mode: TypeAlias = Literal["auto", "sequential", "parallel", "hybrid"]
MODES: tuple[Mode, ...] = ("auto", "sequential", "parallel", "hybrid")


class Decision(msgspec.Struct, frozen=True):
    """How a batch is spread, and why."""

    mode: Mode
    reason: str
    """One word for logs: ``dominant_node``, ``small_batch``, …"""
    detail: str
    """One sentence for people."""
    workers: int
    """Items under way at the same time, at most."""
    nodes: tuple[int, ...]
    """The nodes that work, by their place in the pool, the fastest first."""


class Thresholds(msgspec.Struct, frozen=True):
    """Where the published rules draw their lines. The ratio is that of the slowest node's time to the fastest's."""

    dominant_ratio: float = 5.0
    """From here on the fastest node alone works."""
    balanced_ratio: float = 3.0
    """Below this all nodes work."""
    small_batch: int = 20
    """A batch smaller than this isn't worth spreading."""
    hybrid_batch: int = 50
    """A batch larger than this is spread over the fastest few."""
    hybrid_top_k: int = 3
    """How many those are, and how many nodes there must be."""

    def __post_init__(self) -> None:
        for name in ("dominant_ratio", "balanced_ratio"):
            if not getattr(self, name) >= 1.0:
                raise ConfigError(
                    f"{name} {getattr(self, name):g} is below 1, and no ratio is", f"say {name}: 1 or more"
                )
        if self.dominant_ratio < self.balanced_ratio:
            raise ConfigError(
                f"dominant_ratio {self.dominant_ratio:g} is below balanced_ratio {self.balanced_ratio:g}: "
                "a ratio between them would be both",
                "give dominant_ratio the larger value",
            )
        for name in ("small_batch", "hybrid_batch", "hybrid_top_k"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)} is below 1", f"say {name}: 1 or more")

    def decide(self, times: Sequence[float], batch: int) -> Decision:
        """Return how a batch is spread.

        Args:
            times: Seconds that each node takes for an item, all measured or all from hints.
            batch: How many items there are.

        Raises:
            ValueError: If there is no node, or a time isn't above 0.
        """
        if not times or min(times) <= 0:
            raise ValueError(f"a mode is chosen between nodes with times above 0, not {list(times)}")
        order = sorted(range(len(times)), key=lambda node: times[node])
        ratio = times[order[-1]] / times[order[0]]
        mode, reason, detail = self._rule(len(order), ratio, batch)
        return decision(mode, reason, detail, order, batch, top_k=self.hybrid_top_k)

    def _rule(self, nodes: int, ratio: float, batch: int) -> tuple[Mode, str, str]:
        if nodes == 1:
            return "sequential", "single_node", "Only one node - nothing to spread over"
        if ratio >= self.dominant_ratio:
            return "sequential", "dominant_node", f"Fastest node is {ratio:.1f}x faster - sequential wins"
        if batch < self.small_batch:
            return "sequential", "small_batch", f"Batch size {batch} too small for parallel overhead"
        if ratio < self.balanced_ratio:
            return "parallel", "balanced_cluster", f"Speed ratio {ratio:.1f}x - parallel is efficient"
        if batch > self.hybrid_batch and nodes >= self.hybrid_top_k:
            return (
                "hybrid",
                "hybrid_parallel",
                f"Large batch of {batch} - the {self.hybrid_top_k} fastest nodes share it",
            )
        return "sequential", "default_sequential", f"Speed ratio {ratio:.1f}x - the fastest node works alone"


def decision(mode: Mode, reason: str, detail: str, order: Sequence[int], batch: int, *, top_k: int) -> Decision:
    """Return a decision for ``mode``: its nodes and workers.

    Args:
        mode: Anything but ``auto``, which gives each node what it has slots for.
        reason: Why, in a word.
        detail: Why, in a sentence.
        order: The nodes, the fastest first.
        batch: How many items there are.
        top_k: How many nodes ``hybrid`` takes.
    """
    chosen = {"sequential": order[:1], "hybrid": order[:top_k]}.get(mode, order)
    workers = 1 if mode == "sequential" else workers_for(len(chosen), batch)
    return Decision(mode, reason, detail, workers, tuple(chosen))


def workers_for(nodes: int, batch: int) -> int:
    """Return how many items the published rules have under way: two a node, four for a large batch, never above it.

    Args:
        nodes: Nodes that work.
        batch: How many items there are.
    """
    base = 2 * nodes
    if batch < 50:
        workers = min(base, batch)
    elif batch < 200:
        workers = base
    else:
        workers = min(2 * base, batch)
    return max(1, workers)


def describe(chosen: Decision, urls: Sequence[str]) -> str:
    """Return the published line that says what is done.

    Args:
        chosen: What was decided.
        urls: The pool's nodes.
    """
    if chosen.mode == "sequential":
        return f"Sequential mode: Using {urls[chosen.nodes[0]]}"
    return f"{chosen.mode.capitalize()} mode: Using {chosen.workers} workers across {len(chosen.nodes)} nodes"
