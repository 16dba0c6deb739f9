"""What a grid is tried on: the simulator, the mock server over HTTP, or a tool server over MCP."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from loadgen.dispatch.experiment.catalogue import Grid
from loadgen.dispatch.experiment.measured import Measured
from loadgen.dispatch.experiment.record import Cell

NAMES = ("sim", "http", "mcp")


class Task(msgspec.Struct, frozen=True):
    """One cell of the experiment, with all that its callee needs.

    Args:
        cell: Which one.
        grid: Its rows and columns.
        seed: Of the service; the strategies of one run of a scenario meet the same one.
    """

    cell: Cell
    grid: Grid
    seed: int


class Callee(Protocol):
    """Something that grids can be tried on."""

    @property
    def name(self) -> str:
        """Its name, and that of its directory."""

    @property
    def time_scale(self) -> float:
        """Seconds measured for one second of the service."""

    @property
    def answers(self) -> bool:
        """Whether calls bring answers."""

    @property
    def exact(self) -> bool:
        """Whether the same question always gets the same answer, so that another one is a fault."""

    def describe(self) -> dict[str, Any]:
        """Return what decides how it behaves, as plain values."""

    async def measure(self, task: Task) -> Measured:
        """Make all calls of a grid with the strategy of its cell.

        Raises:
            DispatchError: If it can't be measured at all; what the service does to the calls is part of the result.
        """
