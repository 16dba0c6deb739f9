"""Rules between options: which loads exclude each other, what each needs, what the machine must allow."""

from collections.abc import Callable, Collection

from loadgen.config import secret, target
from loadgen.config.nodes import check_balance
from loadgen.config.options import EMBEDDING, STAGED, Config
from loadgen.errors import ConfigError

Name = Callable[[str], str]

LOADS = {
    "concurrency": "keeps {} in flight",
    "rate": "starts {:g} requests a second on a schedule",
    "stages": "starts requests on a schedule whose rate changes",
    "burst": "sends {} requests at once",
}
"""The options that are a load, of which a phase has one, and what each does."""


def check(config: Config, given: Collection[str], name: Name, *, invent: bool = True) -> Config:
    """Check the options against each other, and fill in what a bare ``mock:`` leaves open.

    Args:
        config: Options that are valid one by one.
        given: Names of those that were given, rather than left at their defaults.
        name: How the user calls an option: ``--rate`` or ``rate``.
        invent: Whether a bare ``mock:`` may have a load and an end of its own; a phase may not.

    Returns:
        The options to use.

    Raises:
        ConfigError: If two options contradict each other, or one is missing.
    """
    config = _load(config, name, invent)
    _arrival(config, given, name)
    _prompts(config, name)
    check_target(config, name)
    check_balance(config, given, name)
    _answers(config, given, name)
    _objectives(config, given, name)
    if "metrics_host" in given and config.metrics_port is None:
        raise ConfigError(
            f"{name('metrics_host')} {config.metrics_host} says where metrics are served, and none are",
            f"say at which port: {name('metrics_port')}",
        )
    return config


def check_no_load(config: Config, name: Name) -> None:
    """Check that the options say no load, where the phases bring their own.

    Args:
        config: Options that are valid one by one.
        name: How the user calls an option.

    Raises:
        ConfigError: If they do: no phase would have it.
    """
    for option in (*LOADS, "max_concurrency", "requests", "duration", "warmup"):
        if getattr(config, option) is not None:
            raise ConfigError(
                f"{name(option)} has no phase that takes it: each of the phases given brings its own load and end",
                "say it in the phases",
            )


def _load(config: Config, name: Name, invent: bool) -> Config:
    import msgspec

    loads = [load for load in LOADS if getattr(config, load) is not None]
    if len(loads) > 1:
        first, second = loads[:2] if loads[:2] != ["concurrency", "rate"] else ["rate", "concurrency"]
        words = "; ".join(f"{name(load)} {LOADS[load].format(getattr(config, load))}" for load in (first, second))
        cap = f" To cap a rate, use {name('max_concurrency')} {config.concurrency}." if "concurrency" in loads else ""
        raise ConfigError(f"{name(first)} and {name(second)} are two kinds of load", f"{words}.{cap}")
    if not loads and invent and config.is_mock and config.max_concurrency is None:
        config = msgspec.structs.replace(config, concurrency=1)
        if config.requests is None and config.duration is None:
            return msgspec.structs.replace(config, requests=10)
        loads = ["concurrency"]
    if not loads:
        raise ConfigError(
            "no load given: how many requests at a time, or how many a second?",
            f"give {name('concurrency')} 8, say, or {name('rate')} 5 (also: {name('stages')}, {name('burst')})",
        )
    load = loads[0]
    if load in ("concurrency", "rate") and config.requests is None and config.duration is None:
        raise ConfigError(
            f"no end given: after how many requests, or how long, does {'the run' if invent else 'it'} stop?",
            f"give {name('requests')} 1000, say, or {name('duration')} 60s (whichever comes first ends it)",
        )
    if load == "concurrency" and config.max_concurrency is not None:
        raise ConfigError(
            f"{name('max_concurrency')} caps an open loop, and {name('concurrency')} is a closed one",
            f"give {name('concurrency')} alone: it is exact",
        )
    if load == "burst" and config.requests is not None and config.requests != config.burst:
        raise ConfigError(
            f"{name('burst')} {config.burst} and {name('requests')} {config.requests} contradict each other",
            f"give {name('burst')} alone",
        )
    most, burst = config.max_concurrency, config.burst
    if load == "burst" and most is not None and burst is not None and most < burst:
        raise ConfigError(
            f"{name('burst')} {burst} sends all at once, and {name('max_concurrency')} {most} forbids it",
            f"to work {burst} requests off, use {name('concurrency')} {most} {name('requests')} {burst}",
        )
    return config


def _arrival(config: Config, given: Collection[str], name: Name) -> None:
    if "arrival" in given and config.rate is None and config.stages is None:
        raise ConfigError(
            f"{name('arrival')} {config.arrival} needs an open loop", f"give {name('rate')} or {name('stages')}"
        )
    if config.stages is not None and config.arrival not in STAGED:
        raise ConfigError(
            f"{name('stages')} can't have {config.arrival} arrivals", f"use {name('arrival')} poisson or constant"
        )
    if config.burstiness is not None and config.arrival != "gamma":
        raise ConfigError(
            f"{name('burstiness')} shapes gamma arrivals, and these are {config.arrival}",
            f"add {name('arrival')} gamma",
        )


def _prompts(config: Config, name: Name) -> None:
    if config.dataset is None and config.prompt_field is not None:
        raise ConfigError(f"{name('prompt_field')} needs a dataset", f"add {name('dataset')} FILE")
    if config.dataset is not None and config.input_tokens is not None:
        raise ConfigError(
            f"{name('input_tokens')} shapes synthetic prompts, and {name('dataset')} gives others",
            "leave one of them out",
        )


def check_target(config: Config, name: Name) -> None:
    """Check the options that say how to reach and speak to the target.

    Args:
        config: Options that are valid one by one.
        name: How the user calls an option.

    Raises:
        ConfigError: If two options contradict each other, or one is missing.
    """
    if (config.cert is None) != (config.key is None):
        have, lack = ("cert", "key") if config.key is None else ("key", "cert")
        raise ConfigError(f"{name(have)} needs {name(lack)}", "a client's certificate and its key go together")
    if config.insecure and config.cacert is not None:
        raise ConfigError(
            f"{name('insecure')} and {name('cacert')} contradict each other",
            f"{name('cacert')} verifies the server, {name('insecure')} does not: give one",
        )
    if config.api_key_env is not None and config.api_key_file is not None:
        raise ConfigError(f"{name('api_key_env')} and {name('api_key_file')} both name an API key", "give one of them")
    explicit = config.api_key_env is not None or config.api_key_file is not None
    if explicit and any(header.name.lower() == "authorization" for header in config.header):
        raise ConfigError(
            f"{name('header')} sets Authorization, and so would the API key", "give one of the two ways to authorise"
        )
    for url in config.urls:
        named = target.api_of(url)
        if named not in ("", config.api):
            raise ConfigError(
                f"{secret.shown_url(url)} ends in the path of {named}, and {name('api')} is {config.api}",
                f"give {name('api')} {named}, or a URL that ends before that path",
            )
    local = next((url for url in config.urls if url.startswith(("unix:", "mock:"))), None)
    if config.proxy is not None and local is not None:
        raise ConfigError(f"{name('proxy')} can't lead to {local.partition(':')[0]}:", "leave the proxy out")


def _answers(config: Config, given: Collection[str], name: Name) -> None:
    """Check that nothing is asked of vectors that only texts have."""
    if config.api not in EMBEDDING:
        return
    if "stream" in given and config.stream:
        raise ConfigError(
            f"{name('stream')}: {config.api} answers with vectors, which come all at once", "leave it out"
        )
    if config.output_tokens is not None:
        raise ConfigError(
            f"{name('output_tokens')} bounds answers of tokens, and {config.api} answers with vectors", "leave it out"
        )


def _objectives(config: Config, given: Collection[str], name: Name) -> None:
    if "slo_from" in given and config.slo_from is not None and not config.slo:
        raise ConfigError(f"{name('slo_from')} needs an objective", f"add {name('slo')} ttft:200ms, say")
    vectors = config.api in EMBEDDING
    if config.slo and (vectors or not config.stream):
        streamed = [metric for metric in config.slo if metric in ("ttft", "ttfo", "tpot")]
        streamed += ["ntpot"] if vectors and "ntpot" in config.slo else []
        if streamed and vectors:
            raise ConfigError(
                f"{name('slo')} {streamed[0]} judges tokens, and {config.api} answers with vectors", "judge latency"
            )
        if streamed:
            raise ConfigError(
                f"{name('slo')} {streamed[0]} can't be judged without a stream: the tokens' times are not seen",
                f"judge latency, or drop {name('stream') if name('stream') == 'stream' else '--no-stream'}",
            )
