"""``loadgen nodes run``: a file of texts, embedded or answered by all nodes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import msgspec

from loadgen.cli import show
from loadgen.cli.answers import Replaced, to_stdout
from loadgen.cli.nodes.pool import options, pool_of
from loadgen.errors import ConfigError, DatasetError

_FIELDS = ("text", "prompt", "input", "content")


def _run(
    *,
    items: str,
    model: str | None,
    kind: str | None,
    field: str | None,
    out: str | None,
    output_tokens: int | None,
    quiet: bool,
    **said: Any,
) -> int:
    from loadgen.cli.nodes.table import batch_lines, compared

    if model is None:
        raise ConfigError("no model is named", "--model NAME")
    pool = pool_of(progress=False if quiet else None, **said)
    kind = kind or "embeddings"
    texts = list(_texts(items, field))
    batch: Any
    with Replaced(out, "--out") as file:
        if kind == "embeddings":
            batch = pool.embed_batch(model, texts)
        else:
            batch = pool.ask_batch(model, texts, kind=kind, output_tokens=output_tokens)
        if out is None:
            to_stdout(_lines(batch))
        else:
            file.put(_lines(batch))
    if not quiet:
        lines = batch_lines(batch, width=show.width())
        line = compared(pool.report((max(1, len(batch)),), model=model, kind=kind), batch)
        click.echo("\n".join([*lines, line] if line else lines), err=out is None)
    return 0 if batch.ok else 1


def _texts(items: str, field: str | None) -> Iterator[str]:
    from loadgen.dataset.records import Records

    with Records(Path(items)) as records:
        for place, record in records:
            text = record
            if isinstance(record, dict):
                names = (field,) if field is not None else _FIELDS
                text = next((record[name] for name in names if isinstance(record.get(name), str)), None)
            if not isinstance(text, str) or not text.strip():
                wanted = field if field is not None else " or ".join(_FIELDS)
                raise DatasetError(f"{items}, {place}: no text in {wanted}", "--field NAME says which field holds it")
            yield text


def _lines(batch: Any) -> Iterator[bytes]:
    """Yield a line for each item, in order: its value, or why it has none."""
    encode = msgspec.json.Encoder().encode
    for one in batch:
        told = {"value": one.value} if one.ok else {"error": str(one.error)}
        yield encode({"index": one.index, **told}) + b"\n"


command = click.Command(
    "run",
    callback=_run,
    help="Have each text of the file ITEMS embedded or answered. Every line of what is written is an item, in order: "
    "its value, or its error.",
    params=[
        click.Argument(["items"], metavar="ITEMS"),
        *options(),
        click.Option(["--field"], metavar="NAME", help="The field that holds an item's text."),
        click.Option(["--out"], metavar="FILE", help="Where values go, as JSON lines.  [default: standard output]"),
        click.Option(["--output-tokens"], type=click.IntRange(min=1), metavar="N", help="Most tokens of an answer."),
        click.Option(["--journal"], metavar="FILE", help="Keep what is done, and go on from there."),
        click.Option(["--attempt-timeout"], metavar="TIME", help="For each attempt.  [default: 90s]"),
        click.Option(["--quiet", "-q"], is_flag=True, help="Show neither progress nor summary."),
    ],
)
