"""Lines of a screen: pieces of text with a style each, never wider than asked, drawn as curves and columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

from rich.cells import cell_len, set_cell_size

from loadgen.report import figures

Piece: TypeAlias = tuple[str, str]
"""Text and its style: empty, ``bold``, ``dim``, ``alarm``, ``good`` or ``key``."""

Line: TypeAlias = list[Piece]

_SPARKS = "▁▂▃▄▅▆▇█"


def text(line: Line) -> str:
    """Return a line without its styles."""
    return "".join(piece for piece, _ in line)


def width(line: Line) -> int:
    """Return how many columns a line takes."""
    return cell_len(text(line))


def cut(line: Line, room: int) -> Line:
    """Return a line that takes at most so many columns; what is cut ends with an ellipsis."""
    if width(line) <= room:
        return line
    kept: Line = []
    left = room
    for piece, style in line:
        wide = cell_len(piece)
        if wide >= left:
            kept.append((set_cell_size(piece, max(0, left - 1)).rstrip() + "…"[: max(0, left)], style))
            break
        kept.append((piece, style))
        left -= wide
    return kept


def ends(left: Line, right: Line, room: int) -> Line:
    """Put one text at each end of a line; where both don't fit, the left one is cut, then the right one is left out.

    Args:
        left: What begins the line.
        right: What ends it.
        room: Columns of the line.
    """
    gap = room - width(left) - width(right)
    if gap < 2 and width(right) + 14 <= room:
        left = cut(left, room - width(right) - 2)
        gap = room - width(left) - width(right)
    if gap < 2:
        return cut(left, room)
    return [*left, (" " * gap, ""), *right]


def fitted(parts: Sequence[tuple[int, Line]], room: int, gap: str = "   ") -> Line:
    """Join as many parts as fit; those of the highest rank are left out first, and of these the last.

    Args:
        parts: Each a rank and a text.
        room: Columns.
        gap: What stands between two.
    """
    kept = list(parts)
    while kept and sum(width(part) for _, part in kept) + len(gap) * (len(kept) - 1) > room:
        worst = max(range(len(kept)), key=lambda at: (kept[at][0], at))
        del kept[worst]
    line: Line = []
    for _, part in kept:
        line += [*([(gap, "")] if line else []), *part]
    return line


def curve(values: Sequence[float | None], room: int) -> str:
    """Return the last values as a curve above 0, the newest at its right end; a blank where there is none.

    Args:
        values: Any, 0 or more.
        room: Columns, a value each.
    """
    shown = list(values)[-room:]
    most = max((value for value in shown if value is not None), default=0.0)
    return "".join(" " if value is None else _SPARKS[_level(value, most)] for value in shown)


def spread(counts: Sequence[int], room: int) -> str:
    """Return a histogram as a curve; a blank where a bin is empty.

    Args:
        counts: Values in each bin.
        room: Columns; neighbouring bins are put together where there are more of them.
    """
    merged = -(-len(counts) // max(1, room))
    bins = [sum(counts[at : at + merged]) for at in range(0, len(counts), merged)] if counts else []
    most = max(bins, default=0)
    return "".join(" " if not count else _SPARKS[_level(count, most)] for count in bins)


def _level(value: float, most: float) -> int:
    return 0 if most <= 0 else min(7, int(value / most * 8))


def time(ns: float | None) -> str:
    """Return nanoseconds as a time of three digits; a dash for none."""
    return figures.time_ms(None if ns is None else ns / 1e6)
