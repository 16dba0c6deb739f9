"""Batches over nodes of unequal speed, in virtual time: the whole grid beside the published rules and simpler ways."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from harness.bench import Bench
from harness.figures import Spread
from harness.table import Baseline, Line, Mark
from loadgen import _core
from loadgen.node.estimate import Estimate, estimate
from loadgen.node.thresholds import Thresholds

_ITEMS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
_RATIOS = (1, 2, 5, 10, 20, 50)
_NODES = (1, 2, 3, 5, 10)
_SHAPES = ("one fast", "one slow", "half", "geometric", "uniform")
_SEEDS = 20
_NOISE = 0.3
EXAMPLES = (
    ((0.1, 1.0, 1.0), 100, 8.4),
    ((0.10, 0.12, 0.11), 100, 3.7),
    ((0.02, 0.3, 0.3, 0.3), 200, 3.34),
    ((0.02, 0.02, 0.02), 200, 1.34),
    ((0.1, 0.1, 0.1, 0.1), 100, 2.5),
)
"""The published examples: seconds that each node takes for an item, items, and the least seconds in all."""


class Cell(NamedTuple):
    """One cell of the grid.

    Args:
        items: Items of its batch.
        times: Seconds that each node takes for one.
    """

    items: int
    times: tuple[float, ...]

    @property
    def counts(self) -> bool:
        """Whether the marks hold here while speeds are unknown."""
        return self.items >= 2 * len(self.times)


class Seen(NamedTuple):
    """What came of a cell: the time as a multiple of the optimum, copies, the optimum in seconds."""

    ratio: float
    copies: float
    best_s: float


def grid(bench: Bench) -> Iterator[Line]:
    """The contract's grid, and the published examples."""
    seeds = 4 if bench.quick else _SEEDS
    shaped = list(_cells())
    # One node, or nodes that are alike, are the same in every shape and at every ratio: each cell counts once.
    cells = list(dict.fromkeys(cell for _, cell in shaped))[:: 7 if bench.quick else 1]
    bench.say("nodes-sim: speeds known")
    known = [_run(cell, noise=0.0, known=True, seeds=1) for cell in cells]
    others = [_others(cell) for cell in cells]
    yield from _known(known, others)
    bench.say("nodes-sim: speeds unknown")
    unknown = [_run(cell, noise=_NOISE, known=False, seeds=seeds) for cell in cells]
    yield from _unknown(cells, unknown)
    found = dict(zip(cells, map(Row, known, unknown, others), strict=True))
    for shape in _SHAPES:
        of_shape = dict.fromkeys(cell for name, cell in shaped if name == shape and cell in found)
        yield _of_shape(shape, {cell: found[cell] for cell in of_shape})
    for times, items, best in EXAMPLES:
        seen = _run(Cell(items, times), noise=0.0, known=False, seeds=1)
        what = f"{items} items, {len(times)} nodes, slowest ÷ fastest {max(times) / min(times):.3g}"
        figure = Spread.of([seen.ratio * seen.best_s])
        ratio, baseline = Spread.of([seen.ratio]), Baseline("optimum", Spread.of([best]))
        yield Line("nodes-sim", what, "s", figure, Mark(1.05), baseline, ratio)


class Row(NamedTuple):
    """What came of a cell in each way: by ``auto`` with speeds known and unknown, and by the others in seconds."""

    known: Seen
    unknown: Seen
    others: tuple[float, float, float, float]


_OTHERS = ("published rules", "even split", "fastest alone", "fastest three")


def _known(seen: Sequence[Seen], others: Sequence[tuple[float, ...]]) -> Iterator[Line]:
    ratios = [one.ratio for one in seen]
    yield _line("speeds known, worst of the grid ÷ optimum", max(ratios), Mark(1.02))
    yield _line("speeds known, mean of the grid ÷ optimum", statistics.fmean(ratios), None)
    for position, name in enumerate(_OTHERS):
        found = [times[position] / one.best_s for times, one in zip(others, seen, strict=True)]
        note = f"at worst {max(found):.1f}; all by mean times, without noise"
        yield _line(f"{name}, mean of the grid ÷ optimum", statistics.fmean(found), None, note)


def _unknown(cells: Sequence[Cell], seen: Sequence[Seen]) -> Iterator[Line]:
    judged = [(cell, one) for cell, one in zip(cells, seen, strict=True) if cell.counts]
    ratios = [one.ratio for _, one in judged]
    what = f"speeds unknown, noise {_NOISE}"
    yield _line(f"{what}: mean of the grid ÷ optimum", statistics.fmean(ratios), Mark(1.10))
    yield _line(f"{what}: 95th percentile of the cells", statistics.quantiles(ratios, n=20)[-1], Mark(1.35))
    yield _line(f"{what}: copies, of the items", _share(judged), Mark(0.06))
    many = [(cell, one) for cell, one in judged if cell.items >= 50]
    yield _line(f"{what}: copies, of 50 items and more", _share(many), Mark(0.03))
    rest = [one.ratio for cell, one in zip(cells, seen, strict=True) if not cell.counts]
    note = f"at worst {max(rest):.1f}: fewer than two items a node tell too little of its speed"
    yield _line(f"{what}: mean of the smaller batches", statistics.fmean(rest), None, note)


def _of_shape(shape: str, found: Mapping[Cell, Row]) -> Line:
    """The mean of a shape's cells: by ``auto`` with speeds unknown, and in the note by the other ways."""

    def mean(ratios: Iterable[float]) -> str:
        return f"{statistics.fmean(ratios):.2f}"

    by_auto = [row.unknown.ratio for cell, row in found.items() if cell.counts]
    ways = [f"speeds known {mean(row.known.ratio for row in found.values())}"]
    for position, name in enumerate(_OTHERS):
        ways.append(f"{name} {mean(row.others[position] / row.known.best_s for row in found.values())}")
    what = f"{shape}: speeds unknown, noise {_NOISE}, mean of its cells ÷ optimum"
    return _line(what, statistics.fmean(by_auto), None, "; ".join(ways))


def _line(what: str, figure: float, mark: Mark | None, note: str = "") -> Line:
    return Line("nodes-sim", what, "", Spread.of([figure]), mark, note=note)


def _share(judged: Sequence[tuple[Cell, Seen]]) -> float:
    return sum(one.copies for _, one in judged) / sum(cell.items for cell, _ in judged)


def _run(cell: Cell, *, noise: float, known: bool, seeds: int) -> Seen:
    nodes = json.dumps([{"service_s": time, "noise": noise} for time in cell.times])
    best, batches = _core.simulate_nodes(nodes, cell.items, range(1, seeds + 1), known=known)
    makespan = statistics.fmean(batch[0] for batch in batches)
    return Seen(makespan / best, statistics.fmean(batch[3] for batch in batches), best)


def _others(cell: Cell) -> tuple[float, float, float, float]:
    """The seconds of the published rules, an even split, the fastest alone, and the fastest three."""
    times = estimate(cell.times, [1] * len(cell.times), cell.items)
    return _published(cell, times), times.parallel, times.sequential, times.hybrid


def _published(cell: Cell, times: Estimate) -> float:
    mode = Thresholds().decide(cell.times, cell.items).mode
    return {"sequential": times.sequential, "parallel": times.parallel}.get(mode, times.hybrid)


def _cells() -> Iterator[tuple[str, Cell]]:
    """Each shape's cells."""
    for items, ratio, count, shape in itertools.product(_ITEMS, _RATIOS, _NODES, _SHAPES):
        yield shape, Cell(items, tuple(_time(shape, node, count, float(ratio)) for node in range(count)))


def _time(shape: str, node: int, count: int, ratio: float) -> float:
    """The seconds of one node; the fastest takes one."""
    last = max(1, count - 1)
    slow = {
        "one fast": node > 0,
        "one slow": count > 1 and node == count - 1,
        "half": node >= -(-count // 2),
    }
    if shape in slow:
        return ratio if slow[shape] else 1.0
    return ratio ** (node / last) if shape == "geometric" else 1.0 + (ratio - 1.0) * node / last
