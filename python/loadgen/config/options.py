"""The one table of a run's options: flags, keys of a configuration file and Python keywords all come from it."""

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeAlias, TypedDict, get_args, get_origin

import msgspec

from loadgen.config import secret, target, values

Api: TypeAlias = Literal["chat", "completions", "embeddings", "ollama_chat", "ollama_generate", "ollama_embed"]
Balance: TypeAlias = Literal["round_robin", "least_in_flight", "session", "weighted"]
ArrivalKind: TypeAlias = Literal["poisson", "constant", "gamma", "uniform"]
OrderName: TypeAlias = Literal["without_replacement", "sequential", "with_replacement", "single"]
PhaseKind: TypeAlias = Literal["warmup", "performance", "accuracy"]

STAGED: Final[tuple[ArrivalKind, ...]] = ("poisson", "constant")
"""The arrivals whose rate may change while they run."""

EMBEDDING: Final = ("embeddings", "ollama_embed")
"""The APIs that answer with vectors: all at once, and without output tokens."""


class Option(msgspec.Struct, frozen=True, kw_only=True):
    """How one option is read, shown and explained.

    Args:
        read: From a raw value to the typed one; raises ``ValueError`` with the rule that was broken.
        help: One line for ``--help``.
        group: Heading in ``--help``.
        metavar: What stands for the value in ``--help``; empty for a switch.
        many: The flag may be given several times.
        shown: The default in words, where the plain value doesn't say it.
        stored: Whether the value may be stored with the run.
        bare: What the flag alone says; its value then stands behind an equals sign.
        per_phase: A phase may have its own; what stands beside ``phases`` is the default of all.
    """

    read: Callable[[Any], Any]
    help: str
    group: str
    metavar: str = ""
    many: bool = False
    shown: str = ""
    stored: bool = True
    bare: str = ""
    per_phase: bool = False


def _option(
    group: str,
    read: Callable[[Any], Any],
    metavar: str,
    words: str,
    shown: str = "",
    *,
    many: bool = False,
    per_phase: bool = False,
) -> Option:
    return Option(read=read, metavar=metavar, help=words, group=group, shown=shown, many=many, per_phase=per_phase)


_load = partial(_option, "Load", per_phase=True)
_prompts = partial(_option, "Prompts", per_phase=True)
_wire = partial(_option, "Connection")
_report = partial(_option, "Results")


class PhaseOptions(msgspec.Struct, frozen=True, kw_only=True):
    """One of the phases of a run's options, validated. Made by :func:`loadgen.config.resolve`.

    Args:
        name: Unique in the run.
        type: What it is for.
        options: The run's options with the phase's own in place of the defaults.
        drains: Whether requests in flight at its end are waited for; ``None`` leaves that to its type.
        scorer: What scores its answers, as it was given.
        target_field: The dataset's field that holds the right answer.
    """

    name: str
    type: PhaseKind
    options: "Config"
    drains: bool | None = None
    scorer: Any = None
    target_field: str | None = None


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """A run's options, validated. Durations are seconds. Made by :func:`loadgen.config.resolve`.

    Each option's annotation holds its :class:`Option`; ``url`` is the first target, ``more_urls`` are the others.
    """

    url: str
    api: Annotated[
        Api,
        _wire(values.choice(*get_args(Api)), "NAME", "API spoken.", per_phase=True),
    ] = "chat"
    model: Annotated[
        str | None,
        _wire(
            values.text,
            "NAME",
            "Model asked for.",
            shown="the one that /v1/models names, if it is one",
            per_phase=True,
        ),
    ] = None

    concurrency: Annotated[
        int | None, _load(values.count32, "N", "Closed loop: exactly N requests in flight. Not with --rate.")
    ] = None
    rate: Annotated[
        float | None, _load(values.positive, "R", "Open loop: R requests per second, whatever the server does.")
    ] = None
    arrival: Annotated[
        ArrivalKind, _load(values.choice(*get_args(ArrivalKind)), "NAME", "How the gaps of an open loop spread.")
    ] = "poisson"
    burstiness: Annotated[
        float | None, _load(values.positive, "B", "Shape of gamma arrivals: 1 is Poisson, below 1 burstier.")
    ] = None
    stages: Annotated[
        tuple[tuple[float, float, float], ...] | None,
        _load(values.stages, "LIST", "Open loop in stages: steps and ramps, such as 10/s:30s,10-50/s:1m."),
    ] = None
    burst: Annotated[int | None, _load(values.count, "N", "N requests at once.")] = None
    max_concurrency: Annotated[
        int | None, _load(values.count32, "N", "At most N in flight, on top of an open loop.")
    ] = None
    requests: Annotated[int | None, _load(values.count, "N", "Stop after N requests.")] = None
    duration: Annotated[float | None, _load(values.duration, "D", "Stop after D, such as 60s.")] = None
    warmup: Annotated[
        int | float | None,
        Option(
            read=values.warmup,
            metavar="N|D",
            group="Load",
            shown="none",
            help="Heat the server up first, with N requests or for D; not part of any result.",
        ),
    ] = None
    order: Annotated[
        OrderName, _load(values.choice(*get_args(OrderName)), "NAME", "How prompts are drawn from the dataset.")
    ] = "without_replacement"
    seed: Annotated[int, _load(values.whole, "N", "Seed of sample order, arrivals and synthetic prompts.")] = 0

    dataset: Annotated[
        str | None,
        _prompts(values.path, "FILE", "Prompts: JSONL, CSV, plain text or ShareGPT.", shown="synthetic prompts"),
    ] = None
    prompt_field: Annotated[
        str | None,
        _prompts(values.text, "NAME", "The dataset's field that holds the prompt.", shown="found by its name"),
    ] = None
    session_field: Annotated[
        str | None,
        _prompts(
            values.text,
            "NAME",
            "The field that says which session a prompt is of, for --balance session.",
            shown="found by its name",
        ),
    ] = None
    input_tokens: Annotated[int | None, _prompts(values.count, "N", "Length of synthetic prompts.")] = None
    output_tokens: Annotated[int | None, _prompts(values.count32, "N", "Most tokens of an answer (max_tokens).")] = None
    unique_prompts: Annotated[
        bool, _prompts(values.flag, "", "Make each prompt differ, so that no prefix cache helps.")
    ] = False
    tokenizer: Annotated[
        str | None,
        Option(
            read=values.path,
            metavar="FILE",
            group="Prompts",
            help="tokenizer.json: sizes synthetic prompts, and counts answers whose tokens the server doesn't tell.",
        ),
    ] = None

    stream: Annotated[bool, _wire(values.flag, "", "Ask for a stream of events.", per_phase=True)] = True
    timeout: Annotated[float, _wire(values.duration, "D", "Longest time of a request.", per_phase=True)] = 600.0
    connect_timeout: Annotated[float, _wire(values.duration, "D", "Longest time to connect.")] = 10.0
    stall_timeout: Annotated[
        float,
        _wire(values.duration, "D", "Longest silence within an answer, from its first byte on.", per_phase=True),
    ] = 60.0
    http2: Annotated[
        bool, _wire(values.flag, "", "Speak HTTP/2; it changes results, so it is never chosen silently.")
    ] = False
    insecure: Annotated[bool, _wire(values.flag, "", "Do not verify the server's certificate.")] = False
    cacert: Annotated[
        str | None, _wire(values.path, "FILE", "PEM file of the authorities to trust.", shown="the system's")
    ] = None
    cert: Annotated[str | None, _wire(values.path, "FILE", "PEM file of the client's certificate.")] = None
    key: Annotated[str | None, _wire(values.path, "FILE", "PEM file of the client's key.")] = None
    proxy: Annotated[
        str | None,
        _wire(target.proxy, "URL", "HTTP proxy; those of the environment are ignored."),
    ] = None
    api_key_env: Annotated[
        str | None, _wire(values.text, "NAME", "Environment variable that holds the API key.", shown="OPENAI_API_KEY")
    ] = None
    api_key_file: Annotated[str | None, _wire(values.path, "FILE", "File that holds the API key.")] = None
    header: Annotated[
        tuple[secret.Header, ...],
        _wire(
            secret.headers,
            "'N: V'",
            "Further request header; ${ENV} and @FILE as the value are filled in.",
            many=True,
            per_phase=True,
        ),
    ] = ()
    extra_body: Annotated[
        secret.ExtraBody | None,
        _wire(
            secret.extra_body,
            "JSON",
            "Further fields of the body, as JSON or @FILE; ${ENV} is filled in.",
            many=True,
            per_phase=True,
        ),
    ] = None
    balance: Annotated[
        Balance,
        _wire(values.choice(*get_args(Balance)), "NAME", "How requests are spread over several URLs.", per_phase=True),
    ] = "round_robin"
    weights: Annotated[
        tuple[int, ...] | None,
        _wire(
            values.weights,
            "LIST",
            "Shares of the URLs for --balance weighted, in their order, such as 3,1.",
            per_phase=True,
        ),
    ] = None
    workers: Annotated[
        int | None, _wire(values.count, "N", "Worker threads.", shown="half of the cores allowed, 8 at most")
    ] = None

    slo: Annotated[
        dict[str, float] | None,
        _report(values.slo, "M:D", "Objective for goodput, such as ttft:200ms.", many=True, per_phase=True),
    ] = None
    slo_from: Annotated[
        Literal["planned", "sent"] | None,
        _report(
            values.choice("planned", "sent"),
            "NAME",
            "Which times objectives judge.",
            shown="planned in an open loop, else sent",
            per_phase=True,
        ),
    ] = None
    percentiles: Annotated[
        tuple[float, ...],
        _report(values.percentiles, "LIST", "Percentiles of the report.", shown="50,75,90,95,99,99.9"),
    ] = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9)
    max_error_rate: Annotated[
        float, _report(values.share, "SHARE", "Above this share of failures the run has failed.", shown="10%")
    ] = 0.1
    grace: Annotated[
        float, _report(values.duration_or_zero, "D", "Time for requests in flight after the first interrupt.")
    ] = 10.0
    drain: Annotated[float, _report(values.duration_or_zero, "D", "Time for requests in flight at a phase's end.")] = (
        240.0
    )
    save_responses: Annotated[bool, _report(values.flag, "", "Keep the answers' text.", per_phase=True)] = False
    events: Annotated[
        Literal["requests", "chunks"] | None,
        Option(
            read=values.events,
            metavar="chunks",
            group="Results",
            bare="requests",
            help="Keep what happens to each request, as it happens, in events.log; =chunks also each chunk of answers.",
        ),
    ] = None
    metrics_port: Annotated[
        int | None,
        _report(values.port, "PORT", "Serve live metrics to Prometheus at http://127.0.0.1:PORT/metrics."),
    ] = None
    metrics_host: Annotated[
        str,
        _report(values.host, "HOST", "Serve them at this address instead.", shown="127.0.0.1"),
    ] = "127.0.0.1"
    out: Annotated[
        str | None, _report(values.path, "DIR", "Directory of the run.", shown="loadgen-runs/<UTC>-<id>")
    ] = None
    phases: tuple[PhaseOptions, ...] = ()
    more_urls: tuple[str, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """All targets, ``url`` first: the run's nodes."""
        return (self.url, *self.more_urls)

    @property
    def is_mock(self) -> bool:
        """Whether every target is a server within this process."""
        return all(url.startswith("mock:") for url in self.urls)

    def __repr__(self) -> str:
        return f"Config({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        shown = {name: getattr(self, name) for name in self.__struct_fields__}
        for name in ("url", "proxy"):
            shown[name] = shown[name] and secret.shown_url(shown[name])
        shown["more_urls"] = tuple(secret.shown_url(url) for url in self.more_urls)
        return list(shown.items())


class RunOptions(TypedDict, total=False):
    """The keywords of :func:`loadgen.run`: each means what the flag of its name does, and has its default."""

    api: Api
    model: str | None
    concurrency: int | None
    rate: float | None
    arrival: ArrivalKind
    burstiness: float | None
    stages: str | list[str] | tuple[str, ...] | None
    burst: int | None
    max_concurrency: int | None
    requests: int | None
    duration: float | str | None
    warmup: int | str | None
    order: OrderName
    seed: int
    dataset: str | os.PathLike[str] | None
    prompt_field: str | None
    session_field: str | None
    input_tokens: int | None
    output_tokens: int | None
    unique_prompts: bool
    tokenizer: str | os.PathLike[str] | None
    stream: bool
    timeout: float | str
    connect_timeout: float | str
    stall_timeout: float | str
    http2: bool
    insecure: bool
    cacert: str | os.PathLike[str] | None
    cert: str | os.PathLike[str] | None
    key: str | os.PathLike[str] | None
    proxy: str | None
    api_key_env: str | None
    api_key_file: str | os.PathLike[str] | None
    header: dict[str, str] | list[str] | tuple[str, ...] | str
    extra_body: dict[str, Any] | str | None
    balance: Balance
    weights: list[int] | tuple[int, ...] | str | None
    workers: int | None
    slo: dict[str, float | str] | list[str] | tuple[str, ...] | str | None
    slo_from: Literal["planned", "sent"] | None
    percentiles: list[float] | tuple[float, ...] | str
    max_error_rate: float | str
    grace: float | str
    drain: float | str
    save_responses: bool
    events: bool | Literal["requests", "chunks"] | None
    metrics_port: int | None
    metrics_host: str
    out: str | os.PathLike[str] | None
    phases: Sequence[Any]  # mappings of these options, or PhaseConfig objects


def _table() -> dict[str, Option]:
    # Not `get_type_hints`: it compiles and checks every hint, and a run would wait for that before its first request.
    hints: dict[str, Any] = Config.__annotations__
    found = {}
    for name, hint in hints.items():
        if get_origin(hint) is Annotated:
            found[name] = next(extra for extra in get_args(hint) if isinstance(extra, Option))
    return found


OPTIONS: dict[str, Option] = _table()
DEFAULTS: dict[str, Any] = dict(zip(Config.__struct_fields__[1:], Config.__struct_defaults__, strict=True))
