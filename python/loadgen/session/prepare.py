"""What is made ready before a run, and may fail while nothing is sent: plan, bodies, target, model."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec

from loadgen import _core, dataset, endpoint
from loadgen import config as configs
from loadgen.config import Config, secret
from loadgen.config.nodes import balance_of, check_weights
from loadgen.config.options import EMBEDDING
from loadgen.dataset import Dataset
from loadgen.errors import ConfigError, TargetError
from loadgen.session import machine, scoring
from loadgen.session.phase import PhaseConfig, PhaseType, load_of
from loadgen.session.phase import stored as stored_phase
from loadgen.session.phase_plan import PhasePlan, plan_of
from loadgen.session.strategy import is_planned
from loadgen.speech import option


class PlannedPhase(msgspec.Struct, frozen=True):
    """One phase before anything was asked of the target.

    Args:
        config: The phase.
        options: The run's options with the phase's settings in place of its own.
        dataset: Its prompts.
        plan: The phase in the engine's words.
    """

    config: PhaseConfig
    options: Config
    dataset: Dataset
    plan: PhasePlan


class RunPlan(msgspec.Struct, frozen=True):
    """What will be run: everything that needs no connection to the target.

    Args:
        config: The run's options.
        phases: The phases in order.
    """

    config: Config
    phases: list[PlannedPhase]


class PreparedPhase(msgspec.Struct, frozen=True):
    """One phase that can begin at once.

    Args:
        config: The phase.
        options: The run's options with the phase's settings in place of its own.
        plan: The phase in the engine's words.
        model: The model that it asks for.
        bodies: Its request bodies, held by the core; phases that send the same share them.
        dataset: Its prompts where they are needed after the run (its answers are scored); else ``None``.
    """

    config: PhaseConfig
    options: Config
    plan: PhasePlan
    model: str
    bodies: _core.Bodies
    dataset: Dataset | None


def plan(config: Config, phases: Sequence[PhaseConfig], *, listed: bool = False) -> RunPlan:
    """Make the plan of a run: its prompts and phases.

    Args:
        config: The run's options.
        phases: Its phases.
        listed: Whether they were given as a list, so that each is told by its place and by what differs.

    Raises:
        DatasetError: If the prompts can't be had.
    """
    known: dict[tuple[Any, ...], Dataset] = {}
    planned = []
    for number, phase in enumerate(phases, start=1):
        options = phase.options(config)
        prompts = _prompts(phase, options, known)
        _check(phase, options, prompts)
        about = {"name": prompts.name, "sha256": prompts.sha256, "samples": len(prompts), "note": prompts.note}
        place = (number, len(phases)) if listed else None
        own_follows = any(not is_planned(later.strategy) for later in phases[number:])
        told = plan_of(phase, config, about, place, occupies=own_follows and not phase.drains)
        planned.append(PlannedPhase(phase, options, prompts, told))
    if config.tokenizer is not None and any(phase.dataset is not None for phase in phases):
        dataset.open_tokenizer(config.tokenizer)  # it is needed after the run; what is wrong with it is said before
    return RunPlan(config, planned)


def _check(phase: PhaseConfig, options: Config, prompts: Dataset) -> None:
    """Check a phase against its prompts and the API that they go to.

    Raises:
        ConfigError: If requests are to be balanced by sessions that aren't there, or where a policy decides, or vectors
            to be scored.
    """
    if phase.kind is PhaseType.ACCURACY and options.api in EMBEDDING:
        raise ConfigError(
            f"phase {phase.name} scores answers, and {options.api} answers with vectors", "ask another API: api: chat"
        )
    if load_of(phase.strategy)["kind"] == "dispatch" and options.balance != "round_robin":
        raise ConfigError(
            f"phase {phase.name} is balanced by {options.balance}, and its policy says where each attempt goes",
            "leave the balance out",
        )
    # Phases that Python made were not checked as a list of them is.
    try:
        check_weights(options, lambda name: name)
    except ConfigError as error:
        raise ConfigError(f"phase {phase.name}: {error.message}", error.way_out) from None
    if balance_of(options) != {"kind": "session"}:
        return
    without = next((number for number, sample in enumerate(prompts) if sample.session is None), None)
    if without is not None:
        raise ConfigError(
            f"phase {phase.name} is balanced by session, and sample {without} of {prompts.name} is of none",
            "give each sample its session, or balance in another way",
        )


def _prompts(phase: PhaseConfig, options: Config, known: dict[tuple[Any, ...], Dataset]) -> Dataset:
    """Load a phase's prompts, unless an earlier phase has the same."""
    if isinstance(phase.dataset, Dataset):
        return phase.dataset
    wanted: dict[str, Any] = {
        "prompt_field": options.prompt_field,
        "input_tokens": options.input_tokens,
        "output_tokens": options.output_tokens,
        "tokenizer": options.tokenizer,
        "seed": phase.seed if phase.dataset is None else 0,
        "sessions": dataset.Sessions(options.session_field) if balance_of(options) == {"kind": "session"} else None,
        "targets": None if phase.scorer is None else scoring.targets_of(phase.scorer, phase.settings.target_field),
    }
    path = None if phase.dataset is None else os.fspath(phase.dataset)
    key = (path and os.path.realpath(path), *wanted.values())
    if key not in known:
        known[key] = dataset.load(path, **wanted)
    return known[key]


def prepare(plan: RunPlan) -> list[PreparedPhase]:
    """Make a plan's phases ready to begin: ask for the models that were not named, and render the bodies.

    Args:
        plan: The plan.

    Raises:
        TargetError: If a model was not named, and the target doesn't name exactly one.
    """
    models: dict[tuple[Any, ...], str] = {}
    shared: dict[tuple[Any, ...], _core.Bodies] = {}
    ready = []
    for phase in plan.phases:
        options, told = phase.options, phase.plan
        asked = (options.model, options.header)
        if asked not in models:
            models[asked] = model_of(options)
        model = models[asked]
        extra = msgspec.json.encode(options.extra_body) if options.extra_body is not None else None
        sent = (id(phase.dataset), options.api, model, options.output_tokens, extra)
        if sent not in shared:
            shared[sent] = _core.Bodies(*bodies(phase, model), sessions=_sessions(phase.dataset))
        kept = phase.dataset if phase.config.scorer is not None else None
        ready.append(PreparedPhase(phase.config, options, told, model, shared[sent], kept))
    return ready if only_model(ready) is not None else [_with_its_model(phase) for phase in ready]


def _with_its_model(phase: PreparedPhase) -> PreparedPhase:
    """Have a phase's report name its model, where the run's can't."""
    settings = {**phase.plan.meta["settings"], "model": phase.model}
    meta = {**phase.plan.meta, "settings": settings}
    return msgspec.structs.replace(phase, plan=msgspec.structs.replace(phase.plan, meta=meta))


def only_model(phases: Sequence[PreparedPhase]) -> str | None:
    """Return the model that all phases ask for; ``None`` where they ask for several."""
    models = {phase.model for phase in phases}
    return models.pop() if len(models) == 1 else None


def bodies(phase: PlannedPhase, model: str) -> tuple[list[bytes], list[int]]:
    """Render the request bodies of a phase.

    Args:
        phase: The phase.
        model: The model to ask for.

    Returns:
        The bodies, and for each the place of its unique marker.
    """
    options = phase.options
    extra = options.extra_body.sent if options.extra_body is not None else None
    rendered, holes = [], []
    for sample in phase.dataset:
        body, hole = endpoint.render(
            options.api, sample, model=model, output_tokens=options.output_tokens, extra_body=extra
        )
        rendered.append(body)
        holes.append(hole)
    return rendered, holes


def _sessions(prompts: Dataset) -> list[int] | None:
    """Return a number for each sample's session, the same in every run; ``None`` where they are of none."""
    if prompts[0].session is None:
        return None
    from hashlib import blake2b

    numbers = (blake2b((sample.session or "").encode(), digest_size=8).digest() for sample in prompts)
    return [int.from_bytes(number, "little") for number in numbers]


@contextmanager
def targets(config: Config) -> Iterator[list[str]]:
    """Give the URLs to send to, in order; for ``mock:`` those of servers that live as long as the run."""
    with ExitStack() as servers:
        yield [_mock(url, servers) if url.startswith("mock:") else url for url in config.urls]


def _mock(url: str, servers: ExitStack) -> str:
    told = msgspec.json.encode(_mock_config(url)).decode()
    try:
        server = _core.MockServer(told)
    except ValueError as error:
        raise ConfigError(f"{url}: {error}") from None
    servers.callback(server.stop)
    return server.url


def _mock_config(url: str) -> dict[str, Any]:
    from loadgen.session import mock  # a table of its own, which a run against a server never needs

    return mock.config_of_url(url)


def model_of(config: Config) -> str:
    """Return the model to ask for: the one named, else the only one that the target serves.

    Args:
        config: The options.

    Raises:
        TargetError: If none was named, and a target doesn't name exactly one, or they don't name the same.
    """
    if config.model is not None:
        return config.model
    found = {url: _model_at(url, config) for url in config.urls}
    if len(set(found.values())) == 1:
        return next(iter(found.values()))
    listed = ", ".join(f"{secret.shown_url(url)} {model}" for url, model in found.items())
    way_out = f"name one that all of them have: {option('model', 'NAME')}"
    raise TargetError(f"the targets serve different models: {listed}", way_out)


def listed_model(config: Config) -> str:
    """Return the model to ask for, as :func:`model_of`; warn where one was named that the target doesn't list.

    For batches: they would send every call of theirs to be told. A run stops early.

    Args:
        config: The options.

    Raises:
        TargetError: As :func:`model_of`.
    """
    if config.model is not None and not config.is_mock:
        from loadgen.session import models  # brings http.client and ssl

        models.warn_if_unlisted(config, config.model, configs.api_key(config))
    return model_of(config)


def _model_at(url: str, config: Config) -> str:
    if url.startswith("python:"):
        return url.removeprefix("python:")  # an issuer of the user's own makes of it what it likes
    if url.startswith("mock:"):
        names = _mock_config(url).get("models") or ["mock"]
        return str(names[0])
    from loadgen.session import models  # brings http.client and ssl, which most runs never need

    alone = msgspec.structs.replace(config, url=url, more_urls=())
    server = f"the server at {secret.shown_url(url)}" if config.more_urls else "the server"
    return models.only(alone, configs.api_key(config), server)


def meta(config: Config, run_id: str, phases: Sequence[PreparedPhase]) -> dict[str, Any]:
    """Return what a run's log keeps of it: all that a report needs and the rows don't say, and no secret.

    Args:
        config: The options.
        run_id: The run's id.
        phases: The phases; where they were given as a list, the options are stored with it.
    """
    stored = configs.redacted(config)
    if any(prepared.plan.place is not None for prepared in phases):
        stored["phases"] = [stored_phase(prepared.config, config) for prepared in phases]
    return {
        "id": run_id,
        "version": _core.__version__,
        "started_at": dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "model": only_model(phases),
        "environment": machine.environment(),
        "config": stored,
    }


def run_config(  # the run's parts, each made by another step
    config: Config,
    phases: Sequence[PreparedPhase],
    workers: int,
    urls: Sequence[str],
    directory: Path,
    about: dict[str, Any],
    *,
    publish: bool = False,
) -> str:
    """Return a run as the engine is told it (``RunConfig`` of ``rust/src/engine/config.rs``).

    Args:
        config: The options.
        phases: The phases.
        workers: Worker threads.
        urls: Where requests really go.
        directory: The run's directory.
        about: What the log keeps of the run.
        publish: Whether somebody will take the engine's ``event_queue()``.
    """
    told = {
        "url": urls[0],
        **({"nodes": [{"url": url} for url in urls]} if len(urls) > 1 else {}),
        "api": config.api,
        "stream": config.stream,
        "http2": config.http2,
        "insecure": config.insecure,
        "cacert": config.cacert,
        "cert": config.cert,
        "key": config.key,
        "proxy": config.proxy,
        "headers": [(header.name, header.value) for header in config.header],
        # A phase whose own headers authorise it does without.
        "api_key": next((key for phase in phases if (key := configs.api_key(phase.options)) is not None), None),
        "timeout_s": config.timeout,
        "connect_timeout_s": config.connect_timeout,
        "stall_timeout_s": config.stall_timeout,
        "workers": workers,
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
