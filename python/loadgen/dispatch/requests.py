"""Requests to an endpoint, as :meth:`~loadgen.Dispatcher.requests` makes them: what is asked, and what is answered."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

from loadgen import _core, endpoint
from loadgen.config import secret, target, values
from loadgen.config.known import check_options
from loadgen.dataset import Sample
from loadgen.dispatch import ended as at
from loadgen.dispatch.ended import Ended
from loadgen.errors import ConfigError

Request: TypeAlias = "str | Sequence[Mapping[str, Any]] | Mapping[str, Any]"
"""A prompt; the messages of a conversation; or a whole body, without ``stream`` and ``stream_options``."""

_SECRET = ("url", "headers", "extra_body", "proxy", "api_key_env")
"""What may hold a key: errors don't show it."""


class RequestOptions(TypedDict, total=False):
    """How requests are made; what each means stands at :meth:`loadgen.Dispatcher.arequests`."""

    model: str | None
    api: Literal["chat", "completions"]
    stream: bool
    output_tokens: int | None
    extra_body: Mapping[str, Any] | None
    headers: Mapping[str, str] | Sequence[str] | None
    api_key_env: str | None
    http2: bool
    insecure: bool
    cacert: str | os.PathLike[str] | None
    cert: str | os.PathLike[str] | None
    key: str | os.PathLike[str] | None
    proxy: str | None
    connect_timeout: float | str


class Answer(msgspec.Struct, frozen=True):
    """What an endpoint answered.

    Args:
        text: The text of its first choice.
        reasoning: The reasoning before it.
        finish: Why the model stopped: ``stop``, ``length``, …; empty where the server didn't say.
        tokens_in: Tokens of the prompt; ``None`` where the server didn't count.
        tokens_out: Tokens of the answer; ``None`` where the server didn't count, nor the chunks of a stream did.
        status: The HTTP status.
    """

    text: str
    reasoning: str = ""
    finish: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    status: int = 200

    def __str__(self) -> str:
        return self.text


def answer_of(ended: Ended) -> Answer:
    """Return the answer of a good request.

    Args:
        ended: As the engine tells it (``_core.Engine.take_completions``).
    """
    finish = ended[at.FINISH]
    return Answer(
        text=ended[at.TEXT] or "",
        reasoning=ended[at.REASONING] or "",
        finish="" if finish == "unknown" else finish,
        tokens_in=ended[at.TOKENS_IN],
        tokens_out=ended[at.TOKENS_OUT],
        status=ended[at.STATUS],
    )


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint and how it is spoken to: checked.

    Args:
        url: Where requests go.
        told: The rest, in the engine's words (``RunConfig`` of ``rust/src/engine/config.rs``).
        model: The model asked for.
        output_tokens: Most tokens of an answer.
        extra_body: Further fields of each body.
        stored_body: The same as it may be stored, references not filled in.
    """

    url: str
    told: dict[str, Any]
    model: str | None = None
    output_tokens: int | None = None
    extra_body: dict[str, Any] | None = None
    stored_body: dict[str, Any] | None = None

    def __repr__(self) -> str:
        return f"Endpoint({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:  # what is told holds the API key, and the headers
        return [(name, value) for name, value in self.described.items() if name != "call"]

    @property
    def described(self) -> dict[str, Any]:
        """What decides the answers, without a secret: a journal of another is refused."""
        return {
            "call": "requests",
            "url": secret.shown_url(self.url),
            "api": self.told["api"],
            "model": self.model,
            "output_tokens": self.output_tokens,
            "extra_body": self.stored_body,
        }

    def bodies(self, requests: Sequence[Any]) -> tuple[_core.Bodies, None]:
        """Render all bodies of a batch.

        Args:
            requests: Prompts, messages or whole bodies.

        Raises:
            ConfigError: As :meth:`body`.
        """
        return _core.Bodies([self.body(request) for request in requests]), None

    def value(self, ended: Ended) -> Answer:
        """Return what a good request brought.

        Args:
            ended: As the engine tells it.
        """
        return answer_of(ended)

    def words(self, ended: Ended) -> str:
        """Return why a request failed, in the server's words; empty where there are none.

        Args:
            ended: As the engine tells it.
        """
        return ended[at.ERROR] or ""

    def look(self, nodes: Sequence[Any]) -> None:
        """Take no notice of what the policy knows of the only node."""

    def body(self, request: Any) -> bytes:
        """Render a request's body.

        Args:
            request: A prompt, messages or a whole body.

        Raises:
            ConfigError: If it is none of these, or can't be sent.
        """
        if isinstance(request, str):
            return self._rendered(Sample(prompt=request))
        if isinstance(request, Mapping):
            return self._whole(request)
        if isinstance(request, Sequence) and all(isinstance(message, Mapping) for message in request) and request:
            return self._rendered(Sample(messages=[dict(message) for message in request]))
        raise ConfigError(
            f"a request is {type(request).__name__}", "give a prompt, a list of messages, or a whole body as a mapping"
        )

    def _rendered(self, sample: Sample) -> bytes:
        body, _ = endpoint.render(
            self.told["api"],
            sample,
            model=self.model,
            output_tokens=self.output_tokens,
            extra_body=self.extra_body,
        )
        return body

    def _whole(self, given: Mapping[str, Any]) -> bytes:
        ours = next((key for key in secret.STREAM_KEYS if key in given), None)
        if ours is not None:
            raise ConfigError(f'a body may not set "{ours}"', "say stream=True or stream=False for all of them")
        body = {} if self.model is None else {"model": self.model}
        if self.output_tokens is not None and "max_completion_tokens" not in given:
            body["max_tokens"] = self.output_tokens  # type: ignore[assignment]
        body.update(self.extra_body or {})
        body.update(given)
        if not body:
            raise ConfigError("a body is empty", "give at least its messages")
        try:
            return msgspec.json.encode(body)
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"a body can't be sent as JSON: {error}") from None


def endpoint_of(url: str, given: Mapping[str, Any]) -> Endpoint:
    """Read how requests are made.

    Args:
        url: Where they go: ``http://…``, ``https://…`` or ``unix:PATH``; the API's path is added where it is missing.
        given: The options by name.

    Raises:
        ConfigError: If an option is unknown, or its value can't be used.
    """
    check_options(given, RequestOptions.__annotations__)
    said = {name: value for name, value in given.items() if value is not None}

    def value(name: str, read: Any, default: Any = None) -> Any:
        return _read(name, said[name], read) if name in said else default

    headers = value("headers", lambda given: secret.headers(dict(given) if isinstance(given, Mapping) else given), ())
    extra = value("extra_body", lambda given: secret.extra_body(_mapping(given)))
    told = {
        "api": value("api", values.choice("chat", "completions"), "chat"),
        "stream": value("stream", values.flag, default=False),
        "http2": value("http2", values.flag, default=False),
        "insecure": value("insecure", values.flag, default=False),
        "cacert": value("cacert", values.path),
        "cert": value("cert", values.path),
        "key": value("key", values.path),
        "proxy": value("proxy", target.proxy),
        "headers": [(header.name, header.value) for header in headers],
        "api_key": value("api_key_env", lambda name: secret.key_from_env(values.text(name), needed=True)),
        "connect_timeout_s": value("connect_timeout", values.duration, 10.0),
    }
    return Endpoint(
        url=_read("url", url, target.remote),
        told=told,
        model=value("model", values.text),
        output_tokens=value("output_tokens", values.count32),
        extra_body=None if extra is None else extra.sent,
        stored_body=None if extra is None else extra.stored,
    )


def _read(name: str, given: Any, read: Callable[[Any], Any]) -> Any:
    try:
        return read(given)
    except ValueError as error:
        shown = "" if name in _SECRET else f"{str(given)[:80]!r} "
        raise ConfigError(f"{name} {shown}{error}") from None


def _mapping(given: Any) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise ValueError("must be a mapping of fields")  # noqa: TRY004  # as all readers of values
    return dict(given)
