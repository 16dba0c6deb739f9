"""What a batch asks: its requests, and how a person calls each of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from loadgen.config import Config
from loadgen.config.secret import STREAM_KEYS
from loadgen.dataset.records import Records
from loadgen.dispatch import template as templates
from loadgen.dispatch.template import Template
from loadgen.errors import ConfigError, DatasetError

_NAMES = ("name", "id", "title", "key")
_LONGEST = 40


class Source(msgspec.Struct, frozen=True):
    """What calls are made of, before anything is asked of the target.

    Args:
        template: What each call sends.
        calls: What stands for each call's places, in order; a grid's row by row.
        rows: Names of a grid's rows; empty for a list of items.
        columns: Names of its columns.
    """

    template: Template
    calls: list[dict[str, Any]]
    rows: list[str]
    columns: list[str]

    @property
    def needs_model(self) -> bool:
        """Whether requests name no model of their own."""
        return self.template.body is None or "model" not in self.template.body

    def cell(self, index: int) -> tuple[str, str] | None:
        """Return the names of a call's row and column; None in a list."""
        if not self.rows:
            return None
        row, column = divmod(index, len(self.columns))
        return self.rows[row], self.columns[column]

    def name(self, index: int) -> str:
        """Return how a person calls a call: ``pump-3 × bearing wear``, or its item's name."""
        cell = self.cell(index)
        return " × ".join(cell) if cell is not None else _name(self.calls[index]["item"])


def read(template: str | None, items: str | None, rows: str | None, cols: str | None) -> Source:
    """Read what calls are made of.

    Args:
        template: The template's file; None sends each item as it is.
        items: A file of items.
        rows: A file of a grid's rows.
        cols: A file of its columns.

    Raises:
        ConfigError: If these don't go together, or the template doesn't fit.
        DatasetError: If a file can't be read, or holds nothing.
    """
    if items is not None and (rows is not None or cols is not None):
        raise ConfigError("--items is a list, --rows and --cols are a grid", "give one of the two")
    if items is None and (rows is None or cols is None):
        lacks = "--cols" if cols is None and rows is not None else "--rows" if cols is not None else ""
        raise ConfigError(
            f"a grid needs {lacks} too" if lacks else "nothing to call given",
            "--items FILE for a list, --rows FILE and --cols FILE for a grid",
        )
    if items is not None:
        if template is not None:
            found = templates.read(template)
            found.check(frozenset({"item"}), "--rows FILE and --cols FILE give a grid; an item is {item}")
            return Source(found, [{"item": record} for record in _records(items)], [], [])
        records = _records(items)
        return Source(_itself(records, items), [{"item": record} for record in records], [], [])
    if template is None:
        raise ConfigError("a grid needs a template that uses {row} and {col}", "--template FILE")
    found = templates.read(template)
    found.check(frozenset({"row", "col"}), "--items FILE gives a list; a grid's places are {row} and {col}")
    assert rows is not None
    assert cols is not None
    row_records, col_records = _records(rows), _records(cols)
    calls = [{"row": row, "col": col} for row in row_records for col in col_records]
    return Source(found, calls, [_name(row) for row in row_records], [_name(col) for col in col_records])


def bodies(source: Source, config: Config, model: str | None) -> list[dict[str, Any]]:
    """Make the requests' bodies, without the keys that the engine writes.

    Args:
        source: What they are made of.
        config: The options: the API, ``max_tokens``, further fields.
        model: The model to ask for, where the template names none.

    Raises:
        ConfigError: If the template's body isn't one of this API.
        DatasetError: If an item lacks what the template names.
    """
    more = {} if config.extra_body is None else dict(config.extra_body.sent)
    if config.output_tokens is not None and "max_completion_tokens" not in more:
        more = {"max_tokens": config.output_tokens, **more}
    if source.template.body is None:
        first = {} if model is None else {"model": model}
        return [
            {**_question(config.api, source.template.prompt(call), index), **first, **more}
            for index, call in enumerate(source.calls)
        ]
    _check_body(source.template, config)
    first = {} if model is None else {"model": model}
    if config.model is not None:
        more["model"] = config.model  # a flag wins over the template
    return [{**first, **source.template.request(call), **more} for call in source.calls]


def _question(api: str, prompt: str, index: int) -> dict[str, Any]:
    if not prompt.strip():
        raise DatasetError(f"the prompt of call {index + 1:,} is blank")
    return {"messages": [{"role": "user", "content": prompt}]} if api == "chat" else {"prompt": prompt}


def _check_body(template: Template, config: Config) -> None:
    assert template.body is not None
    for key in STREAM_KEYS:
        if key in template.body:
            raise ConfigError(f'the template {template.name} may not set "{key}"', "use --stream or --no-stream")
    needed, other = ("messages", "completions") if config.api == "chat" else ("prompt", "chat")
    if needed not in template.body:
        raise ConfigError(
            f'the template {template.name} has no "{needed}", which the API {config.api} wants',
            f"add it, or ask another API: --api {other}",
        )


def _itself(records: list[Any], file: str) -> Template:
    """Return the template of items that are prompts themselves, or have one in the field ``prompt``.

    Raises:
        ConfigError: If an item is an object without one: as JSON it would be a prompt that nobody means.
    """
    if not any(isinstance(record, dict) for record in records):
        return Template("{item}", "{item}")
    for index, record in enumerate(records):
        if not isinstance(record, dict) or not isinstance(record.get("prompt"), str):
            fields = ", ".join(list(record)[:5]) if isinstance(record, dict) else "none"
            raise ConfigError(
                f"record {index + 1:,} of {file} has no prompt (fields: {fields}), and no template makes one",
                "--template FILE with {item.FIELD} where a field belongs, or {item} for all of it as JSON",
            )
    return Template("{item.prompt}", "{item.prompt}")


def _records(file: str) -> list[Any]:
    with Records(Path(file)) as records:
        found = [record for _, record in records]
    if not found:
        raise DatasetError(f"{file} holds no record")
    return found


def _name(record: Any) -> str:
    """Return how a record is called: its text, the field that names it, or the first that is text."""
    if isinstance(record, dict):
        named = [record[key] for key in _NAMES if isinstance(record.get(key), (str, int))]
        texts = [value for value in record.values() if isinstance(value, str)]
        record = next(iter([*named, *texts]), record)
    text = record if isinstance(record, str) else msgspec.json.encode(record).decode()
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
