"""``loadgen run --dry-run``: the plan, and one request with its secrets hidden; nothing is sent."""

from __future__ import annotations

import click
import msgspec

from loadgen.cli.show import plain
from loadgen.config import Config, api_key, secret
from loadgen.report import figures
from loadgen.session import machine
from loadgen.session.prepare import bodies, plan

_UNKNOWN = "(the one that /v1/models names)"
_SHOWN = 2000


def show_plan(config: Config) -> int:
    """Print what a run would do.

    Args:
        config: The options.

    Returns:
        The exit status, 0.
    """
    made = plan(config)
    workers = machine.workers(config)
    dataset = made.phases[-1].meta["dataset"]
    streamed = "streamed" if config.stream else "not streamed"
    click.echo(f"target     {plain(secret.shown_url(config.url))}, {config.api}, {streamed}")
    prompts = f"{plain(dataset['name'])}: {figures.whole(dataset['samples'])}"
    click.echo(f"prompts    {prompts}, sha256 {dataset['sha256'][:16]}…")
    for phase in made.phases:
        ends = [f"{figures.whole(phase.requests)} requests"] if phase.requests is not None else []
        ends += [figures.clock(phase.duration_s)] if phase.duration_s is not None else []
        click.echo(
            f"phase      {phase.name}: {phase.meta['load']['words']}{', until ' + ' or '.join(ends) if ends else ''}"
        )
    click.echo(f"workers    {workers}")
    if config.slo:
        click.echo(f"objectives {', '.join(f'{name} ≤ {limit:g} ms' for name, limit in config.slo.items())}")
    if config.output_tokens is None:
        click.echo("answers    as long as the server makes them (--output-tokens N bounds them)")
    click.echo(f"goes to    {plain(config.out) if config.out is not None else 'loadgen-runs/<UTC>-<id>'}")
    click.echo()
    click.echo("one of the requests:")
    click.echo(f"POST {plain(secret.shown_endpoint(config.url, config.api))}")
    for header in config.header:
        click.echo(f"{header.name}: {secret.HIDDEN}")
    if api_key(config) is not None:
        click.echo(f"Authorization: {secret.HIDDEN}")
    rendered, _ = bodies(made, config.model or ("mock" if config.url.startswith("mock:") else _UNKNOWN))
    body = rendered[0]
    if config.stream:
        # What the engine puts in front of every body.
        body = b'{"stream":true,"stream_options":{"include_usage":true},' + body[1:]
    if config.extra_body is not None:
        fields = msgspec.json.decode(body)
        body = msgspec.json.encode({**fields, **config.extra_body.stored})
    text = plain(body.decode())
    click.echo(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({figures.size(len(body))})")
    return 0
