"""Saying things to a person: errors and warnings, and text of others made harmless for a terminal."""

from __future__ import annotations

import sys

_INDENT = 7


def plain(text: str) -> str:
    """Return text of somebody else's without anything that a terminal would obey.

    Args:
        text: A model's name, a server's message, a URL: anything that came from outside.

    Returns:
        The text with control, direction and other invisible characters written as escapes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
