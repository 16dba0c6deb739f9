"""Requests to nodes that Python decides on one by one, made by the engine and awaited; cancelling one cuts it off."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from loadgen import _core
from loadgen.dispatch import ended as at
from loadgen.dispatch.ended import Ended
from loadgen.dispatch.own_thread import on_own_thread, whole
from loadgen.errors import ConfigError, DispatchError

_LOOK_S = 0.5
"""How often the engine is asked whether it still works."""

_NO_LIMIT_S = 1e6
"""Whoever asks has time limits of their own, and cancels."""

_NO_BODY = b'{"input":""}'
"""Stands where a phase has its samples: each request here brings its own."""


class Post:
    """The engine, taking requests from a running loop; used as an async context.

    It starts with the first request.

    Args:
        told: Gives the nodes and how they are spoken to, in the engine's words (``RunConfig``).
        apis: What the nodes speak.
    """

    def __init__(self, told: Callable[[], Mapping[str, Any]], apis: Sequence[str]) -> None:
        self._told = told
        self._apis = apis
        self._starting: asyncio.Task[_core.Engine] | None = None
        self._waiting: dict[int, asyncio.Future[Ended]] = {}
        self._look: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._starting is None:
            return
        await asyncio.wait([self._starting])
        if self._starting.cancelled() or self._starting.exception() is not None:
            return  # whoever asked was told
        engine = self._starting.result()
        if self._look is not None:
            self._look.cancel()
        asyncio.get_running_loop().remove_reader(engine.fileno())
        await whole(on_own_thread(lambda: _end(engine)))

    async def ask(self, node: int, body: bytes) -> Ended:
        """Make one request.

        Args:
            node: Where it goes, by its place among the nodes.
            body: A JSON object, without ``stream``.

        Returns:
            What became of it, as ``_core.Engine.take_completions`` tells it.

        Raises:
            ConfigError: If a node's address can't be used.
            DispatchError: If the engine can't work.
        """
        if self._starting is None:
            self._starting = asyncio.get_running_loop().create_task(self._start())
        engine = await asyncio.shield(self._starting)
        try:
            request = engine.issue(node=node, body=body)
        except (RuntimeError, OSError) as error:
            raise DispatchError(f"the engine broke down: {error}") from error
        assert request is not None  # the phase has no limit, and ends with this
        answer: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiting[request] = answer
        try:
            return await answer
        except asyncio.CancelledError:
            if self._waiting.pop(request, None) is not None:
                engine.give_up(request)
            raise

    async def _start(self) -> _core.Engine:
        engine = await on_own_thread(lambda: _started(self._told(), self._apis))
        loop = asyncio.get_running_loop()
        loop.add_reader(engine.fileno(), self._take, engine)
        self._look_again(loop, engine)
        return engine

    def _take(self, engine: _core.Engine) -> None:
        for ended in engine.take_completions():
            answer = self._waiting.pop(ended[at.REQUEST], None)
            if answer is not None and not answer.done():
                answer.set_result(ended)

    def _look_again(self, loop: asyncio.AbstractEventLoop, engine: _core.Engine) -> None:
        try:
            engine.wait(0.0)
        except (RuntimeError, OSError) as error:
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(DispatchError(f"the engine broke down: {error}"))
            self._waiting.clear()
            return
        self._look = loop.call_later(_LOOK_S, self._look_again, loop, engine)


def _started(told: Mapping[str, Any], apis: Sequence[str]) -> _core.Engine:
    run = {
        **told,
        "timeout_s": _NO_LIMIT_S,
        "stall_timeout_s": _NO_LIMIT_S,
        "workers": 1,
        "meta": {"id": f"nodes-{secrets.token_hex(4)}"},
    }
    phase = {
        "name": "requests",
        "load": {"kind": "manual"},
        "drain_timeout_s": 0.0,
        "completions": "answers",
        "stop_early": False,
    }
    try:
        engine = _core.Engine(json.dumps(run))
        none = _core.Bodies([_NO_BODY])
        engine.begin(json.dumps(phase), none, dict.fromkeys(apis, none))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    except (OSError, RuntimeError) as error:
        raise DispatchError(f"the engine can't start: {error}") from error
    return engine


def _end(engine: _core.Engine) -> None:
    try:
        engine.stop(0.0)
        engine.finish("complete", "")
    except (RuntimeError, OSError) as error:
        raise DispatchError(f"the engine broke down: {error}") from error
