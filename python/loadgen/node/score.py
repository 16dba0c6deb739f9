"""The health score of a node: a number for people. Nothing decides by it; ``auto`` goes by measured speeds alone."""

from __future__ import annotations

import msgspec

from loadgen.node.memory import Seen

GPU_BASE, CPU_BASE = 400.0, 100.0


class Score(msgspec.Struct, frozen=True):
    """A node's health, and what it is the product of.

    A node with a GPU begins with 400, one without with 100. A healthy one keeps three quarters of that at least, so a
    healthy GPU node reads 300 to 400 and a healthy CPU node 75 to 100.

    Args:
        base: 400 with a GPU, 100 without.
        state: 1 for a node that is up or wasn't asked yet, ½ for one that is half-open, 0 for one that is down.
        answered: The square of the share of its attempts that didn't fail: failing fast is no merit.
        steady: From 1, where the 95th percentile of its responses is their mean, down to 0.85, where it is three
            times that.
        near: From 1 for a ping of nothing down to 0.9 for one of a second and more.
    """

    base: float
    state: float
    answered: float
    steady: float
    near: float

    @property
    def value(self) -> float:
        """The score."""
        return self.base * self.state * self.answered * self.steady * self.near


def score_of(seen: Seen) -> Score:
    """Return a node's health.

    Args:
        seen: What was seen of it.
    """
    asked = seen.served + seen.errors
    share = seen.errors / asked if asked else 0.0
    mean, p95 = seen.mean_s, seen.p95_s
    spread = (p95 / mean - 1.0) / 2.0 if mean and p95 is not None else 0.0
    return Score(
        base=GPU_BASE if has_gpu(seen) else CPU_BASE,
        state={"half-open": 0.5, "down": 0.0}.get(seen.state, 1.0),
        answered=(1.0 - share) ** 2,
        steady=1.0 - 0.15 * min(1.0, max(0.0, spread)),
        near=1.0 - 0.1 * min(1.0, seen.ping_s or 0.0),
    )


def has_gpu(seen: Seen) -> bool:
    """Return whether a node has a GPU: by its labels, else by what of its model lies in a GPU's memory."""
    if seen.node.is_gpu or seen.node.is_cpu:
        return seen.node.is_gpu
    return bool(seen.vram_bytes)
