"""Scoring a phase after its run: its kept answers are joined with their samples and scored, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from loadgen import _core, dataset
from loadgen.dataset import Sample, Targets
from loadgen.errors import ConfigError, DatasetError, ReportError, RunError, words_of
from loadgen.session import run_dir
from loadgen.session.scoring import accuracy, scores
from loadgen.session.scoring.accuracy import RAISED
from loadgen.session.scoring.named import AnyScorer, scorer_of, stored
from loadgen.session.scoring.score import Score
from loadgen.session.scoring.scores import SampleScore

_SUCCESS, _CANCELLED, _HTTP = "none", "cancelled", "http"


def targets_of(scorer: AnyScorer, target_field: str | None = None) -> Targets | None:
    """Return what :func:`loadgen.dataset.load` shall find for a phase with this scorer.

    Args:
        scorer: The scorer.
        target_field: The field that holds the right answer; ``None`` finds it by its name.
    """
    if scorer.needs == "nothing" and target_field is None:
        return None
    return Targets(target_field, is_needed=scorer.needs in ("target", "choices"), choices=scorer.needs == "choices")


def described(
    scorer: AnyScorer,
    path: str | os.PathLike[str] | None,
    *,
    prompt_field: str | None = None,
    target_field: str | None = None,
) -> dict[str, Any]:
    """Return what a phase's log holds as ``scoring``: enough to score it again after its process has died.

    Args:
        scorer: The scorer.
        path: The dataset's file; ``None`` for made prompts.
        prompt_field: The field that was sent.
        target_field: The field with the right answer.
    """
    return {
        "scorer": stored(scorer),
        "words": scorer.words,
        "path": None if path is None else str(Path(path).resolve()),
        "prompt_field": prompt_field,
        "target_field": target_field,
    }


def score_phase(directory: Path, phase: int, samples: Sequence[Sample], scorer: AnyScorer) -> None:
    """Score the answers of a phase, and write a line for each of its requests.

    Answers are read one after the other and never held; what is held is one number for each good request. A scorer's
    exception leaves that answer unscored; the others are scored, and the first exception is raised at the end.

    Args:
        directory: The run's directory, its log closed; it gets ``scores-<phase>.jsonl`` (docs/accuracy.md).
        phase: The phase's index in the run.
        samples: The phase's samples, in the dataset's order.
        scorer: The scorer.

    Raises:
        RunError: If answers or disk don't allow it, and no file is written; or if the scorer raised, and one is.
    """
    joined = _Join(directory, phase, samples, scorer)
    try:
        scores.write(scores.path_of(directory, phase), iter(joined))
    except (OSError, ValueError) as error:
        raise RunError(
            f"the answers could not be scored: {error}", f"they are kept; `loadgen report {directory}` scores them"
        ) from None
    if joined.problem is not None:
        request, raised = joined.problem
        raise RunError(
            f"the scorer {scorer.words} raised at {joined.raised:,} of {joined.asked:,} answers, first at request "
            f"{request}: {words_of(raised)}",
            f"the others are scored: loadgen report {directory}",
        ) from raised


class _Join:
    """Iterates over the scores of a phase: answers in the order in which they were kept, then requests without one."""

    def __init__(self, directory: Path, phase: int, samples: Sequence[Sample], scorer: AnyScorer) -> None:
        self._directory = directory
        self._phase = phase
        self._samples = samples
        self._scorer = scorer
        self.asked = 0
        self.raised = 0
        self.problem: tuple[int, Exception] | None = None

    def __iter__(self) -> Iterator[SampleScore]:
        good, others = self._rows()
        without_text: dict[int, str] = {}
        if (self._directory / run_dir.ANSWERS).is_file():
            for request, kind, text in _core.read_texts(self._directory, "answers"):
                if request not in good:
                    continue
                if kind == "answer":
                    yield self._scored(request, good.pop(request), text.decode("utf-8", "replace"))
                else:
                    without_text[request] = "only reasoning" if kind == "reasoning" else "the answer is no text"
        for request, sample in good.items():
            yield self._unscored(request, sample, without_text.get(request, "no answer was kept"))
        yield from others

    def _rows(self) -> tuple[dict[int, int], list[SampleScore]]:
        """Return the samples of good requests, and what is to say of the others."""
        names = {name: words for name, words in _core.row_columns() if name == "failure"}["failure"] or []
        good: dict[int, int] = {}
        others: list[SampleScore] = []
        for batch in _core.read_rows(self._directory, phase=self._phase, children=False):
            columns = [_numbers(batch, name) for name in ("id", "sample", "failure", "status")]
            for request, sample, code, status in zip(*columns, strict=True):
                failure = names[code]
                if failure == _SUCCESS:
                    good[request] = sample
                else:
                    reason = "cancelled" if failure == _CANCELLED else "failed"
                    note = f"http_{status}" if failure == _HTTP else None if reason == "cancelled" else failure
                    others.append(self._unscored(request, sample, reason, note))
        return good, others

    def _scored(self, request: int, index: int, answer: str) -> SampleScore:
        sample = self._sample(index)
        self.asked += 1
        try:
            found = self._scorer.score(answer, sample.target, sample)
        except Exception as error:  # noqa: BLE001 - a user's scorer may raise anything; it is told and raised at the end
            self.raised += 1
            self.problem = self.problem or (request, error)
            return self._unscored(request, index, f"{RAISED}{type(error).__name__}", words_of(error))
        return _line(request, index, sample, found)

    def _unscored(self, request: int, index: int, reason: str, note: str | None = None) -> SampleScore:
        return SampleScore(request, index, self._sample(index).target, not_scored=reason, note=note)

    def _sample(self, index: int) -> Sample:
        if index >= len(self._samples):
            raise ValueError(f"the log names sample {index}, and the dataset has {len(self._samples)}")
        return self._samples[index]


def _line(request: int, index: int, sample: Sample, found: Score) -> SampleScore:
    target = found.target if found.target is not None else sample.target
    if found.value is None:
        return SampleScore(request, index, target, found.extracted, not_scored=found.note or "not scored")
    return SampleScore(request, index, target, found.extracted, found.value, note=found.note)


def _numbers(batch: dict[str, tuple[str, bytes, bytes | None]], name: str) -> list[int]:
    width, data, _ = batch[name]
    found: list[int] = memoryview(data).cast(run_dir.WIDTHS[width]).tolist()  # type: ignore[call-overload]
    return found


def accuracy_of(directory: Path, phase: dict[str, Any]) -> dict[str, Any] | None:
    """Return ``accuracy`` of a phase's report, from the file with its scores; ``None`` where it was not scored yet.

    Args:
        directory: The run's directory.
        phase: The phase's part of the report.

    Raises:
        ReportError: If the file can't be read.
    """
    path = scores.path_of(directory, phase["index"])
    if not path.is_file():
        return None
    about = phase["scoring"] or {}
    found = accuracy.of_scores(
        scores.read(path),
        scorer=about.get("scorer"),
        words=about.get("words") or "unknown scorer",
        in_flight=phase["counts"]["in_flight"],
        file=path.name,
    )
    told: dict[str, Any] = msgspec.to_builtins(found)
    return {**told, "ci95": None if found.ci95 is None else list(found.ci95)}


def is_owed(directory: Path, phase: dict[str, Any]) -> bool:
    """Return whether a phase of a run that has ended is still to be scored.

    Args:
        directory: The run's directory.
        phase: The phase's part of the report.
    """
    kept = (directory / run_dir.ANSWERS).is_file()
    return phase["type"] == "accuracy" and kept and not scores.path_of(directory, phase["index"]).exists()


def settle(directory: Path, phase: dict[str, Any]) -> None:
    """Score a phase whose own process could not, by what its log keeps of scorer and dataset.

    Args:
        directory: The run's directory.
        phase: The phase's part of the report.

    Raises:
        RunError: If dataset or scorer can't be had, or the dataset isn't the one that was sent.
    """
    about = phase["scoring"]
    if about is None:
        raise RunError(f"the phase {phase['name']} is not scored, and its log doesn't tell by which scorer")
    if about["path"] is None:
        raise RunError(f"the phase {phase['name']} is not scored: its samples are known to its own program only")
    told = about["scorer"]
    if told.get("python", "") is None:
        raise RunError(
            f"the phase {phase['name']} is not scored: its scorer {about['words']} is known to its own program only",
            "its answers are kept; give a scorer as {python: MODULE:FUNCTION} to have reports find it",
        )
    try:
        scorer = scorer_of(told)
        targets = targets_of(scorer, about["target_field"])
        found = dataset.load(about["path"], prompt_field=about["prompt_field"], targets=targets)
    except (ConfigError, DatasetError) as error:
        raise RunError(f"the phase {phase['name']} could not be scored: {error.message}", error.way_out) from None
    if found.sha256 != (phase.get("dataset") or {}).get("sha256"):
        raise RunError(f"the phase {phase['name']} is not scored: {about['path']} has changed since it was sent")
    score_phase(directory, phase["index"], found.samples, scorer)


def scores_of(directory: Path, phase: int) -> Iterator[SampleScore]:
    """Yield the scores of a phase's requests.

    Args:
        directory: The run's directory.
        phase: The phase's index in the run.

    Raises:
        ReportError: If it was not scored, or its scores can't be read.
    """
    path = scores.path_of(directory, phase)
    if not path.is_file():
        raise ReportError(f"there is no {path}: the phase was not scored")
    yield from scores.read(path)
