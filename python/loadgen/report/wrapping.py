"""Texts on the lines of a report: broken at words, a number never parted from its unit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_WIDEST_PAIR = 140
_GAP = 3
_JOINT = "\ue000"
_UNIT_SPACE = re.compile(
    r"(?<=\d) (?=(?:%|[µm]?s|min|h|[kMG]?B|values|(?:(?:output|total) tok|tok|req|requests)/s)(?!\w))"
    r"|(?<=output) (?=tok/s)|(?<=total) (?=tok/s)|(?<=[≤×<>±]) (?=\d)|(?<= min) (?=\d\d s)|(?<= h) (?=\d\d min)"
)


def pair(left: str, right: str, width: int, style: str, console: Console) -> Iterator[Text]:
    """Put two texts on one line, or each on lines of its own where they don't fit.

    Args:
        left: The first; it has the style.
        right: The second, at the right end; empty for none.
        width: Columns of a line.
        style: Rich's name of a style; empty for none.
        console: Breaks lines.
    """
    from rich.text import Text

    first, second = Text(f" {left}", style=style), Text(right)
    gap = min(width, _WIDEST_PAIR) - first.cell_len - second.cell_len
    if right and gap >= _GAP:
        yield first + Text(" " * gap) + second
        return
    yield from indented(left, width, style, console)
    if right:
        yield from indented(right, width, "", console)


def indented(text: str, width: int, style: str, console: Console) -> Iterator[Text]:
    """Break text into lines that begin with a blank.

    Args:
        text: The text.
        width: Columns of a line, the blank among them.
        style: Rich's name of a style; empty for none.
        console: Breaks lines.
    """
    from rich.text import Text

    for line in wrapped(text, console, width - 1):
        yield Text(f" {line}", style=style)


def wrapped(text: str, console: Console, width: int) -> list[str]:
    """Break text into lines at words, but never a number from its unit.

    Args:
        text: The text.
        console: Breaks lines.
        width: Columns of a line.
    """
    from rich.text import Text

    # Rich breaks at no-break spaces too, so what stands for one is no space. Text can't hold it: ``plain`` escapes it.
    joined = Text(_UNIT_SPACE.sub(_JOINT, text))
    return [line.plain.rstrip().replace(_JOINT, " ") for line in joined.wrap(console, width)]
