"""Saying things to a person: errors and warnings, and what to do about them."""

from __future__ import annotations

import sys

from loadgen.shown import plain

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


def _say(head: str, message: str, way_out: str) -> None:
    print(f"{head}{plain(message)}", file=sys.stderr)
    for line in way_out.splitlines():
        print(f"{'':{_INDENT}}{plain(line)}", file=sys.stderr)
    sys.stderr.flush()
