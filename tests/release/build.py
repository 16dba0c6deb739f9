"""Builds a wheel from the source distribution, as far from this folder as one machine allows, and has it audited.

The release's own wheels come from `wheels.yml`, each built and tested on a machine of its kind. These are for Linux,
linked by zig against the C library of manylinux_2_28: for x86-64, and for aarch64 with the tools of `make test-arm`.
"""

import os
import platform
import resource
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from arm import __main__ as arm
from arm.toolchain import GLIBC, TARGET, NoToolchainError, script

from . import sdist, wheel_file
from .empty import drive

_SCRIPTS = Path(sysconfig.get_path("scripts"))
# Emulated, a second of work takes most of a minute.
_EMULATED_LIMIT_S = 900


def manylinux(archive: Path, place: Path, out: Path) -> Path:
    """Build the wheel for this machine.

    Args:
        archive: The source distribution.
        place: Where it is unpacked and built; what Cargo made there before is used again.
        out: Where the wheel goes.
    Returns:
        Its path.
    """
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(place / "cargo"),
        "CARGO_ZIGBUILD_CACHE_DIR": str(place / "zig"),
        "ZIG_GLOBAL_CACHE_DIR": str(place / "zig" / "cache"),
    }
    return _built(archive, place, out, f"{platform.machine()}-unknown-linux-gnu", environment)


def _built(archive: Path, place: Path, out: Path, target: str, environment: Mapping[str, str]) -> Path:
    began, worked = time.monotonic(), _work_s()
    made = place / "wheels"
    shutil.rmtree(made, ignore_errors=True)
    command = [str(_SCRIPTS / "maturin"), "build", "--quiet", "--release", "--locked", "--out", str(made.resolve())]
    command += ["--target", target, "--zig", "--compatibility", f"manylinux_{GLIBC.replace('.', '_')}"]
    tools = f"{_SCRIPTS}{os.pathsep}{environment['PATH']}"
    subprocess.run(command, cwd=sdist.unpack(archive, place / "sdist"), env={**environment, "PATH": tools}, check=True)
    (wheel,) = made.glob("*.whl")
    took = f"{time.monotonic() - began:.0f} s, {_work_s() - worked:.0f} s of CPU"
    print(f"  {wheel.name}, {wheel.stat().st_size / 1e6:.2f} MB, built in {took}", flush=True)
    return wheel.replace(out / wheel.name)


def _work_s() -> float:
    """Return the CPU time of all that was run so far."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def audit(files: Iterable[Path]) -> Iterator[str]:
    """Have each file judged by twine, and each wheel by abi3audit; yield a sentence for each that isn't good."""
    for path in files:
        commands = [["twine", "check", "--strict", str(path)]]
        if path.suffix == ".whl":
            commands.append(["abi3audit", "--strict", str(path)])
        for program, *arguments in commands:
            command = [str(_SCRIPTS / program), *arguments]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
            if done.returncode:
                yield f"{program} refuses {path.name}:\n{done.stdout}"


def emulated(archive: Path, place: Path, out: Path) -> Iterator[str]:
    """Build the wheel for aarch64, install it for an emulated Python alone, and drive it; yield what is wrong.

    Args:
        archive: The source distribution.
        place: Where it is unpacked.
        out: Where the wheel goes.
    """
    try:
        tools, emulation = arm.tools()
    except NoToolchainError as error:
        print(f"SKIPPED: {error}")
        return
    wheel = _built(archive, place, out, TARGET, tools.environment(emulation.runner))
    if found := [*wheel_file.faults(wheel), *audit([wheel])]:
        yield from found
        return
    emulation.install((str(wheel),))
    # pip writes a command for the Python that pip runs on.
    script(emulation.python.with_name("loadgen"), f'exec "{emulation.python}" -m loadgen "$@"')
    yield from drive(emulation.python, _EMULATED_LIMIT_S)
