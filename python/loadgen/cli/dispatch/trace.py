"""``loadgen dispatch trace``: one scenario with one strategy, each call told as it ends."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import click

from loadgen.cli import complete, show, stops
from loadgen.cli.dispatch.bench import callee_flags, callee_of, settings_of
from loadgen.cli.options import GroupedCommand, GroupedOption, value_of
from loadgen.config import values

if TYPE_CHECKING:
    from loadgen.dispatch.experiment.record import Record
    from loadgen.dispatch.experiment.settings import Settings


def _trace(scenario: str, strategy: str, **given: Any) -> int:
    from loadgen.dispatch.experiment import settings
    from loadgen.dispatch.live import Live

    chosen = settings_of(given)
    (scenario,) = settings.choose("--scenario", scenario, [one.id for one in chosen.scenarios])
    (strategy,) = settings.choose("--strategy", strategy, [one.name for one in chosen.strategies])
    label = chosen.strategy(strategy).label
    live = Live(title=f"scenario {scenario} · {label} · {given['callee']}")
    callee = callee_of(chosen, given, live)
    seed = value_of("--seed", given["seed"], values.whole)
    try:
        with stops.Stopping(*stops.from_outside()) as stopping:  # children are ended in order, as by Ctrl-C
            record = asyncio.run(_one(chosen, callee, scenario, strategy, seed))
    except KeyboardInterrupt:
        live.total()
        return stopping.status
    live.total(record.wall_s)
    if record.time_scale != 1:
        wall_s = record.wall_s / record.time_scale
        click.echo(f" the service ran {1 / record.time_scale:g} × as fast: {wall_s:.1f} s of its own")
    if record.error is not None:
        show.error(record.error)
    return 0 if record.ok else 1


async def _one(chosen: Settings, callee: Any, scenario: str, strategy: str, seed: int) -> Record:
    from loadgen.dispatch.experiment.runner import once

    return await once(callee, chosen, scenario, strategy, seed)


command = GroupedCommand(
    "trace",
    callback=_trace,
    help="Run one scenario with one strategy, and tell of each call as it ends: when, its answer, row and column, its "
    "seconds, and the kind of attempt that settled it; then the totals.",
    params=[
        GroupedOption(["--scenario"], group="Experiment", required=True, metavar="ID", help="Such as 109."),
        GroupedOption(["--strategy"], group="Experiment", default="auto", metavar="NAME",
                      help="The strategy.  [default: auto]", shell_complete=complete.words(complete.strategies)),
        *callee_flags("http"),
    ],
)  # fmt: skip
