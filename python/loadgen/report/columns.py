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
    columns = list(zip(*cells, strict=True))
    widths = _widths(columns, texts)
    over = taken(columns, texts) - room
    for column, least in narrowest:
        given = min(max(0, over), max(0, widths[column] - least))
        widths[column] -= given
        over -= given
    return [_line(row, widths, len(texts)) for row in cells]


def taken(columns: Sequence[Sequence[str]], texts: Sequence[int]) -> int:
    """Return how many columns of the terminal a table takes, which is given by its columns.

    Args:
        columns: Each column's cells.
        texts: The most that each of the first ones takes.
    """
    widths = _widths(columns, texts)
    return 1 + sum(widths) + len(_GAP) * (len(widths) - 1)


def _widths(columns: Sequence[Sequence[str]], texts: Sequence[int]) -> list[int]:
    from rich.cells import cell_len

    natural = [max(cell_len(cell) for cell in column) for column in columns]
    return [min(wide, most) for wide, most in zip(natural, texts, strict=False)] + natural[len(texts) :]


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
