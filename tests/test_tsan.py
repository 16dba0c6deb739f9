"""What counts as a race of ours among ThreadSanitizer's reports, and what only looks like one."""

import pytest

import tsan

HEAD = "\nWARNING: ThreadSanitizer: data race (pid=1)\n"
CRATE = f"{tsan.ROOT}/rust/src"
STD = "    #0 core::mem::replace /rustc/0/library/core/src/mem/mod.rs:9:1 (x+0x1)\n"
RING = f"{STD}    #1 pop {CRATE}/event/ring.rs:125:80 (x+0x2)\n"
PUSH = f"    #0 push {CRATE}/event/ring.rs:98:12 (x+0x3)\n"
SHARD = f"    #0 send {CRATE}/record/shard.rs:238:27 (x+0x3)\n    #1 ring {CRATE}/event/ring.rs:1:1 (x+0x1)\n"
FREE = f"    #0 free tsan_interceptors.cpp:735:3 (x+0x4)\n    #1 drop {CRATE}/event/ring.rs:210:5 (x+0x5)\n"
FOREIGN = "    #0 shutdown /cargo/tokio/src/runtime/pool.rs:160:9 (x+0x6)\n"


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        (RING, PUSH, True),
        (RING, FREE, False),  # whoever frees it has joined the other by what the sanitizer doesn't see
        (RING, SHARD, False),
        (FOREIGN, FOREIGN, False),
        (RING, FOREIGN, False),
    ],
)
def test_both_accesses_of_a_race_are_in_the_lock_free_parts(first: str, second: str, counts: bool) -> None:
    report = f"{HEAD}  Read of size 8 at 0x1 by thread T1:\n{first}\n"
    report += f"  Previous write of size 8 at 0x1 by main thread:\n{second}\n"
    assert tsan.is_race(report) is counts
    assert tsan.is_race(report.replace("Previous write", "Previous atomic write")) is counts


def test_half_a_report_is_none() -> None:
    assert not tsan.is_race(f"{HEAD}  Read of size 8 at 0x1 by thread T1:\n{RING}\n")
