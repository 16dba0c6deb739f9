"""Counting after the run: a tokenizer counts the answers whose tokens the server didn't tell."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadgen import _core, dataset, private_file
from loadgen.errors import DatasetError, RunError
from loadgen.session import run_dir

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_TEXTS, _BYTES = 512, 4 << 20
_TEXT_KINDS = ("answer", "reasoning")
_SUCCESS, _USAGE = 0, 1


def is_owed(directory: Path, config: dict[str, Any]) -> bool:
    """Return whether a run's answers are still to be counted.

    Args:
        directory: The run's directory.
        config: Its options, as they are stored.
    """
    has_answers = (directory / run_dir.ANSWERS).is_file()
    return bool(config.get("tokenizer")) and has_answers and not (directory / run_dir.COUNTS).exists()


def count(directory: Path, config: dict[str, Any], *, keeps: bool) -> None:
    """Count the tokens of a run's good answers that have no usage, and keep the counts beside the log.

    An answer that held more than text and reasoning (tool calls, further choices) gets no count: it would be short.
    Answers that were kept only to be counted are removed then.

    Args:
        directory: The run's directory; it gets ``tokens.bin`` (docs/formats.md).
        config: The run's options, as they are stored.
        keeps: Whether answers of any phase were also kept to stay.

    Raises:
        RunError: If the tokenizer, the answers or the disk don't allow it; nothing is removed then.
    """
    try:
        wanted = _without_usage(directory) if keeps else None
        found = _counted(directory, config["tokenizer"], wanted)
        if found or keeps:
            records = (struct.pack("<QI", request, found[request]) for request in sorted(found))
            private_file.write(directory / run_dir.COUNTS, b"".join(records))
        if not keeps:
            (directory / run_dir.ANSWERS).unlink(missing_ok=True)
    except (DatasetError, OSError, ValueError) as error:
        words = error.message if isinstance(error, DatasetError) else str(error)
        raise RunError(
            f"the answers' tokens could not be counted: {words}",
            f"the answers are kept; `loadgen report {directory}` counts them",
        ) from None


def _counted(directory: Path, tokenizer_path: str, wanted: set[int] | None) -> dict[int, int]:
    """Count tokens by request; the tokenizer is opened only if there is something to count."""
    partial: set[int] = set()
    batches = _batches(directory, wanted, partial)
    first = next(batches, None)
    if first is None:
        return {}
    tokenizer = dataset.open_tokenizer(tokenizer_path)
    found: Counter[int] = Counter()
    for batch in chain([first], batches):
        for (request, _), tokens in zip(batch, _tokens(tokenizer, [text for _, text in batch]), strict=True):
            found[request] += tokens
    return {request: tokens for request, tokens in found.items() if request not in partial}


def _batches(directory: Path, wanted: set[int] | None, partial: set[int]) -> Iterator[list[tuple[int, str]]]:
    """Yield the texts to count with their requests, some at a time, and note the requests with more than text."""
    batch: list[tuple[int, str]] = []
    size = 0
    for request, kind, text in _core.read_texts(directory, "answers"):
        if wanted is not None and request not in wanted:
            continue
        if kind == "unkept":
            partial.add(request)
        if kind in _TEXT_KINDS:
            batch.append((request, text.decode("utf-8", "replace")))
            size += len(text)
        if len(batch) >= _TEXTS or size >= _BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _tokens(tokenizer: Tokenizer, texts: list[str]) -> list[int]:
    try:
        # The text is the model's: words in it that name special tokens are counted as the one token that they are.
        encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    except Exception as error:  # the library raises nothing narrower
        raise DatasetError(f"the tokenizer can't encode an answer: {error}") from error
    return [len(encoding.ids) for encoding in encodings]


def _without_usage(directory: Path) -> set[int]:
    """Return the good requests whose tokens the server didn't tell: with saved responses all have their texts."""
    found: set[int] = set()
    for batch in _core.read_rows(directory, children=False):
        ids = memoryview(batch["id"][1]).cast("Q")
        rows = zip(ids, batch["failure"][1], batch["token_source"][1], strict=True)
        found.update(request for request, failure, source in rows if failure == _SUCCESS and source != _USAGE)
    return found
