"""The fenced blocks of README and docs, and how each of them is run: as it is printed, but for what its mark says.

A mark is a comment on the line before a block:

    <!-- runs -->                as it is printed
    <!-- runs: WORDS -->         server: addresses of servers are those of mock servers that the test starts
                                 short: every --duration is a second, and --metrics-port a free one
                                 serves: the command is ended once it listens
                                 judges: may end with 1, as it may find a busy machine's times too long
                                 jq, matplotlib: where that is installed
    <!-- file: NAME -->          is put into the folder of all runs of its page
    <!-- not run: WHY -->        counted by its reason (test_docs_run.py)

Blocks that another test compares with their source have marks of their own.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
LIMIT_S = 60

_BLOCK = re.compile(r"^(?:<!-- ([^\n]*) -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ADDRESS = re.compile(r"http://(?:127\.0\.0\.1:8000|10\.[\d.]+:\d+)")
_PORT = "--metrics-port 9464"
_MOCK = ["--port", "0", "--any-model", "--model", "nomic-embed-text", "--output-tokens", "8"]
_GIVEN = {
    "prompts.jsonl": '{"prompt": "What is a pump?"}\n{"prompt": "What is a fan?"}\n',
    "questions.jsonl": '{"prompt": "What is a pump?"}\n{"prompt": "What is a fan?"}\n',
    "texts.txt": "What is a pump?\nWhat is a fan?\n",
    "gsm8k_test.jsonl": '{"question": "What is 1 + 1?", "answer": "#### 2"}\n',
    "cell.txt": "Does a {row.name} see {col.name}? Answer yes or no.\n",
    "prompt.txt": "{item.prompt} Answer in a sentence.\n",
    "sensors.csv": "name\nheat sensor\nlevel sensor\n",
    "modes.csv": "name\nleak\nbearing wear\n",
}
"""What a reader has at hand."""


class Block(NamedTuple):
    """A fenced block: the page it stands on, its line, the mark above it, its language and its text."""

    page: Path
    line: int
    mark: str
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def is_run(self) -> bool:
        return re.match(r"runs\b", self.mark) is not None

    @property
    def words(self) -> set[str]:
        return set(self.mark.partition(":")[2].split())


def blocks() -> Iterator[Block]:
    """Every fenced block of every page."""
    for page in PAGES:
        text = page.read_text()
        for found in _BLOCK.finditer(text):
            yield Block(page, text.count("\n", 0, found.start()) + 1, found[1] or "", found[2], found[3])


def commands(text: str) -> list[str]:
    """Take what follows each prompt; a line that ends in a backslash goes on."""
    joined = text.replace("\\\n", "")
    return [line.removeprefix("$ ") for line in joined.splitlines() if line.startswith("$ ")]


def environment(python: Path = Path(sys.executable)) -> dict[str, str]:
    """This process's environment, with the commands beside an interpreter first."""
    return {**os.environ, "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}"}


def run_block(block: Block, folder: Path, python: Path = Path(sys.executable)) -> None:
    """Run a block as its mark says.

    Args:
        block: One that is to be run.
        folder: Where; empty.
        python: The interpreter, beside which `loadgen` lies.

    Raises:
        AssertionError: If a command doesn't end as it should, with what it said.
    """
    with Servers(python) as servers:
        text = _furnish(block, folder, servers)
        asked = [[str(python), "-c", text]] if block.language == "python" else _shells(text)
        assert asked, f"{block.name}: a block that runs, without a command"
        for command in asked:
            if "serves" in block.words:
                with _serving([*command[:-1], f"exec {command[-1]}"], folder, python):
                    pass
            else:
                _run(command, folder, python, good={0, 1} if "judges" in block.words else {0})


class Servers(ExitStack):
    """Mock servers, one for each address that is asked for."""

    def __init__(self, python: Path) -> None:
        super().__init__()
        self._python = python
        self._urls: dict[str, str] = {}

    def addressed(self, text: str) -> str:
        """Replace each server's address by that of a mock server that lives as long as this does."""

        def own(found: re.Match[str]) -> str:
            if found[0] not in self._urls:
                command = [str(self._python.parent / "loadgen"), "mock", *_MOCK]
                self._urls[found[0]] = self.enter_context(_serving(command, Path.cwd(), self._python))
            return self._urls[found[0]]

        return _ADDRESS.sub(own, text)


def _furnish(block: Block, folder: Path, servers: Servers) -> str:
    """Put into the folder what a block finds there, and return its text as it is run."""

    def own(text: str) -> str:
        return servers.addressed(text) if "server" in block.words else text

    (folder / "examples").symlink_to(ROOT / "examples")
    files = {other.mark.removeprefix("file: "): own(other.text) for other in blocks() if _is_file_for(block, other)}
    for name, text in (_GIVEN | files).items():
        (folder / name).write_text(text)
    text = own(block.text)
    if "short" in block.words:
        text = re.sub(r"--duration \S+", "--duration 1s", text).replace(_PORT, f"--metrics-port {_free_port()}")
    return text.replace("--port 8000", "--port 0") if "serves" in block.words else text


def _is_file_for(block: Block, other: Block) -> bool:
    return other.page == block.page and other.mark.startswith("file: ")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def _shells(text: str) -> list[list[str]]:
    return [["bash", "-euc", command] for command in commands(text)]


def _run(command: list[str], folder: Path, python: Path, good: set[int]) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment(python),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    said = f"{command[-1]}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert done.returncode in good, said
    assert "Traceback" not in done.stderr, said


@contextmanager
def _serving(command: list[str], folder: Path, python: Path) -> Iterator[str]:
    """Start a server, give the URL that it prints once it listens, and end it."""
    with (
        tempfile.TemporaryFile("w+") as problem,
        subprocess.Popen(
            command, cwd=folder, env=environment(python), stdout=subprocess.PIPE, stderr=problem, text=True
        ) as server,
    ):
        late = threading.Timer(LIMIT_S, server.kill)
        late.start()
        try:
            assert server.stdout is not None
            told = server.stdout.readline().strip()
            late.cancel()
            if told:
                yield told
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()
            problem.seek(0)
            assert server.returncode == 0, f"{command}\nended with {server.returncode}\n{problem.read()}"
