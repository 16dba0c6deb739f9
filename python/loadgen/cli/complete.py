"""What the shell is offered when Tab is pressed; it is looked for then, and not before."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import click
from click.shell_completion import CompletionItem

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def words(known: Callable[[], Iterable[str]]) -> Completer:
    """Offer those of a few words that begin as what was typed.

    Args:
        known: Gives the words; called when they are wanted.
    """

    def offered(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
        return [CompletionItem(word) for word in known() if word.startswith(start)]

    return offered


def strategies() -> tuple[str, ...]:
    """Return the names of the dispatch strategies."""
    from loadgen.dispatch.strategy import STRATEGIES

    return STRATEGIES


def runs(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Offer the ids of the runs here, the newest first; directories where one is being typed."""
    from loadgen.session import run_dir

    return _offered(run_dir.runs(), start)


def going_runs(_ctx: click.Context, _param: click.Parameter, start: str) -> list[CompletionItem]:
    """Offer likewise those of them that go on."""
    from loadgen.session import run_dir

    return _offered((path for path in run_dir.runs() if run_dir.is_running(path)), start)


def _offered(found: Iterator[Path], start: str) -> list[CompletionItem]:
    if os.sep in start or start.startswith("."):
        return [CompletionItem(start, type="dir")]
    names = {path.name.rpartition("-")[2]: path.name for path in found}
    by_id = [CompletionItem(run_id, help=name) for run_id, name in names.items() if run_id.startswith(start)]
    by_name = [CompletionItem(name) for name in names.values() if name.startswith(start)]
    return by_id or by_name or [CompletionItem(start, type="dir")]
