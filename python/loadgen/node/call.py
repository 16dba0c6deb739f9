"""What a node is asked, in the API that it speaks, and what is read from its answer: the one place that knows both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

import msgspec

from loadgen import endpoint
from loadgen.dataset import Sample
from loadgen.dispatch.current import attempt
from loadgen.dispatch.requests import Answer
from loadgen.errors import ConfigError, RequestError
from loadgen.node.group import Groups
from loadgen.node.node import Node
from loadgen.node.wire import Reply, Wire

Kind: TypeAlias = Literal["embeddings", "chat", "completions"]
KINDS: tuple[Kind, ...] = ("embeddings", "chat", "completions")

_OLLAMA: dict[str, endpoint.Api] = {
    "embeddings": "ollama_embed",
    "chat": "ollama_chat",
    "completions": "ollama_generate",
}
_PATHS: dict[str, str] = {
    "embeddings": "/v1/embeddings",
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "ollama_embed": "/api/embed",
    "ollama_chat": "/api/chat",
    "ollama_generate": "/api/generate",
}

_OF_THE_NODE = frozenset({401, 403, 404, 405, 501})
"""Statuses that speak of how a node is set up: another one may do what this one can't."""


class AskOptions(TypedDict, total=False):
    """What may be said of each request.

    Args:
        output_tokens: Most tokens of an answer.
        extra_body: Further fields of the body.
    """

    output_tokens: int | None
    extra_body: dict[str, Any] | None


class Asking:
    """Calls nodes with texts: a function of a node and an item.

    Args:
        wire: The connections.
        kind: What is asked.
        model: Of which model.
        output_tokens: Most tokens of an answer.
        extra_body: Further fields of each body.
    """

    def __init__(
        self,
        wire: Wire,
        kind: Kind,
        model: str,
        output_tokens: int | None = None,
        extra_body: dict[str, Any] | None = None,
    ) -> None:
        self._wire = wire
        self._kind = kind
        self._model = model
        self._output_tokens = output_tokens
        self._extra_body = extra_body
        self._groups = Groups(self._vectors, lambda most: attempt().room(most))
        # What a journal knows the calls by: with another model or other fields it is another one's.
        self.__qualname__ = f"{kind}({model}, {output_tokens}, {extra_body})"

    async def __call__(self, node: Node, item: Any) -> Any:
        """Ask a node, and return the vector or the :class:`~loadgen.dispatch.Answer` that it gave.

        Args:
            node: Which.
            item: A text; for chat also the messages of a conversation.

        Raises:
            RequestError: If it answers something else than what was asked for.
            OSError: If it can't be reached.
        """
        if self._kind == "embeddings" and node.most_batch > 1:
            value, tokens = await self._groups.ask(node, item)
        else:
            value, tokens = await self._ask(node, self._api(node), lambda api: self._body(api, item))
            if self._kind == "embeddings":
                value = value[0]
        attempt().used(*tokens)
        return value

    async def _vectors(self, node: Node, texts: Sequence[str]) -> list[tuple[list[float], tuple[int, int]]]:
        """Have some texts embedded by one request; each with its part of the tokens."""
        keys = {"model": self._model} if self._model else {}
        body = msgspec.json.encode({"input": list(texts), **keys, **(self._extra_body or {})})
        vectors, (tokens, _) = await self._ask(node, self._api(node), lambda _: body)
        if len(vectors) != len(texts):
            raise RequestError(f"{node.name} answered {len(vectors)} vectors for {len(texts)} texts", failure="body")
        share, over = divmod(tokens, len(texts))
        return [(vector, (share + (place < over), 0)) for place, vector in enumerate(vectors)]

    def _api(self, node: Node) -> endpoint.Api:
        return _OLLAMA[self._kind] if node.speaks == "ollama" else self._kind

    async def _ask(self, node: Node, api: endpoint.Api, body: Callable[[endpoint.Api], bytes]) -> _Read:
        reply = await self._wire.ask(node, "POST", _PATHS[api], body(api))
        if reply.status != 200:
            raise _refused(node, reply)
        try:
            return _READ[api](reply.body)
        except (msgspec.DecodeError, IndexError, RecursionError) as error:
            raise RequestError(
                f"what {node.name} answered is no answer of {_PATHS[api]}: {error}", failure="body"
            ) from None

    def _body(self, api: endpoint.Api, item: Any) -> bytes:
        sample = Sample(messages=list(item)) if isinstance(item, (list, tuple)) else Sample(prompt=item)
        body, _ = endpoint.render(
            api,
            sample,
            model=self._model or None,
            output_tokens=None if self._kind == "embeddings" else self._output_tokens,
            extra_body=self._extra_body,
        )
        if api in ("ollama_chat", "ollama_generate"):  # which stream unless they are told not to
            body = b'{"stream":false,' + body[1:]
        return body


def kind_of(value: Any) -> Kind:
    """Read what is asked.

    Raises:
        ConfigError: If it is none; with the choices.
    """
    if value not in KINDS:
        raise ConfigError(f"kind {value!r} is none", f"choose one of {', '.join(KINDS)}")
    return value  # type: ignore[no-any-return]


def _refused(node: Node, reply: Reply) -> RequestError:
    status = 0 if reply.status in _OF_THE_NODE else reply.status
    error = RequestError(f"{node.name} answered {reply.status}{_words(reply.body)}", failure="http", status=status)
    error.headers = reply.headers  # type: ignore[attr-defined]  # what the policy learns to wait from
    return error


class _Wrong(msgspec.Struct):
    error: Any = None
    detail: Any = None


def _words(body: bytes) -> str:
    """Return what a server said of its refusal, cut."""
    try:
        wrong = msgspec.json.decode(body, type=_Wrong)
    except (msgspec.DecodeError, RecursionError):
        return ""
    said = wrong.error.get("message") if isinstance(wrong.error, dict) else wrong.error or wrong.detail
    return f": {said[:200]}" if isinstance(said, str) and said else ""


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]
    usage: _Usage | None = None


class _Said(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    message: _Said | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Choices(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


class _OllamaVectors(msgspec.Struct):
    embeddings: list[list[float]]
    prompt_eval_count: int = 0


class _OllamaSaid(msgspec.Struct):
    done: bool
    done_reason: str = ""
    message: _Said | None = None
    response: str | None = None
    prompt_eval_count: int = 0
    eval_count: int = 0


_Read: TypeAlias = tuple[Any, tuple[int, int]]


def _in_order(body: bytes) -> _Read:
    got = msgspec.json.decode(body, type=_Vectors)
    vectors = [one.embedding for one in sorted(got.data, key=lambda one: one.index)]
    return _some(vectors), _tokens(got.usage)


def _text(body: bytes) -> _Read:
    got = msgspec.json.decode(body, type=_Choices)
    first = got.choices[0]
    text = first.text if first.message is None else first.message.content
    return _answer(text, first.finish_reason or "", _tokens(got.usage))


def _ollama_vectors(body: bytes) -> _Read:
    got = msgspec.json.decode(body, type=_OllamaVectors)
    return _some(got.embeddings), (got.prompt_eval_count, 0)


def _some(vectors: list[list[float]]) -> list[list[float]]:
    if not vectors:
        raise IndexError("it holds no vector")
    return vectors


def _ollama_text(body: bytes) -> _Read:
    got = msgspec.json.decode(body, type=_OllamaSaid)
    text = got.response if got.message is None else got.message.content
    return _answer(text, got.done_reason, (got.prompt_eval_count, got.eval_count))


def _answer(text: str | None, finish: str, tokens: tuple[int, int]) -> _Read:
    return Answer(text or "", finish=finish, tokens_in=tokens[0] or None, tokens_out=tokens[1] or None), tokens


def _tokens(usage: _Usage | None) -> tuple[int, int]:
    return (0, 0) if usage is None else (usage.prompt_tokens, usage.completion_tokens)


_READ: dict[str, Callable[[bytes], _Read]] = {
    "embeddings": _in_order,
    "chat": _text,
    "completions": _text,
    "ollama_embed": _ollama_vectors,
    "ollama_chat": _ollama_text,
    "ollama_generate": _ollama_text,
}
