"""report.json: what the schema promises holds, and what is written survives reading."""

import copy
import json
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

import loadgen
from loadgen.report import again, failed, sentences
from loadgen.session import Metric, SessionResult
from test_screens import CASES

pytest_plugins = ["surface_fixtures"]

SCHEMA = json.loads(resources.files("loadgen.report").joinpath("report.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_report_keeps_to_the_schema(name: str) -> None:
    VALIDATOR.validate(CASES[name])


def test_what_a_run_writes_keeps_to_the_schema(core: ModuleType, here: Path) -> None:
    for options in ({}, {"rate": 5, "requests": 20, "slo": "ttft:1s", "warmup": 3}, {"stages": "1/s:1s"}, {"burst": 3}):
        result = loadgen.run("mock:", **options)
        VALIDATOR.validate(json.loads((result.dir / "report.json").read_text()))


def changed(change: Any) -> dict[str, Any]:
    report = copy.deepcopy(CASES["open"])
    change(report)
    return report


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.update(schema=2),
        lambda r: r["run"].pop("id"),
        lambda r: r["run"].update(status="done"),
        lambda r: r["run"].update(reason="because"),
        lambda r: r["phases"][0].update(surprise=1),
        lambda r: r["phases"][0]["counts"].update(ok=-1),
        lambda r: r["phases"][0]["metrics"]["ttft"].update(p999x=1),
        lambda r: r["phases"][0]["metrics"]["ttft"].update(mean=None),
        lambda r: r["phases"][0]["trust"].update(verdict="fine"),
        lambda r: r["phases"][0]["goodput"].update({"from": "done"}),
    ],
)
def test_the_schema_refuses_what_is_no_report(change: Any) -> None:
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(changed(change))


@pytest.mark.parametrize("name", CASES)
def test_every_request_is_counted_once(name: str) -> None:
    for phase in CASES[name]["phases"]:
        counts = phase["counts"]
        assert counts["issued"] == counts["ok"] + counts["failed"] + counts["cancelled"] + counts["in_flight"]


def test_a_stored_report_comes_back_as_the_same_result(core: ModuleType, here: Path) -> None:
    result = loadgen.run("mock:", requests=20)
    stored = SessionResult.of(result.dir, again.stored(result.dir))
    assert stored.report == result.report
    assert stored.performance.ttft.p50 == result.performance.ttft.p50


def test_a_log_gives_the_same_report_again(core: ModuleType, here: Path) -> None:
    result = loadgen.run("mock:", requests=20, slo="ttft:1s", percentiles="50,99")
    derived, warning = again.load(result.id)
    assert derived.report == result.report
    assert warning == ""


def test_a_log_alone_gives_the_percentiles_and_objectives_of_its_run(core: ModuleType, here: Path) -> None:
    result = loadgen.run("mock:", requests=20, slo="ttft:1s", percentiles="50,99")
    (result.dir / "report.json").unlink()
    derived, _ = again.load(result.id)
    assert derived.report == result.report


def test_a_report_that_can_not_be_written_is_still_shown(
    core: ModuleType, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = loadgen.run("mock:")
    (result.dir / "report.json").unlink()

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("loadgen.private_file.write", refuse)
    derived, warning = again.load(None)
    assert derived.performance.counts.ok == 10
    assert "Permission denied" in warning


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ({"logged": 90, "missing": 0, "error": None, "dropped": None}, []),
        (
            {"logged": 90, "missing": 1, "error": "events.log: No space left on device", "dropped": 1200},
            [
                "1 event of events.log could not be kept (events.log: No space left on device)",
                "1,200 events not published: the publisher was too slow",
            ],
        ),
    ],
)
def test_events_that_were_lost_are_in_the_report_and_said(events: dict[str, Any], said: list[str]) -> None:
    report = changed(lambda r: r["run"].update(events=events))
    VALIDATOR.validate(report)
    found = sentences.about_run(SessionResult.of(Path("/runs/x"), report))
    assert [sentence.text for sentence in found if sentence.label == "lost"] == said


@pytest.mark.parametrize(("kind", "words"), [("timeout", "timed out"), ("stall", "stalled")])
def test_a_limit_that_the_log_no_longer_tells_is_left_out(kind: str, words: str) -> None:
    detail = {"class": kind, "words": "", "count": 2, "requests": [4, 7]}
    assert failed.line(detail, {"url": "unknown target"}) == f"2 × {words}   requests 4, 7"
    assert "30 s" in failed.line(detail, {"timeout": 30, "stall_timeout": 30})


@pytest.mark.parametrize(("count", "is_only"), [(999, True), (1000, False)])
def test_only_the_last_rank_is_the_greatest_value(count: int, is_only: bool) -> None:
    # The 999th of 1,000 is not the greatest, though as floats 1,000 times 100 - 99.9 is less than 100.
    assert Metric("ttft", {"count": count, "unsupported": ["p99_9"]}).is_only_extreme(99.9) is is_only


def test_answers_that_came_whole_where_streams_were_asked_for_are_told(here: Path) -> None:
    def told(url: str, **options: Any) -> dict[str, str]:
        result = loadgen.run(url, concurrency=2, requests=40, **options)
        return {line.label: line.text for line in sentences.about_phase(result, result.performance)}

    half = told("mock:?fault=json_instead:share=50%25")["streams"]
    assert 0 < int(half.partition(" ")[0]) < 40
    assert half.endswith("they have no TTFT and no TPOT, and meet no objective for these")
    assert told("mock:?fault=json_instead")["streams"].startswith("40 of 40 answers came whole")
    for options in ({}, {"stream": False}, {"api": "embeddings"}):
        assert "streams" not in told("mock:", **options)


def test_phases_whose_prompts_the_server_has_seen_are_named_as_one_or_several(here: Path) -> None:
    phases = [{"name": name, "concurrency": 1, "requests": 3} for name in ("low", "mid", "high")]
    result = loadgen.run("mock:", phases=phases)
    told = [" ".join(line.text for line in sentences.about_phase(result, phase)) for phase in result.phases]
    assert "may have seen them" not in told[0]
    assert "may have seen them in phase low (" in told[1]
    assert "may have seen them in phases low, mid (" in told[2]
