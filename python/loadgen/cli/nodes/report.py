"""``loadgen nodes report``: how batches would be spread, and how long each mode would take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click
import msgspec

from loadgen.cli import show
from loadgen.cli.nodes.pool import options, pool_of
from loadgen.errors import ConfigError
from loadgen.shown import plain


def _report(
    *, model: str | None, kind: str | None, batches: Sequence[int], probe: bool, as_json: bool, **said: Any
) -> int:
    from loadgen.cli.nodes.table import report_lines
    from loadgen.node.report import BATCHES

    pool = pool_of(**said)
    if probe:
        kind, model = _probed(pool.measured, kind, model)
        pool.probe(model, kind=kind)
    report = pool.report(tuple(batches) or BATCHES, model=model, kind=kind)
    if as_json:
        click.echo(msgspec.json.encode(report).decode())
        return 0
    click.echo("\n".join(report_lines(report, width=show.width())))
    return 0


def _probed(measured: Sequence[tuple[str, str]], kind: str | None, model: str | None) -> tuple[str, str]:
    """Return what a probe asks of which model: where no model is named, the only one that was measured before."""
    known = [(one, name) for one, name in measured if kind in (None, one) and model in (None, name)]
    if model is None:
        models = sorted({name for _, name in known})
        if len(models) != 1:
            among = f", such as {' or '.join(map(plain, models))}" if models else ""
            raise ConfigError("a probe asks a model, and none is named", f"--model NAME{among}")
        model = models[0]
    return kind or (known[0][0] if known else "embeddings"), model


command = click.Command(
    "report",
    callback=_report,
    help="Say how batches of some sizes would be spread over the nodes, why, and how long each mode would take by the "
    "speeds that were measured.",
    params=[
        *options(),
        click.Option(
            ["--batch", "batches"],
            type=click.IntRange(min=1),
            multiple=True,
            metavar="N",
            help="A size; as many as wished.  [default: 10, 50, 100, 200, 500]",
        ),
        click.Option(["--probe"], is_flag=True, help="Have each node do one item first, so that its speed is known."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print it as JSON."),
    ],
)
