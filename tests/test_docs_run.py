"""The commands and examples of README and docs run; what can't says why, and is counted."""

import shutil
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest

from page_examples import ROOT, Block, blocks, run_block

NOT_RUN = {
    "a transcript of an earlier run": 3,
    "in a second terminal": 2,
    "builds everything": 1,
    "installs": 3,
    "needs a package that the tests don't install": 1,
    "takes minutes": 3,
}
"""Why a block isn't run, and how many there are: another one is a decision, made here."""

ELSEWHERE = {"help", "signatures", "strategy", "example"}
"""Marks of blocks that another test compares with their source, or runs."""

NEEDED = {"jq": shutil.which("jq"), "matplotlib": find_spec("matplotlib")}
"""What a block may want that the tests don't install everywhere, and where it is."""

WORDS = {"server", "short", "serves", "judges", *NEEDED}


def kind(block: Block) -> str:
    return block.mark.partition(":")[0]


@pytest.mark.parametrize("block", [block for block in blocks() if block.is_run], ids=lambda block: block.name)
def test_a_block_runs_as_it_is_printed(block: Block, tmp_path: Path) -> None:
    for lacking in sorted(name for name in block.words if name in NEEDED and NEEDED[name] is None):
        pytest.skip(f"{lacking} is not installed")
    run_block(block, tmp_path)


def test_every_block_of_code_has_its_mark() -> None:
    known = {"runs", "not run", "file", *ELSEWHERE}
    code = [block for block in blocks() if block.language not in {"", "text"}]
    assert [block.name for block in code if kind(block) not in known] == []
    assert [block.name for block in code if block.is_run and not block.words <= WORDS] == []
    assert [block.name for block in code if block.is_run and block.language not in {"console", "python"}] == []


def test_no_block_of_text_holds_a_command_that_could_run() -> None:
    shown = [block for block in blocks() if block.language in {"", "text"} and kind(block) not in ELSEWHERE]
    assert [block.name for block in shown if "\n$ " in f"\n{block.text}" and kind(block) != "not run"] == []


def test_what_is_not_run_has_one_of_the_reasons() -> None:
    reasons = Counter(block.mark.removeprefix("not run: ") for block in blocks() if kind(block) == "not run")
    assert reasons == NOT_RUN


def test_the_first_pages_have_examples_that_run() -> None:
    pages = {block.page.relative_to(ROOT).as_posix() for block in blocks() if block.is_run}
    assert pages >= {"README.md", "docs/start.md", "docs/datasets.md", "docs/mock.md"}
    how_to = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "how-to").glob("*.md")}
    assert how_to <= pages
