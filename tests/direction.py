"""Checks which module of the Rust core may use which: dependencies point one way, and a few crates have one user each.

usage: direction.py [RUST_SRC]        prints each breach as `file:line: what` and exits 1 if there is one
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path

# From the bottom: a room may use those below it, never its own level or one above.
LEVELS = (
    ("clock", "sync"),
    ("bell",),
    ("record", "series", "event"),
    ("policy", "http", "endpoint", "schedule"),
    ("mock", "engine", "sim", "stats"),
    ("python",),
)
# Within a level, and why.
SIDEWAYS = {
    ("series", "record"): "a live counter is fed with the row",
    ("event", "record"): "a finished row is an event, and a flush goes to the log",
    ("policy", "schedule"): "backing off is drawn from the seeded numbers that arrivals are drawn from",
    ("endpoint", "http"): "an endpoint is what the reader of a response calls",
}
# What only one place may name.
SOLE = {"pyo3": "python", "std::sync::atomic": "sync", "core::sync::atomic": "sync"}

_LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
_USE = re.compile(r"\bcrate::(\{[^;]*\}|[a-z_0-9]+)")
_TESTS = re.compile(r"^#\[cfg\((?:test|all\(test\b.*)\)\]\s*\n(?:#\[.*\]\s*\n)*(?:pub )?mod \w+ \{", re.MULTILINE)


def breaches(src: Path) -> Iterator[str]:
    """Yield ``file:line: what`` for each use that points the wrong way; tests may use anything.

    Args:
        src: The folder of `lib.rs`.
    """
    for path in sorted(src.rglob("*.rs")):
        room = path.relative_to(src).parts[0].removesuffix(".rs")
        if room == "lib":
            continue
        if path.name == "tests.rs":
            continue
        if room not in _LEVEL:
            yield f"{path}:1: the room `{room}` has no level: give it one in tests/direction.py"
            continue
        text = _code(path.read_text())
        for crate, owner in SOLE.items():
            if room != owner and (found := re.search(rf"\b{crate}\b", text)):
                yield f"{path}:{_line(text, found.start())}: only `{owner}` may name `{crate}`"
        for found in _USE.finditer(text):
            for used in _rooms(found[1]):
                if not _may_use(room, used):
                    yield f"{path}:{_line(text, found.start())}: `{room}` may not use `{used}`"


def _may_use(room: str, used: str) -> bool:
    if used == room or used not in _LEVEL:
        return True
    return _LEVEL[used] < _LEVEL[room] or (room, used) in SIDEWAYS


def _rooms(path: str) -> Iterator[str]:
    """Yield the rooms that what follows `crate::` names; a braced list names several."""
    yield from re.findall(r"(?:^|[{,])\s*([a-z_0-9]+)", _without_inner_lists(path))


def _without_inner_lists(path: str) -> str:
    """Leave only the outermost list of `{a::{b, c}, d}`, whose first words are rooms."""
    out, depth = [], 0
    for char in path:
        depth += (char == "{") - (char == "}")
        if depth <= 1:
            out.append(char)
    return "".join(out)


def _code(text: str) -> str:
    """Blank out comments, and the unit tests at a file's end: those may use anything."""
    if tests := _TESTS.search(text):
        text = text[: tests.start()]
    return re.sub(r"//[^\n]*", "", text)


def _line(text: str, at: int) -> int:
    return text.count("\n", 0, at) + 1


if __name__ == "__main__":
    found = list(breaches(Path(sys.argv[1] if len(sys.argv) > 1 else "rust/src")))
    print("\n".join(found) if found else "rust: every dependency points down")
    sys.exit(bool(found))
