"""The published examples of nodes of unequal speed, on mock servers at a tenth of the time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

from harness.bench import Bench
from harness.errors import BenchError
from harness.figures import Spread
from harness.nodes_sim import EXAMPLES
from harness.servers import Mock
from harness.table import Baseline, Line, Mark
from loadgen.node import NodePool

_SCALE = 10.0
_REPEATS = 10

_ONE_WAITS = 2
"""Room for one item that waits at a node while it works on another: the network costs nothing then."""


def examples(bench: Bench) -> Iterator[Line]:
    """Wall time of each, once speeds are known; beside the least that whole items allow."""
    repeats = 2 if bench.quick else _REPEATS
    for times, items, best in EXAMPLES[:1] if bench.quick else EXAMPLES:
        bench.say(f"nodes-mock: {items} items, {len(times)} nodes")
        for room in (1, _ONE_WAITS):
            walls = _walls(times, items, room, repeats)
            baseline = Baseline("optimum", Spread.of([best / _SCALE]))
            ratio = Spread.of([wall * _SCALE / best for wall in walls])
            waits = ", one item waiting at each" if room > 1 else ""
            what = f"{items} items, {len(times)} nodes, slowest ÷ fastest {max(times) / min(times):.3g}{waits}"
            yield Line("nodes-mock", what, "s", Spread.of(walls), Mark(1.05), baseline, ratio)


def _walls(times: tuple[float, ...], items: int, room: int, repeats: int) -> list[float]:
    texts = [f"text {item}" for item in range(items)]
    with ExitStack() as stack:
        nodes = [stack.enter_context(Mock(ttft=time / _SCALE * 1e3, capacity=1, threads=1)) for time in times]
        pool = NodePool([{"url": node.url, "capacity": room} for node in nodes], progress=False)
        batches = [pool.embed_batch("mock", texts) for _ in range(repeats + 1)]
    if not all(batch.ok for batch in batches):
        raise BenchError("an item of a batch over nodes has no value")
    return [batch.wall_s for batch in batches[1:]]
