"""What a dispatched function can ask and tell of the attempt that it is: its node, its first token, what it used."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from loadgen.errors import DispatchError

if TYPE_CHECKING:
    from loadgen.dispatch.driver import Driver

KINDS = ("first", "retry", "hedge", "probe")
"""By the core's numbers (``AttemptKind`` of ``rust/src/policy/action.rs``)."""


class Attempt:
    """One attempt at one call, while it runs: what :func:`attempt` gives. Any thread may use it."""

    __slots__ = ("_driver", "_kind", "_thread", "_waiting", "id", "item", "node", "tokens")

    def __init__(self, driver: Driver, attempt: int, item: int, kind: int, node: int) -> None:
        self._driver = driver
        self._kind = kind
        self._thread = threading.get_ident()
        self._waiting: list[Callable[[Attempt], None]] = []  # what other threads told
        self.id = attempt
        """Its number among all attempts of the batch, from 0."""
        self.item = item
        """The number of its item among those that are called."""
        self.node = node
        """The index of the node that it should go to."""
        self.tokens: tuple[int, int] | None = None
        """Tokens of prompt and answer, where the function tells."""

    @property
    def kind(self) -> str:
        """``first``, ``retry``, ``hedge`` or ``probe``."""
        return KINDS[self._kind]

    def first_byte(self) -> None:
        """Tell that the answer's first byte has come."""
        self._tell(self._driver.first_byte)

    def chunk(self) -> None:
        """Tell that a piece of the answer has come; from then on ``stall_timeout`` is how long it may be silent."""
        self._tell(self._driver.chunk)

    def first_token(self) -> None:
        """Tell that the first token has come; with ``streaming=True`` it decides between copies."""
        self._tell(self._driver.first_token)

    def room(self, slots: int) -> None:
        """Tell that its node takes at most so many items at the same time.

        Args:
            slots: How many, from 1.
        """
        self._tell(lambda told: self._driver.room(told.node, slots))

    def used(self, tokens_in: int = 0, tokens_out: int = 0) -> None:
        """Tell what the attempt cost; left out, it is read from the value's ``usage``, where it has one.

        Args:
            tokens_in: Tokens of the prompt.
            tokens_out: Tokens of the answer.

        Raises:
            ValueError: If one is negative, or no whole number.
        """
        for count in (tokens_in, tokens_out):
            if not isinstance(count, int) or not 0 <= count < 2**32:
                raise ValueError(f"{count!r} tokens: a count is from 0 to 2**32 - 1")
        self.tokens = tokens_in, tokens_out

    def catch_up(self) -> None:
        """Pass on what other threads told; the driver does so before it takes the value, which may overtake them."""
        while self._waiting:
            self._waiting.pop(0)(self)

    def _tell(self, tell: Callable[[Attempt], None]) -> None:
        if threading.get_ident() == self._thread:
            tell(self)
            return
        self._waiting.append(tell)
        try:
            self._driver.loop.call_soon_threadsafe(self.catch_up)
        except RuntimeError:
            if not self._driver.loop.is_closed():  # else nobody is left who would want to know
                raise


CURRENT: contextvars.ContextVar[Attempt] = contextvars.ContextVar("loadgen.dispatch.attempt")


def attempt() -> Attempt:
    """Return the attempt that the calling function is.

    Raises:
        DispatchError: If it isn't called by a dispatcher.
    """
    try:
        return CURRENT.get()
    except LookupError:
        raise DispatchError("this isn't a dispatched call", "attempt() answers within a function that is") from None
