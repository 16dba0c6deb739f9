"""How the microbenches' results are read, laid out and compared with the last ones kept."""

import json
from pathlib import Path
from typing import Any

import pytest

import micro
from micro import Change, Result, changes, difference, newest, read, table


def _result(name: str, best: float, role: str = "ours", group: str = "event recorded") -> Result:
    return Result(group, name, role, best, best * 1.1)


def _kept(file: Path, **best_s: float) -> None:
    benches = [
        {
            "group": "event recorded",
            "name": f"test_{name}",
            "extra_info": {"units": 1_000, "role": "ours" if name == "record" else "baseline"},
            "stats": {"min": best, "median": best * 2},
        }
        for name, best in best_s.items()
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"benchmarks": benches}))


def test_a_figure_is_the_nanoseconds_of_one_unit(tmp_path: Path) -> None:
    _kept(tmp_path / "now.json", record=65e-6)
    (result,) = read(tmp_path / "now.json")
    assert (result.group, result.name, result.role) == ("event recorded", "record", "ours")
    assert result.best_ns == pytest.approx(65)
    assert result.median_ns == pytest.approx(130)


def test_the_machines_own_change_is_taken_out() -> None:
    before = [_result("record", 60), _result("msgspec", 140, "baseline"), _result("the loop alone", 10, "empty")]
    now = [_result("record", 180), _result("msgspec", 280, "baseline"), _result("the loop alone", 20, "empty")]
    (change,) = changes(before, now)
    assert change.result.name == "record"
    assert change.before_ns == 60
    assert change.factor == pytest.approx(1.5)


def test_without_a_common_baseline_the_change_is_the_plain_one() -> None:
    (change,) = changes([_result("record", 60)], [_result("record", 90), _result("new", 1)])
    assert change.factor == pytest.approx(1.5)


def test_the_same_name_in_another_group_is_another_bench() -> None:
    assert changes([_result("record", 60, group="value recorded")], [_result("record", 90)]) == []


def test_the_table_has_ours_first_and_each_baseline_as_a_multiple() -> None:
    shown = table([_result("msgspec", 130, "baseline"), _result("record", 65), _result("the loop", 5, "empty")])
    lines = [line.split() for line in shown.splitlines()]
    assert lines[1:] == [
        ["one", "event", "recorded"],
        ["record", "(ours)", "65.0", "71.5"],
        ["msgspec", "130", "143", "2.00"],
        ["the", "loop", "5.00", "5.50"],
    ]


def test_baselines_without_ours_are_shown_without_a_multiple() -> None:
    assert table([_result("json", 130, "baseline")]).splitlines()[-1].split() == ["json", "130", "143"]


def test_the_greatest_loss_comes_first() -> None:
    compared = [Change(_result("a", 9), 10.0, 0.9), Change(_result("b", 15), 10.0, 1.5)]
    first, second = difference(compared).splitlines()[1:]
    assert first.endswith("+50 %")
    assert second.endswith("-10 %")


def test_the_last_results_kept_are_those_with_the_highest_number(tmp_path: Path) -> None:
    assert newest(tmp_path / "none") is None
    for name in ("0001_x", "0010_x", "0002_x"):
        _kept(tmp_path / "Linux-CPython-3.11-64bit" / f"{name}.json", record=1.0)
    found = newest(tmp_path)
    assert found is not None
    assert found.name == "0010_x.json"


@pytest.mark.parametrize(("best", "status"), [(65e-6, 0), (90e-6, micro.SLOWER)])
def test_a_loss_above_the_limit_is_named_and_fails(
    best: float, status: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _kept(tmp_path / "machine" / "0001_x.json", record=60e-6, msgspec=140e-6)

    def measured(keep: Path, file: Path, rest: Any) -> int:
        assert (keep, rest) == (tmp_path, ["-k", "encode"])
        _kept(file, record=best, msgspec=140e-6)
        return 0

    monkeypatch.setattr(micro, "_measure", measured)
    assert micro.main(["--keep", str(tmp_path), "--fail", "25", "-k", "encode"]) == status
    out, err = capsys.readouterr()
    assert ("SLOWER by more than 25 %: event recorded, record" in err) == bool(status)
    assert "0001_x.json" in out


def test_the_first_results_have_nothing_to_compare_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(keep: Path, file: Path, rest: Any) -> int:
        _kept(file, record=1.0)
        return 0

    monkeypatch.setattr(micro, "_measure", measured)
    assert micro.main(["--keep", str(tmp_path), "--fail", "25"]) == 0
    assert "nothing to compare with" in capsys.readouterr().out


def test_a_failed_bench_is_the_exit_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(micro, "_measure", lambda keep, file, rest: 1)
    assert micro.main(["--keep", str(tmp_path)]) == 1


def test_one_bench_runs_from_end_to_end_and_is_kept(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert micro.main(["--keep", str(tmp_path), "-k", "encode and (loop or test_record)"]) == 0
    assert "record (ours)" in capfd.readouterr().out
    kept = newest(tmp_path)
    assert kept is not None
    assert {result.role for result in read(kept)} == {"ours", "empty"}
