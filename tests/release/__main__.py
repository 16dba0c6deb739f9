"""Makes and checks what is published.

usage: PYTHONPATH=tests python -m release sdist                 the source distribution, into dist/
       PYTHONPATH=tests python -m release wheel [--aarch64]     it, and of it the wheel for Linux, installed and driven
       PYTHONPATH=tests python -m release check FOLDER          whether the files of a whole release are as they must be
       PYTHONPATH=tests python -m release identifiers           whether cibuildwheel would build what a release has
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import build, identifiers, sdist, wheel_file
from .empty import MOST_INSTALLED_BYTES, Environment, drive

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
PLACE = ROOT / "target" / "release-check"


def main(arguments: Sequence[str]) -> int:
    """Do what is asked for; return the exit status."""
    asked: dict[tuple[str, ...], Callable[[], list[str]]] = {
        ("sdist",): _sdist,
        ("wheel",): _wheel,
        ("wheel", "--aarch64"): _emulated_wheel,
        ("identifiers",): lambda: list(identifiers.faults(ROOT)),
    }
    if len(arguments) == 2 and arguments[0] == "check":
        found = _check(Path(arguments[1]))
    elif (step := asked.get(tuple(arguments))) is not None:
        found = step()
    else:
        print(__doc__, file=sys.stderr)
        return 2
    for fault in found:
        print(f"FAULT: {fault}")
    print(f"release: {' '.join(arguments)}: {'FAILED' if found else 'good'}")
    return 1 if found else 0


def _sdist() -> list[str]:
    archive = sdist.make(ROOT, DIST)
    print(f"  {archive.name}, {archive.stat().st_size / 1e6:.2f} MB")
    return _sdist_faults(archive)


def _sdist_faults(archive: Path) -> list[str]:
    return list(sdist.faults(sdist.names(archive), sdist.tracked(ROOT), sdist.excluded(ROOT)))


def _wheel() -> list[str]:
    """The wheel for this machine, of the source distribution and not of this folder."""
    if found := _sdist():
        return found
    wheel = build.manylinux(DIST / f"loadgen-{sdist.version(ROOT)}.tar.gz", PLACE, DIST)
    if found := [*wheel_file.faults(wheel), *build.audit([wheel])]:
        return found
    environment = Environment.made(PLACE / "empty", wheel)
    installed, took = environment.installed_bytes(), environment.import_s()
    print(f"  installed with all it needs: {installed / 1e6:.1f} MB; import loadgen: {1e3 * took:.0f} ms")
    if installed > MOST_INSTALLED_BYTES:
        found.append(f"an install takes {installed:,} bytes, and {MOST_INSTALLED_BYTES:,} is the most")
    return [*found, *drive(environment.python)]


def _emulated_wheel() -> list[str]:
    """The wheel for aarch64, in an empty environment of a Python for aarch64."""
    if found := _sdist():
        return found
    return list(build.emulated(DIST / f"loadgen-{sdist.version(ROOT)}.tar.gz", PLACE, DIST))


def _check(folder: Path) -> list[str]:
    wheels, archives = sorted(folder.glob("*.whl")), sorted(folder.glob("*.tar.gz"))
    for path in (*archives, *wheels):
        print(f"  {path.name}, {path.stat().st_size / 1e6:.2f} MB")
    found = [fault for wheel in wheels for fault in wheel_file.faults(wheel)]
    found += [f"there is no wheel for {platform}" for platform in wheel_file.missing(wheels)]
    if len(archives) == 1:
        found += _sdist_faults(archives[0])
    else:
        found.append(f"a release has one source distribution, and {folder} has {len(archives)}")
    return [*found, *build.audit([*archives, *wheels])]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
