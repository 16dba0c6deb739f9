"""Which field of a record is the answer that a good model gives, and which are the options it may choose from."""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec

from loadgen.dataset.sample import Sample
from loadgen.errors import DatasetError

TARGETS = ("answer", "target", "reference", "expected", "label", "answerKey")
"""Where a target is looked for when no field is named; the first that the first record has."""

CHOICES = ("choices", "options")
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Targets(msgspec.Struct, frozen=True):
    """What samples get for their answers to be scored.

    Args:
        field: The field of the target, or a path into nested ones; None looks for `TARGETS`, then for a conversation's
            own answer.
        is_needed: Whether a file without targets is an error.
        choices: Whether samples get the options that the answer is one of; they are listed below a prompt that doesn't
            list them, a line each.
    """

    field: str | None = None
    is_needed: bool = True
    choices: bool = False


class TargetMapping:
    """Finds the targets of a file's records, all in the field that was named or that the first record showed.

    A record without a target is no error, but for the first: it is sent and not scored.

    Args:
        name: What errors call the file.
        targets: What is looked for.
    """

    def __init__(self, name: str, targets: Targets) -> None:
        self._name = name
        self._field = targets.field
        self._is_needed = targets.is_needed
        self._choices = targets.choices
        self._is_found = False
        self.listed = 0
        """Prompts that got their options listed."""

    def fill(self, sample: Sample, record: object, where: str, prompt_field: str) -> Sample:
        """Return a sample with its target and choices.

        Args:
            sample: Made of the record.
            record: A decoded JSON value, or a row of a table.
            where: The record's place, such as ``line 17``, for errors.
            prompt_field: The field that is sent, which so is no target.
        Raises:
            DatasetError: If targets are needed and the file has none, a record's choices are none, or the first record
                is to be multiple choice and isn't.
        """
        fields = record if isinstance(record, dict) else {}
        if not self._is_found:
            self._field = self._find(sample, fields, where, prompt_field)
        target = look_up(fields, self._field) if self._field is not None else sample.reference
        target = None if target is MISSING or target == "" else target
        found = self._options(fields, where) if self._choices else None
        if self._choices and not self._is_found and found is None and target is not None:
            self._check_letter(target, where)
        self._is_found = True
        if found is None:
            return _with(sample, target, None, sample.prompt)
        return _with(sample, target, found, self._listing(sample, found[1]))

    def _find(self, sample: Sample, record: dict[str, Any], where: str, prompt_field: str) -> str | None:
        if self._field is not None:
            if look_up(record, self._field) is MISSING:
                self._no_field(record, where)
            return self._field
        for name in TARGETS:
            if name in record and name != prompt_field:
                return name
        if sample.reference is None and self._is_needed:
            self._no_field(record, where)
        return None

    def _no_field(self, record: dict[str, Any], where: str) -> NoReturn:
        wanted = f'no field "{self._field}"' if self._field is not None else "no field that looks like a target"
        names = ", ".join(str(name) for name in record) or "none"
        raise DatasetError(
            f"{wanted} in {self._name}, {where} (fields: {names})",
            "name the one that holds the right answer: target_field",
        )

    def _check_letter(self, target: Any, where: str) -> None:
        """Refuse a file that isn't multiple choice: none of its answers could ever be scored."""
        if str(target).strip().upper() not in tuple(LETTERS):
            raise DatasetError(
                f"{self._name}, {where}: the target {str(target)[:60]!r} is no letter, and the record has no choices",
                f"multiple choice takes one or the other: fields {', '.join(CHOICES)} or A, B, …; or another scorer",
            )

    def _options(self, record: dict[str, Any], where: str) -> tuple[list[str], list[str]] | None:
        """Return the labels and texts of a record's options; None where it has none."""
        value = next((record[name] for name in CHOICES if record.get(name)), None)
        if value is None:  # a column an option, as in MMLU's tables
            letters = [letter for letter in LETTERS if letter in record]
            value = {letter: record[letter] for letter in letters} if letters[:2] == ["A", "B"] else None
        if value is None:
            return None
        labels, texts = _labelled(value)
        if len(labels) != len(texts) or not 2 <= len(texts) <= len(LETTERS):
            raise DatasetError(f"{self._name}, {where}: its choices are not 2 to {len(LETTERS)} texts")
        return labels, texts

    def _listing(self, sample: Sample, texts: list[str]) -> str | None:
        if sample.prompt is None:
            return None
        endings = [line.rstrip() for line in sample.prompt.splitlines()]
        if all(any(line.endswith(text.strip()) for line in endings) for text in texts):
            return sample.prompt
        self.listed += 1
        lines = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, texts, strict=False))
        return f"{sample.prompt}\n\n{lines}\n\nAnswer with the letter of the right option."


MISSING: Any = object()


def look_up(record: dict[str, Any], field: str) -> Any:
    """Find a field by its name, or by a path of names and positions joined by dots; `MISSING` where there is none."""
    if field in record:
        return record[field]
    value: Any = record
    for part in field.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = value[int(part)]
        else:
            return MISSING
    return value


def _labelled(value: Any) -> tuple[list[str], list[str]]:
    """Tell labels from texts in a list of texts, in ARC's ``{"text": […], "label": […]}`` and in ``{"A": …}``."""
    if isinstance(value, dict) and isinstance(value.get("text"), list):
        texts = value["text"]
        labels = value.get("label") or value.get("labels") or LETTERS[: len(texts)]
    elif isinstance(value, dict):
        labels, texts = value.keys(), value.values()
    else:
        texts = value if isinstance(value, list) else []
        labels = LETTERS[: len(texts)]
    return [str(label) for label in labels], [str(text) for text in texts]


def _with(sample: Sample, target: Any, options: tuple[list[str], list[str]] | None, prompt: str | None) -> Sample:
    labels, choices = options if options is not None else (None, None)
    if choices is not None and target is not None:
        target = letter_of(target, labels or [], choices) or target
    return msgspec.structs.replace(sample, prompt=prompt, target=target, choices=choices)


def letter_of(target: Any, labels: list[str], choices: list[str]) -> str | None:
    """Return the letter of the option that a target means: by its label, by its number from 0, or by its text.

    Args:
        target: What the record says.
        labels: The record's own labels of its options.
        choices: The options' texts.
    """
    said = str(target).strip()
    for place, label in enumerate(labels):
        if said == label or (len(said) == 1 and said.upper() == label):
            return LETTERS[place]
    if said.isdecimal() and said.isascii() and len(said) <= 2 and not isinstance(target, bool):
        return LETTERS[int(said)] if int(said) < len(choices) else None
    same = [place for place, text in enumerate(choices) if text.strip().casefold() == said.casefold()]
    return LETTERS[same[0]] if len(same) == 1 else None
