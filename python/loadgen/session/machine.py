"""What the machine allows and what it is: cores, file descriptors, and the facts a report keeps of them."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loadgen.config import Config
from loadgen.errors import ConfigError
from loadgen.session.phase import PhaseConfig, PhaseType, most_in_flight

_SPARE = 64
_OPEN_LOOP = 65_536


def cores(cgroup: Path = Path("/sys/fs/cgroup")) -> float:
    """Return how many cores this process may use: its affinity, bounded by the container's quota.

    Args:
        cgroup: Where the control group is mounted.
    """
    allowed = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    quota = _quota(cgroup)
    return min(allowed, quota) if quota is not None else allowed


def _quota(cgroup: Path) -> float | None:
    try:
        limit, _, period = (cgroup / "cpu.max").read_text().strip().partition(" ")
    except OSError:
        try:
            limit = (cgroup / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    try:
        quota = int(limit) / int(period or "100000")
    except (ValueError, ZeroDivisionError):
        return None  # "max", or nothing that is a number: no bound
    return quota if quota > 0 else None


def workers(config: Config, phases: Sequence[PhaseConfig]) -> int:
    """Return how many worker threads to use: what was asked for, else half of the cores allowed, from 1 to 8.

    Args:
        config: The run's options.
        phases: Its phases; more workers than any of them has requests in flight would have nothing to do.
    """
    if config.workers is not None:
        return config.workers
    default = max(1, min(8, int(cores() / 2)))
    bounds = [most_in_flight(phase.strategy) for phase in phases]
    return min(default, max((bound[1] if bound else default for bound in bounds), default=default))


def reserve_descriptors(config: Config, phases: Sequence[PhaseConfig], workers: int) -> None:
    """Make sure that the connections of a load may be opened, raising the soft limit where that is needed.

    Args:
        config: The run's options.
        phases: Its phases.
        workers: Worker threads.

    Raises:
        ConfigError: If the hard limit is too low for the load.
    """
    bounds = [(phase, most_in_flight(phase.strategy)) for phase in phases]
    heaviest, bound = max(bounds, key=lambda known: known[1][1] if known[1] else 0)
    option, in_flight = bound or ("", 0)
    # A slot keeps a connection to each node; the built-in server holds the other end of its own.
    each = sum(2 if url.startswith("mock:") else 1 for url in config.urls)
    if config.http2 and in_flight:
        in_flight = min(in_flight, 1024)
    wanted = in_flight * each + _SPARE + 8 * workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    ceiling = hard if hard != resource.RLIM_INFINITY else sys.maxsize
    if wanted > ceiling:
        most = max(0, (ceiling - _SPARE - 8 * workers) // each)
        several = len([phase for phase in phases if phase.kind is not PhaseType.WARMUP]) > 1
        load = f"{option} of phase {heaviest.name}" if several else f"--{option.replace('_', '-')}"
        raise ConfigError(
            f"{in_flight:,} requests in flight need {wanted:,} file descriptors, and this process may have {ceiling:,}",
            "raise the limit (ulimit -Hn)" + (f", or lower {load} to {most:,}" if most else ", or take fewer workers"),
        )
    is_bounded = all(bound is not None for _, bound in bounds)
    target = wanted if is_bounded else max(wanted, min(ceiling, _OPEN_LOOP))
    if soft != resource.RLIM_INFINITY and soft < target:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        except (OSError, ValueError) as error:
            if soft < wanted:
                raise ConfigError(
                    f"{in_flight:,} requests in flight need {wanted:,} file descriptors, "
                    f"and the limit of {soft:,} can't be raised: {error}",
                    "raise it first (ulimit -n)",
                ) from None


def environment() -> dict[str, Any]:
    """Return what a report keeps of the machine: system, processor, cores, versions. No names of users or hosts."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "cores_allowed": cores(),
        "python": platform.python_version(),
    }


def _processor() -> str | None:
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        return None
    return None
