"""Runs the experiment: every scenario with every strategy, again and again, and never twice what has been measured."""

from __future__ import annotations

import asyncio
import datetime as dt
import hashlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from loadgen.dispatch.experiment import catalogue, settings
from loadgen.dispatch.experiment.callees import Callee, Task
from loadgen.dispatch.experiment.catalogue import Catalogue, Grid
from loadgen.dispatch.experiment.record import Cell, Record, make
from loadgen.dispatch.experiment.settings import Settings, Sources
from loadgen.dispatch.experiment.store import Store
from loadgen.dispatch.experiment.summary import Summary, summarise

Fetch = Callable[[Sources], Awaitable[Catalogue]]


class Progress(msgspec.Struct, frozen=True):
    """How far an experiment is.

    Args:
        done: Cells that have a record.
        of: Cells in all.
        cell: The cell that begins, or has ended; ``None`` where it is only told what an earlier run has left to do.
        record: What it brought; ``None`` while it begins.
    """

    done: int
    of: int
    cell: Cell | None
    record: Record | None = None


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the experiment is run.

    Args:
        strategies: Names of strategies that take part; ``None`` for all.
        scenarios: Ids of scenarios; ``None`` for all.
        runs: Repetitions.
        seed: Of the order and of the services.
    """

    strategies: tuple[str, ...] | None = None
    scenarios: tuple[str, ...] | None = None
    runs: int = 3
    seed: int = 0


class Experiment:
    """Scenarios × strategies × runs on one callee, with a record of each on disk as soon as it is there.

    Args:
        callee: What is called.
        directory: Where records go; the callee has a directory of its own below it.
        chosen: What is compared on what.
        plan: How much of it.
        told: Called when a cell begins and when it has ended; first of all, if any has a record already.
        fetch: Asks what rows and columns there are; the settings' servers, where it is ``None``.
    """

    def __init__(
        self,
        callee: Callee,
        directory: Path,
        chosen: Settings | None = None,
        plan: Plan | None = None,
        *,
        told: Callable[[Progress], None] | None = None,
        fetch: Fetch | None = None,
    ) -> None:
        self.settings = chosen or settings.read()
        self.directory = directory / callee.name
        self._callee = callee
        plan = plan or Plan()
        self._strategies = plan.strategies or tuple(strategy.name for strategy in self.settings.strategies)
        self._scenarios = plan.scenarios or tuple(scenario.id for scenario in self.settings.scenarios)
        self._runs, self._seed = plan.runs, plan.seed
        self._told = told or (lambda _: None)
        self._fetch = fetch or catalogue.fetch

    def cells(self) -> list[Cell]:
        """Return the cells in the order they are run: strategies are shuffled anew for each run of a scenario."""
        found = []
        for run in range(1, self._runs + 1):
            for scenario in self._scenarios:
                order = list(self._strategies)
                random.Random(f"{self._seed}/{run}/{scenario}").shuffle(order)  # noqa: S311 - an order, no secret
                found += [Cell(run, scenario, strategy) for strategy in order]
        return found

    def run(self) -> Summary:
        """Run what has no record yet, and sum up all. See :meth:`arun`."""
        return asyncio.run(self.arun())

    async def arun(self) -> Summary:
        """Run what has no record yet, and sum up all records that there are.

        Raises:
            ConfigError: If the directory can't be used, or holds another experiment.
            DispatchError: If rows and columns can't be fetched, a scenario keeps none of them, the callee fails, or the
                disk does; what was measured until then is kept.
        """
        known = await self._fetch(self.settings.sources)
        grids = {
            scenario.id: catalogue.pick(known, scenario)
            for scenario in self.settings.scenarios
            if scenario.id in self._scenarios
        }
        store = Store.open(self.directory, self._manifest(known))
        await self._all(store, grids)
        return summarise(store.records(), self.settings, callee=self._callee.name, exact=self._callee.exact)

    async def _all(self, store: Store, grids: dict[str, Grid]) -> None:
        cells = self.cells()
        known = store.done()
        left = [cell for cell in cells if cell not in known]
        if len(left) < len(cells):
            self._told(Progress(len(cells) - len(left), len(cells), None))
        while left:
            others = []
            for cell in left:
                with store.claimed(_number(cell)) as ours:
                    # Looked at again under the claim: another process may have ended it a moment ago.
                    done = store.done()
                    if cell in done:
                        continue
                    if not ours:
                        others.append(cell)
                        continue
                    counted = len(done.intersection(cells))
                    self._told(Progress(counted, len(cells), cell))
                    record = await self._one(cell, grids[cell.scenario])
                    store.append(record)
                    self._told(Progress(counted + 1, len(cells), cell, record))
            if len(others) == len(left):
                await asyncio.sleep(_WAIT_S)  # nothing is left but what others are at
            left = others

    async def _one(self, cell: Cell, grid: Grid) -> Record:
        return await _measure(self._callee, Task(cell, grid, self._seed_of(cell)))

    def _seed_of(self, cell: Cell) -> int:
        """Return the service's seed: the same for every strategy, so that runs can be compared in pairs."""
        return _hash(f"{self._seed}/{cell.run}/{cell.scenario}") % 2**32

    def _manifest(self, known: Catalogue) -> dict[str, object]:
        return {
            "callee": self._callee.name,
            "time_scale": self._callee.time_scale,
            **self._callee.describe(),
            **settings.as_json(self.settings),
            "seed": self._seed,
            "catalogue": msgspec.to_builtins(known),
        }


async def once(callee: Callee, chosen: Settings, scenario: str, strategy: str, seed: int) -> Record:
    """Run one scenario with one strategy once, and keep nothing.

    Args:
        callee: What is called.
        chosen: What scenarios there are.
        scenario: The scenario's id.
        strategy: The strategy's name.
        seed: Of the service.

    Raises:
        DispatchError: As :meth:`Experiment.arun`.
    """
    found = next(one for one in chosen.scenarios if one.id == scenario)
    grid = catalogue.pick(await catalogue.fetch(chosen.sources), found)
    return await _measure(callee, Task(Cell(1, scenario, strategy), grid, seed))


async def _measure(callee: Callee, task: Task) -> Record:
    started_at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    measured = await callee.measure(task)
    return make(
        task.cell,
        task.grid,
        measured,
        started_at=started_at,
        time_scale=callee.time_scale,
        answers=callee.answers,
    )


_WAIT_S = 0.5


def _number(cell: Cell) -> int:
    """Return the byte whose lock claims a cell: other strategies and scenarios in another process keep the same one."""
    return _hash(f"{cell.run}/{cell.scenario}/{cell.strategy}") % 2**48


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
