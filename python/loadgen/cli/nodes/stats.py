"""``loadgen nodes stats``: the nodes, and what is known of them."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from loadgen.cli import show
from loadgen.cli.nodes.pool import options, pool_of


def _stats(*, model: str | None, kind: str | None, check: bool, verbose: bool, as_json: bool, **said: Any) -> int:
    from loadgen.cli.nodes.table import stats_lines

    pool = pool_of(**said)
    if check:
        pool.check()
    stats = pool.stats(model=model, kind=kind)
    if as_json:
        click.echo(msgspec.json.encode(stats).decode())
        return 0
    click.echo("\n".join(stats_lines(stats, verbose=verbose, width=show.width())))
    return 0


command = click.Command(
    "stats",
    callback=_stats,
    help="Show the nodes: state, health, ping, speed, responses, errors, share of the work. Counts and speeds are "
    "those that --state keeps.",
    params=[
        *options(),
        click.Option(["--check/--no-check"], default=True, help="Ask each node whether it is there.  [default: check]"),
        click.Option(["-v", "--verbose"], is_flag=True, help="Show what each health score is made of."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print it as JSON."),
    ],
)
