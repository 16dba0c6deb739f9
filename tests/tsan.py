"""Runs what threads and processes share under ThreadSanitizer, where a nightly compiler is at hand: `make tsan`.

usage: tsan.py

It finds data that is read while another thread writes it, in whatever interleaving comes up: less than the models
(`make test-loom`), but over the whole code. The standard library isn't instrumented, so the sanitizer doesn't see what
its locks, channels and joins order, and reports races that are none: what counts are those of which both accesses are
in the lock-free parts. A ring that publishes with too weak an ordering must be found first: a check that can't fail
proves nothing.
"""

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FLAGS = "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer"
SUITES = ("--lib", "--test=series", "--test=event")
RACES = "event::ring::tests::values_pass_without_the_ordering_that_publishes_them"
REPORTS = ROOT / "target" / "tsan" / "reports"
LOCK_FREE = ("rust/src/series/", "rust/src/event/ring.rs", "rust/src/bell.rs", "rust/src/sync.rs")

_ACCESS = re.compile(
    r"^  (?:Previous )?(?:atomic )?(?:write|read) of size .*\n((?:    #.*\n)+)", re.MULTILINE | re.IGNORECASE
)
_OURS = re.compile(rf"{re.escape(str(ROOT))}/(\S+?):\d+")


def main() -> int:
    """Do it; return the exit status, 0 also where this machine has no way to."""
    host = _nightly_host()
    if host is None:
        return _skipped("ThreadSanitizer needs a nightly compiler, and `cargo +nightly` isn't here")
    if platform.system() != "Linux" or shutil.which("setarch") is None:
        return _skipped("ThreadSanitizer needs Linux, and setarch to keep addresses where it expects them")
    options = f"log_path={REPORTS / 'report'} exitcode=0"
    environment = {**os.environ, "RUSTFLAGS": FLAGS, "CARGO_TARGET_DIR": str(ROOT / "target" / "tsan")}
    environment["TSAN_OPTIONS"] = options
    test = ["setarch", "-R", "cargo", "+nightly", "test", "--locked", "--target", host]
    _forget()
    subprocess.run([*test, "--lib", "--", "--ignored", "--exact", RACES], cwd=ROOT, env=environment, check=False)
    if not (known := _reports()):
        print(f"FAILED: it does not find the race of {RACES}")
        return 1
    print(f"a ring without the ordering that publishes: its race is found, {len(known)} times", flush=True)
    _forget()
    count = [sys.executable, str(ROOT / "tests" / "count.py"), "tsan-rust", "--"]
    status = subprocess.run(
        [*count, *test, "--no-fail-fast", *SUITES], cwd=ROOT, env=environment, check=False
    ).returncode
    races = _reports()
    for race in races:
        print(f"FAILED: {race}")
    print(f"ThreadSanitizer: {len(races)} races in the lock-free parts")
    return 1 if races else status


def _forget() -> None:
    shutil.rmtree(REPORTS, ignore_errors=True)
    REPORTS.mkdir(parents=True)


def _reports() -> list[str]:
    """Return the reports of races in the lock-free parts."""
    texts = [path.read_text(errors="replace") for path in sorted(REPORTS.iterdir())]
    return [report for text in texts for report in text.split("==================") if is_race(report)]


def is_race(report: str) -> bool:
    """Return whether a report is of two accesses in the lock-free parts, neither of which frees what others have left.

    Args:
        report: One of ThreadSanitizer's.
    """
    accesses = [found[1] for found in _ACCESS.finditer(report)]
    places = [_OURS.search(stack) for stack in accesses]
    frees = any(stack.startswith("    #0 free ") for stack in accesses)
    return len(places) == 2 and not frees and all(place and place[1].startswith(LOCK_FREE) for place in places)


def _nightly_host() -> str | None:
    """Return the target that a nightly compiler builds for by itself; ``None`` without one."""
    if shutil.which("cargo") is None:
        return None
    said = subprocess.run(["cargo", "+nightly", "-vV"], capture_output=True, text=True, check=False)
    found = re.search(r"^host: (\S+)$", said.stdout, re.MULTILINE) if said.returncode == 0 else None
    return found[1] if found else None


def _skipped(why: str) -> int:
    print(f"SKIPPED: {why}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
