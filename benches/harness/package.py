"""The package: the size of the wheel, and what an install brings along."""

from __future__ import annotations

import compileall
import importlib.metadata
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import loadgen
from harness import process
from harness.bench import Bench
from harness.figures import Spread
from harness.table import Line, Mark

_BUILD_S = 1_800.0


def compile_it() -> None:
    """Compile the package to bytecode, as an installer does: where Python is told to keep none, a checkout has none."""
    compileall.compile_dir(Path(loadgen.__file__).parent, quiet=1)


def wheel(bench: Bench) -> Iterator[Line]:
    """The size of the wheel, built as it would be published."""
    if bench.quick:
        yield Line("wheel", "wheel", "MB", None, note="not built by --quick")
        return
    bench.say("wheel: building it")
    with tempfile.TemporaryDirectory() as out:
        command: process.Command = [
            sys.executable,
            "-m",
            "maturin",
            "build",
            "--release",
            "--manifest-path",
            bench.root / "Cargo.toml",
            "--out",
            out,
        ]
        process.checked(process.run(command, timeout_s=_BUILD_S), command)
        (built,) = Path(out).glob("*.whl")
        yield Line("wheel", "wheel", "MB", Spread.of([built.stat().st_size / 1e6]), Mark(15.0), note=built.name)


def dependencies(_: Bench) -> Iterator[Line]:
    """The packages that an install needs at run time."""
    direct, everything = _needed("loadgen"), brought_along()
    note = f"{', '.join(sorted(direct))}; {len(everything)} with theirs"
    yield Line("deps", "run-time dependencies", "", Spread.of([len(direct)]), Mark(6.0), note=note)


def brought_along() -> set[str]:
    """The packages that come with the package: what it requires, and what those do."""
    found: set[str] = set()
    rest = list(_needed("loadgen"))
    while rest:
        name = rest.pop()
        if name not in found and _installed(name):
            found.add(name)
            rest.extend(_needed(name))
    return found


def _needed(package: str) -> set[str]:
    """What a package requires, extras apart."""
    names = set()
    for requirement in importlib.metadata.requires(package) or []:
        name = re.match(r"[\w.-]+", requirement)
        if name is not None and not re.search(r"\bextra\s*==", requirement):
            names.add(name[0].lower())
    return names


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
