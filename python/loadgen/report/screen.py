"""A run's report on a screen: what is asked first stands first, and nothing is wider than the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from loadgen.report import accuracy, nodes, overview, sentences, title
from loadgen.report.sentences import Sentence
from loadgen.report.table import rows
from loadgen.report.wrapping import indented, pair, wrapped

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from loadgen.session import PhaseResult, SessionResult

_LABEL = 12
_NARROWEST, _WIDEST = 40, 200


def show(result: SessionResult, out: TextIO | None = None, width: int | None = None) -> None:
    """Print a run's report.

    Args:
        result: The run's result.
        out: Where to; standard output if ``None``.
        width: Columns; the terminal's if ``None``, and 100 without one.
    """
    from rich.console import Console

    out = out if out is not None else sys.stdout
    fixed = width if width is not None else None if out.isatty() or os.environ.get("COLUMNS") else 100
    console = Console(file=out, width=fixed, highlight=False, markup=False, emoji=False, soft_wrap=False)
    for line in lines(result, console):
        console.print(line, overflow="crop", no_wrap=True, crop=True)


def lines(result: SessionResult, console: Console) -> Iterator[Text]:
    """Yield a report's lines, each at most as wide as the console.

    Args:
        result: The run's result.
        console: Where they will be printed; tells the width.
    """
    from rich.text import Text

    width = max(_NARROWEST, min(_WIDEST, console.width)) - 1
    yield Text()
    yield from _alarms(result, console, width)
    measured = title.measured(result)
    yield from pair(title.title(result), f"run {title.run_name(result)}", width, "bold", console)
    for number, line in enumerate(overview.rows(result.perf_results, width)):
        if number == 0:
            yield Text()
        yield Text(line, style="dim" if number == 0 else "")
    for phase in measured:
        if len(measured) > 1:
            yield Text()
            yield from pair(title.heading(result, phase), "", width, "bold", console)
        yield Text()
        yield from _phase(result, phase, console, width)
    yield Text()
    for sentence in sentences.about_run(result):
        yield from _labelled(sentence, console, width)
    yield Text()


def _alarms(result: SessionResult, console: Console, width: int) -> Iterator[Text]:
    from rich.text import Text

    for alarm in sentences.alarms(result):
        yield from indented(alarm, width, "bold red", console)
        yield Text()


def _phase(result: SessionResult, phase: PhaseResult, console: Console, width: int) -> Iterator[Text]:
    from rich.text import Text

    if phase.type == "accuracy":
        yield from pair(sentences.counts(phase), accuracy.headline(phase), width, "bold", console)
        yield Text()
        for sentence in accuracy.about_phase(result, phase):
            yield from _labelled(sentence, console, width)
        return
    yield from pair(sentences.counts(phase), sentences.goodput(phase), width, "bold", console)
    table, notes = rows(phase, width)
    if table:
        yield Text()
        for line, style in table:
            yield Text(line, style=style)
        for note in notes:
            for number, line in enumerate(wrapped(note, console, width - 3)):
                yield Text(f"{' ' if number == 0 else '   '}{line}", style="dim")
    for number, node in enumerate(nodes.rows(phase, width)):
        if number == 0:
            yield Text()
        yield Text(node, style="dim" if number == 0 else "")
    yield Text()
    for sentence in sentences.about_phase(result, phase):
        yield from _labelled(sentence, console, width)


def _labelled(sentence: Sentence, console: Console, width: int) -> Iterator[Text]:
    from rich.text import Text

    for number, line in enumerate(wrapped(sentence.text, console, width - _LABEL - 1)):
        label = f" {sentence.label if number == 0 else '':<{_LABEL}}"
        yield Text(label, style="dim" if number == 0 else "") + Text(line, style=sentence.style)
