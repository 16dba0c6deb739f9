"""What is made ready before a run, and may fail while nothing is sent: plan, bodies, target, model."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from loadgen import _core, dataset, endpoint
from loadgen import config as configs
from loadgen.config import Config
from loadgen.errors import ConfigError
from loadgen.session import machine, mock
from loadgen.session.phase import PhasePlan, phases_of


class Plan(msgspec.Struct, frozen=True):
    """What will be run: everything that needs no connection to the target.

    Args:
        config: The options.
        phases: The phases in order.
        dataset: The prompts.
        note: What a reader must know of the prompts; empty where there is nothing to say.
    """

    config: Config
    phases: list[PhasePlan]
    dataset: Any
    note: str


def plan(config: Config) -> Plan:
    """Make the plan of a run: its prompts and phases.

    Args:
        config: The options.

    Raises:
        DatasetError: If the prompts can't be had.
    """
    prompts = dataset.load(
        config.dataset,
        prompt_field=config.prompt_field,
        input_tokens=config.input_tokens,
        output_tokens=config.output_tokens,
        tokenizer=config.tokenizer,
        seed=config.seed,
    )
    if config.tokenizer is not None and config.dataset is not None:
        dataset.open_tokenizer(config.tokenizer)  # it is needed after the run; what is wrong with it is said before
    about = {"name": prompts.name, "sha256": prompts.sha256, "samples": len(prompts.samples), "note": prompts.note}
    return Plan(config, phases_of(config, about), prompts, prompts.note or "")


def bodies(plan: Plan, model: str) -> tuple[list[bytes], list[int]]:
    """Render the request bodies of a plan.

    Args:
        plan: The plan.
        model: The model to ask for.

    Returns:
        The bodies, and for each the place of its unique marker.
    """
    config = plan.config
    extra = config.extra_body.sent if config.extra_body is not None else None
    rendered, holes = [], []
    for sample in plan.dataset.samples:
        body, hole = endpoint.render(
            config.api, sample, model=model, output_tokens=config.output_tokens, extra_body=extra
        )
        rendered.append(body)
        holes.append(hole)
    return rendered, holes


@contextmanager
def target(config: Config) -> Iterator[str]:
    """Give the URL to send to; for ``mock:`` that of a server that lives as long as the run."""
    if not config.url.startswith("mock:"):
        yield config.url
        return
    told = msgspec.json.encode(mock.config_of_url(config.url)).decode()
    try:
        server = _core.MockServer(told)
    except ValueError as error:
        raise ConfigError(f"{config.url}: {error}") from None
    try:
        yield server.url
    finally:
        server.stop()


def model_of(config: Config) -> str:
    """Return the model to ask for: the one named, else the only one that the target serves.

    Args:
        config: The options.

    Raises:
        TargetError: If none was named, and the target doesn't name exactly one.
    """
    if config.model is not None:
        return config.model
    if config.url.startswith("mock:"):
        names = mock.config_of_url(config.url).get("models") or ["mock"]
        return str(names[0])
    from loadgen.session import models  # brings http.client and ssl, which most runs never need

    return models.only(config, configs.api_key(config))


def meta(config: Config, run_id: str, model: str) -> dict[str, Any]:
    """Return what a run's log keeps of it: all that a report needs and the rows don't say, and no secret.

    Args:
        config: The options.
        run_id: The run's id.
        model: The model asked for.
    """
    return {
        "id": run_id,
        "version": _core.__version__,
        "started_at": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": model,
        "environment": machine.environment(),
        "config": configs.redacted(config),
    }


def run_config(config: Config, url: str, directory: Path, about: dict[str, Any], *, publish: bool = False) -> str:
    """Return a run as the engine is told it (``RunConfig`` of ``rust/src/engine/config.rs``).

    Args:
        config: The options.
        url: Where requests really go.
        directory: The run's directory.
        about: What the log keeps of the run.
        publish: Whether somebody will take the engine's ``event_queue()``.
    """
    told = {
        "url": url,
        "api": config.api,
        "stream": config.stream,
        "http2": config.http2,
        "insecure": config.insecure,
        "cacert": config.cacert,
        "cert": config.cert,
        "key": config.key,
        "proxy": config.proxy,
        "headers": [(header.name, header.value) for header in config.header],
        "api_key": configs.api_key(config),
        "timeout_s": config.timeout,
        "connect_timeout_s": config.connect_timeout,
        "stall_timeout_s": config.stall_timeout,
        "workers": machine.workers(config),
        "dir": str(directory),
        "save_responses": config.save_responses,
        "keep_uncounted": config.tokenizer is not None,
        "events": _events(config, publish),
        "meta": about,
    }
    return msgspec.json.encode(told).decode()


def _events(config: Config, publish: bool) -> dict[str, Any] | None:
    """Return which events the engine tells, and to whom (``EventsConfig`` of ``rust/src/event/session.rs``)."""
    if config.events is None and not publish:
        return None
    return {"log": config.events is not None, "publish": publish, "chunks": config.events == "chunks"}
