"""Rows of cells under each other, texts first: what is too wide for the terminal is cut, never a number."""

from __future__ import annotations

from collections.abc import Sequence

_GAP = "  "


def lines(
    cells: Sequence[Sequence[str]], room: int, texts: Sequence[int], narrowest: Sequence[tuple[int, int]]
) -> list[str]:
    """Return rows as lines, a column as wide as its widest cell.

    Args:
        cells: The rows, the head first; all of the same length.
        room: Columns of the terminal that there are.
        texts: The most that each of the first columns takes, which hold texts; the others hold figures.
        narrowest: What gives way where there is no room for all, in this order: a column, and the least it keeps.
    """
    from rich.cells import cell_len

    natural = [max(cell_len(row[column]) for row in cells) for column in range(len(cells[0]))]
    widths = [min(wide, most) for wide, most in zip(natural, texts, strict=False)] + natural[len(texts) :]
    over = sum(widths) + len(_GAP) * (len(widths) - 1) - (room - 1)
    for column, least in narrowest:
        given = min(max(0, over), max(0, widths[column] - least))
        widths[column] -= given
        over -= given
    return [_line(row, widths, len(texts)) for row in cells]


def _line(row: Sequence[str], widths: Sequence[int], texts: int) -> str:
    from rich.cells import cell_len, set_cell_size

    made = []
    for column, (text, wide) in enumerate(zip(row, widths, strict=True)):
        if cell_len(text) > wide:
            made.append(set_cell_size(set_cell_size(text, wide - 1).rstrip() + "…", wide))
        else:
            blank = " " * (wide - cell_len(text))
            made.append(text + blank if column < texts else blank + text)
    return " " + _GAP.join(made).rstrip()
