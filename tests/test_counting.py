"""Tokens that no server counts: the user's tokenizer does, after the run, and the report says so."""

from __future__ import annotations

import json
import re
import stat
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import loadgen
from loadgen import _core
from loadgen.errors import DatasetError, RunError
from loadgen.report import again
from loadgen.session import counting

pytest_plugins = ["surface_fixtures"]
tokenizers = pytest.importorskip("tokenizers")

SILENT = "mock:?usage=none&tokens_per_chunk=3&reasoning=0.4"
LOAD: dict[str, Any] = {"requests": 12, "concurrency": 3, "output_tokens": 10}


@pytest.fixture
def words(here: Path) -> str:
    """A tokenizer that counts words, and that cuts and fills up texts unless it is told not to."""
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.enable_truncation(4)
    made.enable_padding(length=50)
    made.save("tokenizer.json")
    return "tokenizer.json"


def words_of(directory: Path) -> dict[int, int]:
    """Count the words of saved answers by request."""
    found: dict[int, int] = {}
    for request, kind, text in _core.read_texts(directory, "answers"):
        assert kind in ("answer", "reasoning")
        found[request] = found.get(request, 0) + len(text.split())
    return found


def counts_of(directory: Path) -> list[tuple[int, int]]:
    return list(struct.iter_unpack("<QI", (directory / "tokens.bin").read_bytes()))


def test_answers_without_usage_are_counted_with_their_reasoning(words: str) -> None:
    result = loadgen.run(SILENT, tokenizer=words, save_responses=True, **LOAD)
    counted = words_of(result.dir)
    assert counts_of(result.dir) == sorted(counted.items())
    phase = result.performance
    assert (phase.tokens["source"], phase.tokens["output"]) == ("tokenizer", sum(counted.values()))
    assert phase.tokens["rows_without_usage"] == 0
    # Chunks alone would say less: the mock puts three tokens into each.
    assert phase.tokens["output"] > phase.tokens["chunks"]
    assert phase.tpot.count == phase.ntpot.count == 12
    rate = phase.throughput.output_tokens_per_s
    assert rate is not None
    assert rate * phase.duration_s == pytest.approx(sum(counted.values()))


def test_what_was_kept_only_to_be_counted_is_removed(words: str) -> None:
    result = loadgen.run(SILENT, tokenizer=words, **LOAD)
    assert {file.name for file in result.dir.iterdir()} == {"run.log", "report.json", "tokens.bin", ".lock"}
    assert stat.S_IMODE((result.dir / "tokens.bin").stat().st_mode) == 0o600
    assert result.performance.tokens["source"] == "tokenizer"
    again_result, warning = again.load(str(result.dir))
    assert (again_result.report["phases"], warning) == (result.report["phases"], "")


def test_a_server_that_counts_needs_no_tokenizer(words: str) -> None:
    result = loadgen.run("mock:", tokenizer=words, **LOAD)
    assert {file.name for file in result.dir.iterdir()} == {"run.log", "report.json", ".lock"}
    assert result.performance.tokens["source"] == "usage"
    saved = loadgen.run("mock:", tokenizer=words, save_responses=True, **LOAD)
    assert counts_of(saved.dir) == []
    assert saved.performance.tokens["source"] == "usage"


def test_answers_that_are_no_stream_are_counted_too(words: str) -> None:
    phase = loadgen.run(SILENT, tokenizer=words, stream=False, **LOAD).performance
    assert (phase.tokens["source"], phase.tokens["output_mean"]) == ("tokenizer", 10.0)
    assert phase.ntpot.count == 12


def test_an_answer_that_holds_more_than_text_gets_no_count(words: str) -> None:
    result = loadgen.run("mock:?usage=none&tool_calls=1", tokenizer=words, save_responses=True, **LOAD)
    assert counts_of(result.dir) == []
    assert result.performance.tokens["source"] == "chunks"


def test_a_dataset_and_a_tokenizer_go_together(words: str, here: Path) -> None:
    (here / "mine.jsonl").write_text('{"question": "why?"}\n')
    result = loadgen.run(SILENT, tokenizer=words, dataset="mine.jsonl", **LOAD)
    assert result.performance.tokens["source"] == "tokenizer"


def test_a_tokenizer_that_is_none_is_said_before_anything_is_sent(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "mine.jsonl").write_text('{"question": "why?"}\n')
    (here / "t.json").write_text("{}")
    with pytest.raises(DatasetError, match="not a tokenizer"):
        loadgen.run("mock:", tokenizer="t.json", dataset="mine.jsonl", **LOAD)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(DatasetError, match=r"loadgen\[tokenizers\]"):
        loadgen.run("mock:", tokenizer="t.json", dataset="mine.jsonl", **LOAD)
    assert not (here / "loadgen-runs").exists()


def test_a_count_that_fails_leaves_report_and_answers_and_is_made_up_for(
    words: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:

        def broken(path: str) -> None:
            raise DatasetError("the tokenizer is gone")

        patch.setattr("loadgen.dataset.open_tokenizer", broken)
        with pytest.raises(RunError, match="could not be counted: the tokenizer is gone") as caught:
            loadgen.run(SILENT, tokenizer=words, **LOAD)
        directory = next((here / "loadgen-runs").iterdir())
        assert f"loadgen report loadgen-runs/{directory.name}" in caught.value.way_out
        first, warning = again.load(str(directory))
        assert "the tokenizer is gone" in warning
        assert first.performance.tokens["source"] == "chunks"
    assert (directory / "answers.log").exists()
    second, warning = again.load(str(directory))
    assert (second.performance.tokens["source"], warning) == ("tokenizer", "")
    assert not (directory / "answers.log").exists()
    assert json.loads((directory / "report.json").read_text()) == second.report


def test_a_run_that_died_before_it_could_count_is_counted_by_its_report(words: str, here: Path) -> None:
    script = (
        "import os, loadgen\n"
        "from loadgen.session import counting\n"
        "counting.count = lambda *_, **__: os._exit(9)\n"
        f"loadgen.run({SILENT!r}, tokenizer='tokenizer.json', **{LOAD!r})\n"
    )
    assert subprocess.run([sys.executable, "-c", script], cwd=here, timeout=60, check=False).returncode == 9
    directory = next((here / "loadgen-runs").iterdir())
    assert not (directory / "report.json").exists()
    result, _ = again.load(str(directory))
    assert result.performance.tokens["source"] == "tokenizer"
    assert {file.name for file in directory.iterdir()} == {"run.log", "report.json", "tokens.bin", ".lock"}


def test_failed_answers_and_those_with_usage_are_not_counted(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    kept = counting._tokens

    def noted(tokenizer: Any, texts: list[str]) -> list[int]:
        asked.extend(texts)
        return kept(tokenizer, texts)

    monkeypatch.setattr(counting, "_tokens", noted)
    # Every other answer ends in its middle.
    url = SILENT + "&fault=stop_midstream:every=2"
    result = loadgen.run(url, tokenizer=words, save_responses=True, max_error_rate=1, **LOAD)
    counts = result.performance.counts
    assert counts.failed > 0
    assert len(counts_of(result.dir)) == counts.ok
    texts = [text.decode() for _, _, text in _core.read_texts(result.dir, "answers")]
    assert len(asked) < len(texts)


def test_the_report_says_who_counted(words: str, here: Path) -> None:
    load = ["--requests", "5", "--concurrency", "1", "--output-tokens", "10"]
    done = subprocess.run(
        [sys.executable, "-m", "loadgen", "run", SILENT, "--tokenizer", words, *load],
        cwd=here,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert re.search(r"tokens\s+50 out \(counted by the tokenizer; 2\.50 a chunk\)", done.stdout), done.stdout
