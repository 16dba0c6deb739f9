"""The sampler of a process tree: whose time counts, against a made-up /proc and against a real process."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from loadgen.dispatch.experiment.hardware import PROC, Sampler

TICKS, PAGE = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")


class FakeProc:
    """A directory that looks like /proc, and a clock that stands still."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = 100.0

    def has(
        self, pid: int, parent: int, *, ticks: int, threads: int = 1, pages: int = 10, name: str = "server"
    ) -> None:
        words = [
            "S",
            str(parent),
            *["0"] * 9,
            str(ticks),
            "0",
            "0",
            "0",
            "20",
            "0",
            str(threads),
            "0",
            "0",
            "0",
            str(pages),
        ]
        (self.path / str(pid)).mkdir(exist_ok=True)
        (self.path / str(pid) / "stat").write_text(f"{pid} ({name}) {' '.join(words)} 0 0")

    def sampler(self, root: int, *, with_root: bool = True) -> Sampler:
        return Sampler(root, with_root=with_root, proc=self.path, clock=lambda: self.now)


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


def test_the_whole_tree_counts_and_nobody_else(proc: FakeProc) -> None:
    proc.has(10, 1, ticks=0, threads=2, pages=100)
    proc.has(11, 10, ticks=0, threads=3, pages=50)
    proc.has(12, 11, ticks=0, threads=1, pages=25)
    proc.has(99, 1, ticks=0, threads=70, pages=9_000)
    sampler = proc.sampler(10)
    sampler.sample()
    proc.now += 2
    proc.has(10, 1, ticks=TICKS, threads=2, pages=100)
    proc.has(12, 11, ticks=3 * TICKS, threads=1, pages=25)
    proc.has(99, 1, ticks=50 * TICKS)
    sampler.sample()
    got = sampler.result()
    assert got is not None
    assert (got.cpu.samples, got.cpu.mean, got.cpu.max) == (1, 2.0, 2.0)
    assert (got.rss.mean, got.rss.max) == (175 * PAGE, 175 * PAGE)
    assert got.threads.max == 6


def test_a_new_process_brings_its_time_and_one_that_ended_takes_none_away(proc: FakeProc) -> None:
    proc.has(10, 1, ticks=100 * TICKS)
    proc.has(11, 10, ticks=40 * TICKS)
    sampler = proc.sampler(10)
    sampler.sample()
    proc.now += 1
    (proc.path / "11" / "stat").unlink()
    proc.has(12, 10, ticks=TICKS // 2)
    sampler.sample()
    got = sampler.result()
    assert got is not None
    assert got.cpu.mean == pytest.approx(0.5)


def test_the_root_can_be_left_out(proc: FakeProc) -> None:
    proc.has(10, 1, ticks=0, threads=30)
    proc.has(11, 10, ticks=0, threads=4)
    sampler = proc.sampler(10, with_root=False)
    sampler.sample()
    proc.now += 1
    sampler.sample()
    got = sampler.result()
    assert got is not None
    assert got.threads.max == 4


def test_a_name_with_parentheses_and_blanks_is_no_trap(proc: FakeProc) -> None:
    proc.has(10, 1, ticks=0, threads=5, name="a) S 77 (b")
    sampler = proc.sampler(10)
    sampler.sample()
    proc.now += 1
    sampler.sample()
    got = sampler.result()
    assert got is not None
    assert got.threads.max == 5


def test_where_nothing_can_be_seen_nothing_is_said(tmp_path: Path) -> None:
    with Sampler(10, proc=tmp_path / "absent") as sampler:
        pass
    assert sampler.result() is None


@pytest.mark.skipif(not PROC.is_dir(), reason="this system has no /proc")
def test_a_real_process_is_seen() -> None:
    """It burns CPU until it has used 50 ms of it, whenever that is."""
    burn = "import time\nwhile time.process_time() < 0.05: pass\nprint('done', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        started = time.monotonic()
        with Sampler(child.pid, every_s=0.01) as sampler:
            assert child.stdout is not None
            assert child.stdout.readline() == b"done\n"
        lasted = time.monotonic() - started
        child.communicate(b"\n")
    got = sampler.result()
    assert got is not None
    # The kernel counts in ticks, so the last one may be missing.
    assert got.cpu.mean * lasted >= 0.05 - 2 / TICKS or got.cpu.max > 0
    assert got.rss.max > 1_000_000
    assert got.threads.max >= 1
