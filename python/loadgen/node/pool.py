"""The pool: a batch over nodes of unequal speed, each used for what it is worth."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

import msgspec

from loadgen.dispatch import own_loop
from loadgen.dispatch.callee import Callee
from loadgen.dispatch.requests import Answer
from loadgen.dispatch.work import sequence
from loadgen.node import choice, options
from loadgen.node.call import Asking, kind_of
from loadgen.node.health import check_alone
from loadgen.node.memory import Memory
from loadgen.node.node import Node, nodes_of
from loadgen.node.planner import Planner
from loadgen.node.report import BATCHES, report_of
from loadgen.node.scout import Scout
from loadgen.node.stats import stats_of
from loadgen.node.thresholds import Decision, Mode
from loadgen.node.work import run_plan

if TYPE_CHECKING:
    from typing import Unpack

    from loadgen.node.call import AskOptions
    from loadgen.node.health import Health
    from loadgen.node.options import NodeOptions
    from loadgen.node.report import Report
    from loadgen.node.result import NodeBatch
    from loadgen.node.stats import Stats

T = TypeVar("T")
R = TypeVar("R")

_UNITS = {"embeddings": "embeddings", "chat": "answers", "completions": "completions"}


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
            which what was learned survives. ``deadline``: seconds within which a batch should be done, as cheaply as
            possible; ``budget``: what it may cost, and be done as soon as possible; both by each node's ``cost``, once
            speeds are known. ``attempt_timeout``, ``call_timeout``, ``retry``, ``push_back``, ``rpm``,
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
        self._planner = Planner(self._memory, self._mode, self._options)
        self._scout = Scout(self._memory, self._planner, self._options)

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
        return self._planner.nodes

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
        kind, model = self._planner.subject(kind, model)
        return self._planner.decide(self._up(), kind, model, batch, force_mode)

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
        plan = self._planner.plan(call, Callee(call).name, "", items, force_mode)
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
        return own_loop.run(lambda: self.amap(call, items, force_mode=force_mode), "amap", "pool")

    async def aembed_batch(
        self, model: str, texts: Iterable[str], force_mode: str | None = None, **asked: Unpack[AskOptions]
    ) -> NodeBatch[list[float]]:
        """Have texts embedded, by ``/v1/embeddings`` or Ollama's ``/api/embed``, as each node speaks it.

        Nodes that are down, or don't have the model, get nothing. Where the mode needs speeds that nobody has measured,
        each node embeds the first text once, to show its own.

        Args:
            model: The model's name.
            texts: The texts.
            force_mode: The mode of this batch.
            **asked: ``extra_body``: further fields of each request.

        Returns:
            The vectors in the texts' order. A text that failed is one of the batch's ``errors`` and raises nothing.

        Raises:
            ConfigError: If something can't be used; nothing was sent.
            NodeError: If no node is up and has the model.
            DispatchError: If the batch could not be carried on.
        """
        return await self._ask("embeddings", model, texts, force_mode, asked)

    def embed_batch(
        self, model: str, texts: Iterable[str], force_mode: str | None = None, **asked: Unpack[AskOptions]
    ) -> NodeBatch[list[float]]:
        """Do what :meth:`aembed_batch` does on an event loop of its own.

        Args:
            model: As for :meth:`aembed_batch`.
            texts: As for :meth:`aembed_batch`.
            force_mode: As for :meth:`aembed_batch`.
            **asked: As for :meth:`aembed_batch`.

        Raises:
            ConfigError: As :meth:`aembed_batch`.
            DispatchError: As :meth:`aembed_batch`; or if an event loop runs in this thread already.
            KeyboardInterrupt: If it was interrupted. The calls are cancelled, and the journal is whole.
        """
        return own_loop.run(lambda: self.aembed_batch(model, texts, force_mode, **asked), "aembed_batch", "pool")

    async def aask_batch(
        self,
        model: str,
        prompts: Iterable[Any],
        force_mode: str | None = None,
        *,
        kind: str = "chat",
        **asked: Unpack[AskOptions],
    ) -> NodeBatch[Answer]:
        """Have prompts answered, by ``chat`` or ``completions``, in the API that each node speaks.

        Args:
            model: The model's name.
            prompts: Texts; for ``chat`` also lists of messages.
            force_mode: The mode of this batch.
            kind: ``chat`` or ``completions``.
            **asked: ``output_tokens``: most tokens of an answer. ``extra_body``: further fields of each request.

        Returns:
            The answers in the prompts' order; as for :meth:`aembed_batch`.

        Raises:
            ConfigError: As :meth:`aembed_batch`.
            DispatchError: As :meth:`aembed_batch`.
        """
        return await self._ask(kind, model, prompts, force_mode, asked)

    def ask_batch(
        self,
        model: str,
        prompts: Iterable[Any],
        force_mode: str | None = None,
        *,
        kind: str = "chat",
        **asked: Unpack[AskOptions],
    ) -> NodeBatch[Answer]:
        """Do what :meth:`aask_batch` does on an event loop of its own.

        Args:
            model: As for :meth:`aask_batch`.
            prompts: As for :meth:`aask_batch`.
            force_mode: As for :meth:`aask_batch`.
            kind: As for :meth:`aask_batch`.
            **asked: As for :meth:`aask_batch`.

        Raises:
            ConfigError: As :meth:`aask_batch`.
            DispatchError: As :meth:`aask_batch`; or if an event loop runs in this thread already.
            KeyboardInterrupt: If it was interrupted. The calls are cancelled, and the journal is whole.
        """
        return own_loop.run(
            lambda: self.aask_batch(model, prompts, force_mode, kind=kind, **asked), "aask_batch", "pool"
        )

    async def acheck(self) -> dict[Node, Health]:
        """Ask each node whether it is there, what it serves and how far away it is; no inference.

        Returns:
            What each said, or why it didn't.
        """
        return await self._scout.look()

    def check(self) -> dict[Node, Health]:
        """Do what :meth:`acheck` does on an event loop of its own.

        Raises:
            DispatchError: If an event loop runs in this thread already.
        """
        return own_loop.run(self.acheck, "acheck", "pool")

    async def aprobe(self, model: str, text: str = "probe", *, kind: str = "embeddings") -> None:
        """Have each node that is up do one item by itself, so that its speed is known.

        Args:
            model: The model's name.
            text: The item.
            kind: ``embeddings``, ``chat`` or ``completions``.

        Raises:
            ConfigError: If the kind is none.
            NodeError: If no node is up and has the model.
        """
        left_out = await self._scout.left_out(model)
        async with Asking(self.nodes, kind_of(kind), model) as asking:
            await self._scout.probe(asking, kind, model, text, left_out, self.nodes)

    def probe(self, model: str, text: str = "probe", *, kind: str = "embeddings") -> None:
        """Do what :meth:`aprobe` does on an event loop of its own.

        Args:
            model: As for :meth:`aprobe`.
            text: As for :meth:`aprobe`.
            kind: As for :meth:`aprobe`.

        Raises:
            ConfigError: As :meth:`aprobe`.
            DispatchError: As :meth:`aprobe`; or if an event loop runs in this thread already.
        """
        own_loop.run(lambda: self.aprobe(model, text, kind=kind), "aprobe", "pool")

    @property
    def measured(self) -> tuple[tuple[str, str], ...]:
        """What was measured, of any node: what is asked, and of which model; the latest first."""
        return tuple(self._memory.kinds())

    def report(self, batches: Sequence[int] = BATCHES, *, model: str | None = None, kind: str | None = None) -> Report:
        """Return how batches of some sizes would be spread, and how long each mode would take, from measured speeds.

        Args:
            batches: The sizes.
            model: As for :meth:`explain`.
            kind: As for :meth:`explain`.
        """
        kind, model = self._planner.subject(kind, model)
        times, slots = self._memory.times(kind, model), self._memory.slots(kind, model)
        decide = lambda batch: self._planner.decide(self._up(), kind, model, batch, None)  # noqa: E731
        return report_of(self.nodes, times, slots, batches, decide, kind=kind, model=model, top_k=self._options.top_k)

    def stats(self, *, model: str | None = None, kind: str | None = None) -> Stats:
        """Return what is known of the nodes: of this process, and of those before it where there is a state file.

        Args:
            model: Whose speeds are shown; as for :meth:`explain`.
            kind: Of what; as for :meth:`explain`.
        """
        return stats_of(self._memory, self._mode, self.policy, *self._planner.subject(kind, model))

    async def _ask(
        self, kind: str, model: str, items: Iterable[Any], force_mode: str | None, asked: Any
    ) -> NodeBatch[Any]:
        everything = sequence(items)
        if force_mode is not None:
            choice.mode_of(force_mode, "force_mode")
        async with Asking(self.nodes, kind_of(kind), model, **asked) as asking:
            left_out = await self._scout.left_out(model)
            if everything and self._needs_speeds(force_mode):
                unmeasured = self._scout.unmeasured(kind, model)
                await self._scout.probe(asking, kind, model, everything[0], left_out, unmeasured)
            plan = self._planner.plan(asking, kind, model, everything, force_mode, left_out=left_out, unit=_UNITS[kind])
            if kind != "embeddings":
                plan = msgspec.structs.replace(plan, options=self._options.keeping(Answer))
            plan = msgspec.structs.replace(plan, again=check_alone)
            return await run_plan(plan, self._memory)

    def _needs_speeds(self, force_mode: str | None) -> bool:
        mode = force_mode or self._mode
        is_measured_by = self._options.thresholds is not None or self._options.objective is not None
        return len(self.nodes) > 1 and (mode in ("sequential", "hybrid") or is_measured_by)

    def _up(self) -> list[Node]:
        return [seen.node for seen in self._memory.seen if seen.state != "down"] or list(self.nodes)

    def __repr__(self) -> str:
        return f"NodePool({len(self.nodes)} nodes, {self._mode!r})"
