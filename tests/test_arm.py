"""The check of code for aarch64: what it reads in a listing, and that it fails where an ordering is missing."""

import platform
import tomllib
from pathlib import Path

import pytest

from arm import __main__ as arm
from arm import disassembly
from arm.apt import Apt
from arm.toolchain import NoToolchainError, toolchain

ROOT = Path(__file__).parents[1]

LISTING = """
target/probes:     file format elf64-littleaarch64

0000000000001000 <probes::ring_push>:
    1000:\tstp\tx29, x30, [sp, #-32]!
    1004:\tldr\tx9, [sp, #8]
    1008:\tldar\tx8, [x1]
    100c:\tstr\tx2, [x9, x8, lsl #3]
    1010:\tstrb\tw2, [x9]
    1014:\tstlr\tx8, [x0]\t// to the tail
    1018:\tret

0000000000001020 <probes::stats_record::h0123456789abcdef>:
    1020:\tldp\tx8, x9, [x0]
    1024:\tdmb\tish
    1028:\tstlr\tw8, [x0]
    102c:\tb.ne\t1020 <probes::stats_record::h0123456789abcdef>

0000000000001030 <loadgen::event::ring::Producer<T,O>::push>:
    1030:\tstlr\tx8, [x0]
    1034:\tbl\t1030 <loadgen::event::ring::Producer<T,O>::push>

0000000000001038 <core::ptr::drop_in_place>:
    1038:\tdmb\tish

0000000000001060 <probes::main>:
    1060:\tstlr\tx8, [x0]

0000000000001070 <probes::calling>:
    1070:\tldr\tx8, [x0]
    1074:\tbl\t1030 <loadgen::event::ring::Producer<T,O>::push>
    1078:\tbl\t1038 <core::ptr::drop_in_place>
    107c:\tisb
    1080:\tb\t1034 <loadgen::event::ring::Producer<T,O>::push+0x4>
    1084:\tldar\tx8, [x0]

0000000000001040 <probes::bell_ring>:
    1040:\tbl\t2000 <__aarch64_swp1_rel>
    1044:\tb\t2040 <__aarch64_ldadd8_acq_rel>
    1048:\tcasalb\tw0, w1, [x2]
    104c:\tldaxr\tx0, [x2]
    1050:\tldnp\tx0, x1, [x2]
    1054:\tdmb\tishld
    1058:\tldrsw\tx0, [x2]
    105c:\tbl\t3000 <write@plt>
"""


def test_a_listing_gives_the_accesses_of_each_probe_and_of_what_it_calls() -> None:
    assert disassembly.functions(LISTING.splitlines()) == {
        "ring_push": ["ldar", "str", "str", "stlr"],
        "stats_record": ["ldr", "dmb ish", "stlr"],
        "calling": ["ldr", "stlr", "ldar"],
        "bell_ring": ["swp1_rel", "ldadd8_acq_rel", "casalb", "ldaxr", "ldr", "dmb ishld", "ldr"],
    }


@pytest.mark.parametrize(
    ("found", "good"),
    [
        (["str", "dmb ish", "str", "stlr"], True),
        (["ldr", "str", "ldr", "dmb ish", "str", "str", "stlr", "str"], True),
        (["str", "str", "stlr"], False),  # without the fence
        (["str", "dmb ish", "str", "str"], False),  # without the Release
        (["str", "dmb ishld", "str", "stlr"], False),  # another fence
        (["str", "dmb ish", "stlr", "str"], False),  # the data after what publishes them
        (["str", "stlr", "dmb ish", "str"], False),
        (["ldar", "str", "dmb ish", "str", "stlr"], False),  # more order than is asked for
        ([], False),
    ],
)
def test_code_orders_exactly_what_it_must_with_the_data_in_between(found: list[str], good: bool) -> None:
    assert disassembly.matches(found, ("str", "dmb ish", "str", "stlr")) is good


def test_relaxed_accesses_are_plain_ones() -> None:
    assert disassembly.matches(["ldr", "str"], ("ldr", "str"))
    assert not disassembly.matches(["ldar", "stlr"], ("ldr", "str"))
    assert not disassembly.matches([], ("ldr", "str"))


SOUND = {"push": ["str", "stlr"], "push_weak": ["str", "str"]}
EXPECTED = {"push": disassembly.Expected(("str", "stlr"), ("push_weak",))}


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({}, None),
        ({"push": ["str", "str"]}, "push must be str, stlr and is str, str"),
        ({"push_weak": ["str", "stlr"]}, "push_weak lacks an ordering and passes for push"),
        ({"pop": ["ldar"]}, "pop stands in probes.rs and not in code.toml"),
    ],
)
def test_each_fault_is_named(changed: dict[str, list[str]], fault: str | None) -> None:
    found = list(disassembly.faults(SOUND | changed, EXPECTED))
    assert len(found) == (fault is not None)
    assert not fault or found[0].startswith(fault)


@pytest.mark.parametrize("absent", sorted(SOUND))
def test_a_function_that_is_not_there_is_a_fault(absent: str) -> None:
    found = {name: code for name, code in SOUND.items() if name != absent}
    assert list(disassembly.faults(found, EXPECTED)) == [
        f"{absent} stands in code.toml, and the program has no such function"
    ]


def test_what_is_listed_is_what_the_program_has() -> None:
    """So that a probe without an expectation is found here, without a compiler for aarch64."""
    source = (ROOT / "tests" / "arm" / "probes.rs").read_text()
    probes = {line.split("fn ")[1].split("(")[0] for line in source.splitlines() if line.startswith("    fn ")}
    expected = disassembly.expectations(ROOT / "tests" / "arm" / "code.toml")
    listed = [name for key, entry in expected.items() for name in (key, *entry.weakened)]
    assert sorted(listed) == sorted(probes - {"keep"})
    assert all(weak.startswith(name) for name, entry in expected.items() for weak in entry.weakened)


def test_the_suites_that_are_to_run_exist_and_the_tests_that_are_not() -> None:
    entries = {entry["name"] for entry in tomllib.loads((ROOT / "Cargo.toml").read_text())["test"]}
    assert {suite.removeprefix("--test=") for suite in arm.RUST_SUITES} - {"--lib"} <= entries
    assert all((ROOT / "tests" / f"test_{suite}.py").exists() for suite in arm.PYTHON_SUITES)
    for test in arm.PYTHON_SKIPPED:
        file, name = test.split("::")
        assert f"def {name}(" in (ROOT / file).read_text()


def test_another_machine_skips_and_says_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    assert arm.main() == 0
    assert capsys.readouterr().out.startswith("SKIPPED: ")


class FakeApt(Apt):
    """Sources that have these versions and nothing else."""

    def __init__(self, **versions: str) -> None:
        self._versions = versions

    def version(self, package: str) -> str | None:
        return self._versions.get(package.split(":")[1])


@pytest.mark.parametrize(
    ("apt", "why"),
    [
        (FakeApt(), "no rustc-web with a libstd-rust-web-dev for arm64"),
        (FakeApt(amd64="1.96.0+dfsg1-1"), "no rustc-web with a libstd-rust-web-dev for arm64"),
        (FakeApt(amd64="1.96.0-1", arm64="1.96.0-2"), "no rustc-web with a libstd-rust-web-dev for arm64"),
        (FakeApt(amd64="1.85.0+dfsg3", arm64="1.85.0+dfsg3"), "is 1.85.0.dfsg3, and Rust 1.88 is needed"),
        (FakeApt(amd64="1.9.0", arm64="1.9.0"), "is 1.9.0, and Rust 1.88 is needed"),
    ],
)
def test_sources_without_the_compiler_are_said_and_nothing_is_fetched(apt: Apt, why: str, tmp_path: Path) -> None:
    with pytest.raises(NoToolchainError, match=why):
        toolchain(apt, tmp_path / "tools", ROOT / "Cargo.toml")
    assert list(tmp_path.iterdir()) == []
