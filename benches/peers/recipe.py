"""How a peer gets into an environment of its own, and what that weighs. Nothing outside the given directory is touched.

An environment that is there is taken as it is: its `weight.json` says which version it holds. It is written last, so a
half-made one is made anew.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from harness.errors import BenchError

_TAIL = 400


@dataclass(frozen=True)
class Installed:
    """A peer that can be run.

    Args:
        home: Its environment.
        what: Its version, as asked for.
        bytes: What it takes on the disk.
        packages: How many packages came with it; 0 where it is one file.
    """

    home: Path
    what: str
    bytes: int
    packages: int


class Recipe(Protocol):
    """A way to install."""

    @property
    def what(self) -> str:
        """What is installed: one name and version."""

    @property
    def is_here(self) -> bool:
        """It is on this machine already, and only looked up."""

    def make(self, home: Path, python: str | None, timeout_s: float) -> tuple[int, int]:
        """Install into an empty directory; return bytes and packages.

        Raises:
            BenchError: With the reason and the way out.
        """


def install(name: str, recipe: Recipe, homes: Path, *, python: str | None, timeout_s: float) -> Installed:
    """Return a peer's environment; install it there first unless it is there.

    Args:
        name: The peer.
        recipe: How.
        homes: The directory of all environments.
        python: A Python for those that need one; `None` to look for it.
        timeout_s: Seconds that it may take.

    Raises:
        BenchError: If it can't be had, with the reason.
    """
    home = homes / name.lower()
    weight = home / "weight.json"
    if weight.is_file() and not recipe.is_here:
        told = json.loads(weight.read_bytes())
        if told["what"] == recipe.what:
            return Installed(home, **told)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    size, packages = recipe.make(home, python, timeout_s)
    installed = Installed(home, recipe.what, size, packages)
    told = {key: value for key, value in asdict(installed).items() if key != "home"}
    weight.write_text(json.dumps(told) + "\n")
    return installed


@dataclass(frozen=True)
class Pip:
    """From PyPI into a virtual environment, as wheels only: nothing is built.

    Args:
        what: A requirement, with its version.
        least: The oldest Python that it runs on.
    """

    what: str
    least: tuple[int, int] = (3, 11)
    is_here: bool = False

    def make(self, home: Path, python: str | None, timeout_s: float) -> tuple[int, int]:
        """Install it with the environment's own pip."""
        _run([self._python(python), "-m", "venv", str(home)], timeout_s)
        own = str(home / "bin" / "python")
        bare = tree_bytes(home)
        _run([own, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", self.what], timeout_s)
        listed = _run([own, "-m", "pip", "list", "--format=json"], timeout_s)
        return tree_bytes(home) - bare, sum(each["name"] != "pip" for each in json.loads(listed))

    def _python(self, given: str | None) -> str:
        """Find a Python that is new enough, by asking each: a name on the PATH proves nothing."""
        names = [given] if given else [sys.executable, *(f"python3.{minor}" for minor in range(self.least[1], 15))]
        ask = f"import sys; sys.exit(sys.version_info < {self.least})"
        for name in names:
            path = shutil.which(name)
            if path and not subprocess.run([path, "-c", ask], capture_output=True, check=False).returncode:
                return path
        wanted = ".".join(map(str, self.least))
        raise BenchError(f"{self.what} needs Python {wanted} or newer, not {', '.join(names)}: name one with --python")


@dataclass(frozen=True)
class Go:
    """From Go's module proxy, built here; its modules and build cache stay where Go has them."""

    what: str
    is_here: bool = False

    def make(self, home: Path, python: str | None, timeout_s: float) -> tuple[int, int]:  # noqa: ARG002
        """Build it."""
        go = _found("go", "install Go 1.24 or newer")
        _run([go, "install", self.what], timeout_s, {"GOBIN": str(home / "bin")})
        return tree_bytes(home), 0


@dataclass(frozen=True)
class Cargo:
    """From the crates' registry, built here with its own lock file."""

    what: str
    is_here: bool = False

    def make(self, home: Path, python: str | None, timeout_s: float) -> tuple[int, int]:  # noqa: ARG002
        """Build it."""
        cargo = _found("cargo", "install Rust")
        command = [cargo, "install", "--quiet", "--locked", "--root", str(home), self.what]
        # Within the environment: it is large, and nobody else's.
        _run(command, timeout_s, {"CARGO_TARGET_DIR": str(home / "target")})
        shutil.rmtree(home / "target")
        return tree_bytes(home), 0


@dataclass(frozen=True)
class Present:
    """From the system's packages: never installed from here, because that takes rights.

    Args:
        command: Its name on the PATH, which tells its version with ``-v``.
        how: What a user does to have it.
    """

    command: str
    how: str
    is_here: bool = True

    @property
    def what(self) -> str:
        """Its name, and the version that it tells."""
        said = subprocess.run([_found(self.command, self.how), "-v"], capture_output=True, text=True, check=False)
        version = re.search(r"\d+(\.\d+)+", said.stdout + said.stderr)
        return f"{self.command}=={version[0]}" if version else self.command

    def make(self, home: Path, python: str | None, timeout_s: float) -> tuple[int, int]:  # noqa: ARG002
        """Link to it."""
        path = Path(_found(self.command, self.how)).resolve()
        (home / "bin").mkdir()
        (home / "bin" / self.command).symlink_to(path)
        return path.stat().st_size, 0


def tree_bytes(home: Path) -> int:
    """What a directory takes on the disk, links not followed."""
    return sum((Path(folder) / name).lstat().st_blocks * 512 for folder, _, names in os.walk(home) for name in names)


def _found(command: str, how: str) -> str:
    path = shutil.which(command)
    if path is None:
        raise BenchError(f"{command} is not installed: {how}")
    return path


def _run(command: Sequence[str], timeout_s: float, env: Mapping[str, str] | None = None) -> str:
    """Run a step of an installation, and return what it printed."""
    name = " ".join([Path(command[0]).name, *command[1:4]])
    try:
        done = subprocess.run(
            command, env={**os.environ, **(env or {})}, capture_output=True, text=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        raise BenchError(f"{name} took longer than {timeout_s:g} s (--install-timeout)") from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-_TAIL:]
        raise BenchError(f"{name} ended with status {done.returncode}: {said}")
    return done.stdout
