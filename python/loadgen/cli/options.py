"""Flags of a command, made from the table of options; its help in groups; and how the value of another flag is read."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar, overload

import click

from loadgen.cli import complete
from loadgen.config import DEFAULTS, OPTIONS, Option
from loadgen.config.values import flag, path
from loadgen.errors import ConfigError

T = TypeVar("T")


class GroupedCommand(click.Command):
    """A command whose help shows its options under headings; each option's heading is its ``group``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        # click would take what follows a flag with an optional value for its value, also if it is the target.
        bare = {
            flag: f"{flag}={param.bare}"
            for param in self.params
            if isinstance(param, GroupedOption) and param.bare
            for flag in param.opts
        }
        options = args[: args.index("--")] if "--" in args else args
        try:
            return super().parse_args(ctx, [*(bare.get(arg, arg) for arg in options), *args[len(options) :]])
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # a flag without its value doesn't say whose flag it is
            raise

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            # The usage line names the arguments; click 8.5.1 has a record of each, which would stand first here.
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                groups.setdefault(getattr(param, "group", "Other"), []).append(record)
        for name, records in groups.items():
            with formatter.section(name):
                formatter.write_dl(records, col_max=26)


class GroupedOption(click.Option):
    """A flag that knows the heading it stands under in ``--help``, and what it says alone where its value may lack."""

    def __init__(self, *args: Any, group: str = "Other", bare: str = "", **extra: Any) -> None:
        super().__init__(*args, **extra)
        self.group = group
        self.bare = bare

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        if record is None or not self.bare:
            return record
        return f"{self.opts[0]}[={self.metavar}]", record[1]


def flags(
    names: Collection[str] = OPTIONS, choices: Mapping[str, Sequence[str]] | None = None
) -> list[click.Parameter]:
    """Return the flags of a run, in the table's order; each passes on what was typed, unread.

    Args:
        names: Those wanted.
        choices: Of an option that takes one of a few words: those that this command knows, if not all.
    """
    few = choices or {}
    return [_flag(name, option, few.get(name)) for name, option in OPTIONS.items() if name in names]


@overload
def value_of(flag: str, typed: str, read: Callable[[Any], T], way_out: str = ...) -> T: ...
@overload
def value_of(flag: str, typed: str | None, read: Callable[[Any], T], way_out: str = ...) -> T | None: ...
def value_of(flag: str, typed: str | None, read: Callable[[Any], T], way_out: str = "") -> T | None:
    """Return the value of a flag that is none of the table's; ``None`` where it wasn't given.

    Args:
        flag: The flag, with its dashes.
        typed: What was typed.
        read: Reads it; raises ``ValueError`` with the rule that was broken.
        way_out: What the error says to do.

    Raises:
        ConfigError: If it can't be read.
    """
    if typed is None:
        return None
    try:
        return read(typed)
    except ValueError as error:
        raise ConfigError(f"{flag} {typed} {error}", way_out) from None


def _flag(name: str, option: Option, few: Sequence[str] | None) -> click.Parameter:
    spelled = "--" + name.replace("_", "-")
    if option.read is flag:
        default = DEFAULTS[name]
        return GroupedOption(
            [f"{spelled}/--no-{name}" if default else spelled, name],
            is_flag=True,
            default=None,
            group=option.group,
            help=f"{option.help}{'  [default: on]' if default else ''}",
        )
    choices = few or getattr(option.read, "choices", None)
    extra: dict[str, Any] = {}
    if choices:
        extra["shell_complete"] = complete.words(lambda: choices)
    return GroupedOption(
        [spelled, name],
        type=click.Path() if option.read is path else str,
        multiple=option.many,
        default=None,
        metavar="|".join(choices) if choices else option.metavar,
        group=option.group,
        bare=option.bare,
        help=option.help + _default(name, option),
        **extra,
    )


def _default(name: str, option: Option) -> str:
    default = DEFAULTS[name]
    if option.shown:
        return f"  [default: {option.shown}]"
    if default in (None, (), ""):
        return ""
    return f"  [default: {default:g} s]" if isinstance(default, float) else f"  [default: {default}]"
