"""What a phase asks of a server and how: its own settings, and for the rest the run's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, UnsetType

from loadgen import config as configs
from loadgen.config import OPTIONS, Config
from loadgen.config.options import EMBEDDING, Api, Balance
from loadgen.config.secret import ExtraBody, Header
from loadgen.errors import ConfigError

Duration: TypeAlias = float | str

# The settings by the options that say them; one word differs: a flag gives one header, a phase holds all of them.
_OPTIONS = {
    "api": "api",
    "model": "model",
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "extra_body": "extra_body",
    "headers": "header",
    "stream": "stream",
    "timeout": "timeout",
    "stall_timeout": "stall_timeout",
    "unique_prompts": "unique_prompts",
    "prompt_field": "prompt_field",
    "session_field": "session_field",
    "balance": "balance",
    "weights": "weights",
    "save_responses": "save_responses",
    "slo": "slo",
    "slo_from": "slo_from",
}


class PhaseSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a phase sends and how, where it differs from the run: a setting left out is the run's, ``None`` is none.

    Args:
        api: API spoken.
        model: Model asked for; ``None`` asks the server for its only one.
        input_tokens: Length of synthetic prompts.
        output_tokens: Most tokens of an answer.
        extra_body: Further fields of the body; ``${ENV}`` in their texts is filled in.
        headers: Further request headers, in place of the run's; ``${ENV}`` and ``@FILE`` are filled in.
        stream: Ask for a stream of events.
        timeout: Longest time of a request: seconds, or text such as ``"30s"``.
        stall_timeout: Longest silence within an answer, likewise.
        unique_prompts: Make each prompt differ, so that no prefix cache helps.
        prompt_field: The dataset's field that holds the prompt.
        session_field: The field that says which session a prompt is of, to be balanced by.
        balance: How requests are spread over several targets.
        weights: Shares of the targets, where they are weighted.
        target_field: The field that holds the right answer, for an accuracy phase; ``None`` finds it.
        save_responses: Keep the answers' text; an accuracy phase always does.
        slo: Objectives for goodput, such as ``{"ttft": "200ms"}``.
        slo_from: Which times objectives judge.

    Raises:
        ConfigError: If a value can't be used.
    """

    api: Api | UnsetType = UNSET
    model: str | UnsetType | None = UNSET
    input_tokens: int | UnsetType | None = UNSET
    output_tokens: int | UnsetType | None = UNSET
    extra_body: Mapping[str, Any] | ExtraBody | str | UnsetType | None = UNSET
    headers: Mapping[str, str] | Sequence[Header | str] | UnsetType = UNSET
    stream: bool | UnsetType = UNSET
    timeout: Duration | UnsetType = UNSET
    stall_timeout: Duration | UnsetType = UNSET
    unique_prompts: bool | UnsetType = UNSET
    prompt_field: str | UnsetType | None = UNSET
    session_field: str | UnsetType | None = UNSET
    balance: Balance | UnsetType = UNSET
    weights: Sequence[int] | str | UnsetType | None = UNSET
    target_field: str | None = None
    save_responses: bool | UnsetType = UNSET
    slo: Mapping[str, Duration] | Sequence[str] | str | UnsetType | None = UNSET
    slo_from: Literal["planned", "sent"] | UnsetType | None = UNSET

    def __post_init__(self) -> None:
        for name, option in _OPTIONS.items():
            value = getattr(self, name)
            if value is UNSET or value is None:
                continue
            try:
                read = OPTIONS[option].read(dict(value) if isinstance(value, Mapping) else value)
            except ValueError as error:
                raise ConfigError(f"{name} {error}") from None
            if name != "slo":  # as milliseconds it would be taken for seconds when a copy is checked
                msgspec.structs.force_setattr(self, name, read)

    @classmethod
    def of(cls, config: Config) -> PhaseSettings:
        """Return all of the settings that options hold.

        Args:
            config: A phase's options.
        """
        given = {name: getattr(config, option) for name, option in _OPTIONS.items()}
        if config.slo is not None:
            given["slo"] = {metric: f"{limit:.6f}ms" for metric, limit in config.slo.items()}
        return cls(**given)

    def applied(self, config: Config) -> Config:
        """Return the run's options with these settings in place of its own.

        Args:
            config: The run's options.
        """
        given = {option: getattr(self, name) for name, option in _OPTIONS.items()}
        if given["slo"] is not UNSET and given["slo"] is not None:
            given["slo"] = OPTIONS["slo"].read(given["slo"])
        found = msgspec.structs.replace(config, **{name: value for name, value in given.items() if value is not UNSET})
        # Vectors come all at once.
        return msgspec.structs.replace(found, stream=False) if found.api in EMBEDDING else found


def request_of(settings: Config, run: Config) -> dict[str, Any] | None:
    """Return what the engine is told of a phase's requests that differ from the run's; ``None`` where none does.

    Args:
        settings: The run's options with the phase's settings.
        run: The run's options.
    """
    told = {
        "api": "api",
        "stream": "stream",
        "timeout_s": "timeout",
        "stall_timeout_s": "stall_timeout",
        "save_responses": "save_responses",
    }
    differs = {
        key: getattr(settings, name) for key, name in told.items() if getattr(settings, name) != getattr(run, name)
    }
    if settings.header != run.header:
        differs["headers"] = [(header.name, header.value) for header in settings.header]
    return differs or None


def differing(settings: Config, run: Config) -> dict[str, Any]:
    """Return the settings that differ from the run's, as they may be stored: by the options' words, no secrets.

    Args:
        settings: The run's options with the phase's settings.
        run: The run's options.
    """
    stored = stored_settings(settings)
    return {name: stored[name] for name in _OPTIONS.values() if getattr(settings, name) != getattr(run, name)}


def stored_settings(settings: Config) -> dict[str, Any]:
    """Return all of a phase's settings as they may be stored: by the options' words, no secrets.

    Args:
        settings: The run's options with the phase's settings.
    """
    stored = configs.redacted(settings)
    return {name: stored[name] for name in _OPTIONS.values()}
