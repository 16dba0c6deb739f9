"""What every view of a run or a batch shows alike: text of others made harmless, and how far something is as a bar."""

from __future__ import annotations


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
