"""ROUGE: how much of a reference text an answer holds, by its words."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from typing import Any, ClassVar, Literal

from loadgen.dataset import Sample
from loadgen.errors import ConfigError
from loadgen.session.scoring.score import NO_TARGET, BuiltIn, Score, references

NO_WORDS = "no words in the target that ROUGE counts (a to z, 0 to 9)"
_WORD = re.compile(r"[a-z0-9]+")
_SHOWN = 200


class Rouge(BuiltIn, frozen=True, dict=True):
    """Scores the F1 of ROUGE, from 0 to 1; with a list as the target, against the entry that gives the most.

    Words are runs of a to z and 0 to 9 in lower case, without stemming, as in the package rouge-score, whose numbers
    these are (tests compare them). Texts in other scripts have no such words and are not scored.

    Args:
        kind: ``rouge1`` and ``rouge2`` count common words and pairs, ``rougeL`` the longest common subsequence.

    Source:
        Lin, "ROUGE: A Package for Automatic Evaluation of Summaries", ACL 2004, sections 2 and 3.1.
    """

    name: ClassVar[str] = "rouge"
    kind: Literal["rouge1", "rouge2", "rougeL"] = "rougeL"

    def __post_init__(self) -> None:
        if self.kind not in ("rouge1", "rouge2", "rougeL"):
            raise ValueError(f"kind must be rouge1, rouge2 or rougeL, not {self.kind!r}")
        if self.kind == "rougeL":
            _ = self._common_subsequence

    @property
    def words(self) -> str:
        """What it does, in words."""
        return f"{self.kind[:5].upper()}-{self.kind[5:]} (F1)"

    @cached_property
    def _common_subsequence(self) -> Any:
        try:
            from rapidfuzz.distance import LCSseq
        except ImportError:
            raise ConfigError(
                "scoring by ROUGE-L needs the package rapidfuzz", "pip install 'loadgen[accuracy]'"
            ) from None
        return LCSseq.similarity

    def score(self, answer: str, target: Any, sample: Sample) -> Score:  # noqa: ARG002
        """Score an answer."""
        allowed = [str(entry) for entry in references(target)]
        if not allowed:
            return Score(None, note=NO_TARGET)
        said = _WORD.findall(answer.lower())
        wanted = {text: words for text in allowed if (words := _WORD.findall(text.lower()))}
        if not wanted:
            return Score(None, note=NO_WORDS, target=allowed[0][:_SHOWN])
        value, text = max(((self.f1(said, words), text) for text, words in wanted.items()), key=lambda found: found[0])
        return Score(value, extracted=" ".join(answer.split())[:_SHOWN], target=text[:_SHOWN])

    def f1(self, said: list[str], wanted: list[str]) -> float:
        """Return the harmonic mean of precision and recall of an answer's words."""
        if self.kind == "rougeL":
            common, most_said, most_wanted = self._common_subsequence(said, wanted), len(said), len(wanted)
        else:
            length = int(self.kind[-1])
            one, other = _grams(said, length), _grams(wanted, length)
            common, most_said, most_wanted = (one & other).total(), one.total(), other.total()
        return 2 * common / (most_said + most_wanted) if common else 0.0


def _grams(words: list[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(length)), strict=False))
