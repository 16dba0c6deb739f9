"""A Python for aarch64 that runs under emulation like any other: a folder with `bin/python`, and what it imports."""

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from .apt import Apt
from .toolchain import GLIBC, TARGET, Toolchain, script

# Of the packages for arm64; the wheel is for this version and all newer ones.
PYTHON = "python3.11"
# What wheels of other projects expect of the system.
LIBRARIES = ("libstdc++6",)


class Emulation:
    """Programs for aarch64 on this machine.

    Args:
        tools: Hold the emulator.
        folder: Where the system that programs see, and their Python, is made.
    """

    def __init__(self, tools: Toolchain, folder: Path) -> None:
        self._tools = tools
        self._root = folder / "root"
        self._environment = folder / "python"
        self.runner = folder / "run"
        self.python = self._environment / "bin" / "python"

    def prepare(self, apt: Apt) -> None:
        """Unpack a system with a Python, and make an environment of it that holds nothing yet."""
        for folder in (self._root, self._environment):
            shutil.rmtree(folder, ignore_errors=True)
        packages = {package for name in (PYTHON, *LIBRARIES) for package in apt.with_dependencies(name, "arm64")}
        apt.unpack(self._root, sorted(packages))
        run = f'exec "{self._tools.emulator}" -L "{self._root}"'
        script(self.runner, f'{run} "$@"')
        # By its name in argv[0] it finds its environment, and starts itself again under emulation.
        script(self.python, f'{run} -0 "$0" "{self._root}/usr/bin/{PYTHON}" "$@"')
        home = f"home = {self._root}/usr/bin\ninclude-system-site-packages = false\n"
        (self._environment / "pyvenv.cfg").write_text(home)

    def install(self, packages: Iterable[str], constraints: Path | None = None) -> None:
        """Replace what the environment holds by these packages and all that they need, as wheels for aarch64.

        Args:
            packages: Their names, or paths of wheels.
            constraints: The versions to take; the newest without.
        """
        site = self._environment / "lib" / PYTHON / "site-packages"
        shutil.rmtree(site, ignore_errors=True)
        machine = TARGET.split("-")[0]
        platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(int(GLIBC.split(".")[1]), 16, -1)]
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        command += ["--target", str(site), "--only-binary", ":all:", "--implementation", "cp"]
        command += ["--python-version", PYTHON.removeprefix("python")]
        command += [] if constraints is None else ["--constraint", str(constraints)]
        command += [f"--platform={platform}" for platform in (*platforms, f"manylinux2014_{machine}")]
        subprocess.run([*command, *packages], check=True)
