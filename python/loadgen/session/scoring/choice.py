"""Multiple choice: the option that an answer takes, by its letter or its text."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from loadgen.dataset import Sample
from loadgen.session.scoring.score import MOST_TEXT, NO_TARGET, BuiltIn, Score

NO_OPTION = "no option found"
UNKNOWN_TARGET = "the target is none of the options"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPAN = 300
_MARKS = " \t\r\n*_`$\"'"
_WHOLE = re.compile(r"[(\[]?(?P<letter>[A-Za-z])[)\].:,]{0,2}")
_LEADING = re.compile(r"(?:\((?P<round>[a-z])\)|(?P<plain>[A-Z])(?:[.):]|\*\*))(?=\s|\*|$)")
_PHRASE = re.compile(
    r"\b(?:answer|option|choice)[*_\s]{0,4}(?:(?:is|would be|will be)\b[*_\s]{0,4}:?|[:=])", re.IGNORECASE
)
_NAMED = re.compile(
    r"(?:(?:option|choice|letter)\s)?[(\[{]?(?P<letter>[A-Z])(?P<end>[)\]}.,:;!*]|\s|$)(?P<next>\s?[a-z]+)?"
)
_REASONS = frozenset(("because", "since", "as", "for", "is", "and", "which", "with"))
_BOX = re.compile(r"\\boxed\s?\{(?:\\text\s?\{)?\(?(?P<letter>[A-Za-z])\)?\}")
_LONE = re.compile(r"\((?P<letter>[A-Z])\)")
_SPACES = re.compile(r"\s+")


class MultipleChoice(BuiltIn, frozen=True):
    r"""Scores 1 where an answer takes the target's option, else 0.

    The option is, of what applies first: the answer is but a letter (``B``, ``(b)``, ``**B.**``) or an option's text;
    the last ``\boxed{B}``; the letter or text after the last "answer is", "answer:" or "option:"; a letter that the
    answer begins with (``B) …``); the last letter in round brackets; the one option whose text the answer holds. Only
    letters of options count: of the record's ``choices``, or A to Z where it has none. Only the last 65,536 characters
    of an answer are read.
    """

    name: ClassVar[str] = "choice"
    needs: ClassVar[str] = "choices"

    @property
    def words(self) -> str:
        """What it does, in words."""
        return "multiple choice"

    def score(self, answer: str, target: Any, sample: Sample) -> Score:
        """Score an answer."""
        if target is None:
            return Score(None, note=NO_TARGET)
        choices = sample.choices or []
        letters = _LETTERS[: len(choices)] or _LETTERS
        right = str(target).strip().upper()
        if len(right) != 1 or right not in letters:
            return Score(None, note=UNKNOWN_TARGET, target=str(target)[:_SPAN])
        taken = option(answer, choices)
        if taken is None:
            return Score(None, note=NO_OPTION, target=right)
        return Score(float(taken == right), extracted=taken, target=right)


def option(answer: str, choices: list[str]) -> str | None:
    """Return the letter of the option that an answer takes.

    Args:
        answer: Any text; its last 65,536 characters are read.
        choices: The options' texts; empty where they are not known, which allows every letter.
    """
    text = answer[-MOST_TEXT:].strip(_MARKS)
    letters = _LETTERS[: len(choices)] or _LETTERS
    plain = {_plain(choice): letter for choice, letter in zip(choices, _LETTERS, strict=False)}
    found = _WHOLE.fullmatch(text)
    said = found["letter"].upper() if found is not None else plain.get(_plain(text))
    said = said or _last(_BOX, text) or _after_phrase(text, plain)
    if said is None and (found := _LEADING.match(text)) is not None:
        said = (found["round"] or found["plain"]).upper()
    said = said or _last(_LONE, text)
    if said is not None and said in letters:
        return said
    return _held(text, plain)


def _last(pattern: re.Pattern[str], text: str) -> str | None:
    found = pattern.findall(text)
    return str(found[-1]).upper() if found else None


def _after_phrase(text: str, plain: dict[str, str]) -> str | None:
    last = None
    for last in _PHRASE.finditer(text):  # noqa: B007
        pass
    if last is None:
        return None
    said = text[last.end() : last.end() + _SPAN].lstrip(_MARKS + ":")
    line = _plain(said.partition("\n")[0])
    by_text = [choice for choice in plain if line == choice or line.startswith((f"{choice} ", f"{choice},"))]
    if by_text:
        return plain[max(by_text, key=len)]
    found = _NAMED.match(said)
    if found is None:
        return None
    is_word = (
        found["letter"] in "AI" and found["end"].isspace() and (found["next"] or "because").strip() not in _REASONS
    )
    return None if is_word else found["letter"]  # "The answer is A duck": an article


def _held(text: str, plain: dict[str, str]) -> str | None:
    """Return the one option whose text is in an answer; of options within each other the longest counts."""
    answer = f" {_plain(text)} "
    held = [choice for choice in plain if choice and re.search(rf"(?<!\w){re.escape(choice)}(?!\w)", answer)]
    longest = [choice for choice in held if not any(choice != other and choice in other for other in held)]
    return plain[longest[0]] if len(longest) == 1 else None


def _plain(text: str) -> str:
    return _SPACES.sub(" ", text).strip(_MARKS + ".").casefold()
