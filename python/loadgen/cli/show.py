"""Saying things to a person: errors and warnings, what to do about them, and how much room there is."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from loadgen.shown import plain

if TYPE_CHECKING:
    from loadgen.config.secret import Header

_INDENT = 7


def error(message: str, way_out: str = "") -> None:
    """Print an error to standard error, and what to do about it below.

    Args:
        message: What is wrong.
        way_out: What to do; empty for nothing.
    """
    _say("error: ", message, way_out)


def warning(message: str, way_out: str = "") -> None:
    """Print a warning to standard error, and what to do about it below.

    Args:
        message: What is doubtful.
        way_out: What to do; empty for nothing.
    """
    _say("warning: ", message, way_out)


@contextmanager
def warned() -> Iterator[None]:
    """Have Python's warnings said as :func:`warning` does, as long as it is entered."""

    def say(message: Warning | str, *_: object, **__: object) -> None:
        warning(*str(message).split("\n", 1))  # and the way out, where it has one

    with warnings.catch_warnings():
        warnings.simplefilter("always", RuntimeWarning)
        warnings.showwarning = say
        yield


def width() -> int | None:
    """Return the terminal's columns; ``None`` where what is printed goes to a file or a pipe, which has no width."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() or os.environ.get("COLUMNS") else None


def warn_of_secrets(headers: Iterable[Header]) -> None:
    """Warn of each header typed on the command line whose value seems to be a secret.

    Args:
        headers: The headers that were typed.
    """
    for header in headers:
        if header.is_secret_in_the_open:
            warning(
                f"the value of {header.name} stands on the command line, where others on this machine can read it",
                f"use --api-key-env NAME, or --header '{header.name}: ${{NAME}}' in single quotes",
            )


def _say(head: str, message: str, way_out: str) -> None:
    print(f"{head}{plain(message)}", file=sys.stderr)
    for line in way_out.splitlines():
        print(f"{'':{_INDENT}}{plain(line)}", file=sys.stderr)
    sys.stderr.flush()
