"""One engine at work on one batch: where its requests go, how it is begun, heard and ended."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from loadgen import _core
from loadgen.dispatch import ended as at
from loadgen.dispatch.ended import Ended
from loadgen.dispatch.own_thread import gone, on_own_thread, whole
from loadgen.dispatch.result import PlainNode
from loadgen.errors import ConfigError, DispatchError

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


class NativeRun:
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
    ) -> NativeRun:
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
