"""The published examples of nodes of unequal speed, on mock servers at a tenth of the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from harness.bench import Bench
from harness.errors import BenchError
from harness.figures import Spread
from harness.nodes_sim import EXAMPLES
from harness.servers import Mock, Process
from harness.table import Baseline, Line, Mark
from loadgen.node import NodePool

_SCALE = 10.0
_REPEATS = 10
_LOOP = Path(__file__).with_name("closed_loop_process.py")

_ONE_WAITS = 2
"""Room for one item that waits at a node while it works on another: the network costs nothing then."""


class Walls(NamedTuple):
    """Seconds of each batch, and of the bare loops that took turns with them."""

    ours: list[float]
    bare: list[float]


def examples(bench: Bench) -> Iterator[Line]:
    """Wall time of each, once speeds are known; beside the least that whole items allow, and what bare loops take."""
    repeats = 2 if bench.quick else _REPEATS
    for times, items, best in EXAMPLES[:1] if bench.quick else EXAMPLES:
        bench.say(f"nodes-mock: {items} items, {len(times)} nodes")
        for room in (1, _ONE_WAITS):
            walls = _walls(times, shares(times, items, best), room, repeats)
            baseline = Baseline("optimum", Spread.of([best / _SCALE]))
            ratio = Spread.of([wall * _SCALE / best for wall in walls.ours])
            bare = Spread.of([wall * _SCALE / best for wall in walls.bare])
            waits = ", one item waiting at each" if room > 1 else ""
            what = f"{items} items, {len(times)} nodes, slowest ÷ fastest {max(times) / min(times):.3g}{waits}"
            note = f"a bare closed loop on each node at once, one request at a time: {bare} × the optimum"
            yield Line("nodes-mock", what, "s", Spread.of(walls.ours), Mark(1.05), baseline, ratio, note)


def shares(times: tuple[float, ...], items: int, best: float) -> list[int]:
    """Return how many items each node does in the least time of all.

    Args:
        times: Seconds that each node takes for an item.
        items: How many there are.
        best: The least seconds in all.

    Raises:
        BenchError: If that isn't time enough.
    """
    counts: list[int] = []
    for time in times:
        whole = int(best / time + 1e-9)
        counts.append(min(whole, items - sum(counts)))
    if sum(counts) != items:
        raise BenchError(f"{items} items don't fit into {best:g} s")
    return counts


def _walls(times: tuple[float, ...], counts: Sequence[int], room: int, repeats: int) -> Walls:
    texts = [f"text {item}" for item in range(sum(counts))]
    with ExitStack() as stack:
        nodes = [stack.enter_context(Mock(ttft=time / _SCALE * 1e3, capacity=1, threads=1)) for time in times]
        loops = [stack.enter_context(Process(_LOOP, node.url, str(n))) for node, n in zip(nodes, counts, strict=True)]
        asking = stack.enter_context(ThreadPoolExecutor(len(loops)))
        pool = NodePool([{"url": node.url, "capacity": room} for node in nodes], progress=False)
        pool.embed_batch("mock", texts)  # shows the nodes' speeds
        walls = Walls([], [])
        for _ in range(repeats):
            batch = pool.embed_batch("mock", texts)
            if not batch.ok:
                raise BenchError("an item of a batch over nodes has no value")
            walls.ours.append(batch.wall_s)
            walls.bare.append(_bare(loops, asking))
        return walls


def _bare(loops: Sequence[Process], asking: ThreadPoolExecutor) -> float:
    """Return the seconds from the first loop's first request to the last one's last answer."""
    rounds = [line.split() for line in asking.map(Process.ask, loops)]
    return (max(int(ended) for _, ended in rounds) - min(int(began) for began, _ in rounds)) / 1e9
