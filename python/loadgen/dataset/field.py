"""Which field of a record is the prompt, and what its value means: a text, a chat, or a ShareGPT conversation."""

from __future__ import annotations

from typing import Any, NoReturn

from loadgen.config.known import nearest
from loadgen.dataset.sample import Message, Sample
from loadgen.dataset.session import SessionMapping
from loadgen.dataset.target import MISSING, TargetMapping, look_up
from loadgen.errors import DatasetError
from loadgen.speech import option

AUTOMATIC = (
    "messages",
    "conversations",
    "conversation",
    "prompt",
    "question",
    "text",
    "instruction",
    "input",
    "query",
    "problem",
    "content",
)
"""Where a prompt is looked for when no field is named; the first that the first record has."""

REFERENCES = ("answer", "reference", "response", "completion", "output", "solution", "target")
LENGTHS = ("output_tokens", "max_tokens", "max_completion_tokens")

_SHAREGPT = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bing": "assistant",
    "bard": "assistant",
    "model": "assistant",
    "assistant": "assistant",
    "system": "system",
    "tool": "tool",
}


class FieldMapping:
    """Makes samples of a file's records, all by the field that was named or that the first record showed.

    Args:
        name: What errors call the file.
        prompt_field: A field's name, or a path into nested ones (``a.b``, ``turns.0``); None looks for `AUTOMATIC`.
        output_tokens: Tokens to ask for, in place of what a record says; None takes the record's.
        targets: Finds what the answers are compared with; None where they are not scored.
        sessions: Finds which session each is of; None where that doesn't matter.
    """

    def __init__(
        self,
        name: str,
        prompt_field: str | None,
        output_tokens: int | None,
        targets: TargetMapping | None = None,
        sessions: SessionMapping | None = None,
    ) -> None:
        self._name = name
        self._named = prompt_field is not None
        self._field = prompt_field
        self._output_tokens = output_tokens
        self._targets = targets
        self._sessions = sessions
        self.skipped = 0
        """ShareGPT conversations without a human turn: real collections have some, so they are left out and counted."""

    @property
    def note(self) -> str | None:
        """What a reader of the report must know of how the samples came to be."""
        said = [f"{self.skipped:,} conversations without a human turn were left out"] if self.skipped else []
        if self._targets is not None and self._targets.listed:
            listed = self._targets.listed
            said.append(f"the options were listed below {listed:,} question{'' if listed == 1 else 's'}")
        return "; ".join(said) or None

    def sample(self, record: object, where: str) -> Sample | None:
        """Make a sample of one record; None for a ShareGPT conversation in which nobody asks anything.

        Args:
            record: A decoded JSON value, or a row of a table.
            where: The record's place, such as ``line 17``, for errors.
        Raises:
            DatasetError: If the field is missing, blank or of a type that isn't a prompt, or a session is wanted and
                isn't there.
        """
        made = self._sample(record, where)
        if made is None:
            return None
        if self._targets is not None:
            made = self._targets.fill(made, record, where, self._field or "")
        return made if self._sessions is None else self._sessions.fill(made, record, where)

    def _sample(self, record: object, where: str) -> Sample | None:
        if isinstance(record, str):
            return self._text(record, "text", where, {})
        if not isinstance(record, dict):
            self._fail(where, f"is {_kind(record)}, not an object with fields")
        field = self._field or self._choose(record, where)
        value = look_up(record, field)
        if value is MISSING:
            self._no_field(field, record, where)
        if isinstance(value, str):
            return self._text(value, field, where, record)
        if isinstance(value, list):
            return self._conversation(value, field, where, record)
        self._fail(where, f'field "{field}" is {_kind(value)}, not text or messages')

    def _choose(self, record: dict[str, Any], where: str) -> str:
        for name in AUTOMATIC:
            if name in record:
                self._field = name
                return name
        self._no_field(None, record, where)

    def _no_field(self, field: str | None, record: dict[str, Any], where: str) -> NoReturn:
        names = ", ".join(str(name) for name in record) or "none"
        wanted = f'no field "{field}"' if field else "no field that looks like a prompt"
        usual = [name for name in AUTOMATIC if name in record]
        text = next((name for name in (*usual, *record) if name != field and _reads_like_text(record[name])), None)
        meant = nearest(field, record) if field and self._named else ""
        if field and not self._named:
            way_out = "the first record has it, and each must"
        elif meant:
            way_out = f"perhaps {option('prompt_field', value=meant)}?"
        elif text is not None:
            way_out = f"name the one to send: {option('prompt_field', value=text)}"
        else:
            way_out = "none of them reads like one"
        raise DatasetError(f"{wanted} in {self._name}, {where} (fields: {names})", way_out)

    def _text(self, text: str, field: str, where: str, record: dict[str, Any]) -> Sample:
        if not text.strip():
            self._fail(where, f'field "{field}" is blank' if record else "is blank")
        reference = next((record[key] for key in REFERENCES if key != field and isinstance(record.get(key), str)), None)
        return Sample(prompt=text, output_tokens=self._length(record, where), reference=reference)

    def _conversation(self, turns: list[Any], field: str, where: str, record: dict[str, Any]) -> Sample | None:
        sharegpt = any(isinstance(turn, dict) and "from" in turn for turn in turns)
        messages = [self._message(turn, field, where) for turn in turns]
        asked = next((i for i, m in enumerate(messages) if m["role"] == "user" and _has_text(m.get("content"))), None)
        if asked is None:
            if sharegpt or not turns:
                self.skipped += 1
                return None
            self._fail(where, f'field "{field}" has no user message with text')
        # A ShareGPT collection is sent by its first question, as others do; all of it where its field is named.
        if sharegpt and not self._named:
            sent, prompt = messages[: asked + 1], messages[asked]["content"]
        else:
            sent, prompt = _to_last_question(messages), None
        answer = messages[len(sent)] if len(sent) < len(messages) else {}
        reference = answer.get("content") if answer.get("role") == "assistant" else None
        return Sample(
            prompt=prompt,
            messages=sent if prompt is None else None,
            output_tokens=self._length(record, where),
            reference=reference if isinstance(reference, str) else None,
        )

    def _message(self, turn: object, field: str, where: str) -> Message:
        if not isinstance(turn, dict):
            self._fail(where, f'field "{field}" holds {_kind(turn)} where a message (role, content) belongs')
        if isinstance(turn.get("role"), str):
            message = turn
        elif (role := _SHAREGPT.get(str(turn.get("from")).lower())) is not None:
            message = {"role": role, "content": turn.get("value")}
        else:
            known = ", ".join(_SHAREGPT)
            self._fail(where, f'field "{field}" has a message without "role", or "from" that is one of: {known}')
        content = message.get("content")
        if content is not None and not isinstance(content, str | list):
            self._fail(where, f'field "{field}" has a message whose content is {_kind(content)}, not text or parts')
        return message

    def _length(self, record: dict[str, Any], where: str) -> int | None:
        if self._output_tokens is not None:
            return self._output_tokens
        for name in LENGTHS:
            value = record.get(name)
            if value is None or value == "":
                continue
            if isinstance(value, str) and value.isdecimal():
                value = int(value)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                self._fail(where, f'field "{name}" is {value!r}, not a number of tokens of at least 1')
            return value
        return None

    def _fail(self, where: str, what: str) -> NoReturn:
        raise DatasetError(f"{self._name}, {where}: {what}")


def _to_last_question(messages: list[Message]) -> list[Message]:
    """Leave out the answers at a conversation's end: they are what the request asks for."""
    end = len(messages)
    while end and messages[end - 1]["role"] == "assistant":
        end -= 1
    return messages[:end]


def _has_text(content: str | list[Any] | None) -> bool:
    if isinstance(content, list):
        return any(isinstance(p, dict) and isinstance(p.get("text"), str) and p["text"].strip() for p in content)
    return bool(content and content.strip())


def _kind(value: object) -> str:
    """Name a JSON value's type as a person would."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "text"
    return "a list" if isinstance(value, list) else "an object"


def _reads_like_text(value: Any) -> bool:
    """Tell words, or messages, from times, numbers and identifiers."""
    if isinstance(value, list):
        return any(isinstance(item, dict) for item in value)
    if not isinstance(value, str):
        return False
    signs = [character for character in value if not character.isspace()]
    return sum(character.isalpha() for character in signs) > len(signs) / 2
