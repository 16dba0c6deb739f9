"""Keeps the pages of the command line what the commands' own help says: writes each help between a page's marks.

usage: cli_page.py        (with loadgen installed)
"""

import re
from collections.abc import Iterator
from pathlib import Path

import click

from loadgen.cli import app

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"dispatch": DOCS / "dispatch-cli.md", "nodes": DOCS / "nodes.md"}
"""Where a command's help stands that isn't on cli.md, by its first word."""

WIDTH = 100

_BLOCK = re.compile(r"(<!-- help: ([\w ]+) -->\n```text\n).*?(```\n)", re.DOTALL)


def commands() -> dict[str, click.Command]:
    """Every command by its name, those of a group as ``dispatch run``."""
    return dict(_commands(app, ""))


def _commands(group: click.Group, above: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from _commands(command, f"{above}{name} ")
        elif command is not None:
            yield f"{above}{name}", command


def page_of(name: str) -> Path:
    """Return the page on which a command's help stands."""
    return PAGES.get(name.split(maxsplit=1)[0], DOCS / "cli.md")


def pages() -> set[Path]:
    """Every page with help."""
    return {page_of(name) for name in commands()}


def named(page: str) -> set[str]:
    """Return the commands whose help a page shows."""
    return {found[2] for found in _BLOCK.finditer(page)}


def refreshed(page: str) -> str:
    """Return the page with each help as it is now."""
    known = commands()

    def block(found: re.Match[str]) -> str:
        context = click.Context(app, info_name="loadgen", **app.context_settings)
        *groups, name = found[2].split()
        for group in groups:
            context = click.Context(app, parent=context, info_name=group)
        context = click.Context(
            known[found[2]], parent=context, info_name=name, terminal_width=WIDTH, max_content_width=WIDTH
        )
        text = "\n".join(line.rstrip() for line in known[found[2]].get_help(context).splitlines())
        return f"{found[1]}{text}\n{found[3]}"

    return _BLOCK.sub(block, page)


if __name__ == "__main__":
    for path in pages():
        path.write_text(refreshed(path.read_text()))
