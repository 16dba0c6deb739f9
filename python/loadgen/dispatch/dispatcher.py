"""The dispatcher: many calls at once of a user's own function, as fast as a service allows."""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from loadgen.dispatch import own_loop
from loadgen.dispatch import strategy as strategies
from loadgen.dispatch.callee import Callee, Wrapped
from loadgen.dispatch.grid import Grid, Pairs, sides
from loadgen.dispatch.result import Batch
from loadgen.dispatch.running import run_batch
from loadgen.dispatch.submitted import Submitted
from loadgen.dispatch.work import hashed, sequence

if TYPE_CHECKING:
    from typing import Unpack

    from loadgen.dispatch.requests import Answer, Request, RequestOptions
    from loadgen.dispatch.strategy import DispatchOptions

T = TypeVar("T")
R = TypeVar("R")
V = TypeVar("V")
P = ParamSpec("P")

_KNOWN = 64
"""Functions whose looks are kept: more are lambdas made anew for each call."""


class Dispatcher:
    """Makes many calls of one function, each with one item, and gives their values in the items' order.

    The function is async, or blocks and is called on threads. Each batch decides anew how many calls run at once and
    which are made again; :meth:`submit` and :meth:`wrap` share one policy for all that comes through them.

    Args:
        strategy: ``sequential``, ``parallel``, ``adaptive_ceiling``, ``hedged`` or ``auto``, the default.
        **options: See :class:`~loadgen.dispatch.strategy.DispatchOptions`; left out or ``None``, each has its default.

            ``max_concurrency``: at most so many calls at once. Default: the number of items, at most 1,000.
            ``workers``: how many ``parallel`` keeps at once; 2. ``hedge_after``: seconds of silence after which
            ``hedged`` sends a copy; 8. ``attempt_timeout``: for each attempt; 90 s. ``call_timeout``: for a call in
            all; none. ``stall_timeout``: between the pieces of an answer; none. ``streaming``: whether the first token
            decides between copies (:func:`loadgen.dispatch.attempt` tells it). ``retry``: attempts in all (4), or a
            mapping of ``attempts``, ``base``, ``most``, ``jitter``, ``budget``, ``retry_after_most``. ``push_back``: a
            list of statuses and exceptions, or a function of the exception. ``rpm``, ``tpm``: the service's limits a
            minute. ``budget``: extra calls as a share of the calls, from 0 to 1; 20 %. ``key``: from an item to whose
            hedges are judged together. ``tokens``: from an item to the tokens it will cost, for ``tpm``. ``coalesce``:
            from an item to what makes two of them one call. ``journal``: a file, or a
            :class:`~loadgen.dispatch.journal.Journal`, from which an interrupted batch is resumed. ``progress``: a bar
            on a terminal by default; ``False``, or a function of a ``Progress``. ``trace``: ``True``, or a function of
            a ``Call``, told of each call as it ends. ``remember``: a file in which ``auto`` keeps what it learned of
            the endpoint. ``profile``: ``fmsr`` for the published retries, breaker and push-back. ``policy``: what
            else the policy is told, in its own words (docs/dispatch-policies.md), over all of the above. ``seed``: of
            the jitter.

    Raises:
        ConfigError: If an option can't be used.
    """

    def __init__(self, strategy: str | None = None, **options: Unpack[DispatchOptions]) -> None:
        self._options = strategies.read(strategy, options)
        self._submitted: dict[asyncio.AbstractEventLoop, Submitted] = {}
        self._callees: dict[Any, Callee] = {}

    @classmethod
    def from_env(
        cls, prefix: str = strategies.PREFIX, *, strategy: str | None = None, **options: Unpack[DispatchOptions]
    ) -> Self:
        """Make a dispatcher as the environment says, by ``STRATEGY``, ``PARALLEL_WORKERS`` and ``HEDGE_AFTER_S``.

        Args:
            prefix: What stands before the names: ``LOADGEN_``; or ``FMSR_`` for the published names and behaviour,
                where no strategy means ``parallel`` with 2 workers.
            strategy: As for the dispatcher itself; it wins over the environment.
            **options: As for the dispatcher itself; they win over the environment.

        Raises:
            ConfigError: If a variable or an option can't be used.
        """
        name, said = strategies.from_env(prefix, strategy, options, os.environ)
        return cls(name, **said)

    @property
    def strategy(self) -> str:
        """The strategy's name."""
        return self._options.strategy

    @overload
    async def arun(self, call: Callable[[T], Awaitable[R]], items: Iterable[T]) -> Batch[R]: ...
    @overload
    async def arun(self, call: Callable[[T], R], items: Iterable[T]) -> Batch[R]: ...
    async def arun(self, call: Callable[[Any], Any], items: Iterable[Any]) -> Batch[Any]:
        """Call a function with each item, on the running loop; cancelling it cancels every call.

        Args:
            call: The function: async, or one that blocks and is called on threads.
            items: The items.

        Returns:
            The values in the items' order. A call that failed is one of the batch's ``errors`` and raises nothing.

        Raises:
            ConfigError: If function or items can't be used; nothing was called.
            DispatchError: If the batch could not be carried on.
        """
        return await run_batch(self._options, Callee(call), sequence(items))

    @overload
    def run(self, call: Callable[[T], Awaitable[R]], items: Iterable[T]) -> Batch[R]: ...
    @overload
    def run(self, call: Callable[[T], R], items: Iterable[T]) -> Batch[R]: ...
    def run(self, call: Callable[[Any], Any], items: Iterable[Any]) -> Batch[Any]:
        """Do what :meth:`arun` does on an event loop of its own.

        Args:
            call: As for :meth:`arun`.
            items: As for :meth:`arun`.

        Raises:
            ConfigError: As :meth:`arun`.
            DispatchError: As :meth:`arun`; or if an event loop runs in this thread already.
            KeyboardInterrupt: If it was interrupted. The calls are cancelled, and the journal is whole.
        """
        return own_loop.run(lambda: self.arun(call, items), "arun")

    amap = arun
    map = run

    @overload
    async def agrid(self, call: Callable[[T, R], Awaitable[V]], rows: Iterable[T], cols: Iterable[R]) -> Grid[V]: ...
    @overload
    async def agrid(self, call: Callable[[T, R], V], rows: Iterable[T], cols: Iterable[R]) -> Grid[V]: ...
    async def agrid(self, call: Callable[[Any, Any], Any], rows: Iterable[Any], cols: Iterable[Any]) -> Grid[Any]:
        """Call a function with each pair of a row and a column, row after row.

        Args:
            call: The function of a row and a column: async, or one that blocks.
            rows: The rows.
            cols: The columns.

        Raises:
            ConfigError: As :meth:`arun`.
            DispatchError: As :meth:`arun`.
        """
        down, across = sides(rows, cols)
        return Grid(await run_batch(self._options, Callee(call, spread=True), Pairs(down, across)), down, across)

    @overload
    def grid(self, call: Callable[[T, R], Awaitable[V]], rows: Iterable[T], cols: Iterable[R]) -> Grid[V]: ...
    @overload
    def grid(self, call: Callable[[T, R], V], rows: Iterable[T], cols: Iterable[R]) -> Grid[V]: ...
    def grid(self, call: Callable[[Any, Any], Any], rows: Iterable[Any], cols: Iterable[Any]) -> Grid[Any]:
        """Do what :meth:`agrid` does on an event loop of its own.

        Args:
            call: As for :meth:`agrid`.
            rows: As for :meth:`agrid`.
            cols: As for :meth:`agrid`.

        Raises:
            ConfigError: As :meth:`arun`.
            DispatchError: As :meth:`run`.
            KeyboardInterrupt: As :meth:`run`.
        """
        return own_loop.run(lambda: self.agrid(call, rows, cols), "agrid")

    async def arequests(
        self, bodies: Iterable[Request], *, url: str, **options: Unpack[RequestOptions]
    ) -> Batch[Answer]:
        """Ask an OpenAI-compatible endpoint natively: no Python runs within a call, and what lost is cut off at once.

        Args:
            bodies: What is asked: prompts, lists of messages, or whole bodies without ``stream``.
            url: Where it is: ``http://…``, ``https://…`` or ``unix:PATH``; the API's path is added where it is missing.
            **options: See :class:`~loadgen.dispatch.requests.RequestOptions`; each has its default.

                ``model``: the model asked for; none. ``api``: ``chat`` or ``completions``. ``stream``: whether answers
                are streamed; then the first token decides between copies. ``output_tokens``: most tokens of an answer.
                ``extra_body``: further fields of each body. ``headers``: further headers. ``api_key_env``: the
                environment variable that holds the API key. ``http2``, ``insecure``, ``cacert``, ``cert``, ``key``,
                ``proxy``, ``connect_timeout`` (seconds, or text such as ``"5s"``): of the connection.

        Returns:
            The answers in the bodies' order. One that failed is among the batch's ``errors``: a ``RequestError``, or a
            ``CallTimeoutError``.

        Raises:
            ConfigError: If something can't be used; nothing was sent.
            DispatchError: If the batch could not be carried on.
        """
        from loadgen.dispatch.native import run_requests
        from loadgen.dispatch.requests import endpoint_of

        return await run_requests(self._options, endpoint_of(url, options), sequence(bodies))

    def requests(self, bodies: Iterable[Request], *, url: str, **options: Unpack[RequestOptions]) -> Batch[Answer]:
        """Do what :meth:`arequests` does on an event loop of its own.

        Args:
            bodies: As for :meth:`arequests`.
            url: As for :meth:`arequests`.
            **options: As for :meth:`arequests`.

        Raises:
            ConfigError: As :meth:`arequests`.
            DispatchError: As :meth:`arequests`; or if an event loop runs in this thread already.
            KeyboardInterrupt: If it was interrupted. The calls are cut off, and the journal is whole.
        """
        return own_loop.run(lambda: self.arequests(bodies, url=url, **options), "arequests")

    @overload
    def submit(self, call: Callable[[T], Awaitable[R]], item: T) -> asyncio.Future[R]: ...
    @overload
    def submit(self, call: Callable[[T], R], item: T) -> asyncio.Future[R]: ...
    def submit(self, call: Callable[[Any], Any], item: Any) -> asyncio.Future[Any]:
        """Have one call made, through the policy of all that is submitted on this loop.

        Args:
            call: As for :meth:`arun`.
            item: The item.

        Returns:
            A future of the value, or of the last attempt's error. Cancelling it cancels the call; with ``coalesce``,
            when the last of those who wait for it has left.

        Raises:
            ConfigError: If the function can't be used.
            RuntimeError: If no event loop runs.
        """
        same = self._options.coalesce
        key = None if same is None else (call, hashed("coalesce", same(item)))
        return self._submitted_here().submit(self._callee(call), item, key)

    @overload
    def wrap(self, call: Callable[P, Awaitable[R]]) -> Callable[P, asyncio.Future[R]]: ...
    @overload
    def wrap(self, call: Callable[P, R]) -> Callable[P, asyncio.Future[R]]: ...
    def wrap(self, call: Callable[..., Any]) -> Callable[..., asyncio.Future[Any]]:
        """Return a function that does what this one does, through :meth:`submit`; also as a decorator.

        Args:
            call: The function: async, or one that blocks and is called on threads. It takes any arguments; so does
                ``coalesce`` then, and ``key`` and ``tokens`` get the tuple of the positional ones.

        Raises:
            ConfigError: If the function can't be used.
        """
        callee = Wrapped(call)
        same = self._options.coalesce

        @functools.wraps(call)
        def wrapped(*arguments: Any, **names: Any) -> asyncio.Future[Any]:
            key = None if same is None else (callee, hashed("coalesce", same(*arguments, **names)))
            return self._submitted_here().submit(callee, (arguments, names), key)

        return wrapped

    def totals(self) -> dict[str, Any]:
        """Return the counts of what came through :meth:`submit` and :meth:`wrap` on the running loop.

        Raises:
            RuntimeError: If no event loop runs.
        """
        return self._submitted_here().totals()

    def _submitted_here(self) -> Submitted:
        loop = asyncio.get_running_loop()
        submitted = self._submitted.get(loop)
        if submitted is None:
            for old in [known for known in list(self._submitted) if known.is_closed()]:
                self._submitted.pop(old, None)  # loops of several threads may come here at once
            submitted = self._submitted[loop] = Submitted(self._options)
        return submitted

    def _callee(self, call: Callable[..., Any]) -> Callee:
        """Return what is known of a function; looking at it costs more than calling it."""
        try:
            known = self._callees.get(call)
        except TypeError:  # it has no hash
            return Callee(call)
        if known is None:
            if len(self._callees) >= _KNOWN:
                self._callees.clear()
            known = self._callees[call] = Callee(call)
        return known

    def __repr__(self) -> str:
        return f"Dispatcher({self.strategy!r})"
