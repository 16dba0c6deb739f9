"""``loadgen run --dry-run``: the plan, and one request a phase with its secrets hidden; nothing is sent."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from loadgen.config import Config, api_key, redacted, secret
from loadgen.config.nodes import balance_words
from loadgen.config.options import EMBEDDING
from loadgen.report import figures
from loadgen.session import machine
from loadgen.session.phase import phases_of
from loadgen.session.phase_plan import PhasePlan
from loadgen.session.prepare import PlannedPhase, bodies, plan
from loadgen.shown import plain

_UNKNOWN = "(the one that /v1/models names)"
_SHOWN = 2000
_LINE = 100


def show_plan(config: Config, *, as_json: bool) -> int:
    """Print what a run would do.

    Args:
        config: The options.
        as_json: Print an object, with the words of ``report.json``.

    Returns:
        The exit status, 0.
    """
    made = plan(config, phases_of(config), listed=bool(config.phases)).phases
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_object(config, made)), indent=1).decode())
    else:
        _show(config, made)
    return 0


def _object(config: Config, made: list[PlannedPhase]) -> dict[str, Any]:
    """Return the plan as plain values; what only the target could tell, such as its model, is null."""
    told = [
        {
            "name": phase.plan.name,
            "type": phase.plan.kind.value,
            **phase.plan.meta,
            "requests": phase.plan.most_requests,
            "duration_s": phase.plan.longest_s,
            "balance": phase.plan.balance,
            "request": {
                "method": "POST",
                "url": _endpoint(phase.options),
                "headers": _headers(phase.options),
                "body": {**_body(phase), "model": _known_model(phase.options)},
            },
        }
        for phase in made
    ]
    workers = machine.workers(config, [phase.config for phase in made])
    return {"config": redacted(config), "workers": workers, "phases": told}


def _show(config: Config, made: list[PlannedPhase]) -> None:
    several = bool(config.phases)
    _show_targets(config, "" if several else f", {_asked(made[-1].options)}")
    if not several:
        if made[-1].plan.balance is not None:
            click.echo(f"balance    {balance_words(made[-1].plan.balance)}")
        _show_prompts("prompts", made[-1])
    for phase in made:
        click.echo(f"phase      {_phase(phase.plan, several)}")
        if several:
            click.echo(f"           {_asked(phase.options)}{_model(phase.options)}{_balance(phase)}")
            _show_prompts("", phase)
            _show_bounds(phase.options, "           ")
            _show_scorer(phase)
    click.echo(f"workers    {machine.workers(config, [phase.config for phase in made])}")
    if not several:
        _show_bounds(config, "")
    click.echo(f"goes to    {plain(config.out) if config.out is not None else 'loadgen-runs/<UTC>-<id>'}")
    for phase in made if several else made[-1:]:
        click.echo()
        click.echo(f"one of the requests{f' of {plain(phase.plan.name)}' if several else ''}:")
        _show_request(phase)


def _show_targets(config: Config, asked: str) -> None:
    for number, url in enumerate(config.urls):
        last = number + 1 == len(config.urls)
        click.echo(f"{'target' if number == 0 else '':<11}{plain(secret.shown_url(url))}{asked if last else ''}")


def _balance(phase: PlannedPhase) -> str:
    return f", {balance_words(phase.plan.balance)}" if phase.plan.balance is not None else ""


def _phase(phase: PhasePlan, several: bool) -> str:
    ends = [f"{figures.whole(phase.requests)} requests"] if phase.requests is not None else []
    ends += [figures.clock(phase.duration_s)] if phase.duration_s is not None else []
    kind = f", {phase.kind.value}" if several else ""
    return f"{plain(phase.name)}{kind}: {phase.words}{', until ' + ' or '.join(ends) if ends else ''}"


def _asked(options: Config) -> str:
    return f"{options.api}, {'streamed' if options.stream else 'not streamed'}"


def _model(options: Config) -> str:
    return f", model {plain(options.model)}" if options.model is not None else ""


def _show_prompts(label: str, phase: PlannedPhase) -> None:
    dataset = phase.dataset
    prompts = f"{plain(dataset.name)}: {figures.whole(len(dataset))}"
    click.echo(f"{label:<11}{prompts}, sha256 {dataset.sha256[:16]}…")


def _show_bounds(options: Config, indent: str) -> None:
    """Say the objectives, and that answers are as long as they come."""
    if options.slo:
        limits = ", ".join(f"{name} ≤ {limit:g} ms" for name, limit in options.slo.items())
        click.echo(f"{indent}objectives {limits}")
    if options.output_tokens is None and options.api not in EMBEDDING:
        way_out = "--output-tokens N bounds them" if not indent else "output_tokens bounds them"
        click.echo(f"{indent}answers    as long as the server makes them ({way_out})")


def _show_scorer(phase: PlannedPhase) -> None:
    """Say what scores an accuracy phase, and the first right answer: whether its field is the right one shows there."""
    if phase.config.scorer is None:
        return
    target = phase.dataset[0].target
    first = "" if target is None else f", the first target: {plain(str(target))}"
    text = f"by {plain(phase.config.scorer.words)}{first}"
    click.echo(f"           scored     {text if len(text) <= _LINE else f'{text[:_LINE]}…'}")


def _opening(options: Config) -> bytes:
    """Return what the engine puts in front of every body (``NodeSettings::opening`` of rust/src/engine/settings.rs)."""
    if options.api in EMBEDDING:
        return b"{"
    if options.api in ("ollama_chat", "ollama_generate"):
        return b'{"stream":true,' if options.stream else b'{"stream":false,'
    return b'{"stream":true,"stream_options":{"include_usage":true},' if options.stream else b"{"


def _show_request(phase: PlannedPhase) -> None:
    click.echo(f"POST {plain(_endpoint(phase.options))}")
    for name, value in _headers(phase.options).items():
        click.echo(f"{name}: {value}")
    body = msgspec.json.encode(_body(phase))
    text = plain(body.decode())
    click.echo(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({figures.size(len(body))})")


def _endpoint(options: Config) -> str:
    return secret.shown_endpoint(options.url, options.api)


def _headers(options: Config) -> dict[str, str]:
    """Return the user's headers and the key's, without what they say."""
    names = [header.name for header in options.header]
    return dict.fromkeys([*names, *(["Authorization"] if api_key(options) is not None else [])], secret.HIDDEN)


def _body(phase: PlannedPhase) -> dict[str, Any]:
    """Return the fields of the first request's body, with references to secrets as they were written."""
    options = phase.options
    rendered, _ = bodies(phase, _known_model(options) or _UNKNOWN)
    body: dict[str, Any] = msgspec.json.decode(_opening(options) + rendered[0][1:])
    return body if options.extra_body is None else {**body, **options.extra_body.stored}


def _known_model(options: Config) -> str | None:
    """Return the model asked for; ``None`` where the target would have to be asked."""
    return options.model or ("mock" if options.url.startswith("mock:") else None)
