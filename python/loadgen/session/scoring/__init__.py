"""Scoring: how right the answers of an accuracy phase are, told after the run from what was kept.

Each name is imported when it is first used: few runs score anything, and the others start sooner.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadgen.first_use import on_first_use

if TYPE_CHECKING:
    from loadgen.session.scoring.accuracy import AccuracyResult
    from loadgen.session.scoring.choice import MultipleChoice
    from loadgen.session.scoring.exact import ExactMatch
    from loadgen.session.scoring.function import FunctionScorer
    from loadgen.session.scoring.json_schema import JsonSchema
    from loadgen.session.scoring.named import AnyScorer, scorer_of, stored
    from loadgen.session.scoring.numeric import NumericAnswer
    from loadgen.session.scoring.phase import (
        accuracy_of,
        described,
        is_owed,
        score_phase,
        scores_of,
        settle,
        targets_of,
    )
    from loadgen.session.scoring.regex import RegexMatch
    from loadgen.session.scoring.rouge import Rouge
    from loadgen.session.scoring.score import Score, Scorer
    from loadgen.session.scoring.scores import SampleScore

__all__ = [
    "AccuracyResult",
    "AnyScorer",
    "ExactMatch",
    "FunctionScorer",
    "JsonSchema",
    "MultipleChoice",
    "NumericAnswer",
    "RegexMatch",
    "Rouge",
    "SampleScore",
    "Score",
    "Scorer",
    "accuracy_of",
    "described",
    "is_owed",
    "score_phase",
    "scorer_of",
    "scores_of",
    "settle",
    "stored",
    "targets_of",
]

_FILES = {
    "accuracy": ("AccuracyResult",),
    "choice": ("MultipleChoice",),
    "exact": ("ExactMatch",),
    "function": ("FunctionScorer",),
    "json_schema": ("JsonSchema",),
    "named": ("AnyScorer", "scorer_of", "stored"),
    "numeric": ("NumericAnswer",),
    "phase": ("accuracy_of", "described", "is_owed", "score_phase", "scores_of", "settle", "targets_of"),
    "regex": ("RegexMatch",),
    "rouge": ("Rouge",),
    "score": ("Score", "Scorer"),
    "scores": ("SampleScore",),
}

if not TYPE_CHECKING:  # a checker would take any name for one of ours
    __getattr__, __dir__ = on_first_use(__name__, _FILES)
