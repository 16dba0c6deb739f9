"""What is dispatched: a user's function, awaited on the loop or called on a thread, and what is wrong with it."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from typing import Any, TypeGuard

from loadgen.errors import ConfigError

_CLIENTS = ("openai", "litellm")
_OWN_RETRIES = ("max_retries", "num_retries")
_WAY_OUT = "turn them off (max_retries=0, num_retries=0): the dispatcher retries, and has to see each attempt"


class Callee:
    """One function of a user's, ready to be called with items.

    Args:
        call: The function: async, or one that blocks.
        spread: Whether an item is the arguments rather than the argument.

    Raises:
        ConfigError: If it can't be called so, or retries by itself.
    """

    __slots__ = ("_call", "_spread", "is_async")

    def __init__(self, call: Callable[..., Any], *, spread: bool = False) -> None:
        if not callable(call):
            raise ConfigError(f"{type(call).__name__} can't be called", "give a function, async or not")
        inner = _inner(call)
        if inspect.isasyncgenfunction(inner) or inspect.isgeneratorfunction(inner):
            raise ConfigError(
                f"{_name(call)} is a generator: a call has one value",
                "read it to its end in a function of your own, and return what it gave",
            )
        _check_retries(call)
        self._call = call
        self._spread = spread
        self.is_async = inspect.iscoroutinefunction(inner)
        """Whether it is called on the loop. A plain function that gave a coroutine is known for async from then on."""

    def __call__(self, item: Any) -> Any:
        """Call the function with an item; an async one gives its coroutine."""
        return self._call(*item) if self._spread else self._call(item)

    @property
    def name(self) -> str:
        """What the function is called, with its module: what a journal knows it by."""
        inner = self._call
        while isinstance(inner, functools.partial):
            inner = inner.func
        return f"{getattr(inner, '__module__', None) or type(inner).__module__}.{_name(inner)}"


class Wrapped(Callee):
    """A function whose items are its arguments: a tuple of those by position, and a mapping of those by name."""

    __slots__ = ()

    def __call__(self, item: Any) -> Any:
        """Call the function with the arguments that an item is."""
        arguments, names = item
        return self._call(*arguments, **names)


def _inner(call: Callable[..., Any]) -> Any:
    """Return what tells whether a callable is async: behind partials, and the method of an object that is called."""
    while isinstance(call, functools.partial):
        call = call.func
    if inspect.isfunction(call) or inspect.ismethod(call) or inspect.isbuiltin(call) or inspect.isclass(call):
        return call
    return type(call).__call__


def _name(call: Callable[..., Any]) -> str:
    return str(getattr(call, "__qualname__", type(call).__name__))


def _check_retries(call: Callable[..., Any]) -> None:
    """Refuse a client's own method where the client retries too; warn where a function only holds such a client."""
    partial = call
    while isinstance(partial, functools.partial):
        for name in _OWN_RETRIES:
            if _is_count(partial.keywords.get(name)):
                raise ConfigError(f"{name}={partial.keywords[name]} is given to {_name(partial.func)}", _WAY_OUT)
        partial = partial.func
    owner = getattr(partial, "__self__", None)
    client = getattr(owner, "_client", owner)
    retries = _retries_of(client)
    if retries:
        raise ConfigError(f"{type(client).__name__} retries by itself, {retries} times", _WAY_OUT)
    for name, value in _seen(partial):
        retries = _retries_of(value)
        if retries:
            warnings.warn(
                f"{name}, which {_name(partial)} uses, is a {type(value).__name__} that retries by itself, "
                f"{retries} times: {_WAY_OUT}",
                stacklevel=5,
            )


def _seen(call: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Return what a function's code names: its closure and the globals."""
    code, cells = getattr(call, "__code__", None), getattr(call, "__closure__", None) or ()
    if code is None:
        return []
    named = getattr(call, "__globals__", {})
    held = []
    for name, cell in zip(code.co_freevars, cells, strict=False):
        try:
            held.append((name, cell.cell_contents))
        except ValueError:  # not assigned yet
            continue
    return held + [(name, named[name]) for name in code.co_names if name in named]


def _retries_of(client: Any) -> int:
    """Return how often a client of openai or litellm retries by itself."""
    module = (type(client).__module__ or "").partition(".")[0]
    if module not in _CLIENTS:
        return 0
    return max((count for name in _OWN_RETRIES if _is_count(count := getattr(client, name, 0))), default=0)


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
