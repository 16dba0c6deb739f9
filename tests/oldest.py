"""Prints pip constraints for the lowest version that pyproject.toml allows of each dependency: `make test-oldest`.

usage: oldest.py        one line a package, its extras' too; what only the tests need is as new as it comes
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"

_REQUIREMENT = re.compile(r"^([A-Za-z0-9._-]+)\s*>=\s*([0-9][0-9.]*)$")


def lowest(requirements: Iterable[str]) -> Iterator[str]:
    """Yield ``name==version`` for each ``name>=version``.

    Raises:
        ValueError: If one has no lowest version, or more to it: then nobody tests what it allows.
    """
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found is None:
            raise ValueError(f"{requirement!r} must be NAME>=VERSION, so that its lowest version can be tested")
        yield f"{found[1]}=={found[2]}"


def requirements(project: Path = PROJECT) -> list[str]:
    """Return what the package needs, with all its extras."""
    declared = tomllib.loads(project.read_text())["project"]
    extras = declared["optional-dependencies"].values()
    return [*declared["dependencies"], *(one for extra in extras for one in extra)]


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lowest(requirements()))
