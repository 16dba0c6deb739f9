"""Keeps docs/cli.md what the commands' own help says: writes each help between the page's marks.

usage: cli_page.py        (with loadgen installed)
"""

import re
from pathlib import Path

import click

from loadgen.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "cli.md"
WIDTH = 100

_BLOCK = re.compile(r"(<!-- help: (\w+) -->\n```text\n).*?(```\n)", re.DOTALL)


def commands() -> dict[str, click.Command]:
    """Every command by its name."""
    context = click.Context(app)
    found = {name: app.get_command(context, name) for name in app.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


def refreshed(page: str) -> str:
    """Return the page with each help as it is now."""
    known = commands()

    def block(found: re.Match[str]) -> str:
        above = click.Context(app, info_name="loadgen", **app.context_settings)
        context = click.Context(
            known[found[2]], parent=above, info_name=found[2], terminal_width=WIDTH, max_content_width=WIDTH
        )
        text = "\n".join(line.rstrip() for line in known[found[2]].get_help(context).splitlines())
        return f"{found[1]}{text}\n{found[3]}"

    return _BLOCK.sub(block, page)


if __name__ == "__main__":
    PAGE.write_text(refreshed(PAGE.read_text()))
