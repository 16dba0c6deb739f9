"""Numeric answers: the number that an answer gives as its result, against the target's."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Any, ClassVar

from loadgen.dataset import Sample
from loadgen.session.scoring import number
from loadgen.session.scoring.number import Number
from loadgen.session.scoring.score import MOST_TEXT, NO_TARGET, BuiltIn, Score, references

NO_NUMBER = "no number found"
NO_TARGET_NUMBER = "no number in the target"
_SPAN = 200
_MARK = re.compile(r"(?<!#)####(?!#)[ \t]*")
_HEADING = re.compile(r"[.):][ \t]+\S")
_BOX = re.compile(r"\\boxed\s?\{")
_PHRASE = re.compile(r"\banswer[*_\s]{0,4}(?:(?P<free>is|are|would be|will be)\b|[:=])", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?](?=\s|$)|\n")
_ONLY_MARKS = re.compile(r"[^\w]*")


class NumericAnswer(BuiltIn, frozen=True):
    r"""Scores 1 where an answer's result is the target's number, else 0. The rule of GSM8K, and what models write.

    An answer's result is the number

    1. after its last ``####``, unless that is a heading (``#### 1. First …``);
    2. else in its last ``\boxed{…}``;
    3. else after its last "answer is", within the sentence, or right after its last "answer:";
    4. else the last one.

    In 2 and 3 it is the one after the last ``=``, if there is any, else the first. Of a target that is text it is the
    number after its last ``####``, else the last one. What is read as a number stands in
    :func:`loadgen.session.scoring.number.numbers`; only the last 65,536 characters of an answer are read.

    Args:
        tolerance: Greatest difference from the target that is right; 0 compares exactly, as ``18`` and ``18.00``.
        relative: The same as a share of the target; the wider of the two counts.
    """

    name: ClassVar[str] = "numeric"
    tolerance: float = 0.0
    relative: float = 0.0

    def __post_init__(self) -> None:
        for name in ("tolerance", "relative"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number of at least 0, not {getattr(self, name)}")

    @property
    def words(self) -> str:
        """What it does, in words."""
        allowed = [f"± {self.tolerance:g}"] if self.tolerance else []
        allowed += [f"± {self.relative:.6%}".rstrip("0%").rstrip(".") + " %"] if self.relative else []
        return " ".join(["numeric answer", " or ".join(allowed)]).strip()

    def score(self, answer: str, target: Any, sample: Sample) -> Score:  # noqa: ARG002
        """Score an answer."""
        right = [value for value in map(target_number, references(target)) if value is not None]
        if not right:
            return Score(None, note=NO_TARGET_NUMBER if references(target) else NO_TARGET)
        found, where = result(answer)
        shown = number.written(right[0])
        if found is None:
            return Score(None, note=NO_NUMBER, target=shown)
        hit = next((value for value in right if self._is_right(found.value, value)), None)
        shown = number.written(hit) if hit is not None else shown
        return Score(float(hit is not None), extracted=str(found), note=where, target=shown)

    def _is_right(self, value: Fraction, target: Fraction) -> bool:
        return abs(value - target) <= max(Fraction(self.tolerance), Fraction(self.relative) * abs(target))


def target_number(target: Any) -> Fraction | None:
    """Return the number of a target: itself, or that of a text after ``####``, else its last."""
    if isinstance(target, bool):
        return None
    if isinstance(target, int):
        return Fraction(target)
    if isinstance(target, float):
        return Fraction(repr(target)) if math.isfinite(target) else None
    text = str(target)[-MOST_TEXT:]
    found = _after_mark(text) or number.last(text)
    return None if found is None else found.value


def result(answer: str) -> tuple[Number | None, str]:
    """Return the number that an answer gives as its result, and where it was found.

    Args:
        answer: Any text; its last 65,536 characters are read.
    """
    text = answer[-MOST_TEXT:]
    for find, where in ((_after_mark, "after ####"), (_in_box, "in \\boxed"), (_after_phrase, "after 'answer'")):
        found = find(text)
        if found is not None:
            return found, where
    return number.last(text), "the last number"


def _after_mark(text: str) -> Number | None:
    for mark in reversed(list(_MARK.finditer(text))):
        line = text[mark.end() : mark.end() + _SPAN].partition("\n")[0]
        found = next(number.numbers(line), None)
        if found is not None and _ONLY_MARKS.fullmatch(line, 0, found.start) and not _HEADING.match(line, found.end):
            return found
    return None


def _in_box(text: str) -> Number | None:
    for box in reversed(list(_BOX.finditer(text))):
        found = _stated(_up_to_brace(text[box.end() : box.end() + _SPAN]))
        if found is not None:
            return found
    return None


def _up_to_brace(text: str) -> str:
    depth = 1
    for place, character in enumerate(text):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return text[:place]
    return text


def _after_phrase(text: str) -> Number | None:
    last = None
    for last in _PHRASE.finditer(text):  # noqa: B007
        pass
    if last is None:
        return None
    said = text[last.end() : last.end() + _SPAN].lstrip(" \t\r\n:*_")
    sentence = _SENTENCE.split(said, maxsplit=1)[0]
    first = next(number.numbers(sentence), None)
    if first is None or not (last["free"] or _ONLY_MARKS.fullmatch(sentence, 0, first.start)):
        return None  # "Answer:" above a derivation is a heading, not the result
    return _stated(sentence)


def _stated(text: str) -> Number | None:
    """Return the number after the last equals sign of a text, else its first one."""
    _, equals, after = text.rpartition("=")
    return (next(number.numbers(after), None) if equals else None) or next(number.numbers(text), None)
