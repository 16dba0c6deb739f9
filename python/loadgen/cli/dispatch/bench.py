"""``loadgen dispatch bench``: the strategies against each other, on the grid of sensors and failure modes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from loadgen.cli import show, stops
from loadgen.cli.options import GroupedCommand, GroupedOption, value_of
from loadgen.config import values
from loadgen.errors import DispatchError
from loadgen.shown import plain

if TYPE_CHECKING:
    from loadgen.dispatch.experiment.runner import Experiment, Progress
    from loadgen.dispatch.experiment.settings import Settings
    from loadgen.dispatch.experiment.summary import Summary

OUT = "loadgen-experiment"
SUMMARY, TABLE, PLOTS = "summary.json", "summary.txt", "plots"


def _bench(out: str, as_json: bool, quiet: bool, plots: bool | None, **given: Any) -> int:
    from loadgen.dispatch.experiment import plots as drawing
    from loadgen.dispatch.experiment import table
    from loadgen.dispatch.experiment.record import KEPT
    from loadgen.dispatch.experiment.runner import Experiment, Plan

    if plots:
        drawing.check()
    chosen = settings_of(given)
    plan = Plan(
        strategies=_names("--strategies", given, [strategy.name for strategy in chosen.strategies]),
        scenarios=_names("--scenarios", given, [scenario.id for scenario in chosen.scenarios]),
        runs=value_of("--runs", given["runs"], values.count),
        seed=value_of("--seed", given["seed"], values.whole),
    )
    callee = callee_of(chosen, given)
    experiment = Experiment(callee, Path(out), chosen, plan, told=None if quiet else _tell)
    try:
        with stops.Stopping(*stops.from_outside()) as stopping:  # children are ended in order, as by Ctrl-C
            summary = experiment.run()
    except KeyboardInterrupt:
        show.error("stopped", KEPT)
        return stopping.status
    text = table.render(summary, chosen)
    _keep(experiment.directory, summary, text)
    _draw(experiment, summary, plots)
    if as_json:
        sys.stdout.buffer.write(msgspec.json.encode(summary) + b"\n")
        sys.stdout.flush()
    elif not quiet:
        click.echo(text)
        click.echo(f"\n{experiment.directory}/   ({', '.join(sorted(p.name for p in _shown(experiment.directory)))})")
    return 1 if summary.problems else 0


def settings_of(given: dict[str, Any]) -> Settings:
    """Return the experiment's settings as the options ask for them."""
    from loadgen.dispatch.experiment import settings

    chosen = settings.read(given["config"])
    if given["asset"] is not None:
        sources = msgspec.structs.replace(chosen.sources, asset=given["asset"])
        chosen = msgspec.structs.replace(chosen, sources=sources)
    return chosen


def callee_of(chosen: Settings, given: dict[str, Any], trace: Any = None) -> Any:
    """Return the callee that the options ask for."""
    from loadgen.dispatch.experiment import choice

    options = choice.Options(
        service=given["service"],
        speed=value_of("--speed", given["speed"], values.positive),
        url=given["url"],
        model=given["model"],
        trace=trace,
    )
    return choice.callee(given["callee"], chosen, options)


def _tell(progress: Progress) -> None:
    """Print a line for each cell that has ended, on standard error; first of all, what needs no running any more."""
    record = progress.record
    if progress.cell is None:
        rest = "nothing is left to run" if progress.done == progress.of else "the rest is run now"
        click.echo(f"{progress.done} of {progress.of} runs are on record and aren't made again: {rest}", err=True)
    if record is None:
        return
    width = len(str(progress.of))
    cell = f"run {record.run}  {record.scenario}  {record.strategy:<16}"
    wall = f"{record.wall_s / record.time_scale:7.1f} s"
    said = f"{record.calls} calls, {record.sent} sent" if record.ok else f"FAILED: {plain(record.error or '')}"
    click.echo(f"{progress.done:>{width}}/{progress.of}  {cell}  {wall}   {said}", err=True)


def _keep(directory: Path, summary: Summary, text: str) -> None:
    from loadgen.dispatch.experiment.record import KEPT

    try:
        (directory / SUMMARY).write_bytes(msgspec.json.format(msgspec.json.encode(summary)) + b"\n")
        (directory / TABLE).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise DispatchError(f"can't write the summary to {directory}: {error.strerror or error}", KEPT) from None


def _draw(experiment: Experiment, summary: Summary, wanted: bool | None) -> None:
    """Draw the plots, if they are wanted; unasked only where matplotlib is there."""
    from importlib.util import find_spec

    if wanted is False:
        return
    if wanted is None and find_spec("matplotlib") is None:
        show.warning("no plots: matplotlib is not installed", "pip install 'loadgen[plots]', and run the same command")
        return
    from loadgen.dispatch.experiment import plots
    from loadgen.dispatch.experiment.store import Store

    plots.draw(Store(experiment.directory).records(), summary, experiment.settings, experiment.directory / PLOTS)


def _shown(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if not path.name.startswith(".")]


def _names(option: str, given: dict[str, Any], known: list[str]) -> tuple[str, ...]:
    from loadgen.dispatch.experiment import settings

    return settings.choose(option, given[option.removeprefix("--")], known)


def callee_flags(default: str) -> list[click.Parameter]:
    """Return the flags that choose what is called.

    Args:
        default: The callee where none is named.
    """
    group = "Callee"
    return [
        GroupedOption(
            ["--callee"],
            group=group,
            default=default,
            metavar="NAME",
            help="sim: the simulator, in virtual time; http: the mock server; mcp: a tool server over stdio, which "
            f"calls the mock server.  [default: {default}]",
        ),
        GroupedOption(["--service"], group=group, default="R0", metavar="SERVICE",
                      help="The service that it is: R0 to R6, or written down as for `loadgen dispatch simulate`.  "
                      "[default: R0]"),
        GroupedOption(["--speed"], group=group, default="20", metavar="X",
                      help="How many times as fast the mock server is; seconds told are the service's.  [default: 20]"),
        GroupedOption(["--url"], group=group, metavar="URL", help="With mcp: a model's server, instead of the mock."),
        GroupedOption(["--model"], group=group, metavar="NAME", help="The model to ask there."),
        GroupedOption(["--asset"], group=group, metavar="NAME",
                      help="Whose sensors and failure modes make the grid: small-chiller (63 calls), "
                      "large-chiller (77).  [default: small-chiller]"),
        GroupedOption(["--config"], group=group, metavar="FILE",
                      help="YAML or TOML with other strategies, colours, scenarios, servers or published times."),
        GroupedOption(["--seed"], group=group, default="0", metavar="N",
                      help="Seed of the order and of the service.  [default: 0]"),
    ]  # fmt: skip


_what, _result = "Experiment", "Result"

command = GroupedCommand(
    "bench",
    callback=_bench,
    help="Run strategies against each other on the grid of sensors and failure modes, and sum up.\n\n"
    "Rows and columns are asked from two MCP servers (pip install 'loadgen[mcp]'). Each run is a line in "
    "OUT/CALLEE/runs.jsonl as soon as it has ended; the same command goes on where it was stopped, and several may "
    "work on one directory. The exit status is 1 if an answer is missing or not that of the first strategy.",
    params=[
        GroupedOption(["--strategies"], group=_what, metavar="LIST", help="Those that take part.  [default: all five]"),
        GroupedOption(["--scenarios"], group=_what, metavar="LIST", help="Such as 106,109.  [default: all 15]"),
        GroupedOption(["--runs"], group=_what, default="3", metavar="N", help="Repetitions.  [default: 3]"),
        *callee_flags("sim"),
        GroupedOption(["--out"], group=_result, default=OUT, metavar="DIR",
                      help=f"Where records go; each callee has a directory of its own there.  [default: {OUT}]"),
        GroupedOption(["--plots/--no-plots"], group=_result, default=None,
                      help="Draw plots (pip install 'loadgen[plots]').  [default: where matplotlib is installed]"),
        GroupedOption(["--json", "as_json"], group=_result, is_flag=True, help="Print the summary as JSON."),
        GroupedOption(["--quiet", "-q"], group=_result, is_flag=True, help="Print nothing but errors."),
    ],
)  # fmt: skip
