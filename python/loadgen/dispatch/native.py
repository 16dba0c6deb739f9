"""A batch whose calls the engine makes: the policy runs beside the sockets, and Python takes answers in batches."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from loadgen import _core
from loadgen.dispatch import ended as at
from loadgen.dispatch import remember
from loadgen.dispatch.columns import PolicyColumns
from loadgen.dispatch.current import KINDS
from loadgen.dispatch.ended import Ended
from loadgen.dispatch.limits import Limits, given_up
from loadgen.dispatch.own_thread import gone, on_own_thread, whole
from loadgen.dispatch.requests import Answer
from loadgen.dispatch.result import Batch, CallStats, PlainNode, Told
from loadgen.dispatch.running import aside, journalled, keep
from loadgen.dispatch.watching import Watching
from loadgen.dispatch.work import BatchItems
from loadgen.errors import ConfigError, DispatchError, RequestError

if TYPE_CHECKING:
    from loadgen.dispatch.running import Beside
    from loadgen.dispatch.strategy import Options

_LOOK_S = 0.5
"""How often the engine is asked whether it still works."""

_GLANCE_S = 0.05
"""How long whoever cancels a batch waits at most for an engine that is connecting."""

_END_S = 60.0
"""The longest wait for the engine to hand over what it knows, once every call has ended."""

_SILENCE_S = 1e6
"""Where no stall timeout is given, silence within an answer ends with the attempt's own time limit."""


class Destination(Protocol):
    """What native requests go to: an endpoint, or nodes."""

    @property
    def url(self) -> str:
        """Where they go; empty where there are nodes."""

    @property
    def told(self) -> dict[str, Any]:
        """How it is spoken to, in the engine's words (``RunConfig`` of ``rust/src/engine/config.rs``)."""

    @property
    def described(self) -> dict[str, Any]:
        """What decides the answers, without a secret: a journal of another is refused."""

    def bodies(self, items: Sequence[Any]) -> tuple[_core.Bodies, dict[str, _core.Bodies] | None]:
        """Render what is asked, and the same in other APIs where nodes speak these."""

    def value(self, ended: Ended) -> Any:
        """Return what a good request brought; raises :class:`RequestError` if it isn't what was asked for."""

    def words(self, ended: Ended) -> str:
        """Return why a request that was sent failed, as a person is told; empty where nobody said."""

    def look(self, nodes: Sequence[tuple[PlainNode | None, str]]) -> None:
        """Take what the policy knows of each node by now, and why the latest attempt failed there."""


async def run_requests(
    options: Options,
    service: Destination,
    items: Sequence[Any],
    codec: type | None = Answer,
    beside: Beside | None = None,
    absent: Sequence[int] = (),
) -> Batch[Any]:
    """Make a batch of requests natively.

    Args:
        options: How they are dispatched.
        service: Where they go.
        items: What is asked: prompts, messages or bodies.
        codec: What a journal reads values as; ``None`` for what JSON makes of them.
        beside: What goes on beside it; if that fails, so does the batch.
        absent: Nodes that take nothing until ``beside`` gives them room, by their numbers.

    Raises:
        ConfigError: If something can't be used; nothing was sent.
        DispatchError: If the batch could not be carried on.
    """
    _check(options)
    return await journalled(
        options.journal,
        service.described,
        items,
        lambda opened, restored: _run(options, service, BatchItems(items, options, opened, restored), beside, absent),
        codec,
    )


def needs_python(options: Options) -> bool:
    """Return whether something is to be asked of Python within a call: then requests can't be made natively.

    Args:
        options: How they are dispatched.
    """
    rule = options.push_back
    rules = rule if isinstance(rule, (list, tuple)) else [rule]
    return rule is not None and not all(isinstance(one, int) for one in rules)


def _check(options: Options) -> None:
    """Refuse what would need Python within a call.

    Raises:
        ConfigError: If something does.
    """
    if needs_python(options):
        raise ConfigError(
            "push_back holds a function or an exception, and no Python runs within native requests",
            "give a list of statuses, or make the calls in a function of your own: run(call, items)",
        )


async def _run(
    options: Options, service: Destination, work: BatchItems, beside: Beside | None, absent: Sequence[int]
) -> Batch[Any]:
    if not work.called:
        return work.batch(_NoColumns(), wall_s=0.0)
    remembered = None if options.remember is None else remember.load(options.remember)
    policy = json.loads(options.config(len(work.called), remembered))
    if "streaming" not in options.overrides:
        policy["streaming"] = service.told["stream"]
    # Very many take their time to render: the loop goes on meanwhile.
    bodies = await on_own_thread(lambda: service.bodies([work.items[position] for position in work.called]))
    run = await _NativeRun.begin(service, _phase(options, policy, work, absent), bodies)
    limits = Limits.of(policy)
    columns = _EngineColumns(run, work)
    watching = Watching(options, work, columns, run)
    task = None if beside is None else aside(run.loop, beside(run), work)
    try:
        run.listen(lambda ended: _settle(work, columns, service, limits, ended), work.broken)
        watching.begin()
        await work.done()
        wall_s = run.now() / 1e9
    except GeneratorExit:
        raise  # the loop is gone: nothing can be awaited any more
    except BaseException as error:
        wall_s = run.now() / 1e9
        await _abort(run, watching, task)
        if isinstance(error, DispatchError):
            error.batch = work.so_far(error, columns, wall_s=wall_s)
        raise
    try:
        columns.policy = await run.end(task)
    except DispatchError as error:
        # Every call has its value or its error: that they can't be accounted for takes none of them away.
        warnings.warn(f"the batch is whole, but what its calls met is lost: {error}", RuntimeWarning, stacklevel=2)
    except BaseException:
        watching.abort()
        raise
    watching.end()
    if columns.policy is not None:
        keep(options, columns.policy)
    return work.batch(columns, wall_s=wall_s)


def _phase(options: Options, policy: dict[str, Any], work: BatchItems, absent: Sequence[int]) -> dict[str, Any]:
    """Return the batch as a phase in the engine's words (``PhaseConfig`` of ``rust/src/engine/config.rs``)."""
    load: dict[str, Any] = {"kind": "dispatch", "policy": policy, "absent": list(absent)}
    if options.key is not None or options.tokens is not None:
        load["keys"], load["tokens"] = work.marks()
    return {
        "name": "batch",
        "load": load,
        "requests": len(work.called),
        "drain_timeout_s": 1e9,  # its calls have time limits of their own
        "seed": options.seed,
        "completions": "answers",
        "stop_early": False,
    }


async def _abort(run: _NativeRun, watching: Watching, beside: asyncio.Task[None] | None) -> None:
    """End what an error ended: its caller gets that one, whatever else goes wrong."""
    try:
        await run.end(beside)
    except DispatchError as error:
        warnings.warn(f"as the batch ended: {error}", RuntimeWarning, stacklevel=2)
    finally:
        watching.abort()


class _NativeRun:
    """One engine at work on one batch.

    Args:
        engine: The engine, with its phase begun.
        start_ns: When that started.
        look: Told what the policy knows of each node, some times and at the end.
    """

    def __init__(
        self, engine: _core.Engine, start_ns: int, look: Callable[[Sequence[Any]], None] | None = None
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._look_at = look
        self.engine = engine
        self.start_ns = start_ns
        self._is_over = False
        self._look: asyncio.TimerHandle | None = None
        self._broken: Callable[[BaseException], None] = lambda _: None
        self._ended: Callable[[Ended], None] = lambda _: None

    @classmethod
    async def begin(
        cls, service: Destination, phase: dict[str, Any], bodies: tuple[_core.Bodies, dict[str, _core.Bodies] | None]
    ) -> _NativeRun:
        """Start an engine and its phase.

        Raises:
            ConfigError: If the endpoint's address or a certificate can't be used.
            DispatchError: If the machine refuses.
        """
        told = {
            **service.told,
            "url": service.url,
            "timeout_s": phase["load"]["policy"]["attempt_timeout_s"],
            "stall_timeout_s": phase["load"]["policy"]["stall_timeout_s"] or _SILENCE_S,
            "workers": 1,
            # No directory: nobody reads a log of it, and no disk can refuse one.
            "meta": {"id": f"batch-{secrets.token_hex(4)}"},
        }

        is_left = threading.Event()

        def start() -> tuple[_core.Engine, int]:
            engine = _core.Engine(json.dumps(told))
            engine.begin(json.dumps(phase), *bodies)
            # It waits for its first connection, or for its failure.
            until = time.monotonic() + _END_S
            while (started := engine.start_ns(_GLANCE_S)) is None and time.monotonic() < until and not is_left.is_set():
                pass
            return engine, started or _core.now_ns()

        starting = on_own_thread(start)
        try:
            return cls(*await asyncio.shield(starting), service.look)
        except asyncio.CancelledError:
            is_left.set()
            await gone(starting)
            if not starting.cancelled() and starting.exception() is None:
                engine, _ = starting.result()
                await whole(on_own_thread(lambda: engine.finish("interrupted", "")))
            raise
        except ValueError as error:
            raise ConfigError(str(error)) from None
        except (OSError, RuntimeError) as error:
            raise DispatchError(f"the engine can't start: {error}") from error

    def now(self) -> int:
        """Return the nanoseconds since the batch began."""
        return _core.now_ns() - self.start_ns

    def listen(self, ended: Callable[[Ended], None], broken: Callable[[BaseException], None]) -> None:
        """Hear of each request that ends, and if the engine breaks down.

        Args:
            ended: Told of each, as the engine tells it.
            broken: Told why nothing more comes.
        """
        self._broken = broken
        self._ended = ended
        self.loop.add_reader(self.engine.fileno(), self._take)
        self._look_again()

    def _take(self, *, only_answers: bool = False) -> None:
        for one in self.engine.take_completions():
            if only_answers and one[at.FAILURE] != "none":
                continue
            try:
                self._ended(one)
            except BaseException as error:  # noqa: BLE001 - a user's function, or the journal: the loop would only log it
                # The others' answers were paid for, and a journal may keep them.
                self._broken(error)

    def _look_again(self) -> None:
        try:
            self._is_over = self._is_over or self.engine.wait(0.0) is not None
        except (RuntimeError, OSError) as error:
            self._broken(DispatchError(f"the engine broke down: {error}"))
            return
        if self._look_at is not None:
            self._look_at(self.engine.policy_nodes(0))
        if not self._is_over:
            self._look = self.loop.call_later(_LOOK_S, self._look_again)

    def failure(self) -> str:
        """Return why the latest attempt failed that did, in words, of the first node where any did; else nothing."""
        found = next((failure for _, failure in self.engine.policy_nodes(0) if failure), "")
        # Whoever began the batch named the address, and the system's number says no more than its words.
        return re.sub(r"^\S+:\d+: | \(os error \d+\)$", "", found)

    def room(self, node: int, slots: int) -> None:
        """Have a node take so many items at the same time from now on.

        Args:
            node: Which, by its number.
            slots: How many; 0 for none, while it can't be used.
        """
        self.engine.room(0, node, slots)

    async def end(self, beside: asyncio.Task[None] | None = None) -> _core.Policy | None:
        """End the engine, cutting short what it still does; its policy, if it could hand it over.

        Args:
            beside: What went on beside it, and ends first.
        """
        if beside is not None:
            beside.cancel()
            await asyncio.wait([beside])
        if self._look is not None:
            self._look.cancel()
        self.loop.remove_reader(self.engine.fileno())
        try:
            return await whole(on_own_thread(self._end))
        finally:
            self._take(only_answers=True)  # what had come when it was ended, and nobody had taken

    def _end(self) -> _core.Policy | None:
        engine = self.engine
        try:
            deadline = time.monotonic() + _END_S
            engine.stop(0.0)
            while not self._is_over and time.monotonic() < deadline:
                self._is_over = engine.wait(1.0) is not None
            if self._look_at is not None:
                self._look_at(engine.policy_nodes(0))
            policy = engine.take_policy(0)
            engine.finish("complete" if self._is_over else "interrupted", "")
        except (RuntimeError, OSError) as error:
            raise DispatchError(f"the engine broke down: {error}") from error
        return policy


class _EngineColumns:
    """The statistics of a batch that the engine makes: its policy's, as soon as that is handed over.

    Args:
        run: The engine.
        work: The batch.
    """

    def __init__(self, run: _NativeRun, work: BatchItems) -> None:
        self._run = run
        self._work = work
        self._last: Ended | None = None
        self._policy: _core.Policy | None = None
        self._columns: PolicyColumns | None = None

    @property
    def policy(self) -> _core.Policy | None:
        """The policy, once it has done its work."""
        return self._policy

    @policy.setter
    def policy(self, policy: _core.Policy | None) -> None:
        self._policy = policy
        self._columns = None if policy is None else PolicyColumns(policy, self._work.called, self._work.twins)

    def ended(self, ended: Ended) -> None:
        """Note what the engine tells of a call at its end: whoever is told of it may ask now."""
        self._last = ended

    def stats(self, position: int) -> CallStats | None:
        """Return what the call at a position met, once the batch has ended."""
        return None if self._columns is None else self._columns.stats(position)

    def told(self, position: int) -> Told | None:  # noqa: ARG002  # it is the one that ended last
        """Return what is told of the call that ended last."""
        if self._last is None:
            return None
        last, done_ns = self._last, self._last[at.DONE_NS]
        seconds, attempts = (done_ns - last[at.PLANNED_NS]) / 1e9, last[at.ATTEMPTS]
        kind = KINDS[last[at.KIND]] if attempts else ""
        return Told((done_ns - self._run.start_ns) / 1e9, seconds, kind, attempts, last[at.HEDGES])

    def totals(self) -> dict[str, Any]:
        """Return the counts of the batch."""
        return self._run.engine.policy_totals(0) if self._columns is None else self._columns.totals()

    def nodes(self) -> list[PlainNode]:
        """Return what is known of each node, once the batch has ended."""
        return [] if self._columns is None else self._columns.nodes()

    def trace(self) -> dict[str, list[float]]:
        """Return how limit, rate, calls in flight and hedges changed over time."""
        return {} if self._columns is None else self._columns.trace()


class _NoColumns:
    """The statistics of a batch that needed no call."""

    def stats(self, position: int) -> CallStats | None:  # noqa: ARG002
        """Return nothing: no call was made."""
        return None

    def told(self, position: int) -> Told | None:  # noqa: ARG002
        """Return nothing: no call was made."""
        return None

    def totals(self) -> dict[str, Any]:
        """Return no counts."""
        return {}

    def nodes(self) -> list[PlainNode]:
        """Return nothing: nothing was spread."""
        return []

    def trace(self) -> dict[str, list[float]]:
        """Return nothing: nothing changed."""
        return {}


def _settle(work: BatchItems, columns: _EngineColumns, service: Destination, limits: Limits, ended: Ended) -> None:
    """Take what became of a request: its answer, or its error."""
    request = ended[at.REQUEST]
    columns.ended(ended)
    if ended[at.FAILURE] != "none":
        work.settle(request, None, _error(service, limits, ended))
        return
    try:
        value = service.value(ended)
    except RequestError as error:
        work.settle(request, None, error)
    else:
        work.settle(request, value, None)


def _error(service: Destination, limits: Limits, ended: Ended) -> DispatchError:
    failure, detail = ended[at.FAILURE], ended[at.DETAIL]
    if failure == "timeout":
        return limits.exceeded(ended[at.ATTEMPTS], (ended[at.DONE_NS] - ended[at.PLANNED_NS]) / 1e9)
    if ended[at.NODE] is None:
        return given_up()
    words = service.words(ended)
    if failure == "stall" and limits.stall_s is not None:
        words = words or f"stall: the answer began, and nothing more of it came within {limits.stall_s:g} s"
    rule = "" if detail == "none" else f": {detail}"
    return RequestError(words or f"{failure}{rule}", failure=failure, status=ended[at.STATUS])
