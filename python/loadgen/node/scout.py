"""Looks at the nodes ahead of a batch: whether each is there and has the model, and how fast it is by one item."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from loadgen.errors import NodeError
from loadgen.node.call import Asking
from loadgen.node.health import Health, check
from loadgen.node.memory import Memory
from loadgen.node.node import Node
from loadgen.node.options import PoolOptions
from loadgen.node.planner import Planner
from loadgen.node.wire import Wire
from loadgen.node.work import run_plan


class Scout:
    """Keeps what it sees in the pool's memory.

    Args:
        memory: What is known of the nodes.
        planner: Decides for the pool's batches.
        options: The pool's.
    """

    def __init__(self, memory: Memory, planner: Planner, options: PoolOptions) -> None:
        self._memory = memory
        self._planner = planner
        # An item of its own: no part of a user's batch.
        dispatch = msgspec.structs.replace(options.dispatch, journal=None, trace=None)
        self._options = msgspec.structs.replace(options, progress=False, dispatch=dispatch)

    async def look(self) -> dict[Node, Health]:
        """Ask each node how it is; no inference."""
        nodes = self._planner.nodes
        async with Wire() as wire:
            checks = await asyncio.gather(*(check(wire, node) for node in nodes))
        found = dict(zip(nodes, checks, strict=True))
        for seen in self._memory.seen:
            seen.take(found[seen.node])
        return found

    async def left_out(self, model: str) -> dict[Node, str]:
        """Return which nodes can't be asked for a model, and why.

        Args:
            model: Its name.

        Raises:
            NodeError: If none can.
        """
        found = {node: health.lacks(model) for node, health in (await self.look()).items()}
        left_out = {node: reason for node, reason in found.items() if reason}
        self._check_some_are_left(left_out)
        return left_out

    def unmeasured(self, kind: str, model: str) -> list[Node]:
        """Return the nodes whose speed nobody knows.

        Args:
            kind: At what is asked.
            model: Of which model.
        """
        times = self._memory.times(kind, model)
        return [node for node, time in zip(self._planner.nodes, times, strict=True) if time is None]

    async def probe(
        self, asking: Asking, kind: str, model: str, item: Any, left_out: dict[Node, str], nodes: Sequence[Node]
    ) -> None:
        """Have nodes do an item each, at the same time.

        Args:
            asking: What is asked.
            kind: As speeds are known by it.
            model: Of which model.
            item: The item.
            left_out: Nodes that can get nothing, and why; one that fails is added.
            nodes: Which.

        Raises:
            NodeError: If none is left.
        """

        async def one(node: Node) -> None:
            others = {other: "another is probed" for other in self._planner.nodes if other != node}
            plan = self._planner.plan(asking, kind, model, [item], "sequential", left_out=others)
            batch = await run_plan(msgspec.structs.replace(plan, options=self._options), self._memory)
            if batch.errors:
                left_out[node] = str(batch.errors[0])

        await asyncio.gather(*(one(node) for node in nodes if node not in left_out))
        self._check_some_are_left(left_out)

    def _check_some_are_left(self, left_out: Mapping[Node, str]) -> None:
        nodes = self._planner.nodes
        if len(left_out) == len(nodes):
            reasons = "; ".join(f"{node.name}: {reason}" for node, reason in left_out.items())
            raise NodeError(f"none of the {len(nodes)} nodes can be asked: {reasons}")
