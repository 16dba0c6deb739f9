"""What errors call an option: a flag where the command line asked, a keyword where Python did."""

import ast
import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

import loadgen
from loadgen.cli import app
from loadgen.config import OPTIONS
from loadgen.dataset import load
from loadgen.errors import ConfigError, DatasetError
from loadgen.speech import in_flags, option

ROOT = Path(loadgen.__file__).parent
FLAG = re.compile(r"(?<![\w-])--(?!help)[a-z]")


@pytest.mark.parametrize(
    ("given", "flag", "keyword"),
    [
        ({"name": "max_concurrency"}, "--max-concurrency", "max_concurrency"),
        ({"name": "model", "stands": "NAME"}, "--model NAME", "model=NAME"),
        ({"name": "model", "value": "llama3:8b"}, "--model llama3:8b", "model='llama3:8b'"),
        ({"name": "concurrency", "value": 8}, "--concurrency 8", "concurrency=8"),
        ({"name": "stream", "value": True}, "--stream", "stream=True"),
        ({"name": "stream", "value": False}, "--no-stream", "stream=False"),
    ],
)
def test_an_option_is_called_as_whoever_asked_gives_it(given: dict[str, Any], flag: str, keyword: str) -> None:
    with in_flags():
        assert option(**given) == flag
    assert option(**given) == keyword


def test_what_is_begun_on_the_command_line_speaks_in_flags_and_python_beside_it_in_keywords() -> None:
    async def task() -> str:
        await asyncio.sleep(0)
        return option("model")

    async def both() -> list[str]:
        with in_flags():
            flag = asyncio.create_task(task())
        return [await flag, await asyncio.create_task(task())]

    assert asyncio.run(both()) == ["--model", "model"]


def test_a_function_of_python_says_keywords_and_the_command_line_flags(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text('{"theme": "What is a load?", "id": 3}\n')
    with pytest.raises(DatasetError) as called:
        load(tmp_path / "prompts.jsonl", prompt_field="team")
    assert called.value.way_out == "perhaps prompt_field='theme'?"
    words = ("run", "mock:", "--dataset", str(tmp_path / "prompts.jsonl"), "--prompt-field", "team")
    typed = CliRunner().invoke(app, words, prog_name="loadgen")
    assert (typed.exit_code, typed.stderr.splitlines()[-1]) == (2, "       perhaps --prompt-field theme?")


def test_a_dispatcher_says_the_keyword_the_flag_or_the_variable_that_was_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"^hedge_after soon "):
        loadgen.Dispatcher("hedged", hedge_after="soon")
    (tmp_path / "items").write_text("a\n")
    words = ("dispatch", "run", "mock:", "--items", str(tmp_path / "items"))
    typed = CliRunner().invoke(app, [*words, "--hedge-after", "soon"], prog_name="loadgen")
    assert typed.stderr.startswith("error: --hedge-after soon ")
    monkeypatch.setenv("LOADGEN_HEDGE_AFTER_S", "soon")
    said = CliRunner().invoke(app, words, prog_name="loadgen")
    assert said.stderr.startswith("error: LOADGEN_HEDGE_AFTER_S soon ")


# --- the source


READ_ON_THE_COMMAND_LINE = {
    "speech.py",
    "config/options.py",  # help
    "session/mock.py",
    "dataset/synthetic.py",  # what a report keeps
    "dispatch/experiment/store.py",  # `loadgen dispatch bench` alone
    "config/check.py",  # asks how the option was given
    "config/elsewhere.py",  # tell what is done on the command line
    "config/target.py",
}
"""Files outside of ``cli`` and ``report`` whose texts name flags."""


def files() -> Iterator[tuple[str, ast.Module]]:
    for path in ROOT.rglob("*.py"):
        yield path.relative_to(ROOT).as_posix(), ast.parse(path.read_text(encoding="utf-8"))


def options_of(command: click.Command) -> set[str]:
    names = {str(param.name) for param in command.params}
    if isinstance(command, click.Group):
        with click.Context(command) as ctx:
            for name in command.list_commands(ctx):
                within = command.get_command(ctx, name)
                assert within is not None
                names |= options_of(within)
    return names


def test_what_errors_name_is_an_option() -> None:
    named = {
        node.args[0].value
        for _, tree in files()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "option"
        and isinstance(node.args[0], ast.Constant)
    }
    assert len(named) > 10
    assert named <= {*OPTIONS, *options_of(app)} | {"samples"}


def test_no_text_of_a_room_that_python_calls_names_a_flag() -> None:
    found = []
    for name, tree in files():
        if name.startswith(("cli/", "report/", "tui/")) or name in READ_ON_THE_COMMAND_LINE:
            continue
        docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                found += [f"{name}:{node.lineno}: {node.value}"] if FLAG.search(node.value) else []
    assert found == []
