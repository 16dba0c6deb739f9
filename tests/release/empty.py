"""An environment that held nothing: a wheel is installed into it, weighed, and driven through the README's commands."""

import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path

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


def drive(python: Path, root: Path, limit_s: int = 120) -> Iterator[str]:
    """Run the README's commands and Python with an install; yield a sentence if one of them fails.

    Args:
        python: The interpreter of the install, its commands beside it.
        root: The repository, of which only the README and what runs it are used.
        limit_s: Seconds that each may take.
    """
    environment = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONPATH": str(root / "tests")}
    command = [str(python), "-m", "release.readme", str(limit_s)]
    # Away from the repository: what is imported is the install.
    with tempfile.TemporaryDirectory(prefix="loadgen-empty-") as folder:
        done = subprocess.run(command, cwd=folder, env=environment | {"HOME": folder}, check=False)
    if done.returncode:
        yield f"the README's commands ended with {done.returncode}"
