"""What errors call an option: a flag on the command line, a keyword in Python.

Whoever finds that something is wrong doesn't know who asked. It names an option by :func:`option`; the command line has
said at its beginning that it is spoken to in flags, and everybody else is a caller in Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_says_flags = ContextVar("says_flags", default=False)


@contextmanager
def in_flags() -> Iterator[None]:
    """Have options called as on the command line, here and in what is begun from here, as long as it is entered."""
    before = _says_flags.set(True)
    try:
        yield
    finally:
        _says_flags.reset(before)


def option(name: str, stands: str = "", *, value: object = None) -> str:
    """Return an option as whoever asked gives it, at the time at which it is asked for: an error's, mostly.

    Args:
        name: Its name.
        stands: What stands for its value: ``NAME`` gives ``--model NAME``, or ``model=NAME``.
        value: The very value to give: ``--model tiny``, or ``model='tiny'``; a switch's as ``--no-stream``, or
            ``stream=False``.
    """
    if not _says_flags.get():
        stands = stands if value is None else repr(value)
        return f"{name}={stands}" if stands else name
    words = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{words}" if value else f"--no-{words}"
    stands = stands if value is None else str(value)
    return f"--{words} {stands}" if stands else f"--{words}"
