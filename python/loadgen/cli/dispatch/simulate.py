"""``loadgen dispatch simulate``: what each strategy would take and cost, in virtual time."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click
import msgspec

from loadgen.cli import complete
from loadgen.cli.options import GroupedCommand, GroupedOption, value_of
from loadgen.config import values
from loadgen.errors import ConfigError

if TYPE_CHECKING:
    from loadgen.dispatch.regime import Service
    from loadgen.dispatch.simulate import Simulation

_HEAD = ("strategy", "mean", "p50", "p95", "requests an item", "hedges", "refused", "no answer")
_ITEMS = 100


def _simulate(strategy: tuple[str, ...], as_json: bool, policy: str | None, **given: str | None) -> int:
    from loadgen.dispatch import simulate
    from loadgen.dispatch import strategy as strategies

    service = _service(given["service"], given["run"])
    items = value_of("--items", given["items"], values.count32)
    found = simulate.simulate(
        service,
        items if items is not None else service.items or _ITEMS,
        strategy or strategies.STRATEGIES,
        seeds=value_of("--seeds", given["seeds"], values.count32) or 200,
        first_seed=value_of("--seed", given["seed"], values.whole) or 0,
        max_concurrency=value_of("--max-concurrency", given["max_concurrency"], values.count32),
        policy=policy,
    )
    if as_json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(_told(service, found)), indent=1).decode() + "\n")
        return 0
    click.echo(
        f"{service.name}: {found[0].items:,} calls, {len(found[0].walls_s):,} batches each, seconds of virtual time"
    )
    click.echo()
    for line in _table(found):
        click.echo(line)
    click.echo()
    click.echo(simulate.advise(found))
    return 0


def _service(text: str | None, run: str | None) -> Service:
    from loadgen.dispatch import regime

    if run is not None:
        if text is not None:
            raise ConfigError("--run and --service both say who is called", "give one of the two")
        return _measured(run)
    return regime.read("R0" if text is None else text)


def _measured(run: str) -> Service:
    """Return what a run's requests have met, warm-up aside."""
    from loadgen.dispatch import regime
    from loadgen.report import again

    result, _ = again.load(run)
    answered: list[float] = []
    failed: list[tuple[int, float]] = []
    for phase in result.phases:
        if phase.type == "warmup":
            continue
        for request in phase.requests:
            if request.sent_ns is None or request.done_ns is None:
                continue
            seconds = (request.done_ns - request.sent_ns) / 1e9
            if request.failure in ("", "none"):
                answered.append(seconds)
            else:
                failed.append((request.status if request.status and request.status >= 400 else 0, seconds))
    return regime.measured(f"run {result.id}", answered, failed)


def _table(found: Sequence[Simulation]) -> list[str]:
    rows = [_HEAD, *(_cells(one) for one in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    return [
        "  ".join([row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    ]


def _cells(one: Simulation) -> tuple[str, ...]:
    return (
        one.strategy,
        *(f"{seconds:.1f}" for seconds in (one.mean_s, one.percentile_s(50), one.percentile_s(95))),
        f"{one.requests_per_item:.2f}",
        *(f"{sum(counts) / len(counts):.1f}" for counts in (one.hedges, one.refused)),
        f"{one.failed_share:.1%}" if one.failed_share else "0",
    )


def _told(service: Service, found: Sequence[Simulation]) -> dict[str, Any]:
    from loadgen.dispatch import simulate

    return {
        "service": {"name": service.name, **service.described},
        "items": found[0].items,
        "batches": len(found[0].walls_s),
        "strategies": [
            {
                "strategy": one.strategy,
                "mean_s": one.mean_s,
                "p50_s": one.percentile_s(50),
                "p95_s": one.percentile_s(95),
                "requests_per_item": one.requests_per_item,
                "failed_share": one.failed_share,
                "walls_s": one.walls_s,
            }
            for one in found
        ],
        "use": simulate.best_of(found).strategy,
    }


command = GroupedCommand(
    "simulate",
    callback=_simulate,
    help="Tell what a batch of calls would take and cost with each strategy, in virtual time.\n\n"
    "The policy is the one that makes real calls; only the service is imagined, or drawn from what a run has measured.",
    params=[
        GroupedOption(
            ["--service"],
            metavar="SERVICE",
            group="Who is called",
            help="R0 to R6 of the published experiment, or such as 'lognormal:3s,0.35;stall=0.085:20s..90s;slots=24;"
            "most=60;rate=5/s,20;error=0.01;outage=30s..90s'.  [default: R0]",
        ),
        GroupedOption(
            ["--run"],
            metavar="RUN",
            group="Who is called",
            help="Draw latencies and failures from a run.",
            shell_complete=complete.runs,
        ),
        GroupedOption(
            ["--items"],
            metavar="N",
            group="Who is called",
            help=f"Calls of a batch.  [default: the service's, or {_ITEMS}]",
        ),
        GroupedOption(
            ["--strategy"],
            multiple=True,
            metavar="NAME",
            group="How",
            help="A strategy, several times for more.  [default: all]",
            shell_complete=complete.words(complete.strategies),
        ),
        GroupedOption(
            ["--max-concurrency"], metavar="N", group="How", help="Calls in flight at most.  [default: N items, ≤ 1000]"
        ),
        GroupedOption(["--policy"], metavar="JSON", group="How", help="Laid over each strategy's policy."),
        GroupedOption(["--seeds"], metavar="N", group="How", help="Batches of each strategy.  [default: 200]"),
        GroupedOption(["--seed"], metavar="N", group="How", help="Seed of the first batch.  [default: 0]"),
        GroupedOption(["--json", "as_json"], is_flag=True, help="Print all figures as JSON."),
    ],
)
