"""A user's own Python callable as a scorer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from loadgen.dataset import Sample
from loadgen.errors import ConfigError
from loadgen.session.scoring.score import Score

Scoring = Callable[[str, Any, Sample], "Score | float | bool | None"]
_SHAPE = "a scorer is called with an answer, its target and its sample"


class FunctionScorer:
    """Scores by a callable ``(answer, target, sample)`` that gives a :class:`Score`, a number, a truth value or None.

    It runs after the load, on one thread, an answer at a time, so it costs the run nothing but time at the end.

    Args:
        function: The callable.
        place: Where it is imported from, such as ``mine:score``; a report made again finds it there.

    Raises:
        ConfigError: If it can't be called like that.
    """

    name: ClassVar[str] = "python"
    needs: ClassVar[str] = "optional"

    def __init__(self, function: Scoring, place: str | None = None) -> None:
        import inspect

        self._function = function
        self.place = place
        self.words = place or str(getattr(function, "__qualname__", type(function).__name__))
        called = function if inspect.isroutine(function) else getattr(function, "__call__", None)  # noqa: B004
        if called is None or inspect.iscoroutinefunction(called):
            kind = "a coroutine function" if called is not None else f"of type {type(function).__name__}"
            raise ConfigError(f"the scorer {self.words} is {kind}", f"{_SHAPE}; a plain function does")
        try:
            inspect.signature(function).bind("", None, None)
        except TypeError as error:
            raise ConfigError(f"the scorer {self.words} can't be called: {error}", _SHAPE) from None
        except ValueError:
            return  # a callable of C without a signature: the first call tells

    def score(self, answer: str, target: Any, sample: Sample) -> Score:
        """Score an answer.

        Raises:
            TypeError: If the callable gives something else than a score.
            ValueError: If its number is not finite.
        """
        return as_score(self._function(answer, target, sample), self.words)


def as_score(given: Any, words: str) -> Score:
    """Return what a user's scorer gave as a :class:`Score`.

    Args:
        given: A score, a number, a truth value, or ``None``.
        words: What errors call the scorer.

    Raises:
        TypeError: If it is something else.
        ValueError: If its number is not finite.
    """
    found = given if isinstance(given, Score) else Score(given)
    value = found.value
    if value is None:
        return found
    if not isinstance(value, (bool, int, float)):
        raise TypeError(f"{words} gave {type(value).__name__}, not a number, a Score or None")
    if not math.isfinite(value):
        raise ValueError(f"{words} gave {value}, which is no score")
    return Score(float(value), found.extracted, found.note, found.target)
