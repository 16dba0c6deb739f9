"""The command line: one command a file, each imported when it is called."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

import click

from loadgen import speech
from loadgen.cli import show
from loadgen.cli.group import LazyGroup
from loadgen.errors import DispatchError, LoadgenError, RunError

_COMMANDS = {
    "run": "Drive a server with a load, and report what a client saw.",
    "report": "Report a run again, from its log.",
    "top": "Watch a run that goes on.",
    "events": "Print what happened in a run, event by event.",
    "mock": "Serve a mock of an LLM server, with exact timing and faults on demand.",
    "ls": "List runs.",
    "clean": "Remove old runs.",
    "dispatch": "Make many calls at once, for their answers.",
    "nodes": "Batches over machines of unequal speed.",
}


class _App(LazyGroup):
    """Says errors the way the rest of loadgen does."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            code = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            # Whoever read our output has seen enough. What is still buffered must not raise again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 128 + signal.SIGPIPE
        return code

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        with speech.in_flags():
            sys.exit(self._status(args, *rest, **extra))

    def _status(self, args: Sequence[str] | None, *rest: Any, **extra: Any) -> int:
        try:
            code = super().main(args, *rest, **{**extra, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as shown:
            click.echo(shown.format_message())
            code = 2
        except click.UsageError as error:
            _say_usage(error)
            code = 2
        except click.ClickException as error:
            show.error(error.format_message())
            code = 2
        except (RunError, DispatchError) as error:
            show.error(error.message, error.way_out)
            code = 1
        except LoadgenError as error:
            show.error(error.message, error.way_out)
            code = 2
        except (click.Abort, KeyboardInterrupt):
            code = 130
        return code if isinstance(code, int) else 0


def _say_usage(error: click.UsageError) -> None:
    message, _, way_out = error.format_message().partition("\n")
    if isinstance(error, click.NoSuchOption):
        message, way_out = f"there is no option {error.option_name}", _meant(error)
    path = error.ctx.command_path if error.ctx is not None else "loadgen"
    show.error(message.rstrip("."), way_out or f"`{path} --help` says more")


def _meant(error: click.NoSuchOption) -> str:
    """Return which option was probably meant, as the way out; empty if none comes near."""
    import difflib  # only a mistake needs it

    from loadgen.config import elsewhere

    params = error.ctx.command.params if error.ctx is not None else []
    # Without the hyphens in front: they are what any two flags have in common.
    known = [flag.removeprefix("--") for param in params for flag in (*param.opts, *param.secondary_opts)]
    word = error.option_name.lstrip("-")
    there = elsewhere.hint(word, [param.name or "" for param in params], speech.option)
    close = difflib.get_close_matches(word, known)
    return there or (f"perhaps {', '.join(sorted(f'--{name}' for name in close))}?" if close else "")


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        from loadgen import _core

        click.echo(f"loadgen {_core.__version__}")
        ctx.exit()


app = _App(
    name="loadgen",
    room="loadgen.cli",
    words=_COMMANDS,
    help="Load generation for LLM inference endpoints, exact where it matters.",
    epilog='Shell completion: eval "$(_LOADGEN_COMPLETE=bash_source loadgen)" (or zsh_source, fish_source).',
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    params=[
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
        )
    ],
)


def main() -> None:
    """Run the command line, and exit with its status."""
    app.main(prog_name="loadgen")
