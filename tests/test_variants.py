"""Comparing builds, and counting instructions: the arithmetic, and what they say where they can't."""

import json
from pathlib import Path

import pytest

import instructions
import variants
from harness.figures import Spread
from harness.table import Line

CALLGRIND = """#!/bin/sh
for last; do :; done
echo "==1== Collected : $((5000 + 37 * last))" >&2
"""


def test_each_round_begins_with_another_variant() -> None:
    assert [variants.turned(["a", "b", "c"], by) for by in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_what_was_not_measured_is_not_compared() -> None:
    lines = [Line("A", "CPU a request", "µs", Spread.of([3.0, 1.0, 2.0])), Line("A", "memory", "MB", None)]
    told = json.loads(json.dumps({"lines": [line.json() for line in lines]}))
    assert variants.figures(told) == {"CPU a request (µs)": 2.0}


def test_a_variant_is_told_by_what_it_costs_of_the_first_round_by_round() -> None:
    rounds = [{"a": {"f": 2.0}, "b": {"f": 1.0}}, {"a": {"f": 4.0, "g": 1.0}, "b": {"f": 8.0, "g": 1.0}}]
    assert variants.table(["a", "b"], rounds).splitlines() == [
        "f",
        "  a                3.00 (2.00–4.00)",
        "  b                4.50 (1.00–8.00)   × 1.25 (0.500–2.00)",
    ]


def test_a_run_that_fails_ends_the_comparison(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "loadgen"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    assert variants.main([f"a={program}", "--only", "start", "--rounds", "1"]) == 1
    assert "ended with 1" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["a", "=b", "a=", "a=/no/such/loadgen"])
def test_a_variant_needs_a_name_and_a_command(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        variants.main([text])
    assert "must be NAME=LOADGEN" in capsys.readouterr().err


def executable(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_what_both_runs_paid_once_is_not_counted(tmp_path: Path) -> None:
    program = executable(tmp_path / "counted", "#!/bin/sh\nprintf 'one path\\nanother\\n'\n")
    valgrind = executable(tmp_path / "valgrind", CALLGRIND)
    assert instructions.counts(str(valgrind), program) == {"one path": 37.0, "another": 37.0}


def test_a_program_that_fails_under_callgrind_is_told(tmp_path: Path) -> None:
    program = executable(tmp_path / "counted", "#!/bin/sh\necho path\n")
    valgrind = executable(tmp_path / "valgrind", "#!/bin/sh\necho it broke >&2\nexit 4\n")
    with pytest.raises(RuntimeError, match=r"(?s)nothing of 'path', ending with 4:.*it broke"):
        instructions.counts(str(valgrind), program)


def test_a_path_that_became_longer_is_told_and_a_new_one_is_not() -> None:
    now, before = {"a": 106.0, "b": 104.0, "new": 9.0}, {"a": 100.0, "b": 100.0}
    assert instructions.longer(now, before, 5) == ["a"]
    assert instructions.table(now, before).splitlines()[1:] == [
        "a                           106         100  +6.0 %",
        "b                           104         100  +4.0 %",
        "new                           9           –",
    ]


def test_without_valgrind_nothing_is_counted_and_said_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert instructions.main([]) == 0
    assert capsys.readouterr().out.startswith("SKIPPED: valgrind")
