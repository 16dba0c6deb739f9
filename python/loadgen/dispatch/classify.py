"""What an exception of a callable means: push-back, a time-out, a failure, and whether another attempt can help.

Nothing is imported to find out: the SDKs' exceptions are known by the names of their classes and by their attributes.
"""

from __future__ import annotations

import asyncio
import enum
import socket
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from loadgen.errors import PushBack

_BUGS = (TypeError, NameError, AttributeError, ImportError, SyntaxError, NotImplementedError, AssertionError)
"""The callable itself is wrong: calling it again only does it again."""

_TIMEOUTS = frozenset(
    {
        "openai.APITimeoutError",
        "httpx.TimeoutException",
        "requests.exceptions.Timeout",
        "urllib3.exceptions.TimeoutError",
    }
)
_NETWORK = frozenset(
    {
        "openai.APIConnectionError",
        "httpx.TransportError",
        "aiohttp.client_exceptions.ClientConnectionError",
        "aiohttp.client_exceptions.ClientPayloadError",
        "requests.exceptions.ConnectionError",
        "urllib3.exceptions.HTTPError",
    }
)
_CONNECTING = frozenset(
    {
        "httpx.ConnectError",
        "httpx2.ConnectError",
        "aiohttp.client_exceptions.ClientConnectorError",
        "urllib3.exceptions.NewConnectionError",
    }
)
_DEPTH = 8
"""Exceptions looked at of those that one came from: each library wraps those of the one below."""
_HEADERS = ("retry-after", "ratelimit", "rate-limit", "x-should-retry")


class Outcome(enum.IntEnum):
    """How an attempt ended, by the core's numbers (``Outcome`` of ``rust/src/policy/event.rs``)."""

    OK = 0
    REJECTED = 1
    FAILED = 2
    TIMED_OUT = 3
    STALLED = 4
    BROKEN = 5
    CANCELLED = 6
    UNREACHED = 7


class Retryable(enum.IntEnum):
    """Whether another attempt can help, by the core's numbers (``Retryable`` of ``rust/src/policy/event.rs``)."""

    BY_STATUS = 0
    YES = 1
    NO = 2


class Ending(NamedTuple):
    """What the policy is told of an attempt that ended badly.

    Args:
        outcome: How it ended.
        status: The HTTP status; 0 where there is none, and where it isn't to be judged.
        retryable: Whether another attempt can help.
        headers: The answer's headers that say when to come again and how many calls are left, in small letters.
        retry_after_s: What the exception itself says of when to come again, in seconds.
    """

    outcome: Outcome
    status: int = 0
    retryable: Retryable = Retryable.YES
    headers: dict[str, str] | None = None
    retry_after_s: float | None = None


class Classifier:
    """Tells what an exception means.

    Args:
        push_back: What the user calls push-back beside the statuses: a list of statuses and exception classes, or a
            function of the exception that returns a truth value, the seconds to wait, or ``None`` for no opinion.
    """

    def __init__(self, push_back: Any = None) -> None:
        is_list = isinstance(push_back, (list, tuple, set, frozenset))
        self._classes = tuple(one for one in push_back if isinstance(one, type)) if is_list else ()
        self._asked: Callable[[BaseException], Any] | None = None if is_list else push_back

    def ending(self, error: BaseException) -> Ending:
        """Say what an exception means.

        Args:
            error: What the callable raised.

        Raises:
            Exception: Whatever the user's function raises.
        """
        headers = headers_of(error)
        kinds = names_of(error)
        is_timeout = isinstance(error, TimeoutError) or not _TIMEOUTS.isdisjoint(kinds)
        # litellm gives those that had no answer a status too: 408 and 500.
        is_unanswered = is_timeout or not _NETWORK.isdisjoint(kinds)
        status = 0 if is_unanswered else status_of(error)
        if isinstance(error, PushBack):
            return Ending(Outcome.REJECTED, status, Retryable.YES, headers, error.retry_after)
        said = self._said(error)
        if said is not None and said is not False:
            return Ending(Outcome.REJECTED, status, Retryable.YES, headers, None if said is True else float(said))
        if said is False and status:  # a failure like any other, whatever its status
            return Ending(Outcome.FAILED, 0, Retryable.YES if _is_passing(status) else Retryable.NO, headers)
        if is_timeout:
            return Ending(Outcome.TIMED_OUT, 0, Retryable.YES, headers)
        failed = Outcome.UNREACHED if status == 0 and is_unreached(error) else Outcome.FAILED
        return Ending(failed, status, Retryable.YES if is_unanswered else _retryable(error, status, headers), headers)

    def _said(self, error: BaseException) -> Any:
        if self._classes and isinstance(error, self._classes):
            return True
        return self._asked(error) if self._asked is not None else None


def status_of(error: BaseException) -> int:
    """Return the HTTP status that an exception speaks of, wherever its library keeps it; 0 for none."""
    response = getattr(error, "response", None)
    for owner, name in (
        (error, "status_code"),  # openai, litellm
        (response, "status_code"),  # httpx, requests
        (error, "status"),  # aiohttp
        (response, "status"),
        (error, "code"),  # urllib
    ):
        status = getattr(owner, name, None)
        if isinstance(status, int) and not isinstance(status, bool) and 100 <= status <= 999:
            return status
    return 0


def is_unreached(error: BaseException) -> bool:
    """Return whether no connection came about, by what an exception is and by those that it came from."""
    one: Any = error
    for _ in range(_DEPTH):
        if isinstance(one, (ConnectionRefusedError, socket.gaierror)):
            return True
        if not isinstance(one, BaseException):
            return False
        if not _CONNECTING.isdisjoint(names_of(one)):
            return True
        one = one.__cause__ or one.__context__ or getattr(one, "reason", None)  # urllib's stands there
    return False


def headers_of(error: BaseException) -> dict[str, str] | None:
    """Return an answer's headers that say when to come again and what is left; ``None`` where there are none."""
    response = getattr(error, "response", None)
    for owner in (response, error):
        headers = getattr(owner, "headers", None)
        if headers is not None:
            return limits_in(headers)
    return None


def limits_in(headers: Any) -> dict[str, str] | None:
    """Pick the headers that speak of limits out of those of any library; ``None`` where there are none."""
    # By the type, because a stand-in of a test's has every attribute that one asks for.
    if not isinstance(headers, Mapping) and not hasattr(type(headers), "get_all"):
        return None
    found: dict[str, str] = {}
    for name, value in headers.items():
        small = str(name).lower()
        if any(part in small for part in _HEADERS):
            found[small] = str(value)
    return found or None


def names_of(error: BaseException) -> set[str]:
    """Return the full names of an exception's classes; openai's are told by the package, wherever they are kept."""
    names = set()
    for kind in type(error).__mro__:
        module = kind.__module__ or ""
        names.add(f"{module}.{kind.__qualname__}")
        names.add(f"{module.partition('.')[0]}.{kind.__qualname__}")
    return names


def _is_passing(status: int) -> bool:
    return status in (408, 409, 425, 429) or status >= 500


def _retryable(error: BaseException, status: int, headers: dict[str, str] | None) -> Retryable:
    said = (headers or {}).get("x-should-retry")  # what openai's clients go by
    if said in ("true", "false"):
        return Retryable.YES if said == "true" else Retryable.NO
    if status:
        return Retryable.BY_STATUS
    if isinstance(error, (OSError, asyncio.CancelledError)):
        return Retryable.YES
    return Retryable.NO if isinstance(error, _BUGS) else Retryable.YES
