"""A grid of calls: the matrix, both maps, the flat list; a failed cell stays where it is."""

import asyncio
from typing import Any

import pytest

import loadgen
import virtual_loop

ROWS, COLS = ["pump", "fan"], ["wear", "leak", "heat"]


async def ask(row: str, col: str) -> str:
    await asyncio.sleep({"wear": 3, "leak": 1, "heat": 2}[col])
    if (row, col) == ("pump", "leak"):
        raise ValueError("no answer")
    return f"{row}/{col}"


def grid(call: Any = ask, rows: Any = ROWS, cols: Any = COLS) -> Any:
    async def main(_: Any) -> Any:
        return await loadgen.Dispatcher("hedged", retry=1).agrid(call, rows, cols)

    return virtual_loop.run(main)


def test_a_grid_is_row_major_and_a_failed_cell_shifts_nothing() -> None:
    done = grid()
    unknown = done.matrix[0][1]
    assert isinstance(unknown, loadgen.Unknown)
    assert str(unknown.error) == "no answer"
    assert done.matrix == (("pump/wear", unknown, "pump/heat"), ("fan/wear", "fan/leak", "fan/heat"))
    assert done.flat == (*done.matrix[0], *done.matrix[1])
    assert done.by_row["fan"] == {"wear": "fan/wear", "leak": "fan/leak", "heat": "fan/heat"}
    assert done.by_col["leak"] == {"pump": unknown, "fan": "fan/leak"}
    assert list(done.by_row) == ROWS
    assert list(done.by_col) == COLS
    assert (done[1, 2].value, done[-1, -1].value, done[0, 1].ok) == ("fan/heat", "fan/heat", False)
    assert (len(done), [each.index for each in done]) == (6, [0, 1, 2, 3, 4, 5])
    assert done.batch.errors.keys() == {1}


def test_a_grid_cannot_be_changed() -> None:
    done = grid()
    with pytest.raises(TypeError):
        done.by_row["fan"]["wear"] = "other"
    with pytest.raises(TypeError):
        done.matrix[0][0] = "other"
    with pytest.raises(IndexError):
        done[2, 0]


@pytest.mark.parametrize(("rows", "cols"), [([], COLS), (ROWS, []), ([], [])])
def test_an_empty_side_makes_an_empty_grid(rows: list[str], cols: list[str]) -> None:
    done = grid(rows=rows, cols=cols)
    assert len(done) == 0
    assert len(done.matrix) == len(rows)
    assert done.flat == ()
    assert list(done.by_row) == rows
    assert list(done.by_col) == cols


def test_rows_that_cannot_be_keys_still_have_a_matrix() -> None:
    async def ask(row: Any, col: Any) -> Any:
        return row, col

    done = grid(ask, [{"id": 1}], ["a"])
    assert done.matrix == ((({"id": 1}, "a"),),)
    with pytest.raises(loadgen.DispatchError, match="a row of type dict can't be a key"):
        _ = done.by_row
    with pytest.raises(loadgen.DispatchError, match="the column 'a' is there twice"):
        _ = grid(ask, ["r"], ["a", "a"]).by_col


def test_sides_are_lists_of_items() -> None:
    with pytest.raises(loadgen.ConfigError, match="rows is str\ngive a list"):
        grid(rows="pump")
    with pytest.raises(loadgen.ConfigError, match="cols is int\ngive a list"):
        grid(cols=3)
    assert grid(rows=iter(ROWS), cols=(col for col in COLS)).matrix[1][0] == "fan/wear"


def test_a_grid_of_a_blocking_function() -> None:
    done = loadgen.Dispatcher("parallel").grid(lambda row, col: row + col, [1, 2], [10, 20])
    assert done.matrix == ((11, 21), (12, 22))
    assert repr(done).startswith("<Grid of 2 × 2: <Batch of 4 calls, parallel, ")
