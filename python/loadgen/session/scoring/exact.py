"""Exact match: the answer is the target, after the normalisation that was asked for."""

from __future__ import annotations

import unicodedata
from typing import Any, ClassVar

from loadgen.dataset import Sample
from loadgen.session.scoring.score import NO_TARGET, BuiltIn, Score, references

_ARTICLES = frozenset(("a", "an", "the"))
_SHOWN = 200


class ExactMatch(BuiltIn, frozen=True):
    """Scores 1 where the answer is the target, else 0; with a list as the target, any of its entries.

    White space is never compared: words are joined by single spaces, in Unicode's composed form (NFC).

    Args:
        ignore_case: Compare without upper and lower case.
        ignore_punctuation: Leave out punctuation at the ends of words; a sign or point of a number stays.
        ignore_articles: Leave out the words a, an, the.
    """

    name: ClassVar[str] = "exact"
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_articles: bool = False

    @property
    def words(self) -> str:
        """What it does, in words."""
        ignored = [name.removeprefix("ignore_") for name in self.__struct_fields__ if getattr(self, name)]
        return f"exact match ({', '.join(ignored)} ignored)" if ignored else "exact match"

    def score(self, answer: str, target: Any, sample: Sample) -> Score:  # noqa: ARG002
        """Score an answer."""
        allowed = [self.normalised(str(entry)) for entry in references(target)]
        if not allowed:
            return Score(None, note=NO_TARGET)
        said = self.normalised(answer)
        right = said in allowed
        return Score(float(right), extracted=said[:_SHOWN], target=said[:_SHOWN] if right else allowed[0][:_SHOWN])

    def normalised(self, text: str) -> str:
        """Return a text as it is compared."""
        words = unicodedata.normalize("NFC", text.casefold() if self.ignore_case else text).split()
        if self.ignore_punctuation:
            words = [bare for bare in map(_bare, words) if bare]
        if self.ignore_articles:
            words = [word for word in words if word.lower() not in _ARTICLES]
        return " ".join(words)


def _bare(word: str) -> str:
    """Return a word without punctuation at its ends."""
    start, end = 0, len(word)
    while start < end and _is_mark(word[start]) and not _is_sign(word, start):
        start += 1
    while end > start and _is_mark(word[end - 1]):
        end -= 1
    return word[start:end]


def _is_mark(character: str) -> bool:
    return unicodedata.category(character).startswith("P")


def _is_sign(word: str, place: int) -> bool:
    following = word[place + 1 : place + 2]
    return word[place] in "-.\N{MINUS SIGN}" and (following.isdigit() or (word[place] != "." and following == "."))
