"""Runs what threads and processes share under ThreadSanitizer, where a nightly compiler is at hand: `make tsan`.

usage: tsan.py

It finds data that is read while another thread writes it, in whatever interleaving comes up: less than the models
(`make test-loom`), but over the whole code. The standard library isn't instrumented, which costs it no race of ours. A
ring that publishes with too weak an ordering must be found first: a check that can't fail proves nothing.
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
SUITES = ("--lib", "--test=series", "--test=event", "--test=sink")
RACES = "event::ring::tests::values_pass_without_the_ordering_that_publishes_them"
FOUND = "WARNING: ThreadSanitizer: data race"


def main() -> int:
    """Do it; return the exit status, 0 also where this machine has no way to."""
    host = _nightly_host()
    if host is None:
        return _skipped("ThreadSanitizer needs a nightly compiler, and `cargo +nightly` isn't here")
    if platform.system() != "Linux" or shutil.which("setarch") is None:
        return _skipped("ThreadSanitizer needs Linux, and setarch to keep addresses where it expects them")
    environment = {**os.environ, "RUSTFLAGS": FLAGS, "CARGO_TARGET_DIR": str(ROOT / "target" / "tsan")}
    # A sanitizer that reports nothing at a known race is none.
    test = ["setarch", "-R", "cargo", "+nightly", "test", "--locked", "--target", host]
    race = subprocess.run(
        [*test, "--lib", "--", "--ignored", "--exact", RACES],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if FOUND not in race.stdout:
        print(f"FAILED: it does not find the race of {RACES}:\n{race.stdout[-4000:]}")
        return 1
    print("a ring without the ordering that publishes: its race is found", flush=True)
    count = [sys.executable, str(ROOT / "tests" / "count.py"), "tsan-rust", "--"]
    return subprocess.run([*count, *test, "--no-fail-fast", *SUITES], cwd=ROOT, env=environment, check=False).returncode


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
