"""The pages of the Python API: every public name stands on one of them, once, and has a docstring to show."""

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import yaml

from loadgen import errors

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))
SHOWN = [name for page in PAGES for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)]
ROOMS = [
    "loadgen",
    *(f"loadgen.{room}" for room in ("dataset", "dispatch", "endpoint", "event", "metrics", "node", "session")),
]
VERBS = (FunctionType, property, classmethod, staticmethod)


def found(path: str) -> Any:
    """Import what a full path names; a name that only checkers know is its module's annotation."""
    module, _, name = path.rpartition(".")
    return getattr(importlib.import_module(module), name)


def public() -> Iterator[str]:
    for room in ROOMS:
        yield from (f"{room}.{name}" for name in importlib.import_module(room).__all__)
    for name, error in vars(errors).items():
        if inspect.isclass(error) and issubclass(error, errors.LoadgenError):
            yield f"loadgen.errors.{name}"


def test_every_public_name_stands_on_a_page() -> None:
    shown = [found(name) for name in SHOWN]
    missing = [name for name in public() if not any(found(name) is one for one in shown)]
    assert missing == ["loadgen.__version__"]


def test_no_name_stands_twice() -> None:
    assert sorted(SHOWN) == sorted(set(SHOWN))
    classes = [one for one in map(found, SHOWN) if inspect.isclass(one)]
    assert len(classes) == len(set(classes))


def test_what_is_shown_says_what_it_is() -> None:
    silent = []
    for name in SHOWN:
        one = found(name)
        if not (inspect.isclass(one) or inspect.isroutine(one)):
            continue  # a constant's docstring is only in the source
        silent += [] if inspect.getdoc(one) else [name]
        verbs = (key for key, value in vars(one).items() if key[0] != "_" and isinstance(value, VERBS))
        silent += [f"{name}.{key}" for key in verbs if not inspect.getdoc(getattr(one, key))]
    assert silent == []


def test_every_page_is_in_the_navigation() -> None:
    text = re.sub(r"!!python\S+", "", (ROOT / "mkdocs.yml").read_text())
    listed = set(re.findall(r"[\w/-]+\.md", str(yaml.safe_load(text)["nav"])))
    assert listed == {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}


def test_the_index_of_the_pages_links_to_each() -> None:
    index = (ROOT / "docs" / "reference" / "index.md").read_text()
    assert set(re.findall(r"\]\((\w+\.md)\)", index)) == {page.name for page in PAGES} - {"index.md"}
