"""The machine that the figures are from, and whether it was quiet."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_BUSY = 0.25


@dataclass(frozen=True)
class Machine:
    """What a reader must know to place a figure."""

    cpu: str
    cores: int
    kernel: str
    python: str
    memory_gb: float
    commit: str
    load: tuple[float, float, float]
    steal: int
    ticks: int

    @property
    def busy(self) -> bool:
        """Whether somebody else used the machine in the last minute."""
        return self.load[0] > _BUSY * self.cores

    def words(self) -> str:
        """Say it in two lines."""
        load = ", ".join(f"{value:.2f}" for value in self.load)
        return (
            f"{self.cpu}, {self.cores} cores, {self.memory_gb:.0f} GB, {self.kernel}, Python {self.python}, "
            f"commit {self.commit}\nload average at the start {load}"
        )

    def json(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        return asdict(self)


def look(root: Path) -> Machine:
    """Look at the machine as it is now."""
    steal, ticks = steal_ticks()
    return Machine(
        cpu=_cpu(),
        cores=len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1,
        kernel=f"{platform.system()} {platform.release()}",
        python=platform.python_version(),
        memory_gb=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9,
        commit=_commit(root),
        load=os.getloadavg(),
        steal=steal,
        ticks=ticks,
    )


def steal_ticks() -> tuple[int, int]:
    """Return the ticks that the hypervisor took away, and all ticks, since the machine's start; zeros where unknown."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0, 0
    ticks = [int(value) for value in stat.read_text().splitlines()[0].split()[1:9]]
    return ticks[7], sum(ticks)


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()


def _commit(root: Path) -> str:
    try:
        asked = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return asked.stdout.strip()
