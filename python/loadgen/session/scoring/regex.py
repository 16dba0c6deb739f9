"""Regular expressions: what a pattern takes from an answer, against the target; or whether it is there at all."""

from __future__ import annotations

import re
from functools import cached_property
from typing import Any, ClassVar

from loadgen.dataset import Sample
from loadgen.session.scoring.score import MOST_TEXT, NO_TARGET, BuiltIn, Score, references

NO_MATCH = "no match"
_SHOWN = 200


class RegexMatch(BuiltIn, frozen=True, dict=True):
    """Compares what a pattern's group takes from an answer with the target: 1 where they are the same text, else 0.

    The pattern is searched in the answer; its last match counts, white space around what it takes doesn't. A pattern
    without a group takes nothing: then the score is 1 where it is found and 0 where not, and no target is needed.

    The pattern is yours and the text is the model's, so only the last 65,536 characters of an answer are searched. A
    pattern that repeats a repetition, such as ``(a+)+``, can still take for ever on fewer: write it without.

    Args:
        pattern: In Python's syntax (``re``).
        group: The group to compare, by number or name; ``None`` for the first that the pattern has.
        ignore_case: Compare, and search, without upper and lower case.
    """

    name: ClassVar[str] = "regex"
    pattern: str
    group: int | str | None = None
    ignore_case: bool = False

    def __post_init__(self) -> None:
        try:
            compiled = self._compiled
        except re.error as error:
            raise ValueError(f"{self.pattern!r} is not a regular expression: {error}") from None
        if self.group is not None and self.group not in {*range(compiled.groups + 1), *compiled.groupindex}:
            known = ", ".join(map(str, [*range(1, compiled.groups + 1), *compiled.groupindex])) or "none"
            raise ValueError(f"{self.pattern!r} has no group {self.group!r} (it has: {known})")

    @property
    def words(self) -> str:
        """What it does, in words."""
        return f"regular expression {self.pattern}"

    @property
    def needs(self) -> str:  # type: ignore[override]
        """What it takes beside the answer."""
        return "target" if self._taken is not None else "nothing"

    @cached_property
    def _compiled(self) -> re.Pattern[str]:
        return re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)

    @property
    def _taken(self) -> int | str | None:
        return self.group if self.group is not None else 1 if self._compiled.groups else None

    def score(self, answer: str, target: Any, sample: Sample) -> Score:  # noqa: ARG002
        """Score an answer."""
        last = None
        for last in self._compiled.finditer(answer[-MOST_TEXT:]):  # noqa: B007
            pass
        taken = self._taken
        if taken is None:
            return Score(float(last is not None), extracted=None if last is None else last[0][:_SHOWN])
        allowed = [str(entry).strip() for entry in references(target)]
        if not allowed:
            return Score(None, note=NO_TARGET)
        if last is None or last[taken] is None:
            return Score(None, note=NO_MATCH, target=allowed[0][:_SHOWN])
        said = str(last[taken]).strip()
        hit = next((entry for entry in allowed if self._same(said, entry)), None)
        return Score(float(hit is not None), extracted=said[:_SHOWN], target=(hit or allowed[0])[:_SHOWN])

    def _same(self, one: str, other: str) -> bool:
        return one.casefold() == other.casefold() if self.ignore_case else one == other
