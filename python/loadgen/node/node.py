"""One node of a pool, as a user describes it: where it is, what it speaks, how much it takes at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec

from loadgen.config import secret, target, values
from loadgen.config.known import hint
from loadgen.errors import ConfigError

Api: TypeAlias = Literal["openai", "ollama"]
APIS: tuple[Api, ...] = ("openai", "ollama")

MOST_LEARNED = 64
"""The most texts of a request where it is learned how many, and nobody said how many there may be."""

_OLLAMA_PORT = 11434


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """One server that takes items.

    Args:
        url: Its base: ``http://``, ``https://`` or ``unix:PATH``.
        name: What people call it; its URL where it has none.
        api: ``openai`` for what is compatible with OpenAI's, ``ollama`` for Ollama's own. Unless it is said, a server
            on Ollama's port speaks Ollama's.
        capacity: How many items it works on at the same time; ``None`` for one, or for what the mode gives each node.
        batch: Texts that one request may carry, where vectors are asked for: as many as wait, up to these. ``auto``
            learns how many do most a second there: never more than ``capacity``, or 64 where that isn't said.
        weight: How fast it is taken to be, relative to others of its kind, until that is measured.
        labels: What it is; ``gpu`` and ``cpu`` say how fast it is taken to be until that is measured.
        api_key_env: The environment variable that holds its API key.
        cost: What a million tokens cost there, in any currency; ``None`` where nobody told.

    Raises:
        ConfigError: If one of these can't be.
    """

    url: str
    name: str = ""
    api: Api | None = None
    capacity: int | None = None
    batch: int | Literal["auto"] = 1
    weight: float = 1.0
    labels: tuple[str, ...] = ()
    api_key_env: str | None = None
    cost: float | None = None

    def __post_init__(self) -> None:
        for name, read in _READ.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            try:
                msgspec.structs.force_setattr(self, name, read(value))
            except ValueError as error:
                shown = secret.shown_url(str(value)) if name == "url" else repr(value)
                raise ConfigError(f"a node's {name} {shown} {error}") from None
        if not self.name:
            msgspec.structs.force_setattr(self, "name", self.shown)

    def __repr__(self) -> str:
        return f"Node({', '.join(f'{name}={value!r}' for name, value in self.__rich_repr__())})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [(name, self.shown if name == "url" else getattr(self, name)) for name in self.__struct_fields__]

    @property
    def shown(self) -> str:
        """Its URL, without credentials."""
        return secret.shown_url(self.url).rstrip("/")

    @property
    def speaks(self) -> Api:
        """The API it speaks: what was said, or what its port says."""
        if self.api is not None:
            return self.api
        is_ollamas = not self.url.startswith("unix:") and urlsplit(self.url).port == _OLLAMA_PORT
        return "ollama" if is_ollamas else "openai"

    @property
    def learns_batch(self) -> bool:
        """Whether it is learned how many texts a request carries."""
        return self.batch == "auto"

    @property
    def most_batch(self) -> int:
        """The most texts that a request may carry."""
        return self.capacity or MOST_LEARNED if self.batch == "auto" else self.batch

    def room(self, kind: str) -> int | None:
        """Return how many items it works on at the same time: what a request carries, at least; ``None`` if unsaid.

        Args:
            kind: What is asked.
        """
        if kind == "embeddings" and self.most_batch > 1:
            return max(self.capacity or 1, self.most_batch)
        return self.capacity

    @property
    def is_gpu(self) -> bool:
        """Whether it is labelled as one with a GPU."""
        return "gpu" in self.labels

    @property
    def is_cpu(self) -> bool:
        """Whether it is labelled as one without."""
        return "cpu" in self.labels

    def at(self, path: str) -> str:
        """Return the path of one of its API's endpoints.

        Args:
            path: From the root, such as ``/v1/embeddings`` or ``/api/embed``.
        """
        base = "" if self.url.startswith("unix:") else urlsplit(self.url).path.rstrip("/")
        return base.removesuffix("/v1") + path


def nodes_of(given: Iterable[Any]) -> tuple[Node, ...]:
    """Read the nodes of a pool.

    Args:
        given: Each a :class:`Node`, a URL, or a mapping of a node's arguments.

    Raises:
        ConfigError: If there is none, one too many, or two are one; or as :class:`Node`.
    """
    if isinstance(given, (str, bytes, Mapping)):
        raise ConfigError(f"nodes is one {type(given).__name__}", "give a list of nodes")
    nodes = tuple(_node(one) for one in given)
    if not 1 <= len(nodes) <= target.MOST:
        raise ConfigError(f"a pool of {len(nodes)} nodes", f"give 1 to {target.MOST}")
    seen: dict[tuple[Any, ...], Node] = {}
    names: dict[str, Node] = {}
    for node in nodes:
        place = target.place(node.url)
        if place in seen:
            raise ConfigError(
                f"the node {node.shown} is given twice",
                "give it once; capacity says how many items it works on at the same time",
            )
        if node.name in names:
            raise ConfigError(f"two nodes are called {node.name}", "give each a name of its own")
        seen[place] = names[node.name] = node
    return nodes


def _node(given: Any) -> Node:
    if isinstance(given, Node):
        return given
    if isinstance(given, str):
        return Node(url=given)
    if not isinstance(given, Mapping):
        raise ConfigError(f"a node is {type(given).__name__}", "give its URL, or a mapping with url, capacity, …")
    known = Node.__struct_fields__
    for key in given:
        if key not in known:
            raise ConfigError(f"a node has the unknown key {key!r}", hint(key, known))
    if "url" not in given:
        raise ConfigError("a node has no url", "say url: http://127.0.0.1:11434")
    return Node(**given)


def _capacity(value: Any) -> int:
    slots = values.count(value)
    if slots > 10_000:
        raise ValueError("must be at most 10000")
    return slots


def _batch(value: Any) -> int | str:
    if value == "auto":
        return "auto"
    try:
        return _capacity(value)
    except ValueError as error:
        raise ValueError(f"{error}, or auto") from None


def _labels(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)):
        raise ValueError("must be a list of words")  # noqa: TRY004  # as all readers of values
    return tuple(values.text(label).lower() for label in value)


def _name(value: Any) -> str:
    return "" if value == "" else values.text(value)


_READ: dict[str, Callable[[Any], Any]] = {
    "url": target.remote,
    "name": _name,
    "api": values.choice(*APIS),
    "capacity": _capacity,
    "batch": _batch,
    "weight": values.positive,
    "labels": _labels,
    "api_key_env": values.text,
    "cost": values.positive,
}
_OPTIONAL = frozenset({"api", "capacity", "api_key_env", "cost"})
