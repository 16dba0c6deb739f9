"""The examples of README and docs that can be run: the fenced blocks below a `<!-- runs -->` line."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])

_RUNS = re.compile(r"^<!-- runs -->\n```(console|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Example(NamedTuple):
    """A fenced block that its page says is runnable."""

    page: str
    language: str
    text: str


def examples() -> Iterator[Example]:
    """Yield all, page by page."""
    for page in PAGES:
        for found in _RUNS.finditer(page.read_text()):
            yield Example(page.name, found[1], found[2])


def commands(text: str) -> list[str]:
    """Return what follows each prompt; a line that ends in a backslash goes on."""
    joined = text.replace("\\\n", "")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]
