"""Builds the wheel for aarch64 on an x86-64 machine, runs its tests under emulation, and checks what its code orders.

usage: PYTHONPATH=tests python -m arm

The tools come from apt and PyPI into `target/arm`, once. Emulation shows that the wheel loads and works, never that its
memory ordering is right: an x86 machine keeps more order than is asked for. For that the code is looked at, the models
are checked (`make test-loom`), and the stress tests run on ARM itself (`.github/workflows/test.yml`).
"""

import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from . import disassembly
from .apt import Apt
from .emulation import Emulation
from .toolchain import GLIBC, TARGET, NoToolchainError, Toolchain, toolchain

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PLACE = ROOT / "target" / "arm"

# The wheel and the probes: the same flags for both.
PROFILE = "bench-fast"
# The Rust tests of what the architecture could matter to, and of the whole way of a request.
RUST_SUITES = (
    "--lib",
    *(f"--test={name}" for name in ("engine", "engine_events", "event", "runlog", "series", "stats", "trust", "wire")),
)
PYTHON_SUITES = (
    "engine",
    "event_context",
    "event_core",
    "event_frames",
    "event_service",
    "event_zmq",
    "formats",
    "series",
)
PYTHON_SKIPPED = (
    # The emulator tells a process another start of itself than the kernel tells others of it: to those it looks dead.
    "tests/test_series.py::test_another_process_is_looked_into_until_after_its_end",
)
PYTHON_NEEDS = ("pytest", "hypothesis", "jsonschema")


def main() -> int:
    """Do all of it; return the exit status, 0 also where this machine has no way to."""
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        return _skipped(f"emulation is for x86-64 Linux, and this is {platform.system()} on {platform.machine()}")
    if not all(shutil.which(program) for program in ("apt-get", "apt-cache", "dpkg-deb")):
        return _skipped("this machine has no apt")
    began = time.monotonic()
    try:
        found, emulation = tools()
    except NoToolchainError as error:
        return _skipped(str(error))
    environment = found.environment(emulation.runner)
    steps: dict[str, Callable[[], bool]] = {
        "wheel": lambda: _wheel(environment, emulation),
        "code": lambda: _code(environment, found),
        "Rust tests": lambda: _rust_tests(environment),
        "a run": lambda: _run(emulation),
        "Python tests": lambda: _python_tests(emulation),
    }
    good = True
    for name, step in steps.items():
        begun, worked = time.monotonic(), _work_s()
        print(f"\naarch64: {name}", flush=True)
        holds = step()
        took = f"{time.monotonic() - begun:.0f} s, {_work_s() - worked:.0f} s of CPU"
        print(f"aarch64: {name}: {'good' if holds else 'FAILED'} after {took}", flush=True)
        good &= holds
    took = f"{time.monotonic() - began:.0f} s, {_work_s():.0f} s of CPU"
    print(f"aarch64: {'good' if good else 'FAILED'}, {took} in all")
    return 0 if good else 1


def _work_s() -> float:
    """Return the CPU time of all that was run so far, which says more than the time of day where others compile too."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _skipped(why: str) -> int:
    print(f"SKIPPED: {why}")
    return 0


def tools() -> tuple[Toolchain, Emulation]:
    """Fetch what isn't there yet, or was fetched by other sources than these."""
    sources = "".join((HERE / name).read_text() for name in ("apt.py", "toolchain.py", "emulation.py"))
    stamp = PLACE / "fetched"
    unpacked = Toolchain(PLACE / "tools")
    emulation = Emulation(unpacked, PLACE)
    if not stamp.exists() or stamp.read_text() != sources:
        began = time.monotonic()
        apt = Apt(PLACE / "apt")
        try:
            apt.update()
        except subprocess.CalledProcessError as error:
            raise NoToolchainError("apt can't read its sources") from error
        toolchain(apt, unpacked.folder, ROOT / "Cargo.toml")
        emulation.prepare(apt)
        stamp.write_text(sources)
        print(f"aarch64: tools fetched in {time.monotonic() - began:.0f} s", flush=True)
    return unpacked, emulation


def _wheel(environment: dict[str, str], emulation: Emulation) -> bool:
    """Build the wheel and install it where the emulated Python finds it."""
    wheels = PLACE / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    command = ["maturin", "build", "--quiet", "--locked", "--profile", PROFILE, "--out", str(wheels)]
    command += ["--target", TARGET, "--zig", "--compatibility", f"manylinux_{GLIBC.replace('.', '_')}"]
    if not _call(command, environment):
        return False
    (wheel,) = wheels.glob("*.whl")
    print(f"  {wheel.name}, {wheel.stat().st_size / 1e6:.1f} MB")
    emulation.install((*PYTHON_NEEDS, str(wheel)), ROOT / "constraints.txt")
    return True


def _code(environment: dict[str, str], tools: Toolchain) -> bool:
    command = ["cargo-zigbuild", "zigbuild", "--quiet", "--locked", "--target", f"{TARGET}.{GLIBC}"]
    if not _call([*command, "--profile", PROFILE, "--example", "probes"], environment):
        return False
    program = Path(environment["CARGO_TARGET_DIR"]) / TARGET / PROFILE / "examples" / "probes"
    return disassembly.check(tools.disassembler, program, HERE / "code.toml")


def _rust_tests(environment: dict[str, str]) -> bool:
    # Emulated, code that isn't optimized at all takes longer to run than some optimization takes to make.
    environment = environment | {"CARGO_PROFILE_DEV_OPT_LEVEL": "1", "CARGO_PROFILE_DEV_DEBUG": "0"}
    command = ["cargo-zigbuild", "test", "--locked", "--no-fail-fast", "--target", f"{TARGET}.{GLIBC}"]
    return _counted("arm-rust", [*command, *RUST_SUITES], environment)


def _run(emulation: Emulation) -> bool:
    """Import the wheel and make a run with it."""
    python = str(emulation.python)
    machine = "import platform, loadgen; assert platform.machine() == 'aarch64'; print(loadgen.__file__)"
    target = "mock:?ttft=20ms&gap=2ms"
    load = ("--rate", "20", "--requests", "40", "--output-tokens", "8", "--out", str(PLACE / "a-run"))
    shutil.rmtree(PLACE / "a-run", ignore_errors=True)
    return _call([python, "-c", machine], os.environ) and _call(
        [python, "-m", "loadgen", "run", target, *load], os.environ
    )


def _python_tests(emulation: Emulation) -> bool:
    files = [f"tests/test_{name}.py" for name in PYTHON_SUITES]
    command = [str(emulation.python), "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *files]
    command += [f"--deselect={test}" for test in PYTHON_SKIPPED]
    return _counted("arm-python", command, dict(os.environ))


def _counted(kind: str, command: list[str], environment: dict[str, str]) -> bool:
    """Run tests so that fewer than their floors count as failed."""
    return _call([sys.executable, str(ROOT / "tests" / "count.py"), kind, "--", *command], environment)


def _call(command: list[str], environment: "os._Environ[str] | dict[str, str]") -> bool:
    """Run a command in the project's folder; return whether it ended well."""
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode == 0


if __name__ == "__main__":
    sys.exit(main())
