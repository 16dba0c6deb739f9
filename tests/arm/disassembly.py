"""Checks the generated code of what publishes and reads: that the instructions are there which its orderings demand.

`code.toml` says, for each function of `probes.rs`, which instructions order its accesses, in their sequence, and which
plain accesses must lie between them; and which weakened copies of it there are, whose code this check must not take for
the sound one. A function that isn't listed, or isn't there, is a fault too.
"""

import re
import subprocess
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

# `0000000000001234 <probes::ring_push>:`, or with a hash as further part of the name.
_SYMBOL = re.compile(r"^([0-9a-f]+) <(.*)>:$")
_PROBE = re.compile(r"^probes::(\w+)(?:::h[0-9a-f]{16})?$")
_INSTRUCTION = re.compile(r"^\s+[0-9a-f]+:\s+(\S+)\s*(.*)$")
# Atomic changes are calls, where the processor's own instructions for them are looked for when the program starts.
_CHANGED = re.compile(r"<__aarch64_(\w+?\d+)_(relax|acq|rel|acq_rel)>")
_CALLED = re.compile(r"^([0-9a-f]+) <")
# Those of the processor itself, with what they order in their name.
_CHANGE = re.compile(r"^(?:swp|cas|ldadd|ldclr|ldeor|ldset|ldsmax|ldsmin|ldumax|ldumin)p?(?:a|l|al)?[bh]?$")
_EXCLUSIVE = re.compile(r"^(?:ldaxr|stlxr|ldxr|stxr)[bh]?$")
_ORDERED = re.compile(r"^(ldar|ldapr|ldapur|stlr|stlur)[bh]?$")
_PLAIN = re.compile(r"^(ld|st)(?:u?r|n?p)(?:s?[bhw])?$")
_STACK = re.compile(r"\[(?:sp|x29)\b")


@dataclass(frozen=True)
class Expected:
    """What the code of one function must be.

    Args:
        code: Instructions that order, in their sequence, and between them plain accesses (`ldr`, `str`) that must be
            there.
        weakened: The functions that are this one with an ordering less.
    """

    code: tuple[str, ...]
    weakened: tuple[str, ...] = ()


def functions(listing: Iterable[str]) -> dict[str, list[str]]:
    """Return the accesses of each probe, with those of the functions that it calls in their place.

    Args:
        listing: The lines of ``objdump --disassemble --demangle --no-show-raw-insn``.
    Returns:
        By function: what orders (`ldar`, `stlr`, `dmb ish`, `swp1_rel` …) and plain `ldr` and `str` beyond the stack.
    """
    probes: dict[str, int] = {}
    bodies: dict[int, list[str | int]] = {}
    body: list[str | int] = []
    for line in listing:
        if symbol := _SYMBOL.match(line):
            address = int(symbol[1], 16)
            body = []
            if symbol[2].startswith(("probes::", "loadgen::")):
                bodies[address] = body
            if (probe := _PROBE.match(symbol[2])) and probe[1] != "main":
                probes[probe[1]] = address
        elif instruction := _INSTRUCTION.match(line):
            body += _access(instruction[1], instruction[2])
    return {name: list(_whole(address, bodies, ())) for name, address in probes.items()}


def _whole(address: int, bodies: dict[int, list[str | int]], callers: tuple[int, ...]) -> Iterator[str]:
    """Yield a function's accesses, those of each call where it stands; a function that calls itself stands once."""
    for word in bodies[address]:
        if isinstance(word, str):
            yield word
        elif word in bodies and word not in (address, *callers):
            yield from _whole(word, bodies, (address, *callers))


def _access(name: str, operands: str) -> Iterator[str | int]:
    """Yield the word for an instruction if it orders or accesses memory, or the address that it calls."""
    if name in ("dmb", "dsb"):
        yield f"{name} {operands.split('//', maxsplit=1)[0].strip()}"
    elif ordered := _ORDERED.match(name):
        yield ordered[1]
    elif _CHANGE.match(name) or _EXCLUSIVE.match(name):
        yield name
    elif name in ("bl", "b") and (changed := _CHANGED.search(operands)):
        yield f"{changed[1]}_{changed[2]}"
    elif name in ("bl", "b") and (called := _CALLED.match(operands)):
        yield int(called[1], 16)
    elif (plain := _PLAIN.match(name)) and not _STACK.search(operands):
        yield f"{plain[1]}r"


def matches(found: list[str], expected: tuple[str, ...]) -> bool:
    """Whether the code orders exactly as it must, with the plain accesses in between that it must have."""
    gaps, wanted = _by_ordering(found), _by_ordering(expected)
    return [order for order, _ in gaps] == [order for order, _ in wanted] and all(
        set(needed) <= set(there) for (_, there), (_, needed) in zip(gaps, wanted, strict=True)
    )


def _by_ordering(code: Iterable[str]) -> list[tuple[str, list[str]]]:
    """Split code into the plain accesses after each instruction that orders, and before the first."""
    parts: list[tuple[str, list[str]]] = [("", [])]
    for word in code:
        if word in ("ldr", "str"):
            parts[-1][1].append(word)
        else:
            parts.append((word, []))
    return parts


def expectations(path: Path) -> dict[str, Expected]:
    """Read what the code must be, by function."""
    return {
        name: Expected(tuple(entry["code"]), tuple(entry.get("weakened", ())))
        for name, entry in tomllib.loads(path.read_text()).items()
    }


def faults(found: dict[str, list[str]], expected: dict[str, Expected]) -> Iterator[str]:
    """Yield a sentence for each function whose code isn't as it must be, and each weakened one that passes for it."""
    listed = expected.keys() | {weak for entry in expected.values() for weak in entry.weakened}
    for name in sorted(found.keys() - listed):
        yield f"{name} stands in probes.rs and not in code.toml"
    for name, entry in expected.items():
        for absent in sorted({name, *entry.weakened} - found.keys()):
            yield f"{absent} stands in code.toml, and the program has no such function"
        if name in found and not matches(found[name], entry.code):
            yield f"{name} must be {', '.join(entry.code)} and is {', '.join(found[name])}"
        for weak in entry.weakened:
            if weak in found and matches(found[weak], entry.code):
                yield f"{weak} lacks an ordering and passes for {name}: the check would not notice its loss"


def check(disassembler: Path, program: Path, listed: Path) -> bool:
    """Check a program, and tell what was found.

    Args:
        disassembler: An objdump for aarch64.
        program: What `probes.rs` was compiled to.
        listed: What its code must be.
    Returns:
        Whether it is so.
    """
    command = [str(disassembler), "--disassemble", "--demangle", "--no-show-raw-insn", str(program)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found, expected = functions(done.stdout.splitlines()), expectations(listed)
    wrong = list(faults(found, expected))
    for name, entry in expected.items():
        print(f"  {name:<32}{_short(found.get(name, []))}")
        for weak in entry.weakened:
            told = "taken for it" if matches(found.get(weak, []), entry.code) else "told apart"
            print(f"    {weak:<30}{_short(found.get(weak, []))}: {told}")
    for fault in wrong:
        print(f"FAULT: {fault}")
    return not wrong


def _short(code: Iterable[str]) -> str:
    """Write code with each run of the same access as one word."""
    runs = ((word, len(list(run))) for word, run in groupby(code))
    return ", ".join(word if length == 1 else f"{length} {word}" for word, length in runs)
