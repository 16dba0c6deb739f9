"""The house's own checks: that each can fail, and holds for what is here."""

import re
import sys
import tomllib
from pathlib import Path

import pytest

import count
import direction

ROOT = Path(__file__).parents[1]

CARGO = """
   Compiling loadgen v0.1.0
     Running unittests rust/src/lib.rs (target/debug/deps/loadgen-0a)

running 3 tests
test clock::tests::a ... ok
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

     Running tests/rust/wire.rs (target/debug/deps/wire-0b)
test result: FAILED. 4 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.00s

   Doc-tests loadgen
test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
""".splitlines()


def test_cargos_suites_are_counted_by_source_file() -> None:
    assert count.cargo_counts(CARGO) == {
        "rust/src/lib.rs": count.Count(2, 0, 1),
        "tests/rust/wire.rs": count.Count(4, 1, 0),
        "doc": count.Count(5, 0, 0),
    }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("130 passed, 1 skipped in 2.18s", count.Count(130, 0, 1)),
        ("==== 2 failed, 7 passed, 1 error in 70.10s (0:01:10) ====", count.Count(7, 3, 0)),
        ("1 skipped in 0.01s", count.Count(0, 0, 1)),
    ],
)
def test_pytests_last_line_is_counted(line: str, expected: count.Count) -> None:
    assert count.pytest_counts(["collected 9 items", line]) == {"pytest": expected}


def test_a_suite_below_its_floor_or_absent_or_failing_does_not_hold() -> None:
    counts = {"low": count.Count(4), "enough": count.Count(5), "failing": count.Count(9, 1), "new": count.Count(1)}
    floors = {"low": 5, "enough": 5, "failing": 5, "absent": 1}
    held = {line.split()[0]: good for line, good in count.verdicts(counts, floors)}
    assert held == {"low": False, "enough": True, "failing": False, "new": True, "absent": False}


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("print('100000 passed in 1.0s')", 0),
        ("print('1 passed in 1.0s')", 1),
        ("print('nothing that counts')", 1),
        ("print('100000 passed in 1.0s'); raise SystemExit(5)", 1),
    ],
)
def test_the_counter_fails_when_the_command_or_the_count_does(
    script: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert count.main(["python", "--", sys.executable, "-c", script]) == status
    assert "python tests by suite" in capsys.readouterr().out


def test_the_counter_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert count.main(["python"]) == 2
    assert "usage: count.py" in capsys.readouterr().err


def test_every_rust_test_file_is_an_entry_with_a_floor() -> None:
    """Cargo would leave a file without an entry out, and still exit 0."""
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    entries = {entry["path"] for entry in cargo.get("test", [])}
    texts = {path: path.read_text() for path in (ROOT / "tests" / "rust").glob("*.rs")}
    parts = {name for text in texts.values() for name in re.findall(r"^(?:pub )?mod (\w+);", text, re.MULTILINE)}
    files = {str(path.relative_to(ROOT)) for path in texts if path.stem not in parts}
    assert entries == files
    assert files <= tomllib.loads((ROOT / "tests" / "floors.toml").read_text())["rust"].keys()


def test_the_rust_core_points_one_way() -> None:
    assert list(direction.breaches(ROOT / "rust" / "src")) == []


@pytest.mark.parametrize(
    ("name", "code", "breach"),
    [
        ("record/a.rs", "use crate::stats::Summary;", "`record` may not use `stats`"),
        ("http/a.rs", "use crate::{clock::{now_ns, Anchor}, engine::Run};", "`http` may not use `engine`"),
        ("clock.rs", "fn f() { crate::record::write() }", "`clock` may not use `record`"),
        ("series/a.rs", "use std::sync::atomic::AtomicU64;", "only `sync` may name `std::sync::atomic`"),
        ("stats/a.rs", "use pyo3::prelude::*;", "only `python` may name `pyo3`"),
        ("helpers/a.rs", "", "the room `helpers` has no level"),
        ("record/a.rs", "use crate::clock;\nuse crate::record::Row;", None),
        ("record/a.rs", "// use crate::stats::Summary;", None),
        ("record/a.rs", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::stats::Summary;\n}", None),
        ("record/a/tests.rs", "use crate::stats::Summary;", None),
        ("endpoint/a.rs", "use crate::http::Sink;", None),
        ("python/a.rs", "use crate::engine::Engine;\nuse pyo3::Bound;", None),
    ],
)
def test_a_use_that_points_the_wrong_way_is_named(tmp_path: Path, name: str, code: str, breach: str | None) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code)
    assert [line.split(": ")[1] for line in direction.breaches(tmp_path)] == ([breach] if breach else [])


def test_the_constraints_pin_every_tool_by_name_and_version_only() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9A-Za-z.]*", line) for line in lines)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = project["dependency-groups"]
    listed = [wish for group in groups.values() for wish in group]
    assert all(wish["include-group"] in groups for wish in listed if isinstance(wish, dict))
    wanted = [*project["project"]["dependencies"], *(wish for wish in listed if isinstance(wish, str))]
    names = {re.split(r"[<>=;\[ ]", wish)[0].lower().replace("_", "-") for wish in wanted}
    assert names <= {line.split("==")[0].lower().replace("_", "-") for line in lines}


def test_the_run_time_dependencies_stay_the_agreed_ones() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[<>=;\[ ]", wish)[0] for wish in project["dependencies"]}
    assert names <= {"msgspec", "pyzmq", "pyyaml", "rich", "click"}
