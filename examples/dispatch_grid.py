"""A grid of calls, one for each pair of a failure mode and a sensor, with a service that stalls and pushes back.

Run it: python examples/dispatch_grid.py. The service is a function here; yours calls a model. LOADGEN_STRATEGY chooses
how the calls are made.
"""

from __future__ import annotations

import asyncio
import random

import loadgen

MODES = ["bearing wear", "leak", "overheating", "imbalance"]
SENSORS = ["vibration", "temperature", "pressure"]
KNOWN = {"bearing wear": {"vibration", "temperature"}, "leak": {"pressure"}, "overheating": {"temperature"}}

chance = random.Random(7)  # noqa: S311  # what happens, not a secret


async def tells(mode: str, sensor: str) -> bool:
    """Ask whether a sensor tells a failure mode: mostly soon, sometimes late, now and then not at all."""
    if chance.random() < 0.1:
        raise loadgen.PushBack("too many at once", retry_after=0.05)
    await asyncio.sleep(2.0 if chance.random() < 0.15 else 0.05)
    return sensor in KNOWN.get(mode, {"vibration"})


async def main() -> None:
    dispatcher = loadgen.Dispatcher.from_env(strategy=None, hedge_after="200ms")
    grid = await dispatcher.agrid(tells, MODES, SENSORS)
    for mode, row in grid.by_row.items():
        print(
            f"{mode:<13}",
            *(f"{sensor}: {'?' if isinstance(told, loadgen.Unknown) else told}" for sensor, told in row.items()),
        )
    totals = grid.batch.totals
    print(
        f"{len(grid)} calls in {grid.batch.wall_s:.2f} s with {dispatcher.strategy}: {totals['attempts']} attempts, "
        f"{totals['hedges']} copies of which {totals['hedges_won']} won, {totals['push_backs']} pushed back"
    )


if __name__ == "__main__":
    asyncio.run(main())
