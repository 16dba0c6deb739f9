"""How batches of some sizes would be spread, and how long each mode would take, from measured speeds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from loadgen.node.estimate import Estimate, estimate
from loadgen.node.node import Node
from loadgen.node.thresholds import Decision, Mode

BATCHES = (10, 50, 100, 200, 500)
"""The published sizes."""


class ReportRow(msgspec.Struct, frozen=True, kw_only=True):
    """One size of a batch; times are seconds.

    Args:
        batch: Items.
        decision: How the pool would spread it now, and why.
        times: How long each mode would take on the nodes that are measured; ``None`` while none is.
        recommendation: The mode that would take the least time; ``None`` likewise.
        saved_s: How much ``auto`` is ahead of the best of the others; ``None`` likewise.
    """

    batch: int
    decision: Decision
    times: Estimate | None
    recommendation: Mode | None
    saved_s: float | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """How batches would be spread.

    Args:
        kind: What is asked.
        model: Of which model.
        rows: A row for each size.
        unmeasured: Nodes whose speed nobody has measured, by name.
    """

    kind: str
    model: str
    rows: tuple[ReportRow, ...]
    unmeasured: tuple[str, ...]


def report_of(
    nodes: Sequence[Node],
    times: Sequence[float | None],
    slots: Sequence[int],
    batches: Sequence[int],
    decide: Callable[[int], Decision],
    *,
    kind: str,
    model: str,
    top_k: int,
) -> Report:
    """Return how batches would be spread.

    Args:
        nodes: The nodes.
        times: Seconds that each takes for an item, where that was measured.
        slots: How many items each works on at the same time.
        batches: The sizes.
        decide: Gives the pool's decision for a size.
        kind: What is asked.
        model: Of which model.
        top_k: How many nodes ``hybrid`` takes.
    """
    known = [time for time in times if time is not None]
    known_slots = [many for many, time in zip(slots, times, strict=True) if time is not None]
    rows = []
    for batch in batches:
        if not known:
            rows.append(ReportRow(batch=batch, decision=decide(batch), times=None, recommendation=None, saved_s=None))
            continue
        found = estimate(known, known_slots, batch, top_k=top_k)
        rows.append(
            ReportRow(
                batch=batch,
                decision=decide(batch),
                times=found,
                recommendation=_best(found),
                saved_s=found.saved,
            )
        )
    unmeasured = tuple(node.name for node, time in zip(nodes, times, strict=True) if time is None)
    return Report(kind=kind, model=model, rows=tuple(rows), unmeasured=unmeasured)


def _best(found: Estimate) -> Mode:
    """Return the mode that takes the least time; of those that take the same, ``auto``, which also adapts."""
    order: tuple[Mode, ...] = ("auto", "sequential", "hybrid", "parallel")
    seconds = {"auto": found.auto, "sequential": found.sequential, "hybrid": found.hybrid, "parallel": found.parallel}
    return min(order, key=lambda mode: round(seconds[mode], 9))
