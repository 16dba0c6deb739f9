"""One batch over nodes from its beginning to its end: the policy told of them, the batch run, what it showed kept."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from loadgen.dispatch.callee import Callee
from loadgen.dispatch.current import attempt
from loadgen.dispatch.native import needs_python, run_requests
from loadgen.dispatch.result import AttemptStats, Batch, NodeView
from loadgen.dispatch.running import Beside, run_batch
from loadgen.dispatch.strategy import Options
from loadgen.errors import words_of
from loadgen.node import choice
from loadgen.node.again import Absent
from loadgen.node.call import Asking
from loadgen.node.health import Health
from loadgen.node.memory import RECENT, Memory, Seen
from loadgen.node.node import Node
from loadgen.node.options import PoolOptions
from loadgen.node.progress import Watch
from loadgen.node.result import NodeBatch, NodeWork
from loadgen.node.service import NodeService
from loadgen.node.thresholds import Decision, describe

log = logging.getLogger("loadgen.node")

_LOOKED_AT = 20_000
"""Items at a batch's end whose attempts are looked at for the times of responses."""


_UNASKED = NodeView(None, in_flight=0, served=0, failed=0, dropped=0, failures_in_a_row=0, state="up", batch=1)
"""A node of a batch that needed no call: a journal had it all."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """A batch, ready to be run.

    Args:
        call: What is called, with a node and an item.
        kind: What is asked, as speeds are known by it.
        model: Of which model; empty where there is none.
        items: The items.
        unit: What people call them.
        decision: How they are spread; its nodes by their place in the pool.
        left_out: Nodes that can get nothing, and why.
        spared: Nodes that aren't needed while the others together do more than this share of what is known of them.
        options: The pool's.
        again: Asks a node that was left out how it is by now; ``None`` where those stay out.
    """

    call: Callable[[Node, Any], Any]
    kind: str
    model: str
    items: Sequence[Any]
    unit: str
    decision: Decision
    left_out: Mapping[Node, str]
    spared: Mapping[Node, float]
    options: PoolOptions
    again: Callable[[Node], Awaitable[Health]] | None = None


async def run_plan(plan: Plan, memory: Memory) -> NodeBatch[Any]:
    """Run a batch, and keep what it showed of its nodes.

    Args:
        plan: The batch.
        memory: What is known of the pool's nodes.

    Raises:
        ConfigError: If something can't be used; nothing was called.
        DispatchError: If the batch, or the state file, could not be carried on.
    """
    pool = [seen.node for seen in memory.seen]
    order = _in_order(plan, memory)
    seen = {one.node: one for one in memory.seen}
    log.info("%s", plan.decision.detail)
    log.info("%s", describe(plan.decision, [node.shown for node in pool]))
    watch = Watch(plan.options.progress, [node.name for node in order], plan.unit)
    options = _options(plan, order, memory, watch)
    try:
        beside = _beside(plan, order, seen)
        if isinstance(plan.call, Asking) and _is_native(plan.call, order, options):
            service = NodeService(plan.call, [seen[node] for node in order], watch)
            absent = [number for number, node in enumerate(order) if node in plan.left_out]
            batch = await run_requests(options, service, plan.items, None, beside, absent)
        else:
            batch = await run_batch(options, Callee(_tracked(plan.call, order, seen, watch)), plan.items, beside)
    finally:
        watch.end()
    views = batch.nodes or (_UNASKED,) * len(order)
    for node, view in zip(order, views, strict=True):
        _learn(seen[node], view, plan, memory)
    _responses(batch, [seen[node] for node in order], plan)
    memory.save()
    nodes = tuple(pool[place].shown for place in plan.decision.nodes)
    work = (*_work(plan, order, views, seen), *_idle(plan, order))
    return NodeBatch(batch, plan.decision, nodes, work)


def _is_native(asking: Asking, order: Sequence[Node], options: Options) -> bool:
    """Whether the engine can make a batch by itself: Python has no say in a request, nor in what goes into one."""
    return not needs_python(options) and not any(asking.groups(node) for node in order)


def _in_order(plan: Plan, memory: Memory) -> list[Node]:
    """Return the nodes as the policy numbers them: the chosen ones first, the fastest ahead; it breaks ties so."""
    pool = [seen.node for seen in memory.seen]
    up = [node for node in pool if node not in plan.left_out]
    measured = dict(zip(pool, memory.times(plan.kind, plan.model), strict=True))
    times, _ = choice.times_of(up, [measured[node] for node in up])
    chosen = [pool[place] for place in plan.decision.nodes]
    rest = sorted((time, place) for place, time in enumerate(times) if up[place] not in chosen)
    return chosen + [up[place] for _, place in rest] + _absent(plan, pool)


def _absent(plan: Plan, pool: Sequence[Node]) -> list[Node]:
    """Return the nodes that were left out, and may come back."""
    return [] if plan.again is None else [node for node in pool if node in plan.left_out]


def _beside(plan: Plan, order: Sequence[Node], seen: Mapping[Node, Seen]) -> Beside | None:
    """Return what looks at those again while the batch runs; ``None`` where there are none."""
    again = plan.again
    if again is None or not plan.left_out:
        return None
    slots = choice.slots_of(plan.decision, order, plan.kind)
    absent = {number: seen[node] for number, node in enumerate(order) if node in plan.left_out}
    return Absent(absent, dict(enumerate(slots)), plan.model, lambda one: again(one.node)).watch


def _options(plan: Plan, order: Sequence[Node], memory: Memory, watch: Watch) -> Options:
    said = plan.options.dispatch
    made = choice.overrides(
        plan.decision, order, memory, plan.kind, plan.model, copies=plan.options.copies, spared=plan.spared
    )
    merged = {**made, **said.overrides, "retry": {**made["retry"], **said.overrides.get("retry", {})}}
    return msgspec.structs.replace(
        said, max_concurrency=made["limit"]["n"], overrides=merged, progress=watch.show if watch.is_wanted else False
    )


def _tracked(
    call: Callable[[Node, Any], Any], order: Sequence[Node], seen: Mapping[Node, Seen], watch: Watch
) -> Callable[[Any], Any]:
    """Return a function of an item that calls with the attempt's node, and counts what becomes of it."""
    if Callee(call).is_async:

        async def acall(item: Any) -> Any:
            node = order[attempt().node]
            with _Tracking(seen[node], watch):
                return await call(node, item)

        return functools.wraps(call)(acall)

    def plain_call(item: Any) -> Any:
        node = order[attempt().node]
        with _Tracking(seen[node], watch):
            return call(node, item)

    return functools.wraps(call)(plain_call)


class _Tracking:
    """Counts one attempt at a node while it is under way, and why it failed."""

    __slots__ = ("_seen", "_watch")

    def __init__(self, seen: Seen, watch: Watch) -> None:
        self._seen = seen
        self._watch = watch

    def __enter__(self) -> None:
        self._seen.in_flight += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._seen.in_flight -= 1
        if error is None:
            self._watch.answered(self._seen.node.name)
        elif isinstance(error, Exception):
            self._seen.reason = words_of(error)


def _learn(seen: Seen, view: NodeView, plan: Plan, memory: Memory) -> None:
    seen.requests += view.served + view.failed + view.dropped
    seen.served += view.served
    seen.errors += view.failed
    seen.dropped += view.dropped
    if view.served or view.failed:
        seen.state = view.state
    if view.state == "up" and not view.failures_in_a_row:
        seen.reason = ""
    if view.served and view.service_s is not None:
        seen.learn(
            plan.kind,
            plan.model,
            view.service_s,
            view.served,
            half_life_s=memory.half_life_s,
            now=memory.clock(),
            batch=view.batch if seen.node.learns_batch else 0,
        )


def _responses(batch: Batch[Any], seen: Sequence[Seen], plan: Plan) -> None:
    """Keep the times of each node's latest responses, and how many tokens an item had."""
    found: list[list[AttemptStats]] = [[] for _ in seen]
    for position in range(len(batch) - 1, max(-1, len(batch) - 1 - _LOOKED_AT), -1):
        stats = batch[position].stats
        for one in () if stats is None else stats.attempts:
            if one.outcome == "ok" and one.ended is not None and len(found[one.node]) < RECENT:
                found[one.node].append(one)
    for one_seen, attempts in zip(seen, found, strict=True):
        one_seen.recent.extend(one.ended - one.started for one in reversed(attempts) if one.ended is not None)
        speed = one_seen.speed(plan.kind, plan.model)
        tokens = [one.tokens_in + one.tokens_out for one in attempts]
        if speed is not None and any(tokens):
            speed.tokens = sum(tokens) / len(tokens)


def _work(plan: Plan, order: Sequence[Node], views: Sequence[NodeView], seen: Mapping[Node, Seen]) -> list[NodeWork]:
    answers = sum(view.served for view in views) or 1
    slots = [
        view.batch if node.learns_batch else many
        for node, many, view in zip(order, choice.slots_of(plan.decision, order, plan.kind), views, strict=True)
    ]

    def reason(node: Node, view: NodeView) -> str:
        if view.served or view.failed:
            return seen[node].reason
        return "not needed" if node in plan.spared else plan.left_out.get(node, seen[node].reason)

    return [
        NodeWork(
            name=node.name,
            url=node.shown,
            served=view.served,
            failed=view.failed,
            dropped=view.dropped,
            service_s=view.service_s,
            speed=None if view.service_s is None else many / view.service_s,
            state=view.state,
            share=view.served / answers,
            reason=reason(node, view),
        )
        for node, many, view in zip(order, slots, views, strict=True)
    ]


def _idle(plan: Plan, order: Sequence[Node]) -> list[NodeWork]:
    out = [(node, reason) for node, reason in plan.left_out.items() if node not in order]
    return [NodeWork(node.name, node.shown, state="down", reason=reason) for node, reason in out]
