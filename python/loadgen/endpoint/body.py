"""The body of a request: a sample in the form of an API, as compact JSON without its stream keys.

The engine puts ``stream`` and ``stream_options`` in front, because it may have to take the latter back when a server
refuses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from loadgen.config.options import Api
from loadgen.dataset import Message, Sample
from loadgen.errors import ConfigError
from loadgen.speech import option

_TEXTS = {
    "completions": b'"prompt":',
    "ollama_generate": b'"prompt":',
    "embeddings": b'"input":',
    "ollama_embed": b'"input":',
}
"""Where the APIs that know no messages have their text."""

_ENGINES = {
    "stream": "an option of its own says it",
    "stream_options": "the engine sends it with every streamed request",
    "messages": "the dataset gives it",
    "prompt": "the dataset gives it",
    "input": "the dataset gives it",
}


def render(
    api: Api,
    sample: Sample,
    *,
    model: str | None,
    output_tokens: int | None = None,
    extra_body: Mapping[str, Any] | None = None,
) -> tuple[bytes, int]:
    """Render the body of one request.

    Args:
        api: ``chat``, ``completions``, ``embeddings``, or one of Ollama's own: ``ollama_chat``, ``ollama_generate``,
            ``ollama_embed``.
        sample: What to ask. A prompt becomes one user message; a conversation's texts become a completion's prompt.
        model: The model's name; None leaves it to the server.
        output_tokens: Sent as ``max_tokens``, to Ollama as the option ``num_predict``, and not where vectors are asked
            for; None takes the sample's own.
        extra_body: Further keys, merged last: they win over ``model`` and ``max_tokens``.
            ``max_completion_tokens`` takes the place of ``max_tokens``.
    Returns:
        The body, and the byte offset in it, right after the opening quote of its first user text, where a marker
        makes the prompt unlike every other from its beginning on.
    Raises:
        ConfigError: If the API isn't known, or ``extra_body`` holds what isn't its to say or isn't JSON.
    """
    keys = _keys(api, sample, model, output_tokens, extra_body)
    if api in ("chat", "ollama_chat"):
        messages = sample.messages
        if messages is None:
            messages = [{"role": "user", "content": sample.prompt}]
        name, (value, hole) = b'"messages":', _messages(messages)
    elif api in _TEXTS:
        text = sample.prompt if sample.prompt is not None else _plain(sample.messages or [])
        name, (value, hole) = _TEXTS[api], (_json(text), 1)
    else:
        raise ConfigError(f"the API {api!r} is not known", f"one of: {', '.join(get_args(Api))}")
    rest = _encode_extra(keys)
    # `rest` is an object: its keys follow the prompt, without its opening brace.
    body = b"{" + name + value + (b"," + rest[1:] if keys else b"}")
    return body, 1 + len(name) + hole


def _keys(
    api: Api, sample: Sample, model: str | None, output_tokens: int | None, extra_body: Mapping[str, Any] | None
) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    if model is not None:
        keys["model"] = model
    length = output_tokens if output_tokens is not None else sample.output_tokens
    if length is not None and api in ("ollama_chat", "ollama_generate"):
        keys["options"] = {"num_predict": length}
    elif length is not None and api in ("chat", "completions"):
        keys["max_tokens"] = length
    if extra_body:
        for key, reason in _ENGINES.items():
            if key in extra_body:
                raise ConfigError(f'{option("extra_body")} may not set "{key}": {reason}')
        if "max_completion_tokens" in extra_body:
            keys.pop("max_tokens", None)
        options = keys.get("options"), extra_body.get("options")
        keys.update(extra_body)
        if isinstance(options[0], dict) and isinstance(options[1], Mapping):
            keys["options"] = {**options[0], **options[1]}
    return keys


def _encode_extra(keys: dict[str, Any]) -> bytes:
    try:
        return _json(keys)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"{option('extra_body')} can't be sent as JSON: {error}") from error


def _messages(messages: list[Message]) -> tuple[bytes, int]:
    """Encode messages; the offset is where the first user text begins."""
    out = bytearray(b"[")
    hole: int | None = None
    for i, message in enumerate(messages):
        out += b"," if i else b""
        if hole is None and message["role"] == "user":
            encoded, inner = _with_offset(message)
            hole = None if inner is None else len(out) + inner
            out += encoded
        else:
            out += _json(message)
    out += b"]"
    if hole is None:
        raise ConfigError("a conversation without a user message that holds text can't be sent")
    return bytes(out), hole


def _with_offset(message: Message) -> tuple[bytes, int | None]:
    """Encode one message; the offset is where its content's first text begins, None where it has none."""
    out, at = bytearray(b"{"), None
    for key, value in message.items():
        out += (b"," if len(out) > 1 else b"") + _json(key) + b":"
        if key == "content" and isinstance(value, str):
            at = len(out) + 1
        if key == "content" and isinstance(value, list):
            encoded, inner = _parts(value)
            at = None if inner is None else len(out) + inner
            out += encoded
        else:
            out += _json(value)
    return bytes(out + b"}"), at


def _parts(parts: list[Any]) -> tuple[bytes, int | None]:
    """Encode a message's parts; the offset is where the first part's text begins that has one."""
    out, at = bytearray(b"["), None
    for i, part in enumerate(parts):
        out += b"," if i else b""
        if at is None and isinstance(part, dict) and isinstance(part.get("text"), str):
            first = {"text": part["text"], **part}
            at = len(out) + len(b'{"text":"')
            out += _json(first)
        else:
            out += _json(part)
    return bytes(out + b"]"), at


def _plain(messages: list[Message]) -> str:
    """Join a conversation's texts, a blank line between them, for an API that knows no messages."""
    texts: list[str] = []
    for message in messages:
        content = message.get("content")
        if isinstance(content, str):
            texts.append(content)
        elif isinstance(content, list):
            texts += [part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return "\n\n".join(text for text in texts if text)


_json = msgspec.json.Encoder().encode
