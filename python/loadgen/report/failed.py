"""What failed, in words: a line for each kind of failure, and what its server said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadgen.report import figures
from loadgen.shown import plain

_CLASSES = {
    "connect": "no connection",
    "tls": "no secure connection",
    "timeout": "timed out",
    "stall": "stalled",
    "protocol": "broke the protocol",
    "body": "broken answer",
}
_LONGEST = 300
_KINDS = 6


def lines(details: Sequence[dict[str, Any]], asked: dict[str, Any]) -> list[str]:
    """Return a line for each kind of failure, the first few of them.

    Args:
        details: Kinds of failures, as a phase's report has them.
        asked: The options that the phase ran with.
    """
    found = [line(detail, asked) for detail in details[:_KINDS]]
    rest = sum(detail["count"] for detail in details[_KINDS:])
    if rest:
        kinds = figures.many(len(details) - _KINDS, "other kind")
        found.append(f"{figures.whole(rest)} more, of {kinds}: see report.json")
    return found


def line(detail: dict[str, Any], asked: dict[str, Any]) -> str:
    """Return one kind of failure, in words: how many, of what class, why, and the first requests of it.

    Args:
        detail: As in :func:`lines`.
        asked: As in :func:`lines`.
    """
    more = plain(str(detail["words"]))
    # Where the log's documents are damaged, nothing tells the limit.
    if detail["class"] == "stall" and asked.get("stall_timeout") is not None:
        more = f"no byte for {figures.clock(asked['stall_timeout'])}"
    elif detail["class"] == "timeout" and asked.get("timeout") is not None:
        more = f"after {figures.clock(asked['timeout'])}"
    message = said(detail)
    text = f"{figures.whole(detail['count'])} × {words(detail['class'])}"
    text += (f" ({more})" if more else "") + (f": {message}" if message and message != more else "")
    ids = detail["requests"][:3]
    if not ids:
        return text
    numbers = ", ".join(str(number) for number in ids) + (", …" if detail["count"] > len(ids) else "")
    return f"{text}   request{'s' if detail['count'] > 1 else ''} {numbers}"


def said(detail: dict[str, Any]) -> str:
    """Return what there is to say of a kind of failure beside its class: the server's words, else the rule broken."""
    message = plain(str(detail.get("message") or "")).strip()
    if detail["class"] == "connect" or not message:
        return plain(str(detail.get("words") or ""))  # the system's words for it say no more, at greater length
    return message.removeprefix(f"{words(detail['class'])}: ")[:_LONGEST]


def words(name: str) -> str:
    """Return a class of failures in words."""
    if name.startswith("http_"):
        return f"HTTP {name.removeprefix('http_')}"
    return _CLASSES.get(name, plain(name))
