"""``loadgen nodes run``: a file of texts, embedded or answered by all nodes."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from loadgen.cli import answers, show, stops, unfinished
from loadgen.cli.nodes.pool import options, pool_of
from loadgen.errors import ConfigError, DatasetError, words_of

if TYPE_CHECKING:
    from loadgen.dispatch import CallResult
    from loadgen.dispatch.live import Call
    from loadgen.node import NodeBatch, NodePool

_FIELDS = ("text", "prompt", "input", "content")


class _Asked(msgspec.Struct, frozen=True):
    """What a batch asks of the nodes.

    Args:
        texts: Its items.
        model: Of which model.
        kind: ``embeddings``, ``chat`` or ``completions``.
        output_tokens: Most tokens of an answer.
    """

    texts: list[str]
    model: str
    kind: str
    output_tokens: int | None


def _run(
    *,
    items: str,
    model: str | None,
    kind: str | None,
    field: str | None,
    out: str | None,
    output_tokens: int | None,
    journal: str | None,
    quiet: bool,
    **said: Any,
) -> int:
    if model is None:
        raise ConfigError("no model is named", "--model NAME")
    answers.check_apart(
        {"ITEMS": items, "--nodes": said["file"]}, {"--journal": journal, "--state": said["state"], "--out": out}
    )
    kept: dict[int, Call] = {}  # as each is settled, so that what came before an interrupt isn't lost with the batch

    def keep(call: Call) -> None:
        kept[call.index] = call

    pool = pool_of(progress=False if quiet else None, trace=keep, journal=journal, **said)
    asked = _Asked(list(_texts(items, field)), model, kind or "embeddings", output_tokens)
    with stops.Stopping(signal.SIGINT, *stops.from_outside()) as stopping, show.warned():
        try:
            batch = _call(pool, asked, kept, out)
        except KeyboardInterrupt:
            done = sum(call.ok for call in kept.values())
            way_on = unfinished.way_on(journal, out if kept else None)
            show.error(f"stopped when {done:,} of {len(asked.texts):,} items had a value", way_on)
            return stopping.status
    if not quiet:
        _show(pool, asked, batch, to_stdout=out is not None)
    return _status(batch, journal)


def _call(pool: NodePool, asked: _Asked, kept: dict[int, Call], out: str | None) -> NodeBatch[Any]:
    """Have the items done and write their values; those that were there are written also when it breaks off."""
    with answers.Replaced(out, "--out") as file:

        def write(calls: Iterable[CallResult[Any] | Call]) -> None:
            if out is None:
                answers.to_stdout(_lines(calls))
            else:
                file.put(_lines(calls))

        def write_kept() -> None:
            if kept:
                write(call for _, call in sorted(kept.items()))

        batch: NodeBatch[Any]
        with unfinished.also_written(write_kept):
            if asked.kind == "embeddings":
                batch = pool.embed_batch(asked.model, asked.texts)
            else:
                batch = pool.ask_batch(asked.model, asked.texts, kind=asked.kind, output_tokens=asked.output_tokens)
        write(batch)
        return batch


def _show(pool: NodePool, asked: _Asked, batch: NodeBatch[Any], *, to_stdout: bool) -> None:
    from loadgen.cli.nodes.table import batch_lines, compared

    lines = batch_lines(batch, width=show.width())
    line = compared(pool.report((max(1, len(batch)),), model=asked.model, kind=asked.kind), batch)
    click.echo("\n".join([*lines, line] if line else lines), err=not to_stdout)


def _status(batch: NodeBatch[Any], journal: str | None) -> int:
    if batch.ok:
        return 0
    first = " ".join(words_of(batch.errors[min(batch.errors)]).split())
    again = unfinished.again(journal, has_some=len(batch.errors) < len(batch))
    show.error(f"{len(batch.errors):,} of {len(batch):,} items have no value: {first}", again)
    return 1


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


def _lines(calls: Iterable[CallResult[Any] | Call]) -> Iterator[bytes]:
    """Yield a line for each item: its value, or why it has none."""
    encode = msgspec.json.Encoder().encode
    for one in calls:
        told = {"value": one.value} if one.ok else {"error": str(one.error)}
        yield encode({"index": one.index, **told}) + b"\n"


command = click.Command(
    "run",
    callback=_run,
    help="Have each text of the file ITEMS embedded or answered. Every line of what is written is an item, in order: "
    "its value, or its error. Stopped by a signal, it writes a line for each item that was settled.",
    epilog="Exit status: 0 good, 1 it began and failed, 2 nothing was sent, 129 SIGHUP, 130 SIGINT, 143 SIGTERM.",
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
