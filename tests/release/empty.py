"""An environment that held nothing: a wheel is installed into it, weighed, and driven through the README's commands."""

import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

import page_examples

MOST_INSTALLED_BYTES = 30_000_000

_IMPORTS = 10


class Environment:
    """An interpreter and its packages.

    Args:
        python: Runs Python.
        site: Where its packages lie.
    """

    def __init__(self, python: Path, site: Path) -> None:
        self.python, self._site = python, site

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
        return cls(folder / "bin" / "python", site)

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


def drive(python: Path, limit_s: int = page_examples.LIMIT_S) -> Iterator[str]:
    """Run what README.md says can be run with an install; yield what went wrong with each block that fails.

    Args:
        python: The interpreter of the install, its commands beside it.
        limit_s: Seconds that one command may take.
    Raises:
        ValueError: If the README says it of nothing.
    """
    page_examples.LIMIT_S = limit_s
    blocks = [block for block in page_examples.blocks() if block.page.name == "README.md" and block.is_run]
    if not blocks:
        raise ValueError("README.md has no block below a `<!-- runs -->` line: nothing would be driven")
    for block in blocks:
        told = " ".join(page_examples.commands(block.text) or block.text.split())
        with tempfile.TemporaryDirectory(prefix="loadgen-readme-") as folder:
            try:
                page_examples.run_block(block, Path(folder), python)
            except AssertionError as error:
                print(f"  FAILED {block.name}  {told[:90]}", flush=True)
                yield f"{block.name}: {error}"
            else:
                print(f"  ok     {block.name}  {told[:90]}", flush=True)
