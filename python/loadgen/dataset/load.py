"""Loading a dataset: samples of a file's records, or made ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loadgen.dataset.sample import Dataset, Sample
from loadgen.errors import DatasetError
from loadgen.speech import option

if TYPE_CHECKING:
    from loadgen.dataset.field import FieldMapping
    from loadgen.dataset.session import Sessions
    from loadgen.dataset.target import Targets


def load(  # noqa: PLR0913  what a user says of prompts, each by its name
    path: str | Path | None,
    *,
    prompt_field: str | None = None,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    tokenizer: str | Path | None = None,
    seed: int = 0,
    samples: int | None = None,
    targets: Targets | None = None,
    sessions: Sessions | None = None,
) -> Dataset:
    """Read prompts from a file, or make them.

    Args:
        path: A JSONL, JSON (a list), CSV, TSV or text file; None makes synthetic prompts.
        prompt_field: The field or column to send, a path such as ``a.b`` for a nested one; None finds it.
        input_tokens: Length of each synthetic prompt in tokens, at least 1 (128 if None); only without a path.
        output_tokens: Tokens to ask for, at least 1, in place of what the file says.
        tokenizer: A ``tokenizer.json`` (or its directory) to count synthetic prompts with; else a word counts as one.
        seed: The same seed gives the same synthetic prompts.
        samples: How many to make, or to read at most, at least 1; None reads all, or makes up to 1,000.
        targets: What the answers will be compared with; None where they are not scored.
        sessions: Where the session of each is said; None where that doesn't matter.
    Raises:
        DatasetError: If the file, the field or a record can't be used, or the arguments don't go together.
    """
    for name, value in (("input_tokens", input_tokens), ("output_tokens", output_tokens), ("samples", samples)):
        if value is not None and value < 1:
            raise DatasetError(f"{option(name)} must be at least 1, not {value}")
    if path is not None:
        if input_tokens is not None:
            raise DatasetError(
                f"{option('input_tokens')} makes synthetic prompts, and {option('dataset')} names prompts to send",
                "leave one of the two out",
            )
        return _read(Path(path), prompt_field, output_tokens, samples, targets, sessions)
    _check_made(prompt_field, targets, sessions)
    from loadgen.dataset.synthetic import synthetic

    return synthetic(input_tokens, output_tokens=output_tokens, tokenizer=tokenizer, seed=seed, samples=samples)


def _check_made(prompt_field: str | None, targets: Targets | None, sessions: Sessions | None) -> None:
    """Refuse what only a file's records have.

    Raises:
        DatasetError: If something of theirs is wanted.
    """
    if targets is not None and (targets.is_needed or targets.field is not None):
        lack = "made prompts have no right answer to compare with"
    elif sessions is not None:
        lack = "made prompts belong to no session"
    elif prompt_field is not None:
        lack = f"{option('prompt_field')} {prompt_field} needs a dataset"
    else:
        return
    raise DatasetError(lack, f"name a file: {option('dataset', 'FILE')}")


def _read(
    path: Path,
    prompt_field: str | None,
    output_tokens: int | None,
    samples: int | None,
    targets: Targets | None,
    sessions: Sessions | None,
) -> Dataset:
    # What reads files isn't imported where prompts are made: each run would wait for it.
    from loadgen.dataset.field import FieldMapping
    from loadgen.dataset.records import Records
    from loadgen.dataset.session import SessionMapping
    from loadgen.dataset.target import TargetMapping

    with Records(path) as records:
        if records.form == "text" and prompt_field is not None:
            raise DatasetError(
                f"{option('prompt_field')} {prompt_field}: {records.name} is plain text, a prompt a line, "
                "without fields"
            )
        finder = None if targets is None else TargetMapping(records.name, targets)
        by_session = None if sessions is None else SessionMapping(records.name, sessions)
        mapping = FieldMapping(records.name, prompt_field, output_tokens, finder, by_session)
        found = _take(iter(records), mapping, samples)
        if not found:
            raise DatasetError(f"the dataset {records.name} holds no prompt")
        return Dataset(records.path.name, records.sha256(), found, mapping.note)


def _take(records: Iterator[tuple[str, Any]], mapping: FieldMapping, limit: int | None) -> list[Sample]:
    found: list[Sample] = []
    for where, record in records:
        sample = mapping.sample(record, where)
        if sample is not None:
            found.append(sample)
            if limit is not None and len(found) == limit:
                break
    return found
