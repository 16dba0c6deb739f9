"""What a node is asked, in the API that it speaks, and what is read from its answer: the one place that knows both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Self, TypeAlias, TypedDict

import msgspec

from loadgen import endpoint
from loadgen.config.known import no_choice
from loadgen.dataset import Sample
from loadgen.dispatch import ended as at
from loadgen.dispatch.current import attempt
from loadgen.dispatch.ended import Ended
from loadgen.dispatch.requests import answer_of
from loadgen.errors import RequestError
from loadgen.node.group import Groups
from loadgen.node.node import Node
from loadgen.node.post import Post
from loadgen.node.wire import key_of

Kind: TypeAlias = Literal["embeddings", "chat", "completions"]
KINDS: tuple[Kind, ...] = ("embeddings", "chat", "completions")

_OLLAMA: dict[str, endpoint.Api] = {
    "embeddings": "ollama_embed",
    "chat": "ollama_chat",
    "completions": "ollama_generate",
}
_OF_THE_NODE = frozenset({401, 403, 404, 405, 501})
"""Statuses that speak of how a node is set up: another one may do what this one can't."""

CONNECT_S = 5.0
"""The longest that a connection may take."""


class AskOptions(TypedDict, total=False):
    """What may be said of each request.

    Args:
        output_tokens: Most tokens of an answer.
        extra_body: Further fields of the body.
    """

    output_tokens: int | None
    extra_body: dict[str, Any] | None


class Asking:
    """Calls nodes with texts: a function of a node and an item; used as an async context.

    Args:
        nodes: The nodes.
        kind: What is asked.
        model: Of which model.
        output_tokens: Most tokens of an answer.
        extra_body: Further fields of each body.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        kind: Kind,
        model: str,
        output_tokens: int | None = None,
        extra_body: dict[str, Any] | None = None,
    ) -> None:
        self._places = {node: place for place, node in enumerate(nodes)}
        self._kind = kind
        self._model = model
        self._output_tokens = output_tokens
        self._extra_body = extra_body
        self._groups = Groups(self._vectors, lambda most: attempt().room(most))
        self._post = Post(lambda: self.told(nodes), [self.api(node) for node in nodes])
        # What a journal knows the calls by: with another model or other fields it is another one's.
        self.__qualname__ = f"{kind}({model}, {output_tokens}, {extra_body})"

    async def __aenter__(self) -> Self:
        await self._post.__aenter__()
        return self

    async def __aexit__(self, *ending: object) -> None:
        await self._post.__aexit__(*ending)

    def groups(self, node: Node) -> bool:
        """Return whether a request to a node carries several items: which of them, is decided as they start."""
        return self._kind == "embeddings" and node.most_batch > 1

    async def __call__(self, node: Node, item: Any) -> Any:
        """Ask a node, and return the vector or the :class:`~loadgen.dispatch.Answer` that it gave.

        Args:
            node: Which.
            item: A text; for chat also the messages of a conversation.

        Raises:
            RequestError: If it can't be reached, or answers something else than what was asked for.
        """
        if self.groups(node):
            value, tokens = await self._groups.ask(node, item)
        else:
            ended = await self._ask(node, self.body(self.api(node), item))
            value, tokens = self.value(node, ended), (ended[at.TOKENS_IN] or 0, ended[at.TOKENS_OUT] or 0)
        attempt().used(*tokens)
        return value

    async def _vectors(self, node: Node, texts: Sequence[str]) -> list[tuple[list[float], tuple[int, int]]]:
        """Have some texts embedded by one request; each with its part of the tokens."""
        keys = {"model": self._model} if self._model else {}
        ended = await self._ask(node, msgspec.json.encode({"input": list(texts), **keys, **(self._extra_body or {})}))
        vectors = _vectors_of(node, self.api(node), ended)
        if len(vectors) != len(texts):
            raise RequestError(f"{node.name} answered {len(vectors)} vectors for {len(texts)} texts", failure="body")
        share, over = divmod(ended[at.TOKENS_IN] or 0, len(texts))
        return [(vector, (share + (place < over), 0)) for place, vector in enumerate(vectors)]

    async def _ask(self, node: Node, body: bytes) -> Ended:
        ended = await self._post.ask(self._places[node], body)
        failure, status, again_ns = ended[at.FAILURE], ended[at.STATUS], ended[at.RETRY_AFTER_NS]
        if failure == "none":
            return ended
        # A status that speaks of the node says nothing of the item.
        judged = 0 if failure != "http" or status in _OF_THE_NODE else status
        error = RequestError(words(node, ended), failure=failure, status=judged)
        if again_ns is not None:
            error.headers = {"retry-after-ms": str(again_ns / 1e6)}  # type: ignore[attr-defined]  # as clients have it
        raise error

    def api(self, node: Node) -> endpoint.Api:
        """Return the API of what is asked of a node."""
        return _OLLAMA[self._kind] if node.speaks == "ollama" else self._kind

    def told(self, nodes: Sequence[Node]) -> dict[str, Any]:
        """Return nodes and how they are spoken to, in the engine's words (``RunConfig``).

        Args:
            nodes: Which, in the order in which they are numbered.

        Raises:
            ConfigError: If one's key isn't there.
        """
        return {
            "nodes": [{"url": node.url, "api": self.api(node), "api_key": key_of(node)} for node in nodes],
            "api": self.api(nodes[0]),
            "stream": False,
            "connect_timeout_s": CONNECT_S,
        }

    def body(self, api: endpoint.Api, item: Any) -> bytes:
        """Render what is asked, in an API.

        Args:
            api: Which.
            item: A text, or messages.

        Raises:
            ConfigError: If it is none, or ``extra_body`` can't be used.
        """
        sample = Sample(messages=list(item)) if isinstance(item, (list, tuple)) else Sample(prompt=item)
        body, _ = endpoint.render(
            api,
            sample,
            model=self._model or None,
            output_tokens=None if self._kind == "embeddings" else self._output_tokens,
            extra_body=self._extra_body,
        )
        return body

    def value(self, node: Node, ended: Ended) -> Any:
        """Return the vector or answer of a good request.

        Args:
            node: Where it came from.
            ended: As the engine tells it.

        Raises:
            RequestError: If it isn't what was asked for.
        """
        return _vectors_of(node, self.api(node), ended)[0] if self._kind == "embeddings" else answer_of(ended)


def kind_of(value: Any) -> Kind:
    """Read what is asked.

    Raises:
        ConfigError: If it is none; with the choices.
    """
    if value not in KINDS:
        raise no_choice("kind", value, KINDS)
    return value  # type: ignore[no-any-return]


def words(node: Node, ended: Ended) -> str:
    """Return why a request to a node failed, for a person.

    Args:
        node: The node.
        ended: As the engine tells it.
    """
    failure, detail, said = ended[at.FAILURE], ended[at.DETAIL], ended[at.ERROR] or ""
    if failure == "http":
        return f"{node.name} answered {said.removeprefix('HTTP ')}"
    return f"{node.name}: {said or (failure if detail == 'none' else f'{failure}: {detail}')}"


class _Vector(msgspec.Struct):
    embedding: list[float]
    index: int = 0


class _Vectors(msgspec.Struct):
    data: list[_Vector]


class _OllamaVectors(msgspec.Struct):
    embeddings: list[list[float]]


def _vectors_of(node: Node, api: str, ended: Ended) -> list[list[float]]:
    """Read the vectors of an answer, of which the engine keeps the JSON."""
    said = ended[at.TEXT] or ""
    try:
        if api == "ollama_embed":
            vectors = msgspec.json.decode(said, type=_OllamaVectors).embeddings
        else:
            data = msgspec.json.decode(said, type=_Vectors).data
            vectors = [one.embedding for one in sorted(data, key=lambda one: one.index)]
    except (msgspec.DecodeError, RecursionError) as error:
        raise RequestError(f"what {node.name} answered holds no vectors: {error}", failure="body") from None
    if not vectors:
        raise RequestError(f"what {node.name} answered holds no vectors", failure="body")
    return vectors
