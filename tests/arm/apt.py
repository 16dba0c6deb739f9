"""Packages from the machine's own apt sources, for two architectures, without installing any: needs no root.

apt gets a state of its own (lists, cache, an empty list of what is installed) and the machine's sources and keys; what
it downloads is unpacked into a folder.
"""

import re
import subprocess
from collections.abc import Iterable
from pathlib import Path

# Hooks of the machine's own apt would tell its package manager of an update that isn't its own, or empty its caches.
_CONFIG = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear APT::Architectures;
#clear APT::Default-Release;
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; "arm64"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
Dir::State "{state}";
Dir::State::status "{state}/status";
Dir::Cache "{state}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "srcpkgcache.bin";
Debug::NoLocking "true";
"""

_PLANNED = re.compile(r"^Inst ([^\s:]+)\S* \((\S+) .*\[(\w+)\]\)", re.MULTILINE)


class Apt:
    """A private apt.

    Args:
        state: The folder that holds all that it knows; made if it isn't there.
    """

    def __init__(self, state: Path) -> None:
        self._config = state / "apt.conf"
        self._archives = state / "cache" / "archives"
        for folder in (state / "lists" / "partial", self._archives / "partial"):
            folder.mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        self._config.write_text(_CONFIG.format(state=state))

    def update(self) -> None:
        """Read the lists of packages; raise `subprocess.CalledProcessError` if there are none to be had."""
        self._run("apt-get", "update", "-qq")

    def version(self, package: str) -> str | None:
        """Return the newest version of a ``name:architecture``, or None if the sources have no such package."""
        for line in self._run("apt-cache", "policy", package).splitlines():
            if line.startswith("  Candidate: ") and not line.endswith("(none)"):
                return line.removeprefix("  Candidate: ")
        return None

    def unpack(self, into: Path, packages: Iterable[str]) -> None:
        """Download exactly these packages and unpack them into a folder.

        Args:
            into: Where; made if it isn't there, and added to if it is.
            packages: As ``name:architecture`` or ``name:architecture=version``.
        """
        into.mkdir(parents=True, exist_ok=True)
        packages = list(packages)
        offers = self._run("apt-get", "download", "-qq", "--print-uris", *packages)
        archives = [self._archives / line.split()[1] for line in offers.splitlines()]
        if not all(archive.exists() for archive in archives):
            self._run("apt-get", "download", "-qq", *packages, cwd=self._archives)
        for archive in archives:
            self._run("dpkg-deb", "--extract", str(archive), str(into))

    def with_dependencies(self, package: str, architecture: str) -> list[str]:
        """Return a package and all of the same architecture that it needs on an empty machine.

        Args:
            package: Its name.
            architecture: Its architecture; what belongs to all of them is in the list too.
        Returns:
            Each as ``name:architecture=version``, what is needed before what needs it.
        """
        plan = self._run("apt-get", "install", "-qq", "--simulate", f"{package}:{architecture}")
        return [f"{name}:{of}={version}" for name, version, of in _PLANNED.findall(plan) if of in (architecture, "all")]

    def _run(self, *command: str, cwd: Path | None = None) -> str:
        """Run a command and return what it prints; what it says of errors goes to ours."""
        options = () if command[0] == "dpkg-deb" else ("-c", str(self._config))
        done = subprocess.run(
            [command[0], *options, *command[1:]], cwd=cwd, stdout=subprocess.PIPE, text=True, check=True
        )
        return done.stdout
