"""Which mode a batch is spread by, which nodes work, and what the policy is told of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, cast

from loadgen.config.known import no_choice
from loadgen.dispatch.progress import clock
from loadgen.node.estimate import makespan
from loadgen.node.memory import Memory
from loadgen.node.node import Node
from loadgen.node.thresholds import MODES, Decision, Mode, Thresholds, decision

VARIABLE = "LOADGEN_NODE_MODE"

POLICIES = ("auto", "thresholds")

GPU_SPEED, CPU_SPEED = 100.0, 10.0
"""Items a second that a node is taken to do by its label, as published, where nothing was measured."""

_FIRST_BATCH = 4
"""Texts of the first requests to a node, where it is learned how many do most and nothing is known of it."""

_ATTEMPTS = 3
_BREAKER = {"failures": 5, "cooldown_s": 10.0, "probes": 2}
_RETRY = {"base_s": 0.05, "most_s": 5.0, "budget": 1.0}


def mode_of(value: Any, called: str = "mode") -> Mode:
    """Read a mode.

    Args:
        value: What was given.
        called: Where.

    Raises:
        ConfigError: If it is none; with the choices.
    """
    if value not in MODES:
        raise no_choice(called, value, MODES)
    return cast("Mode", value)


def mode_from(given: Any, environ: Mapping[str, str], file: Any = None) -> Mode:
    """Return a pool's mode: what was given in code, else in the environment, else in a file, else ``auto``.

    Args:
        given: In code, or ``--mode``.
        environ: The environment.
        file: In ``nodes.yaml``.

    Raises:
        ConfigError: If it is none; with the choices.
    """
    said = environ.get(VARIABLE, "").strip()
    if given is not None:
        return mode_of(given)
    if said:
        return mode_of(said, VARIABLE)
    return "auto" if file is None else mode_of(file)


def times_of(nodes: Sequence[Node], measured: Sequence[float | None]) -> tuple[list[float], bool]:
    """Return the seconds for an item by which nodes are compared: all measured, or all taken from hints.

    Args:
        nodes: The nodes.
        measured: What was measured of each.

    Returns:
        The seconds, and whether they were measured.
    """
    known = [time for time in measured if time is not None]
    if len(known) == len(nodes):
        return known, True
    return [1 / (hint_of(node) * node.weight) for node in nodes], False


def hint_of(node: Node) -> float:
    """Return the items a second that a node is taken to do by its label."""
    return GPU_SPEED if node.is_gpu else CPU_SPEED


def choose(
    mode: Mode,
    nodes: Sequence[Node],
    measured: Sequence[float | None],
    slots: Sequence[int],
    batch: int,
    *,
    is_forced: bool = False,
    thresholds: Thresholds | None = None,
    top_k: int = 3,
) -> Decision:
    """Decide how a batch is spread.

    Args:
        mode: What is wished.
        nodes: The nodes that are up.
        measured: Seconds that each takes for an item, where that was measured.
        slots: How many items each works on at the same time.
        batch: How many items there are.
        is_forced: Whether the mode was asked for this batch alone.
        thresholds: The published rules, which decide where the mode is ``auto``; ``None`` for pulling by free slot.
        top_k: How many nodes ``hybrid`` takes.
    """
    times, is_measured = times_of(nodes, measured)
    if mode == "auto" and thresholds is not None:
        return thresholds.decide(times, batch)
    order = sorted(range(len(nodes)), key=lambda node: times[node])
    if mode != "auto":
        asked = "for this batch" if is_forced else "for all batches"
        return decision(mode, "forced", f"Mode {mode} was asked for, {asked}", order, batch, top_k=top_k)
    detail = _unknown(nodes, measured)
    if len(nodes) == 1:
        detail = "Only one node - nothing to spread over"
    elif is_measured:
        seconds = clock(makespan(times, slots, batch))
        ratio = times[order[-1]] / times[order[0]]
        detail = f"Speed ratio {ratio:.1f}x - each item goes where it is done soonest, about {seconds} in all"
    return Decision("auto", "pull_by_free_slot", detail, min(sum(slots), max(1, batch)), tuple(order))


def _unknown(nodes: Sequence[Node], measured: Sequence[float | None]) -> str:
    """Return what is known of the nodes' speeds where one is missing: of the others, how far apart they are."""
    known = [time for time in measured if time is not None]
    if not known:
        return "Speeds are not known yet - each node shows its own as it pulls"
    names = ", ".join(node.name for node, time in zip(nodes, measured, strict=True) if time is None)
    apart = f"; speed ratio {max(known) / min(known):.1f}x of the other {len(known)}" if len(known) > 1 else ""
    return f"No speed is known yet of {names}, shown as it pulls{apart}"


def slots_of(chosen: Decision, nodes: Sequence[Node], kind: str = "") -> list[int]:
    """Return how many items each node works on at the same time.

    Args:
        chosen: What was decided.
        nodes: The nodes that are up.
        kind: What is asked.
    """
    if chosen.mode == "sequential":
        return [1] * len(nodes)
    each = 1 if chosen.mode == "auto" else -(-chosen.workers // len(chosen.nodes))
    return [node.room(kind) or each for node in nodes]


def overrides(
    chosen: Decision,
    nodes: Sequence[Node],
    memory: Memory,
    kind: str,
    model: str,
    *,
    copies: float,
    spared: Mapping[Node, float] = MappingProxyType({}),
) -> dict[str, Any]:
    """Return what makes the policy spread a batch so: limit, route, retries and breakers.

    Args:
        chosen: What was decided.
        nodes: The nodes that are up, in the policy's order.
        memory: What is known of them.
        kind: What is asked.
        model: Of which model.
        copies: Copies at the end of a batch, as a share of the items.
        spared: Nodes that aren't needed while the others together do more than this share of what is known of them.
    """
    slots = slots_of(chosen, nodes, kind)
    by_node = {seen.node: seen for seen in memory.seen}
    told = []
    for node, many in zip(nodes, slots, strict=True):
        one: dict[str, Any] = {"slots": many}
        speed = by_node[node].speed(kind, model)
        if speed is not None:
            one |= {"service_s": speed.service_s, "weight": speed.weight_at(memory.clock(), memory.half_life_s)}
        if kind == "embeddings" and node.most_batch > 1 and chosen.mode != "sequential":
            one["batch"] = node.most_batch
            if node.learns_batch:
                one["start"] = min(_FIRST_BATCH if speed is None else speed.batch or _FIRST_BATCH, node.most_batch)
        if node in spared:
            one["spare"] = spared[node]
        told.append(one)
    spread: Any = {"auto": "auto", "parallel": "all"}.get(chosen.mode)
    if spread is None:
        spread = {"fastest": len(chosen.nodes)}
    workers = sum(slots) if chosen.mode == "auto" else max(1, min(chosen.workers, sum(slots)))
    return {
        "limit": {"kind": "fixed", "n": workers},
        "route": {"nodes": told, "spread": spread, "half_life_s": memory.half_life_s, "copies": copies},
        # An item may fail on every node that goes down before another one answers it.
        "retry": {"attempts": _ATTEMPTS + len(nodes), **_RETRY},
        "breaker": dict(_BREAKER),
    }
