"""Accuracy phases: answers are kept, joined with their samples and scored; what is not scored is told apart."""

from __future__ import annotations

import copy
import http.server
import json
import math
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import loadgen
from loadgen.config import resolve
from loadgen.dataset import Dataset, Sample
from loadgen.errors import ConfigError, DatasetError, ReportError, RunError
from loadgen.report import again
from loadgen.session import Run, SessionResult
from loadgen.session.phase import Limits, PhaseConfig, PhaseType
from loadgen.session.scoring import SampleScore, scores_of
from loadgen.session.scoring.accuracy import OTHERS, AccuracyResult, of_scores, wilson
from loadgen.session.scoring.scores import read, write
from loadgen.session.settings import PhaseSettings
from loadgen.session.strategy import ConcurrencyStrategy

pytest_plugins = ["surface_fixtures"]

SCHEMA = json.loads(resources.files("loadgen.report").joinpath("report.schema.json").read_text())
Reply = dict[str, Any] | int


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    reply: Callable[[str], Reply]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        message = type(self).reply(asked["messages"][-1]["content"])
        status, body = (message, {"error": {"message": "no"}}) if isinstance(message, int) else (200, _answer(message))
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


def _answer(message: dict[str, Any]) -> dict[str, Any]:
    finish = message.pop("finish", "stop")
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    return {"choices": [choice], "usage": {"prompt_tokens": 5, "completion_tokens": 5}}


@pytest.fixture
def serve() -> Iterator[Callable[[Callable[[str], Reply]], str]]:
    """Serve a function from prompts to answers: a message, or the status of a refusal."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(reply: Callable[[str], Reply]) -> str:
        handler = type("Handler", (_Handler,), {"reply": staticmethod(reply)})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


QUESTIONS: dict[str, Any] = {
    "right": {"content": "It is 9 * 2 = 18.\n#### 18"},
    "also right": {"content": "the answer is 18"},
    "wrong": {"content": "17", "finish": "length"},
    "numberless": {"content": "I don't know."},
    "refused": 500,
    "thinking": {"content": "", "reasoning_content": "so it is 18"},
    "reasoned": {"content": "17", "reasoning_content": "so it is 18"},
    "no target": {"content": "18"},
}


@pytest.fixture
def questions(here: Path) -> str:
    records = [{"question": q, "answer": None if q == "no target" else "#### 18"} for q in QUESTIONS]
    (here / "questions.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return "questions.jsonl"


def accuracy_phase(questions: str | Dataset, n: int = len(QUESTIONS), **changes: Any) -> PhaseConfig:
    told: dict[str, Any] = {
        "name": "gsm8k",
        "type": "accuracy",
        "dataset": questions,
        "strategy": ConcurrencyStrategy(2),
        "limits": Limits(samples=n),
        "order": "sequential",
        "scorer": "numeric",
    }
    return PhaseConfig(**{**told, **changes})


def run(url: str, *phases: PhaseConfig, **options: Any) -> SessionResult:
    given = {"concurrency": 1, "requests": 1, "model": "m", "stream": False, "max_error_rate": 1, **options}
    return Run(resolve(url, given), phases=phases).execute()


def lines_of(result: SessionResult, phase: int = 0) -> dict[int, dict[str, Any]]:
    text = (result.dir / f"scores-{phase}.jsonl").read_text()
    return {line["sample"]: line for line in map(json.loads, text.splitlines())}


@pytest.fixture
def scored(serve: Callable[[Callable[[str], Reply]], str], questions: str) -> SessionResult:
    url = serve(lambda asked: copy.copy(QUESTIONS[asked]))
    return run(url, accuracy_phase(questions))


def test_answers_are_scored_and_what_is_not_is_counted_by_its_reason(scored: SessionResult) -> None:
    phase = scored.phase("gsm8k")
    assert (phase.counts.ok, phase.counts.failed) == (7, 1)
    found = phase.accuracy
    assert found is not None
    assert (found.scored, found.mean, found.is_binary, found.errors) == (4, 0.5, True, 0)
    assert found.issued == 8 == found.scored + sum(found.not_scored.values())
    assert found.of_all == 2 / 8
    assert (found.ci95, found.interval) == (wilson(0.5, 4), "wilson")
    assert found.not_scored["no number found"] == found.not_scored["no target"] == found.not_scored["failed"] == 1
    assert scored.accuracy_results == [phase]
    assert "score 0.5 of 4" in repr(phase)


def test_every_request_has_its_line(scored: SessionResult) -> None:
    lines = lines_of(scored)
    assert len(lines) == 8
    names = list(QUESTIONS)
    told = {names[sample]: (line["score"], line["extracted"], line["not_scored"]) for sample, line in lines.items()}
    assert told["right"] == told["also right"] == (1.0, "18", None)
    assert told["wrong"] == told["reasoned"] == (0.0, "17", None)
    assert told["numberless"] == (None, None, "no number found")
    assert told["refused"] == (None, None, "failed")
    assert told["no target"] == (None, None, "no target")
    assert lines[names.index("refused")]["note"] == "http_500"
    assert lines[0]["target"] == "18"
    assert stat.S_IMODE((scored.dir / "scores-0.jsonl").stat().st_mode) == 0o600
    assert {line.request for line in scored.phase("gsm8k").scores} == set(range(8))


def test_reasoning_is_not_the_answer(scored: SessionResult) -> None:
    line = lines_of(scored)[list(QUESTIONS).index("thinking")]
    assert line["score"] is None
    assert line["not_scored"] == "only reasoning"


def test_the_report_keeps_to_its_schema_and_is_made_again_from_the_files(scored: SessionResult) -> None:
    report = json.loads((scored.dir / "report.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(report)
    assert report["phases"][0]["accuracy"]["file"] == "scores-0.jsonl"
    assert report["phases"][0]["scoring"]["scorer"] == {"numeric": {"tolerance": 0.0, "relative": 0.0}}
    second, warning = again.load(str(scored.dir))
    assert (second.report["phases"], warning) == (report["phases"], "")


def forget(result: SessionResult) -> None:
    """Leave what a process that was killed before it could score would leave."""
    (result.dir / "scores-0.jsonl").unlink()
    (result.dir / "report.json").unlink()


def test_a_run_that_died_before_it_could_score_is_scored_by_its_report(scored: SessionResult) -> None:
    forget(scored)
    second, warning = again.load(str(scored.dir))
    assert warning == ""
    assert second.report["phases"] == scored.report["phases"]
    assert (scored.dir / "scores-0.jsonl").exists()
    assert (scored.dir / "report.json").exists()


def test_a_dataset_that_changed_since_is_not_scored_with(scored: SessionResult, questions: str) -> None:
    forget(scored)
    Path(questions).write_text(Path(questions).read_text().replace("18", "17"))
    second, warning = again.load(str(scored.dir))
    assert "has changed since it was sent" in warning
    assert second.phase("gsm8k").accuracy is None
    assert second.report["phases"][0]["accuracy"] is None
    jsonschema.Draft202012Validator(SCHEMA).validate(second.report)
    with pytest.raises(ReportError, match="was not scored"):
        next(second.phase("gsm8k").scores)
    Path(questions).unlink()
    assert "does not exist" in again.load(str(scored.dir))[1]


def test_a_scorer_that_is_only_its_programs_is_said(
    serve: Callable[[Callable[[str], Reply]], str], questions: str
) -> None:
    phase = accuracy_phase(questions, scorer=lambda answer, target, sample: "18" in answer)
    result = run(serve(lambda asked: {"content": asked}), phase)
    found = result.phase("gsm8k").accuracy
    assert found is not None
    assert (found.scorer, found.scored, found.mean) == ({"python": None}, 8, 0.0)
    forget(result)
    assert "known to its own program only" in again.load(str(result.dir))[1]


def test_a_scorer_that_raises_is_told_after_the_others_are_scored(
    serve: Callable[[Callable[[str], Reply]], str], questions: str, here: Path
) -> None:
    def fussy(answer: str, target: Any, sample: Sample) -> float:
        if sample.prompt == "wrong":
            raise KeyError("odd one")
        return 1.0

    with pytest.raises(RunError, match=r"raised at 1 of 8 answers, first at request \d: KeyError: 'odd one'") as caught:
        run(serve(lambda asked: {"content": "x"}), accuracy_phase(questions, scorer=fussy))
    assert isinstance(caught.value.__cause__, KeyError)
    (directory,) = (here / "loadgen-runs").iterdir()
    result, warning = again.load(str(directory))
    found = result.phase("gsm8k").accuracy
    assert warning == ""
    assert found is not None
    assert (found.scored, found.mean, found.errors) == (7, 1.0, 1)
    assert found.not_scored == {"the scorer raised KeyError": 1}
    line = next(line for line in scores_of(directory, 0) if line.score is None)
    assert line.note == "KeyError: 'odd one'"


def test_samples_asked_several_times_are_averaged_over_all_their_answers(
    serve: Callable[[Callable[[str], Reply]], str], questions: str
) -> None:
    result = run(serve(lambda asked: {"content": "18"}), accuracy_phase(questions, n=24))
    found = result.phase("gsm8k").accuracy
    assert found is not None
    assert (found.scored, found.samples, found.mean) == (21, 7, 1.0)
    assert found.interval == "wilson, clustered by sample"
    assert found.ci95 == wilson(1.0, 7)


def test_a_performance_phase_beside_it_keeps_no_answers_and_has_no_accuracy(questions: str) -> None:
    load_phase = PhaseConfig(name="load", strategy=ConcurrencyStrategy(2), limits=Limits(samples=6))
    result = run("mock:", load_phase, accuracy_phase(questions, n=4), stream=True, model="mock")
    assert result.phase("load").accuracy is None
    assert "accuracy" not in result.phase("load").report
    found = result.phase("gsm8k").accuracy
    assert found is not None
    assert found.not_scored == {"no number found": 4}
    assert (found.mean, found.of_all, found.ci95, found.interval, found.is_binary) == (None, 0.0, None, None, False)
    from loadgen import _core

    assert {request for request, _, _ in _core.read_texts(result.dir, "answers")} == {6, 7, 8, 9}
    assert found.file == "scores-1.jsonl"


def test_a_ready_dataset_is_scored_by_its_own_targets(serve: Callable[[Callable[[str], Reply]], str]) -> None:
    ready = Dataset("mine", "0" * 64, [Sample(prompt="a", target=1), Sample(prompt="b", target=2)])
    result = run(serve(lambda asked: {"content": "1"}), accuracy_phase(ready, n=2))
    found = result.phase("gsm8k").accuracy
    assert found is not None
    assert (found.mean, found.scored) == (0.5, 2)
    forget(result)
    assert "known to its own program only" in again.load(str(result.dir))[1]


def test_what_an_accuracy_phase_lacks_is_said_before_anything_is_sent(here: Path, questions: str) -> None:
    with pytest.raises(ConfigError, match="accuracy phase without a scorer"):
        accuracy_phase(questions, scorer=None)
    with pytest.raises(ConfigError, match="phase gsm8k: there is no scorer 'bleu'"):
        accuracy_phase(questions, scorer="bleu")
    with pytest.raises(ConfigError, match="is a performance phase, and scorer is for accuracy phases"):
        accuracy_phase(questions, type=PhaseType.PERFORMANCE)
    with pytest.raises(ConfigError, match="target_field is for accuracy phases"):
        accuracy_phase(questions, type="warmup", scorer=None, settings=PhaseSettings(target_field="answer"))
    with pytest.raises(DatasetError, match=r'no field "gold".*\(fields: question, answer\)'):
        run("mock:", accuracy_phase(questions, settings=PhaseSettings(target_field="gold")))
    assert not (here / "loadgen-runs").exists()


def test_a_configuration_file_names_the_scorer_and_the_target(
    serve: Callable[[Callable[[str], Reply]], str], here: Path
) -> None:
    (here / "d.jsonl").write_text('{"question": "a", "gold": "yes"}\n{"question": "b", "gold": "no"}\n')
    (here / "run.yaml").write_text(
        f"""
url: {serve(lambda asked: {"content": "so: yes"})}
model: m
stream: false
phases:
  - {{name: load, dataset: d.jsonl, concurrency: 1, requests: 2}}
  - name: yes-or-no
    type: accuracy
    dataset: d.jsonl
    concurrency: 1
    requests: 2
    target_field: gold
    scorer: {{regex: 'so: (\\w+)'}}
"""
    )
    result = loadgen.run(config="run.yaml")
    phase = result.phase("yes-or-no")
    assert phase.accuracy is not None
    assert (phase.accuracy.mean, phase.accuracy.scored) == (0.5, 2)
    told = phase.report["scoring"]
    assert (told["target_field"], told["path"]) == ("gold", str(here / "d.jsonl"))
    assert told["scorer"]["regex"]["pattern"] == r"so: (\w+)"


def test_a_tokenizer_counts_and_the_answers_stay(
    serve: Callable[[Callable[[str], Reply]], str], questions: str
) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.save("tokenizer.json")
    load_phase = accuracy_phase(questions, n=3, name="load", type="performance", scorer=None)
    options = {"tokenizer": "tokenizer.json", "stream": True, "model": "mock"}
    result = run("mock:?usage=none", load_phase, accuracy_phase(questions, n=2), **options)
    assert result.phase("load").tokens["source"] == "tokenizer"
    assert (result.dir / "answers.log").exists()
    assert result.phase("gsm8k").accuracy is not None
    again_result, warning = again.load(str(result.dir))
    assert (again_result.report["phases"], warning) == (result.report["phases"], "")


def accuracy_of(values: Sequence[tuple[int, float | None]], in_flight: int = 0, why: str = "why") -> AccuracyResult:
    lines = [
        SampleScore(request, sample, score=value, not_scored=None if value is not None else why)
        for request, (sample, value) in enumerate(values)
    ]
    return of_scores(lines, scorer={"numeric": {}}, words="numeric answer", in_flight=in_flight, file="scores-0.jsonl")


class TestAccuracy:
    @pytest.mark.parametrize(
        ("right", "n", "low", "high"),
        # Newcombe, Two-sided confidence intervals for the single proportion, Statist. Med. 17 (1998), table I.
        [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
    )
    def test_wilsons_interval_is_the_published_one(self, right: int, n: int, low: float, high: float) -> None:
        assert wilson(right / n, n) == pytest.approx((low, high), abs=5e-5)
        assert wilson(1 - right / n, n) == pytest.approx((1 - high, 1 - low), abs=5e-5)

    def test_what_is_not_scored_is_in_no_mean(self) -> None:
        found = accuracy_of([(0, 1.0), (1, 0.0), (2, None)], in_flight=2)
        assert (found.mean, found.of_all, found.scored, found.issued) == (0.5, 0.2, 2, 5)
        assert found.not_scored == {"why": 1, "in flight": 2}

    def test_the_same_answer_again_makes_nothing_surer(self) -> None:
        once = accuracy_of([(sample, float(sample < 30)) for sample in range(50)])
        thrice = accuracy_of([(sample, float(sample < 30)) for sample in range(50)] * 3)
        assert once.interval == "wilson"
        assert thrice.interval == "wilson, clustered by sample"
        assert once.ci95 is not None
        assert thrice.ci95 is not None
        assert thrice.mean == once.mean
        # The variance between samples counts one degree of freedom less than the binomial's.
        assert thrice.ci95 == pytest.approx(wilson(0.6, 49), abs=1e-12)

    def test_answers_that_differ_within_each_sample_make_it_surer_up_to_their_number(self) -> None:
        found = accuracy_of([(sample, float(answer)) for sample in range(50) for answer in range(2)])
        assert found.ci95 == pytest.approx(wilson(0.5, 100))

    def test_grades_get_the_normal_interval(self) -> None:
        values = [0.1, 0.4, 0.4, 0.9]
        found = accuracy_of(list(enumerate(values)))
        error = 1.959964 * math.sqrt(sum((v - 0.45) ** 2 for v in values) / 3) / 2
        assert (found.interval, found.is_binary) == ("normal", False)
        assert found.ci95 == pytest.approx((0.45 - error, 0.45 + error), abs=1e-6)
        assert accuracy_of([(0, 0.3)]).ci95 is None
        again = accuracy_of(list(enumerate(values)) * 2)
        assert again.interval == "normal, clustered by sample"
        assert again.ci95 == pytest.approx(found.ci95)

    def test_many_reasons_are_summed_up(self) -> None:
        lines = [SampleScore(i, i, not_scored=f"reason {i}") for i in range(50)]
        found = of_scores(lines, scorer=None, words="mine", in_flight=0, file="scores-0.jsonl")
        assert found.not_scored[OTHERS] == 30
        assert sum(found.not_scored.values()) == found.issued == 50


class TestScoresFile:
    def test_holds_what_was_written_shortened(self, tmp_path: Path) -> None:
        path = tmp_path / "scores-0.jsonl"
        told = [
            SampleScore(1, 2, {"a": [1]}, "x" * 9999, 0.5, note="\ud800 lone"),
            SampleScore(3, 4, None, not_scored="failed"),
        ]
        write(path, iter(told))
        first, second = read(path)
        assert (first.target, len(first.extracted or ""), first.note) == ('{"a":[1]}', 2000, "? lone")
        assert second == told[1]

    def test_is_there_in_full_or_not_at_all(self, tmp_path: Path) -> None:
        def broken() -> Iterator[SampleScore]:
            yield SampleScore(1, 2)
            raise ValueError("broken")

        with pytest.raises(ValueError, match="broken"):
            write(tmp_path / "scores-0.jsonl", broken())
        assert list(tmp_path.iterdir()) == []

    def test_that_is_damaged_is_said_with_its_line(self, tmp_path: Path) -> None:
        path = tmp_path / "scores-0.jsonl"
        path.write_text('{"request": 1, "sample": 2}\n{"request": ')
        with pytest.raises(ReportError, match="line 2 is no score"):
            list(read(path))
