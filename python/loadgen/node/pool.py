"""The pool: a batch over nodes of unequal speed, each used for what it is worth."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from loadgen.dispatch import own_loop
from loadgen.dispatch.callee import Callee
from loadgen.dispatch.work import sequence
from loadgen.node import choice, options
from loadgen.node.memory import Memory
from loadgen.node.node import Node, nodes_of
from loadgen.node.thresholds import Decision, Mode
from loadgen.node.work import Plan, run_plan

if TYPE_CHECKING:
    from typing import Unpack

    from loadgen.node.health import Health
    from loadgen.node.options import NodeOptions
    from loadgen.node.report import Report
    from loadgen.node.result import NodeBatch
    from loadgen.node.stats import Stats

T = TypeVar("T")
R = TypeVar("R")


class NodePool:
    """Spreads batches over nodes, and learns how fast each of them is.

    Args:
        nodes: The nodes: each a :class:`~loadgen.node.Node`, a URL, or a mapping of a node's arguments.
        **pool: See :class:`~loadgen.node.options.NodeOptions`; left out or ``None``, each has its default.

            ``mode``: ``auto``, ``sequential``, ``parallel`` or ``hybrid`` for all batches; else what the environment's
            ``LOADGEN_NODE_MODE`` says; else ``auto``. ``policy``: ``thresholds`` has the published rules decide where
            the mode is ``auto``, by ``thresholds``, a :class:`~loadgen.node.Thresholds` or a mapping. ``top_k``: how
            many nodes ``hybrid`` takes; 3. ``half_life``: in which what was seen of a speed loses half of its weight;
            60 s. ``copies``: of the items that would end last, as a share of all; 20 %. ``state``: a small file in
            which what was learned survives. ``attempt_timeout``, ``call_timeout``, ``retry``, ``push_back``, ``rpm``,
            ``tpm``, ``tokens``, ``coalesce``, ``journal``, ``trace`` and ``seed``: as for :class:`loadgen.Dispatcher`,
            but that an item may fail on each node once more. ``progress``: a line on a terminal by default; ``False``,
            or a function of a :class:`~loadgen.node.progress.NodeProgress`.

    Raises:
        ConfigError: If a node or an option can't be used, or the state file isn't one.
    """

    def __init__(self, nodes: Iterable[Any], **pool: Unpack[NodeOptions]) -> None:
        self._options = options.read(pool)
        self._mode = choice.mode_from(self._options.mode, os.environ)
        self._memory = Memory(nodes_of(nodes), self._options.state, half_life_s=self._options.half_life_s)
        self._checked: dict[Node, Health] = {}

    @classmethod
    def from_yaml(cls, path: str | os.PathLike[str], **pool: Unpack[NodeOptions]) -> Self:
        """Make a pool as a file says.

        Args:
            path: A YAML or TOML file with ``nodes``, and any of the keywords. ``LOADGEN_NODE_MODE`` wins over its mode.
            **pool: As for the pool itself; they win over the file and the environment.

        Raises:
            ConfigError: If the file can't be read; or as the pool itself.
        """
        from loadgen.node.file import read

        nodes, said = read(path)
        said = {**said, **{name: value for name, value in pool.items() if value is not None}}
        said["mode"] = choice.mode_from(pool.get("mode"), os.environ, said.get("mode"))
        return cls(nodes, **said)

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes, in the order in which they were given."""
        return tuple(seen.node for seen in self._memory.seen)

    @property
    def mode(self) -> Mode:
        """The mode of all batches that aren't told another."""
        return self._mode

    @property
    def policy(self) -> str:
        """``auto``, or ``thresholds`` for the published rules."""
        return "auto" if self._options.thresholds is None else "thresholds"

    def explain(
        self, batch: int, *, model: str | None = None, kind: str | None = None, force_mode: str | None = None
    ) -> Decision:
        """Return how a batch of this size would be spread now, and why. Nothing is asked of any node.

        Args:
            batch: How many items.
            model: Of which model; ``None`` for the one that was asked last.
            kind: What is asked: ``embeddings``, ``chat``, ``completions``, or a function's name; ``None`` for the last.
            force_mode: As for :meth:`amap`.

        Raises:
            ConfigError: If the mode is none.
        """
        kind, model = self._subject(kind, model)
        up = [seen.node for seen in self._memory.seen if seen.state != "down"] or list(self.nodes)
        return self._decide(up, kind, model, batch, force_mode)

    @overload
    async def amap(
        self, call: Callable[[Node, T], Awaitable[R]], items: Iterable[T], *, force_mode: str | None = None
    ) -> NodeBatch[R]: ...
    @overload
    async def amap(
        self, call: Callable[[Node, T], R], items: Iterable[T], *, force_mode: str | None = None
    ) -> NodeBatch[R]: ...
    async def amap(
        self, call: Callable[[Node, Any], Any], items: Iterable[Any], *, force_mode: str | None = None
    ) -> NodeBatch[Any]:
        """Call a function with a node and each item, on the running loop; cancelling it cancels every call.

        Args:
            call: The function of a node and an item: async, or one that blocks and is called on threads. It may be
                called again for an item, with another node.
            items: The items.
            force_mode: The mode of this batch.

        Returns:
            The values in the items' order. An item that failed is one of the batch's ``errors`` and raises nothing.

        Raises:
            ConfigError: If function, items or mode can't be used; nothing was called.
            DispatchError: If the batch could not be carried on.
        """
        plan = self._plan(call, Callee(call).name, "", items, force_mode)
        return await run_plan(plan, self._memory)

    @overload
    def map(
        self, call: Callable[[Node, T], Awaitable[R]], items: Iterable[T], *, force_mode: str | None = None
    ) -> NodeBatch[R]: ...
    @overload
    def map(
        self, call: Callable[[Node, T], R], items: Iterable[T], *, force_mode: str | None = None
    ) -> NodeBatch[R]: ...
    def map(
        self, call: Callable[[Node, Any], Any], items: Iterable[Any], *, force_mode: str | None = None
    ) -> NodeBatch[Any]:
        """Do what :meth:`amap` does on an event loop of its own.

        Args:
            call: As for :meth:`amap`.
            items: As for :meth:`amap`.
            force_mode: As for :meth:`amap`.

        Raises:
            ConfigError: As :meth:`amap`.
            DispatchError: As :meth:`amap`; or if an event loop runs in this thread already.
            KeyboardInterrupt: If it was interrupted. The calls are cancelled, and the journal is whole.
        """
        return own_loop.run(lambda: self.amap(call, items, force_mode=force_mode), "amap")

    def _subject(self, kind: str | None, model: str | None) -> tuple[str, str]:
        """Return what is spoken of: what was named, or what was measured last."""
        for known_kind, known_model in self._memory.kinds():
            if kind in (None, known_kind) and model in (None, known_model):
                return known_kind, known_model
        return kind or "", model or ""

    def _decide(self, up: Sequence[Node], kind: str, model: str, batch: int, force_mode: str | None) -> Decision:
        """Decide for a batch on the nodes that are up; the decision's nodes are those of the pool."""
        mode = self._mode if force_mode is None else choice.mode_of(force_mode, "force_mode")
        measured = dict(zip(self.nodes, self._memory.times(kind, model), strict=True))
        chosen = choice.choose(
            mode,
            up,
            [measured[node] for node in up],
            batch,
            is_forced=force_mode is not None,
            thresholds=self._options.thresholds,
            top_k=self._options.top_k,
        )
        places = {node: place for place, node in enumerate(self.nodes)}
        return Decision(
            chosen.mode,
            chosen.reason,
            chosen.detail,
            chosen.workers,
            tuple(places[up[node]] for node in chosen.nodes),
        )

    def _plan(
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
        everything = sequence(items)
        up = [node for node in self.nodes if node not in left_out]
        decision = self._decide(up, kind, model, len(everything), force_mode)
        return Plan(
            call=call,
            kind=kind,
            model=model,
            items=everything,
            unit=unit,
            decision=decision,
            left_out=left_out,
            options=self._options,
        )

    def __repr__(self) -> str:
        return f"NodePool({len(self.nodes)} nodes, {self._mode!r})"
