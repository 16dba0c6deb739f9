"""``loadgen events``: print what happened in a run, event by event, as JSON lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import click
import msgspec

from loadgen.cli import complete, show
from loadgen.cli.answers import to_stdout
from loadgen.config.known import hint
from loadgen.errors import ReportError
from loadgen.event.log import NAME, EventLog
from loadgen.event.record import CATEGORIES, TOPICS, EventRecord
from loadgen.session import run_dir

_LOOK_S = 0.1


class _Line(msgspec.Struct, omit_defaults=True):
    """An event as it is printed: what is unknown is left out."""

    type: str
    ns: int
    request: int | None = None
    session: str | None = None
    conversation: str | None = None
    turn: int | None = None
    data: Any = None
    finish_reason: str | None = None
    source: int = -1
    seq: int = -1


_encoder = msgspec.json.Encoder(enc_hook=repr)


def _events(run: str | None, topic: Sequence[str], follow: bool) -> int:
    topics = [_topic(name) for name in topic] or None
    directory = run_dir.find(run)
    if not (directory / NAME).is_file():
        raise ReportError(f"{directory} holds no {NAME}", "events are kept on request: run it with --events")
    log = EventLog(directory, topics)
    pieces = log.follow(lambda: run_dir.is_running(directory), lambda: time.sleep(_LOOK_S)) if follow else log.records()
    try:
        for records in pieces:
            to_stdout([_lines(records)])
    except (ValueError, FileNotFoundError) as error:
        raise ReportError(f"can't read {directory / NAME}: {error}") from None
    if log.damaged:
        show.warning(f"{log.damaged:,} bytes of {directory / NAME} are damaged; what was in them is left out")
    return 0


def _topic(name: str) -> str:
    """Return a topic, or a category with its dot."""
    found = name if name in TOPICS else name.removesuffix(".") + "."
    if found in TOPICS or found in CATEGORIES:
        return found
    known = [*TOPICS, *(category[:-1] for category in CATEGORIES)]
    raise click.UsageError(f"there is no topic {name!r}\n{hint(name, known, 'the topics are')}")


def _lines(records: Sequence[EventRecord]) -> bytes:
    lines = [_line(record) for record in records]
    try:
        return _encoder.encode_lines(lines)
    except (TypeError, ValueError):  # data of somebody else's that JSON has no form for
        return _encoder.encode_lines([_plain(line) for line in lines])


def _line(record: EventRecord) -> _Line:
    values = (getattr(record, name) for name in EventRecord.__struct_fields__[1:])
    return _Line(record.type.topic, *values)


def _plain(line: _Line) -> _Line:
    try:
        _encoder.encode(line)
    except (TypeError, ValueError):
        line.data = repr(line.data)
    return line


command = click.Command(
    "events",
    callback=_events,
    help="Print what happened in a run, event by event, as JSON lines.\n\n"
    "RUN is a directory, the beginning of a run's id, or nothing for the newest run; it must have been run with "
    "--events. Lines are in order of time (ns, then source, then seq). With --follow a run that is still going is "
    "followed to its end; a line is then held back for a second to get its place.",
    params=[
        click.Argument(["run"], required=False, metavar="[RUN]", shell_complete=complete.runs),
        click.Option(
            ["--topic"],
            multiple=True,
            metavar="NAME",
            help="Only this topic, such as sample.complete, or category, such as error; may be repeated.",
            shell_complete=complete.words(lambda: TOPICS),
        ),
        click.Option(["--follow", "-f"], is_flag=True, help="Go on until the run has ended."),
    ],
)
