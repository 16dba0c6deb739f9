"""The scores of a phase, one line of JSON a request: written once, read for the report and by users."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from loadgen import private_file
from loadgen.errors import ReportError
from loadgen.session import run_dir

_LONGEST = 2000


class SampleScore(msgspec.Struct, frozen=True, gc=False):
    """What became of one request of an accuracy phase.

    Args:
        request: The request's id.
        sample: The index of its sample in the dataset.
        target: The target as it was compared.
        extracted: What was taken from the answer.
        score: The score; ``None`` where it has none.
        not_scored: Why it has none; ``None`` where it has.
        note: More of it: where the answer was found, what failed.
    """

    request: int
    sample: int
    target: Any = None
    extracted: str | None = None
    score: float | None = None
    not_scored: str | None = None
    note: str | None = None


def path_of(directory: Path, phase: int) -> Path:
    """Return where the scores of a phase lie.

    Args:
        directory: The run's directory.
        phase: The phase's index in the run.
    """
    return directory / f"{run_dir.SCORES}{phase}.jsonl"


def write(path: Path, scores: Iterator[SampleScore]) -> None:
    """Write scores as they come, so that a file is there in full or not at all.

    Args:
        path: The file.
        scores: The scores.

    Raises:
        OSError: If the disk refuses.
    """
    encoder = msgspec.json.Encoder()
    with private_file.writing(path) as file:
        for score in scores:
            file.write(encoder.encode(_bounded(score)) + b"\n")


def _bounded(score: SampleScore) -> SampleScore:
    """Return a score whose texts are no longer than somebody reads, and are text."""
    target = score.target if score.target is None or isinstance(score.target, str) else _as_text(score.target)
    shown = {"target": target, "extracted": score.extracted, "note": score.note}
    cut = {name: None if text is None else _valid(str(text)[:_LONGEST]) for name, text in shown.items()}
    return msgspec.structs.replace(score, **cut)


def _as_text(value: Any) -> str:
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError):
        return repr(value)


def _valid(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def read(path: Path) -> Iterator[SampleScore]:
    """Yield the scores of a file.

    Args:
        path: The file.

    Raises:
        ReportError: If it can't be read, or a line is no score.
    """
    decoder = msgspec.json.Decoder(SampleScore)
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    yield decoder.decode(line)
                except (msgspec.DecodeError, RecursionError) as error:
                    raise ReportError(f"{path}, line {number} is no score: {error}") from None
    except OSError as error:
        raise ReportError(f"can't read {path}: {error.strerror or error}") from None
