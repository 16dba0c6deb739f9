"""What every view shows alike: text of others made harmless, how far something is, lines that nobody need read."""

from __future__ import annotations

from typing import TextIO


def plain(text: str) -> str:
    """Return text of somebody else's without anything that a terminal would obey.

    Args:
        text: A model's name, a server's message, a URL: anything that came from outside.

    Returns:
        The text with control, direction and other invisible characters written as escapes.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bar(share: float, room: int) -> str:
    """Return a bar that is filled so far.

    Args:
        share: 0 to 1; what lies outside is taken for the nearer of the two.
        room: Columns.
    """
    done = min(1.0, max(0.0, share)) * room
    full = int(done)
    half = "╸" if done - full >= 0.5 and full < room else ""
    return "━" * full + half + "─" * (room - full - len(half))


def put(out: TextIO, text: str) -> None:
    """Write at once what need not be read: that nobody reads any more must not end a run or a batch.

    Args:
        out: Where to.
        text: What, its line breaks included.
    """
    try:
        out.write(text)
        out.flush()
    except (OSError, ValueError):
        return  # the terminal or pipe went away (ValueError: the file is closed)
