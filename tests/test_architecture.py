"""The page on architecture: its rooms are the tree's, its lines are those that the checks enforce."""

import re
import tomllib
from pathlib import Path

import direction

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
PICTURE = (ROOT / "docs" / "pictures" / "rooms.svg").read_text()


def told(head: str) -> set[str]:
    table = re.search(rf"^\| {head}.*\n\|---\|---\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert table is not None
    return set(re.findall(r"^\| `(\w+)` \|", table[1], re.MULTILINE))


def lines(language: str) -> list[set[str]]:
    block = re.search(rf"^```text\n{language} (.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert block is not None
    return [set(line.split()) for line in block[1].splitlines()]


def rust_rooms() -> set[str]:
    return {path.stem for path in (ROOT / "rust" / "src").iterdir()} - {"lib"}


def python_rooms() -> set[str]:
    kept = [path for path in (ROOT / "python" / "loadgen").iterdir() if path.suffix in {"", ".py"}]
    return {path.stem for path in kept} - {"__init__", "__main__", "__pycache__"} | {"_core"}


def test_every_room_of_the_tree_is_told_and_every_told_room_is_there() -> None:
    assert told("Rust") == rust_rooms()
    assert told("Python") == python_rooms()


def test_the_lines_are_those_that_are_checked() -> None:
    assert list(reversed(lines("Rust"))) == [set(level) for level in direction.LEVELS]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    named = [set(re.findall(r"\w+", layer)) & python_rooms() for layer in layers]
    assert lines("Python") == named


def test_the_picture_names_the_rooms_of_both_trees() -> None:
    named = set(re.findall(r'<text class="name"[^>]*>([^<]*)</text>', PICTURE))
    strips = {word for text in named for word in re.findall(r"\w+", text.partition(":")[0])}
    assert strips == rust_rooms() | (
        python_rooms() - {"_core", "errors", "first_use", "http_get", "private_file", "shown", "speech"}
    )


def test_every_file_that_the_page_sends_a_reader_to_is_there() -> None:
    reading = PAGE.partition("## Where to begin reading")[2]
    folder = Path()
    named = re.findall(r"`([\w/]+\.(?:rs|py))`", reading)
    assert len(named) > 10
    for name in named:
        path = ROOT / name if "/" in name else folder / name
        assert path.is_file(), name
        folder = path.parent
