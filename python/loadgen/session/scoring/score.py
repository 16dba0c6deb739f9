"""What a scorer is asked, and what it says: a score, or that there is none and why."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

import msgspec

from loadgen.dataset import Sample

MOST_TEXT = 65_536
"""Characters of an answer that a scorer with patterns looks at, the last ones: there a model says its result. It bounds
what a pattern can cost on a text that somebody else wrote."""


class Score(msgspec.Struct, frozen=True, gc=False):
    """One answer's score.

    Args:
        value: The score, 1 for right and 0 for wrong where it is no grade in between; ``None`` if the answer is not
            scored, which is not 0: it is counted by its note and in no mean.
        extracted: What was taken from the answer to be compared.
        note: Why there is no score, or what is to say of it.
        target: The target as it was compared, where that isn't the whole of the record's.
    """

    value: float | None
    extracted: str | None = None
    note: str | None = None
    target: str | None = None


@runtime_checkable
class Scorer(Protocol):
    """Scores one answer at a time, after the run."""

    def score(self, answer: str, target: Any, sample: Sample) -> Score:
        """Score an answer.

        Args:
            answer: The answer's text, without reasoning; the model's, so it may hold anything.
            target: The sample's target; ``None`` where the record has none.
            sample: What was asked.

        Returns:
            The score. An exception is counted, the answer is not scored, and the run ends with an error after its
            report is written.
        """


class BuiltIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the scorers of loadgen share: options as fields, so that a run's log keeps how its answers were scored."""

    name: ClassVar[str]
    needs: ClassVar[str] = "target"
    """What it takes beside the answer: ``target``, ``choices`` (and a target), or ``nothing``."""

    @property
    def words(self) -> str:
        """What it does, in words."""
        return self.name.replace("_", " ")


NO_TARGET = "no target"


def references(target: Any) -> list[Any]:
    """Return the answers that a target allows: a list's entries, else the target itself."""
    if isinstance(target, (list, tuple)):
        return [entry for entry in target if entry is not None]
    return [] if target is None else [target]
