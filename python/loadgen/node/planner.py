"""Decides for the batches of a pool: the mode, the nodes that a deadline or a budget leaves, the plan to run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from loadgen.dispatch.work import sequence
from loadgen.node import choice, objective
from loadgen.node.memory import Memory
from loadgen.node.node import Node
from loadgen.node.options import PoolOptions
from loadgen.node.thresholds import Decision, Mode
from loadgen.node.work import Plan


class Planner:
    """Decides by what is known of the nodes now.

    Args:
        memory: What is known of them.
        mode: The mode of batches that aren't told another.
        options: The pool's.
    """

    def __init__(self, memory: Memory, mode: Mode, options: PoolOptions) -> None:
        self.mode = mode
        self._memory = memory
        self._options = options
        self.nodes = tuple(seen.node for seen in memory.seen)
        """The nodes, in the order in which they were given."""

    def subject(self, kind: str | None, model: str | None) -> tuple[str, str]:
        """Return what is spoken of: what was named, or what was measured last.

        Args:
            kind: What is asked; ``None`` for any.
            model: Of which model; ``None`` for any.
        """
        for known_kind, known_model in self._memory.kinds():
            if kind in (None, known_kind) and model in (None, known_model):
                return known_kind, known_model
        return kind or "", model or ""

    def decide(self, up: Sequence[Node], kind: str, model: str, batch: int, force_mode: str | None) -> Decision:
        """Decide for a batch.

        Args:
            up: The nodes that can be used.
            kind: What is asked.
            model: Of which model.
            batch: How many items.
            force_mode: The mode of this batch; ``None`` for the pool's.

        Returns:
            The decision, with nodes by their place in the pool.

        Raises:
            ConfigError: If the mode is none, or a node's cost is needed and unknown.
        """
        mode = self.mode if force_mode is None else choice.mode_of(force_mode, "force_mode")
        measured = dict(zip(self.nodes, self._memory.times(kind, model), strict=True))
        slots = dict(zip(self.nodes, self._memory.slots(kind, model), strict=True))
        affordable = self._affordable(mode, up, kind, model, batch)
        used = up if affordable is None else affordable.nodes
        chosen = choice.choose(
            mode,
            used,
            [measured[node] for node in used],
            [slots[node] for node in used],
            batch,
            is_forced=force_mode is not None,
            thresholds=self._options.thresholds,
            top_k=self._options.top_k,
        )
        places = {node: place for place, node in enumerate(self.nodes)}
        chosen = msgspec.structs.replace(chosen, nodes=tuple(places[used[node]] for node in chosen.nodes))
        if affordable is None or self._options.objective is None:
            return chosen
        return msgspec.structs.replace(chosen, reason=self._options.objective.reason, detail=affordable.detail)

    def _affordable(
        self, mode: Mode, up: Sequence[Node], kind: str, model: str, batch: int
    ) -> objective.Affordable | None:
        """Return which nodes a deadline or a budget leaves; ``None`` without either, or while speeds aren't known."""
        wished = self._options.objective
        measured = dict(zip(self.nodes, self._memory.times(kind, model), strict=True))
        times = [time for node in up if (time := measured[node]) is not None]
        if wished is None or mode != "auto" or self._options.thresholds is not None or len(times) < len(up):
            return None
        slots = dict(zip(self.nodes, self._memory.slots(kind, model), strict=True))
        return objective.choose(
            wished, up, times, [slots[node] for node in up], batch, self._memory.tokens(kind, model)
        )

    def plan(
        self,
        call: Callable[[Node, Any], Any],
        kind: str,
        model: str,
        items: Iterable[Any],
        force_mode: str | None,
        *,
        left_out: Mapping[Node, str] = MappingProxyType({}),
        unit: str = "items",
    ) -> Plan:
        """Return a batch that is ready to be run.

        Args:
            call: What is called, with a node and an item.
            kind: What is asked.
            model: Of which model.
            items: The items.
            force_mode: As for :meth:`decide`.
            left_out: Nodes that can get nothing, and why.
            unit: What people call the items.

        Raises:
            ConfigError: As :meth:`decide`; or if the items can't be gone through.
        """
        everything = sequence(items)
        up = [node for node in self.nodes if node not in left_out]
        decision = self.decide(up, kind, model, len(everything), force_mode)
        wished = self._options.objective
        is_affordable = wished is not None and decision.reason in objective.REASONS
        chosen = {self.nodes[place] for place in decision.nodes}
        return Plan(
            call=call,
            kind=kind,
            model=model,
            items=everything,
            unit=unit,
            decision=decision,
            left_out=left_out,
            spared={node: wished.spare for node in up if node not in chosen} if wished and is_affordable else {},
            options=self._options,
        )
