"""The source distribution: the tracked files, nothing else, made where nothing else is."""

import shutil
import subprocess
import sysconfig
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from fnmatch import fnmatch
from pathlib import Path

# Written by the build; everything else is a file of the repository.
_MADE = {"PKG-INFO"}
# A crate of its own, which Cargo leaves out.
_OTHER_CRATES = ("fuzz",)
# What a build, its licence and its tests can't do without.
_NEEDED = {
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
    "python/loadgen/_core.pyi",
    "python/loadgen/py.typed",
    "rust/src/lib.rs",
    "tests/floors.toml",
}


def tracked(root: Path) -> list[str]:
    """Return the files of the repository, as they are listed by git."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, stdout=subprocess.PIPE, text=True, check=True)
    return [name for name in listed.stdout.split("\0") if name and (root / name).exists()]


def make(root: Path, out: Path) -> Path:
    """Make it of the tracked files alone, in a folder that holds nothing else.

    Args:
        root: The repository.
        out: Where it goes.
    Returns:
        Its path.
    """
    maturin = Path(sysconfig.get_path("scripts")) / "maturin"
    with tempfile.TemporaryDirectory(prefix="loadgen-sdist-") as made:
        clean = Path(made)
        for name in tracked(root):
            (clean / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, clean / name, follow_symlinks=False)
        subprocess.run([str(maturin), "sdist", "--out", str(out.resolve())], cwd=clean, check=True)
    return out / f"loadgen-{version(root)}.tar.gz"


def version(root: Path) -> str:
    """Return the version, which stands in Cargo.toml alone."""
    found = tomllib.loads((root / "Cargo.toml").read_text())["package"]["version"]
    assert isinstance(found, str)
    return found


def excluded(root: Path) -> list[str]:
    """Return what Cargo.toml says is not for others."""
    return list(tomllib.loads((root / "Cargo.toml").read_text())["package"].get("exclude", ()))


def names(archive: Path) -> list[str]:
    """Return the files in it, without the folder that they all lie in.

    Raises:
        ValueError: If one lies elsewhere.
    """
    folder = archive.name.removesuffix(".tar.gz") + "/"
    with tarfile.open(archive) as held:
        found = [member.name for member in held.getmembers() if not member.isdir()]
    if astray := [name for name in found if not name.startswith(folder)]:
        raise ValueError(f"{archive.name} must hold one folder, {folder}, and has {astray[0]}")
    return [name.removeprefix(folder) for name in found]


def faults(found: Iterable[str], repository: Iterable[str], left_out: Iterable[str]) -> Iterator[str]:
    """Yield a sentence for each file that must not be in it, and each that must and isn't.

    Args:
        found: What is in it.
        repository: The tracked files.
        left_out: Names of files and folders that aren't for others, with wildcards.
    """
    present, private = set(found), (*_OTHER_CRATES, *left_out)
    wanted = {name for name in repository if not _is_of(name, private)}
    for name in sorted(present - wanted - _MADE):
        yield f"{name} is in the source distribution and not in the repository"
    for name in sorted((wanted | _NEEDED | _MADE) - present):
        yield f"{name} is missing from the source distribution"


def _is_of(name: str, places: Iterable[str]) -> bool:
    return any(fnmatch(part, place) for part in Path(name).parts for place in places)


def unpack(archive: Path, into: Path) -> Path:
    """Unpack it where nothing else is; return its folder."""
    shutil.rmtree(into, ignore_errors=True)
    with tarfile.open(archive) as held:
        held.extractall(into, filter="data")
    return into / archive.name.removesuffix(".tar.gz")
