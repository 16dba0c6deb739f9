"""The compiler, linker, emulator and disassembler for aarch64, from apt and PyPI, in a folder of their own."""

import os
import shutil
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path

from .apt import Apt

TARGET = "aarch64-unknown-linux-gnu"
# The oldest C library that the wheel loads with: that of manylinux_2_28.
GLIBC = "2.28"

_COMPILER, _LIBRARY = "rustc-web", "libstd-rust-web-dev"
# A machine's own C library goes with its own loader, so these aren't put before the machine's.
_OF_THE_MACHINE = ("libc6", "libgcc-s1", "gcc-12-base")


class NoToolchainError(Exception):
    """This machine has no way to build for aarch64; the message says why."""


@dataclass(frozen=True)
class Toolchain:
    """Where the tools are.

    Args:
        folder: Holds what was unpacked of the packages.
    """

    folder: Path

    @property
    def emulator(self) -> Path:
        """Runs a program for aarch64."""
        return self.folder / "usr/bin/qemu-aarch64-static"

    @property
    def disassembler(self) -> Path:
        """Prints the instructions of a program for aarch64."""
        return self.folder / "bin/objdump"

    @property
    def rustc(self) -> Path:
        """Compiles for aarch64 and for this machine, by a standard library of its own version."""
        return self.folder / "bin/rustc"

    def environment(self, runner: Path) -> dict[str, str]:
        """Return the environment in which cargo builds for aarch64 and runs what it built.

        Args:
            runner: The command that runs a program for aarch64.
        """
        variable = TARGET.upper().replace("-", "_")
        scripts = sysconfig.get_path("scripts")
        return {
            **os.environ,
            "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
            "RUSTC": str(self.rustc),
            "CARGO_TARGET_DIR": str(self.folder.parent / "cargo"),
            "CARGO_ZIGBUILD_CACHE_DIR": str(self.folder.parent / "zig"),
            "ZIG_GLOBAL_CACHE_DIR": str(self.folder.parent / "zig" / "cache"),
            f"CARGO_TARGET_{variable}_RUNNER": str(runner),
        }


def toolchain(apt: Apt, folder: Path, manifest: Path) -> Toolchain:
    """Unpack the tools from the machine's apt sources.

    Args:
        apt: Where the packages come from.
        folder: Where they go; what is in it is replaced.
        manifest: The `Cargo.toml` that says which version of Rust is needed.
    Raises:
        NoToolchainError: If the sources have no such compiler, or an older one.
    """
    found = _compiler_version(apt, manifest)
    shutil.rmtree(folder, ignore_errors=True)
    libraries = [
        *apt.with_dependencies(_LIBRARY, "amd64"),
        *apt.with_dependencies("binutils-aarch64-linux-gnu", "amd64"),
    ]
    wanted = {package for package in libraries if not package.startswith(_OF_THE_MACHINE)}
    of_target = [package for package in apt.with_dependencies(_LIBRARY, "arm64") if package.startswith("libstd-rust")]
    apt.unpack(folder, [f"{_COMPILER}:amd64={found}", "qemu-user-static:amd64", *sorted(wanted), *of_target])
    tools = Toolchain(folder)
    libraries_at = f"{folder}/usr/lib/x86_64-linux-gnu:{folder}/usr/lib"
    script(tools.rustc, f'LD_LIBRARY_PATH="{libraries_at}" exec "{folder}/usr/bin/rustc" --sysroot "{folder}/usr" "$@"')
    script(
        tools.disassembler, f'LD_LIBRARY_PATH="{libraries_at}" exec "{folder}/usr/bin/aarch64-linux-gnu-objdump" "$@"'
    )
    return tools


def _compiler_version(apt: Apt, manifest: Path) -> str:
    """Return the version of the compiler that both architectures have, if it can build what the manifest names."""
    versions = {apt.version(f"{_COMPILER}:amd64"), apt.version(f"{_LIBRARY}:amd64"), apt.version(f"{_LIBRARY}:arm64")}
    found = versions.pop()
    if versions or found is None:
        raise NoToolchainError(f"this machine's apt sources have no {_COMPILER} with a {_LIBRARY} for arm64")
    needed = tomllib.loads(manifest.read_text())["package"]["rust-version"]
    if _numbers(found) < _numbers(needed):
        raise NoToolchainError(f"{_COMPILER} in this machine's apt sources is {found}, and Rust {needed} is needed")
    return found


def _numbers(version: str) -> list[int]:
    """Return major and minor of ``1.96.0+dfsg1-1`` or ``1.88``."""
    return [int(number) for number in version.split(".")[:2]]


def script(path: Path, line: str) -> None:
    """Write a shell script of one line that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
