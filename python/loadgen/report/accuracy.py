"""What a report says of an accuracy phase: how right its answers are, and how much of them that judges."""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadgen.report import figures
from loadgen.report.sentences import Sentence, failures, throughput, tokens
from loadgen.shown import plain

if TYPE_CHECKING:
    from loadgen.session import PhaseResult, SessionResult
    from loadgen.session.scoring import AccuracyResult

_REASONS = 6


def headline(phase: PhaseResult) -> str:
    """Return the accuracy with its confidence interval; for scores between 0 and 1, their mean."""
    found = phase.accuracy
    if found is None or found.mean is None:
        return "not scored"
    name = "accuracy" if found.is_binary else plain(found.words)
    interval = f" (95 %: {_range(found)})" if found.ci95 is not None else ""
    return f"{name} {_score(found, found.mean)}{interval}"


def about_phase(result: SessionResult, phase: PhaseResult) -> list[Sentence]:
    """Return the lines below an accuracy phase's headline."""
    found = [Sentence("scored", _scored(phase), "" if phase.accuracy is not None else "yellow")]
    if phase.accuracy is not None:
        found.append(Sentence("scores", f"{phase.accuracy.file}: what was taken from each answer, and its score"))
    cut = phase.report["finish"].get("length", 0)
    if cut:
        most = f"{figures.many(cut, 'answer')} of {figures.whole(phase.counts.ok)} ended at the limit of tokens"
        found.append(Sentence("cut off", f"{most}: what they would have said is unknown (--output-tokens)", "yellow"))
    found.append(Sentence("throughput", throughput(phase)))
    if phase.latency:
        times = ", ".join(f"{name} {figures.time_ms(phase.latency.percentile(p))}" for name, p in _SHOWN)
        found.append(Sentence("latency", times))
    found += [Sentence("tokens", text) for text in (tokens(phase),) if text]
    return found + failures(result, phase)


_SHOWN = (("p50", 50.0), ("p99", 99.0))


def _scored(phase: PhaseResult) -> str:
    found = phase.accuracy
    if found is None:
        return "not yet: `loadgen report` does it once the run has ended, and says what is missing"
    parts = [f"{figures.whole(found.scored)} of {figures.many(found.issued, 'request')}, by {plain(found.words)}"]
    if found.samples < found.scored:
        parts[0] += f" (several for each of {figures.many(found.samples, 'prompt')}: the mean of all)"
    if found.not_scored:
        reasons = [f"{figures.whole(count)} {plain(reason)}" for reason, count in found.not_scored.items()]
        more = [f"{len(reasons) - _REASONS} more reasons in report.json"] if len(reasons) > _REASONS else []
        missing = figures.whole(found.issued - found.scored)
        parts.append(f"{missing} not scored: {', '.join(reasons[:_REASONS] + more)}")
        if found.of_all is not None and found.scored:
            wrong = "wrong" if found.is_binary else "0"
            parts.append(f"were those counted as {wrong}: {_score(found, found.of_all)}")
    return "; ".join(parts)


def _score(found: AccuracyResult, value: float) -> str:
    return figures.share(value) if found.is_binary else f"{value:.3f}"


def _range(found: AccuracyResult) -> str:
    low, high = found.ci95 or (0.0, 0.0)
    if not found.is_binary:
        return f"{low:.3f}–{high:.3f}"
    return f"{figures.share(low).removesuffix(' %')}–{figures.share(high)}"
