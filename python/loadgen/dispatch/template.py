"""A template: the body or prompt of a call, with places for what differs from call to call.

``{item}``, ``{row}`` and ``{col}`` stand for what a call is made of, ``{item.name}`` for a field of it, and
``{{item}}`` for the text ``{item}``. Nothing else is special, so JSON's own braces need no care, and what is filled in
is never read again.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from loadgen.errors import ConfigError, DatasetError

_PLACE = re.compile(r"\{(\{)?(item|row|col)((?:\.[^\s{}.]+)*)\}(?(1)\})")
_MOST = 16 << 20


class Template:
    """What is sent for a call, once its places are filled in.

    Args:
        text: A prompt, or a body in JSON (an object).
        name: What errors call it.

    Raises:
        ConfigError: If it has no place to fill in.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.body = _body(text, name)
        """The body with its places; None for a template that is a prompt."""
        self._text = text
        self.places = frozenset(
            found[2] for part in _texts(self.body or text) for found in _PLACE.finditer(part) if not found[1]
        )
        """Which of ``item``, ``row`` and ``col`` it uses."""
        if not self.places:
            raise ConfigError(
                f"the template {name} has no place to fill in, so all calls would be the same",
                "write {item} where an item belongs, {item.NAME} for a field of it, or {row} and {col} for a grid",
            )

    @property
    def digest(self) -> str:
        """What tells this template from others, for a journal."""
        return hashlib.sha256(self._text.encode()).hexdigest()[:16]

    def check(self, given: frozenset[str], way_out: str) -> None:
        """Raise unless a template uses just what there is.

        Args:
            given: What there is: ``item``, or ``row`` and ``col``.
            way_out: How the user gives what lacks.

        Raises:
            ConfigError: If it uses what there isn't, or leaves out what would make calls differ.
        """
        for place in sorted(self.places - given):
            raise ConfigError(f"the template {self.name} uses {{{place}}}, and there is none", way_out)
        for place in sorted(given - self.places):
            raise ConfigError(
                f"the template {self.name} doesn't use {{{place}}}, so calls would repeat each other",
                f"write {{{place}}} where it belongs",
            )

    def prompt(self, of: Mapping[str, Any]) -> str:
        """Return the prompt of a call.

        Args:
            of: What stands for ``item``, or for ``row`` and ``col``.

        Raises:
            DatasetError: If it lacks a field that the template names.
        """
        return _filled(self._text, of)

    def request(self, of: Mapping[str, Any]) -> dict[str, Any]:
        """Return the body of a call; a text that is nothing but a place becomes the value itself, a number say.

        Args:
            of: As for :meth:`prompt`.

        Raises:
            DatasetError: As for :meth:`prompt`.
        """
        assert self.body is not None
        body = _filled_in(self.body, of)
        assert isinstance(body, dict)
        return body


def read(path: str) -> Template:
    """Read a template from a file.

    Args:
        path: UTF-8 text: a prompt, or a body in JSON.

    Raises:
        ConfigError: If it can't be read, or has no place to fill in.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MOST + 1)
    except OSError as error:
        raise ConfigError(f"can't read the template {path}: {error.strerror or error}") from None
    if len(data) > _MOST:
        raise ConfigError(f"the template {path} is larger than {_MOST >> 20} MiB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"the template {path} is not UTF-8 text (byte {error.start})") from None
    if not text.strip():
        raise ConfigError(f"the template {path} is empty")
    return Template(text.removesuffix("\n"), path)


def _body(text: str, name: str) -> dict[str, Any] | None:
    """Return a template's JSON object; None where it is a prompt."""
    is_json = name.lower().endswith(".json")
    if not is_json and not text.lstrip().startswith("{"):
        return None
    try:
        body = msgspec.json.decode(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        if is_json:
            raise ConfigError(f"the template {name} is not JSON: {error}", "places stand within texts") from None
        return None  # a prompt that begins with a brace
    if isinstance(body, dict):
        return body
    if is_json:
        raise ConfigError(f"the template {name} is not a JSON object", 'such as {"messages": […]}')
    return None


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _filled_in(value: Any, of: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        found = _PLACE.fullmatch(value)
        return _value(found, of) if found is not None and not found[1] else _filled(value, of)
    if isinstance(value, list):
        return [_filled_in(item, of) for item in value]
    if isinstance(value, dict):
        return {key: _filled_in(item, of) for key, item in value.items()}
    return value


def _filled(text: str, of: Mapping[str, Any]) -> str:
    return _PLACE.sub(lambda found: found[0][1:-1] if found[1] else _text(_value(found, of)), text)


def _value(found: re.Match[str], of: Mapping[str, Any]) -> Any:
    value = of[found[2]]
    for name in found[3].split(".")[1:]:
        if isinstance(value, Mapping) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            fields = f" (fields: {', '.join(map(str, value))})" if isinstance(value, Mapping) else ""
            raise DatasetError(f"no {found[0]} in {_cut(_text(of[found[2]]))}{fields}")
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _cut(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:79]}…"
