"""An environment that held nothing: a wheel is installed into it, weighed, and driven through the README's commands."""

import os
import statistics
import subprocess
import sys
import time
import venv
from collections.abc import Iterator
from pathlib import Path

from page_examples import Example, commands, examples

MOST_INSTALLED_BYTES = 30_000_000

_IMPORTS = 10


class Environment:
    """An interpreter and its packages.

    Args:
        python: Runs Python.
        programs: Where its commands lie.
        site: Where its packages lie.
    """

    def __init__(self, python: Path, programs: Path, site: Path) -> None:
        self.python, self.programs, self._site = python, programs, site

    @classmethod
    def made(cls, folder: Path, wheel: Path) -> "Environment":
        """Make one, and install a wheel with what it needs, wheels too.

        Args:
            folder: Where; what is in it is replaced.
            wheel: What is installed.
        """
        venv.create(folder, clear=True, with_pip=False)
        site = next((folder / "lib").glob("python3*/site-packages"))
        command = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
        command += ["--disable-pip-version-check", "--only-binary", ":all:", "--no-compile", str(wheel)]
        subprocess.run(command, check=True)
        return cls(folder / "bin" / "python", folder / "bin", site)

    def installed_bytes(self) -> int:
        """Return how much the packages take, without what Python compiles of them."""
        return sum(path.stat().st_size for path in self._site.rglob("*") if path.is_file() and path.suffix != ".pyc")

    def import_s(self) -> float:
        """Return how long `import loadgen` takes beyond the start of Python: the difference of two medians."""
        took: dict[str, list[float]] = {"pass": [], "import loadgen": []}
        for _ in range(_IMPORTS):
            for statement, times in took.items():
                began = time.perf_counter()
                subprocess.run([str(self.python), "-I", "-c", statement], check=True)
                times.append(time.perf_counter() - began)
        return statistics.median(took["import loadgen"]) - statistics.median(took["pass"])


def drive(python: Path, programs: Path, folder: Path, limit_s: float = 120) -> Iterator[str]:
    """Run the README's commands and Python; yield what went wrong with each that fails.

    Args:
        python: Runs Python.
        programs: Where the commands of the install lie.
        folder: Where they are run.
        limit_s: How long each may take, seconds.
    """
    environment = {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder), "LANG": "C.UTF-8"}
    for example in readme():
        for command in _asked(python, example):
            done = subprocess.run(
                command, cwd=folder, env=environment, capture_output=True, text=True, timeout=limit_s, check=False
            )
            print(f"  {'ok    ' if done.returncode == 0 else 'FAILED'} {_first_line(command[-1])}", flush=True)
            if done.returncode:
                yield f"{command[-1]}\nended with {done.returncode}\n{done.stdout}\n{done.stderr}"


def _asked(python: Path, example: Example) -> list[list[str]]:
    if example.language == "python":
        return [[str(python), "-c", example.text]]
    return [["bash", "-euc", command] for command in commands(example.text)]


def readme() -> list[Example]:
    """Return what the README says can be run.

    Raises:
        ValueError: If it says so of nothing.
    """
    found = [example for example in examples() if example.page == "README.md"]
    if not found:
        raise ValueError("README.md has no block below a `<!-- runs -->` line")
    return found


def _first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[0] if len(lines) == 1 else f"{lines[0]} … ({len(lines)} lines of Python)"
