"""The accuracy of a phase: the mean of its scores with its confidence interval, and what was not scored and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

import msgspec

from loadgen.session.scoring.scores import SampleScore

_Z = 1.959963984540054
_REASONS = 20
OTHERS = "other reasons"


class AccuracyResult(msgspec.Struct, frozen=True, kw_only=True):
    """The accuracy of a phase. What is not scored is in no mean; how much that is stands beside it.

    Args:
        scorer: The scorer, as a configuration would name it.
        words: The scorer in words.
        issued: All requests of the phase.
        scored: Those with a score.
        samples: Different samples among the scored.
        not_scored: Those without, by reason; ``issued = scored`` and the sum of these.
        errors: How many of them the scorer raised at.
        mean: Mean score of the scored requests; with several answers a sample, of all of them (as pass@1 is estimated).
            ``None`` where none is scored.
        of_all: The same over all requests, those not scored counted as 0.
        is_binary: Whether every score is 0 or 1, so that the mean is a share of right answers.
        ci95: 95 % confidence interval of ``mean``, for samples as these; ``None`` where there is too little for one.
        interval: How it was made.
        file: The file with the score of each request, in the run's directory.
    """

    scorer: dict[str, Any] | None
    words: str
    issued: int
    scored: int
    samples: int
    not_scored: dict[str, int]
    errors: int
    mean: float | None
    of_all: float | None
    is_binary: bool
    ci95: tuple[float, float] | None
    interval: str | None
    file: str


class Tally:
    """Sums scores up by sample, so that several answers to one sample are not taken for independent ones."""

    def __init__(self) -> None:
        self.not_scored: Counter[str] = Counter()
        self.scored = 0
        self.is_binary = True
        self._by_sample: dict[int, tuple[int, float]] = {}

    def add(self, score: SampleScore) -> None:
        """Count one request."""
        if score.score is None:
            self.not_scored[score.not_scored or "not scored"] += 1
            return
        self.scored += 1
        self.is_binary &= score.score in (0.0, 1.0)
        count, total = self._by_sample.get(score.sample, (0, 0.0))
        self._by_sample[score.sample] = (count + 1, total + score.score)

    @property
    def samples(self) -> int:
        """How many different samples are scored."""
        return len(self._by_sample)

    @property
    def total(self) -> float:
        """The sum of all scores."""
        return math.fsum(total for _, total in self._by_sample.values())

    def interval(self) -> tuple[tuple[float, float] | None, str | None]:
        """Return the mean's 95 % confidence interval, and how it was made.

        Shares of right answers get Wilson's interval. Where samples were asked several times, its n is the number of
        independent answers that vary as much as these do between samples; where all are alike, of samples. Other
        scores get the normal one from the standard error between samples.

        Source:
            Wilson, "Probable inference", JASA 22 (1927); Dean & Pagano, "Evaluating confidence interval methods for
            binomial proportions in clustered surveys", JSSAM 3 (2015); standard error over clusters: Miller, "Adding
            error bars to evals", arXiv 2411.00640 (2024), section 2.2.
        """
        if not self.scored:
            return None, None
        mean = self.total / self.scored
        variance = self._variance(mean)
        several = self.samples < self.scored
        if not self.is_binary:
            if variance is None:
                return None, None
            half = _Z * math.sqrt(variance)
            return (mean - half, mean + half), "normal, clustered by sample" if several else "normal"
        if not several:
            return wilson(mean, self.scored), "wilson"
        return wilson(mean, self._independent(mean, variance)), "wilson, clustered by sample"

    def _independent(self, mean: float, variance: float | None) -> float:
        """Return how many independent answers would tell the share of right ones as well as these do."""
        spread = mean * (1 - mean)
        if variance is None or spread == 0:
            return float(self.samples)
        return max(1.0, min(self.scored, spread / variance)) if variance > 0 else float(self.scored)

    def _variance(self, mean: float) -> float | None:
        """Return the variance of the mean, from the differences between samples; ``None`` for fewer than two."""
        if self.samples < 2:
            return None
        squares = math.fsum((total - count * mean) ** 2 for count, total in self._by_sample.values())
        return squares / self.scored**2 * self.samples / (self.samples - 1)


def wilson(share: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a share among ``n``."""
    squared = _Z * _Z / n
    middle = (share + squared / 2) / (1 + squared)
    half = _Z / (1 + squared) * math.sqrt(share * (1 - share) / n + squared / (4 * n))
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def of_scores(
    scores: Iterable[SampleScore], *, scorer: dict[str, Any] | None, words: str, in_flight: int, file: str
) -> AccuracyResult:
    """Sum the scores of a phase up.

    Args:
        scores: One for each request that has a record.
        scorer: The scorer, as it is stored.
        words: The scorer in words.
        in_flight: Requests that left no record.
        file: The name of the file that holds the scores.
    """
    tally = Tally()
    errors = 0
    for score in scores:
        tally.add(score)
        errors += score.not_scored is not None and score.not_scored.startswith(RAISED)
    reasons = dict(tally.not_scored.most_common(_REASONS))
    rest = tally.not_scored.total() - sum(reasons.values())
    reasons |= ({OTHERS: rest} if rest else {}) | ({"in flight": in_flight} if in_flight else {})
    issued = tally.scored + sum(reasons.values())
    interval, how = tally.interval()
    return AccuracyResult(
        scorer=scorer,
        words=words,
        issued=issued,
        scored=tally.scored,
        samples=tally.samples,
        not_scored=reasons,
        errors=errors,
        mean=tally.total / tally.scored if tally.scored else None,
        of_all=tally.total / issued if issued else None,
        is_binary=tally.is_binary and tally.scored > 0,
        ci95=interval,
        interval=how,
        file=file,
    )


RAISED = "the scorer raised "
"""How the reason of a request begins at which the scorer raised; the exception's name follows."""
