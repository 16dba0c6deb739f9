"""What is known of a pool's nodes, in figures: state, health, responses, speed, share of the work."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from loadgen.node.memory import Memory, Seen
from loadgen.node.score import Score, has_gpu, score_of
from loadgen.node.thresholds import Mode

_CPU_LIKE = 0.8
"""A node labelled GPU that takes so much of a CPU's time, or more, measures like one."""

_FAR_BEHIND = 5.0
"""Where no CPU was measured: one that is so many times slower than another GPU doesn't measure like one."""


class NodeStats(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one node; times are seconds.

    Args:
        name: Its name.
        url: Its URL, without credentials.
        state: ``up``, ``half-open``, ``down``, or ``unknown`` before anything was asked of it.
        reason: Why it is down, or what failed last.
        gpu: Whether it has a GPU, by its labels or by what it told.
        flag: What doesn't fit what it is labelled as; empty for nothing.
        health: The health score.
        score: What that is made of.
        ping_s: The network alone: a small question and its answer; ``None`` if it wasn't asked.
        vram_bytes: What of its models lies in a GPU's memory; ``None`` where it doesn't tell.
        model_bytes: What is loaded in all; ``None`` where it doesn't tell.
        requests: Attempts at it.
        errors: Those that failed.
        error_share: Those, as a share of the attempts that weren't dropped.
        mean_s: Mean of its latest responses.
        p95_s: Their 95th percentile.
        in_flight: What it works on now, for this process.
        speed: Items a second, of all that it works on at the same time; ``None`` if that wasn't measured.
        batch: The most texts that a request to it carries: as said, or as learned; 1 where nothing else was said.
        learns_batch: Whether it is learned how many.
        served: Attempts that it answered.
        share: Those, as a share of all nodes'.
    """

    name: str
    url: str
    state: str
    reason: str
    gpu: bool
    flag: str
    health: float
    score: Score
    ping_s: float | None
    vram_bytes: int | None
    model_bytes: int | None
    requests: int
    errors: int
    error_share: float
    mean_s: float | None
    p95_s: float | None
    in_flight: int
    speed: float | None
    batch: int
    learns_batch: bool
    served: int
    share: float


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a pool.

    Args:
        mode: The mode of batches that aren't told another.
        policy: ``auto``, or ``thresholds``.
        kind: What the speeds are of.
        model: Of which model.
        nodes: The nodes, in the pool's order.
    """

    mode: Mode
    policy: str
    kind: str
    model: str
    nodes: tuple[NodeStats, ...]


def stats_of(memory: Memory, mode: Mode, policy: str, kind: str, model: str) -> Stats:
    """Return what is known of a pool.

    Args:
        memory: The pool's.
        mode: Its mode.
        policy: Its policy.
        kind: What the speeds are of.
        model: Of which model.
    """
    served = sum(seen.served for seen in memory.seen) or 1
    times = memory.times(kind, model)
    nodes = []
    for seen, time in zip(memory.seen, times, strict=True):
        asked = seen.served + seen.errors
        score = score_of(seen)
        nodes.append(
            NodeStats(
                name=seen.node.name,
                url=seen.node.shown,
                state=seen.state,
                reason=seen.reason,
                gpu=has_gpu(seen),
                flag=_flag(seen, time, memory.seen, times),
                health=score.value,
                score=score,
                ping_s=seen.ping_s,
                vram_bytes=seen.vram_bytes,
                model_bytes=seen.model_bytes,
                requests=seen.requests,
                errors=seen.errors,
                error_share=seen.errors / asked if asked else 0.0,
                mean_s=seen.mean_s,
                p95_s=seen.p95_s,
                in_flight=seen.in_flight,
                speed=None if time is None else seen.slots(kind, model) / time,
                batch=seen.batch(kind, model),
                learns_batch=kind == "embeddings" and seen.node.learns_batch,
                served=seen.served,
                share=seen.served / served,
            )
        )
    return Stats(mode=mode, policy=policy, kind=kind, model=model, nodes=tuple(nodes))


def _flag(seen: Seen, time: float | None, everyone: Sequence[Seen], times: Sequence[float | None]) -> str:
    """Return what doesn't fit a node that is labelled as one with a GPU."""
    if not seen.node.is_gpu:
        return ""
    if seen.model_bytes and not seen.vram_bytes:
        return "labelled gpu, and its model lies in plain memory"
    if time is None:
        return ""
    known = [(other.node, other_time) for other, other_time in zip(everyone, times, strict=True) if other_time]
    cpus = [other_time for node, other_time in known if node.is_cpu]
    fastest = min((other_time for node, other_time in known if node.is_gpu), default=time)
    is_slow = time >= _CPU_LIKE * min(cpus) if cpus else time >= _FAR_BEHIND * fastest
    return "labelled gpu, and measures like a CPU" if is_slow else ""
