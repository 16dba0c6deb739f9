"""Whether a node is there: what it says it serves, how far away it is, and what of it lies in a GPU's memory."""

from __future__ import annotations

import asyncio

import msgspec

from loadgen.config.known import listed
from loadgen.http_get import models_in
from loadgen.node.node import Node
from loadgen.node.wire import Wire

CHECK_S = 2.0
"""How long a node may take to say that it is there."""

_LATEST = ":latest"


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What a node said of itself.

    Args:
        up: Whether it takes requests.
        reason: Why it doesn't.
        ping_s: Seconds of a small question and its answer on a connection that is there: the network, and no inference.
        models: What it serves; ``None`` where it doesn't say.
        vram_bytes: What lies in a GPU's memory; ``None`` where it doesn't say.
        model_bytes: What is loaded in all; ``None`` where it doesn't say.
    """

    up: bool
    reason: str = ""
    ping_s: float | None = None
    models: tuple[str, ...] | None = None
    vram_bytes: int | None = None
    model_bytes: int | None = None

    def lacks(self, model: str) -> str:
        """Return why it can't be asked for a model; empty if it can.

        Args:
            model: Its name; for Ollama ``:latest`` may be left out.
        """
        if not self.up:
            return self.reason
        if not self.models or not model or model in self.models or f"{model}{_LATEST}" in self.models:
            return ""
        return f"it has no model {model}: there are {listed(self.models)}"


class _Tag(msgspec.Struct):
    name: str
    size: int = 0
    size_vram: int | None = None


class _Tags(msgspec.Struct):
    models: list[_Tag]


async def check(wire: Wire, node: Node) -> Health:
    """Ask a node how it is; it has two seconds.

    Args:
        wire: The connections.
        node: Which.
    """
    try:
        async with asyncio.timeout(CHECK_S):
            return await (_ollama(wire, node) if node.speaks == "ollama" else _openai(wire, node))
    except TimeoutError:
        return Health(up=False, reason=f"it did not answer within {CHECK_S:g} s")
    except ConnectionRefusedError:
        return Health(up=False, reason="connection refused")
    except OSError as error:
        return Health(up=False, reason=str(error) or type(error).__name__)


async def check_alone(node: Node) -> Health:
    """Ask one node how it is, on a connection of its own.

    Args:
        node: Which.
    """
    async with Wire() as wire:
        return await check(wire, node)


async def _openai(wire: Wire, node: Node) -> Health:
    reply = await wire.get(node, "/v1/models")
    ping_s, _ = await _timed(wire, node, "/v1/models")
    if reply.status in (404, 405, 501):  # it needn't have a list
        return Health(up=True, ping_s=ping_s)
    if reply.status != 200:
        return Health(up=False, reason=_refusal(reply.status, "/v1/models"))
    models = models_in(reply.body)
    if models is None:
        return Health(up=False, reason="what it lists at /v1/models are no models: is it another API?")
    return Health(up=True, ping_s=ping_s, models=models)


async def _ollama(wire: Wire, node: Node) -> Health:
    reply = await wire.get(node, "/api/tags")
    tags = _tags(reply.body) if reply.status == 200 else None
    if tags is None:
        reason = f"{_refusal(reply.status, '/api/tags')}: does it speak Ollama's API? If not, say api: openai"
        return Health(up=False, reason=reason)
    ping_s, loaded = await _timed(wire, node, "/api/ps")
    there = _tags(loaded)
    tells = there is not None and any(model.size_vram is not None for model in there.models)
    return Health(
        up=True,
        ping_s=ping_s,
        models=tuple(model.name for model in tags.models),
        vram_bytes=sum(model.size_vram or 0 for model in there.models) if there is not None and tells else None,
        model_bytes=sum(model.size for model in there.models) if there is not None and tells else None,
    )


async def _timed(wire: Wire, node: Node, path: str) -> tuple[float, bytes]:
    loop = asyncio.get_running_loop()
    began = loop.time()
    reply = await wire.get(node, path)
    return loop.time() - began, reply.body


def _refusal(status: int, path: str) -> str:
    if status in (401, 403):
        return f"it answered {status} to {path}: say api_key_env"
    return f"it answered {status} to {path}"


def _tags(body: bytes) -> _Tags | None:
    try:
        return msgspec.json.decode(body, type=_Tags)
    except (msgspec.DecodeError, RecursionError):
        return None
