"""What cibuildwheel makes of pyproject.toml: which wheels it would build, and on which Pythons it would test them."""

import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

# By platform and architecture: the oldest Python's wheel, and a test of it on the newest.
EXPECTED = {
    ("linux", "x86_64"): "cp311-manylinux cp314-manylinux cp311-musllinux cp314-musllinux",
    ("linux", "aarch64"): "cp311-manylinux cp314-manylinux cp311-musllinux cp314-musllinux",
    ("macos", "arm64"): "cp311-macosx cp314-macosx",
}


def faults(root: Path) -> Iterator[str]:
    """Yield a sentence for each platform for which cibuildwheel would do something else."""
    program = str(Path(sysconfig.get_path("scripts")) / "cibuildwheel")
    for (platform, machine), expected in EXPECTED.items():
        command = [program, "--platform", platform, "--archs", machine, "--print-build-identifiers", str(root)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found, wanted = set(done.stdout.split()), {f"{one}_{machine}" for one in expected.split()}
        if found != wanted:
            yield f"for {platform} on {machine} cibuildwheel would build {sorted(found)}, not {sorted(wanted)}"
