"""What a wheel must be, as a file: its name, its size, what is in it and what it asks for."""

import re
import zipfile
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from pathlib import Path

MOST_BYTES = 15_000_000
MOST_DEPENDENCIES = 6
TAG = "cp311-abi3"
# A release has a wheel for each of these.
PLATFORMS = (
    "manylinux_2_28_x86_64",
    "manylinux_2_28_aarch64",
    "musllinux_1_2_x86_64",
    "musllinux_1_2_aarch64",
    "macosx_11_0_arm64",
)

# `loadgen-0.1.0-cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64.whl`: more than one platform is possible.
_NAME = re.compile(r"^loadgen-(?P<version>[^-]+)-(?P<tag>[^-]+-[^-]+)-(?P<platforms>[^-]+)\.whl$")
_CORE = re.compile(r"^loadgen/_core\.abi3\.so$")
_NEEDED = ("loadgen/_core.pyi", "loadgen/py.typed", "loadgen/__init__.py", "loadgen/__main__.py")
_JUNK = re.compile(r"__pycache__|\.pyc$|\.orig$|\.rej$|~$|(^|/)\.|^tests/|^benches/")


def faults(wheel: Path) -> Iterator[str]:
    """Yield a sentence for each thing that isn't as it must be."""
    named = _NAME.match(wheel.name)
    if named is None or named["tag"] != TAG:
        yield f"{wheel.name} must be loadgen-VERSION-{TAG}-PLATFORM.whl"
        return
    if (size := wheel.stat().st_size) > MOST_BYTES:
        yield f"{wheel.name} has {size:,} bytes, and {MOST_BYTES:,} is the most"
    with zipfile.ZipFile(wheel) as held:
        files = {entry.filename: entry.file_size for entry in held.infolist() if not entry.is_dir()}
        info = f"loadgen-{named['version']}.dist-info"
        yield from _content_faults(files, info)
        if f"{info}/METADATA" in files:
            yield from metadata_faults(held.read(f"{info}/METADATA").decode(), named["version"])


def _content_faults(files: dict[str, int], info: str) -> Iterator[str]:
    for name in sorted(files):
        if _JUNK.search(name) or not name.startswith(("loadgen/", f"{info}/")):
            yield f"{name} has no place in a wheel"
    needed = (*_NEEDED, *(f"{info}/{name}" for name in ("METADATA", "RECORD", "entry_points.txt", "licenses/LICENSE")))
    for name in needed:
        if name not in files:
            yield f"{name} is missing from the wheel"
    cores = [name for name in files if name.endswith((".so", ".pyd", ".dylib"))]
    if len(cores) != 1 or not _CORE.match(cores[0]):
        yield f"a wheel has one compiled file, loadgen/_core.abi3.so, and this has {', '.join(cores) or 'none'}"


def metadata_faults(text: str, version: str) -> Iterator[str]:
    """Yield a sentence for each thing in a wheel's METADATA that isn't as it must be."""
    held = HeaderParser().parsestr(text)
    wanted = {"Version": version, "Requires-Python": ">=3.11", "License-Expression": "Apache-2.0"}
    for field, value in wanted.items():
        if held[field] != value:
            yield f"{field} is {held[field]}, and must be {value}"
    required = [one for one in held.get_all("Requires-Dist", []) if not re.search(r"\bextra\s*==", one)]
    if len(required) > MOST_DEPENDENCIES:
        yield f"{len(required)} packages are needed at run time, and {MOST_DEPENDENCIES} is the most: {required}"


def platforms(wheels: Iterable[Path]) -> set[str]:
    """Return the platforms that these wheels are for."""
    named = (_NAME.match(wheel.name) for wheel in wheels)
    return {platform for name in named if name is not None for platform in name["platforms"].split(".")}


def missing(wheels: Iterable[Path]) -> list[str]:
    """Return the platforms of a release that none of these wheels is for."""
    return sorted(set(PLATFORMS) - platforms(wheels))
