"""A callee for the experiment's tests: answers at once, and takes as long as it says."""

import random
from collections.abc import Callable
from typing import Any

import msgspec

from loadgen.dispatch.experiment import settings
from loadgen.dispatch.experiment.callees import Task
from loadgen.dispatch.experiment.catalogue import Catalogue, Grid
from loadgen.dispatch.experiment.measured import Attempt, Call, Measured
from loadgen.dispatch.experiment.record import Cell, Record, make
from loadgen.dispatch.experiment.settings import Scenario, Settings, Sources
from loadgen.dispatch.live import Call as Told

LIMITS = {"sequential": 1, "parallel": 2, "adaptive_ceiling": 12, "hedged": 63, "auto": 40}
CATALOGUE = Catalogue(
    "pump", ("oil temperature", "outlet temperature", "vibration"), {"bearing wear": "it shakes", "leak": "it drips"}
)


async def fetch(sources: Sources) -> Catalogue:
    """Return a small catalogue."""
    return CATALOGUE


def small() -> Settings:
    """Return settings with two scenarios of the small catalogue."""
    scenarios = (Scenario("all"), Scenario("temperatures", sensors=("temperature",), failure_modes=("wear",)))
    return msgspec.structs.replace(settings.read(), scenarios=scenarios)


class FakeCallee:
    """Works a grid off in as many lanes as the strategy's limit, in its own time."""

    def __init__(self, *, time_scale: float = 1.0, answers: bool = True, service: str = "R0") -> None:
        self.name = "sim"
        self.time_scale = time_scale
        self.answers = self.exact = answers
        self.tasks: list[Task] = []
        self.trace: Callable[[Told], None] | None = None
        self._service = service

    def describe(self) -> dict[str, Any]:
        return {"service": self._service}

    async def measure(self, task: Task) -> Measured:
        self.tasks.append(task)
        return measured(task.grid, LIMITS[task.cell.strategy], task.seed, self.time_scale)


def measured(grid: Grid, limit: int, seed: int, time_scale: float = 1.0) -> Measured:
    """Work a grid off in ``limit`` lanes; each call takes 1 to 4 seconds of the service."""
    draws = random.Random(seed)
    lanes = [0.0] * limit
    calls = []
    for row, col in grid.pairs:
        start = min(lanes)
        end = start + draws.uniform(1, 4) * time_scale
        lanes[lanes.index(start)] = end
        first = Attempt("first", "ok", 200, start, end)
        calls.append(Call(started_s=start, ended_s=end, limiter_s=start, answer=f"{row}/{col}: yes", attempts=(first,)))
    return Measured(wall_s=max(lanes), calls=tuple(calls), limits=((0.0, float(limit)),))


def record(cell: Cell, *, wall_s: float = 10.0, answers: tuple[str | None, ...] | None = None, **other: Any) -> Record:
    """Make the record of one row and two columns."""
    grid = Grid(("vibration",), ("bearing wear", "leak"), {})
    said = answers if answers is not None else ("yes", "no")
    calls = tuple(
        Call(
            started_s=0.0,
            ended_s=wall_s,
            answer=answer,
            error=None if answer is not None else "TimeoutError: no answer within 90 s",
            attempts=(Attempt("first", "ok", 200, 0.0, wall_s),),
        )
        for answer in said
    )
    one = Measured(wall_s=wall_s, calls=calls, **other)
    return make(cell, grid, one, started_at="2026-11-21T12:00:00.000+00:00", time_scale=1.0, answers=True)
