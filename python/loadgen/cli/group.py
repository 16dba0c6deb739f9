"""A command that holds others: one a file, each imported when it is called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """Loads its commands when they are called.

    Args:
        room: The package in which each command has a module of its name, with the command as ``command``.
        words: What each command does, in one line, by its name.
    """

    def __init__(self, *args: Any, room: str, words: Mapping[str, str], **extra: Any) -> None:
        super().__init__(*args, **extra)
        self._room = room
        self._words = words

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self._words)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:  # noqa: ARG002
        if name not in self._words:
            return None
        command = importlib.import_module(f"{self._room}.{name}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(self._words.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in self._words:
            from loadgen.config.known import hint
            from loadgen.config.secret import shown_url
            from loadgen.config.target import BEGINNINGS
            from loadgen.shown import plain

            way_out = hint(args[0], self._words, "the commands are")
            if "run" in self._words and args[0].startswith(BEGINNINGS):  # somebody forgot the command
                way_out = f"perhaps {ctx.command_path} run {plain(shown_url(args[0]))}?"
            raise click.UsageError(f"there is no command {plain(shown_url(args[0]))!r}\n{way_out}", ctx)
        return super().resolve_command(ctx, args)
