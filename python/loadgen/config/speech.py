"""What an option is called: a flag on the command line, a keyword in Python and in a file.

An error of the options themselves calls them as they were given. What is found later, by rooms that don't know who
asked, is written in flags; :func:`in_keywords` has it say keywords where a Python function was called.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from loadgen.config.options import OPTIONS
from loadgen.errors import LoadgenError

Speech = Literal["flags", "keywords"]

_NAMES = {*OPTIONS, "config"}
_SUGGESTED = re.compile(r"(: |perhaps )--([a-z][a-z0-9-]+) ([^\s?]*[a-z0-9][^\s?]*)(?=\??$)", re.MULTILINE)
"""A flag with the very value to give, at the end of a line."""
_FLAG = re.compile(r"(?<![\w-])--(no-)?([a-z][a-z0-9-]+)(?: ([A-Z]+)(?![a-z]))?")
"""A flag anywhere, and what stands for its value."""


def spoken_as(name: str, speech: Speech) -> str:
    """Return how an option is called on the command line or in Python."""
    return "--" + name.replace("_", "-") if speech == "flags" else name


def keywords(text: str) -> str:
    """Return a text in which flags of a run are keywords: ``--model NAME`` is ``model=NAME``.

    Args:
        text: What an error says. Flags that are no options of a run, such as ``--help``, stay.
    """
    return _FLAG.sub(_keyword, _SUGGESTED.sub(_suggested, text))


def _suggested(found: re.Match[str]) -> str:
    before, flag, value = found.groups()
    name = flag.replace("-", "_")
    return f"{before}{name}={value!r}" if name in _NAMES else found[0]


def _keyword(found: re.Match[str]) -> str:
    negated, flag, value = found.groups()
    name = flag.replace("-", "_")
    if name not in _NAMES:
        return found[0]
    if negated:
        return f"{name}=False" + (f" {value}" if value else "")
    return f"{name}={value}" if value else name


@contextmanager
def in_keywords() -> Iterator[None]:
    """Have errors say keywords; for the functions that are called from Python."""
    try:
        yield
    except LoadgenError as error:
        error.message, error.way_out = keywords(error.message), keywords(error.way_out)
        error.args = (error.message, error.way_out) if error.way_out else (error.message,)
        raise
