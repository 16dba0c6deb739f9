"""What answers are compared with: where a record says it, and what it means where a record lists choices."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadgen.dataset import Targets, load
from loadgen.errors import DatasetError

pytest_plugins = ["surface_fixtures"]


class TestTargets:
    def write(self, here: Path, *records: Any) -> str:
        (here / "d.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return "d.jsonl"

    @pytest.mark.parametrize(
        ("record", "target"),
        [
            ({"question": "?", "answer": "1"}, "1"),
            ({"question": "?", "target": 1}, 1),
            ({"question": "?", "expected": ["a", "b"]}, ["a", "b"]),
            ({"question": "?", "label": 0}, 0),
            ({"question": "?", "reference": "r", "answer": "a"}, "a"),
            ({"messages": [{"role": "user", "content": "?"}, {"role": "assistant", "content": "so"}]}, "so"),
        ],
    )
    def test_are_found_by_their_names(self, here: Path, record: Any, target: Any) -> None:
        assert load(self.write(here, record), targets=Targets())[0].target == target

    def test_are_not_read_where_nothing_is_scored(self, here: Path) -> None:
        assert load(self.write(here, {"question": "?", "answer": "1"}))[0].target is None

    def test_may_be_named_by_a_path(self, here: Path) -> None:
        file = self.write(here, {"question": "?", "gold": {"short": "1"}})
        assert load(file, targets=Targets("gold.short"))[0].target == "1"

    def test_are_never_the_prompt_itself(self, here: Path) -> None:
        file = self.write(here, {"answer": "to what?", "target": "42"})
        assert load(file, prompt_field="answer", targets=Targets())[0].target == "42"

    def test_that_are_missing_are_said_with_the_fields_there_are(self, here: Path) -> None:
        file = self.write(here, {"question": "?", "gold": "1"})
        with pytest.raises(DatasetError, match=r"looks like a target in d.jsonl, line 1 \(fields: question, gold\)"):
            load(file, targets=Targets())
        assert load(file, targets=Targets(is_needed=False))[0].target is None
        with pytest.raises(DatasetError, match="made prompts have no right answer"):
            load(None, targets=Targets())

    def test_that_a_later_record_lacks_are_none(self, here: Path) -> None:
        data = load(self.write(here, {"question": "?", "answer": "1"}, {"question": "!"}), targets=Targets())
        assert [sample.target for sample in data] == ["1", None]

    @pytest.mark.parametrize(
        ("record", "target"),
        [
            ({"choices": ["x", "y"], "answer": "B"}, "B"),
            ({"choices": ["x", "y"], "answer": "b"}, "B"),
            ({"choices": ["x", "y"], "answer": 1}, "B"),
            ({"choices": ["x", "y"], "answer": "0"}, "A"),
            ({"options": ["x", "y"], "answer": "Y"}, "B"),
            ({"choices": {"text": ["x", "y"], "label": ["1", "2"]}, "answerKey": "2"}, "B"),
            ({"choices": {"A": "x", "B": "y"}, "answer": "B"}, "B"),
            ({"A": "x", "B": "y", "answer": "B"}, "B"),
            ({"choices": ["x", "y"], "answer": "z"}, "z"),
            ({"choices": ["x", "y"], "answer": 7}, 7),
        ],
    )
    def test_of_choices_become_letters(self, here: Path, record: Any, target: Any) -> None:
        (sample,) = load(self.write(here, {"question": "?", **record}), targets=Targets(choices=True))
        assert (sample.target, sample.choices) == (target, ["x", "y"])

    def test_options_are_listed_below_a_prompt_that_does_not_list_them(self, here: Path) -> None:
        records: list[dict[str, Any]] = [
            {"question": "Which one?", "choices": ["a duck", "a swan"], "answer": 0},
            {"question": "Which one?\n(a) a duck \n(b) a swan", "choices": ["a duck", "a swan"], "answer": 0},
            {"question": "How?", "answer": "so"},
            {"question": "Is 12 more than 1 or 2?", "choices": ["1", "2"], "answer": 0},
        ]
        data = load(self.write(here, *records), targets=Targets(choices=True))
        assert data[0].prompt == "Which one?\n\nA. a duck\nB. a swan\n\nAnswer with the letter of the right option."
        assert data[1].prompt == records[1]["question"]
        assert (data[2].prompt, data[2].choices) == ("How?", None)
        assert (data[3].prompt or "").endswith("\n\nA. 1\nB. 2\n\nAnswer with the letter of the right option.")
        assert data.note == "the options were listed below 2 questions"

    def test_a_file_that_is_not_multiple_choice_is_refused_before_it_is_sent(self, here: Path) -> None:
        file = self.write(here, {"question": "How many?", "answer": "9 * 2 = 18\n#### 18"})
        with pytest.raises(DatasetError, match=r"line 1: the target .* is no letter, and the record has no choices"):
            load(file, targets=Targets(choices=True))
        file = self.write(here, {"question": "Which?\nA) x\nB) y", "answer": "b"}, {"question": "?", "answer": "so"})
        assert [sample.target for sample in load(file, targets=Targets(choices=True))] == ["b", "so"]

    @pytest.mark.parametrize("choices", [["x"], 5, list(range(27)), {"text": ["x", "y"], "label": ["1"]}])
    def test_choices_that_are_none_are_an_error(self, here: Path, choices: Any) -> None:
        file = self.write(here, {"question": "?", "choices": choices, "answer": "A"})
        with pytest.raises(DatasetError, match="its choices are not 2 to 26 texts"):
            load(file, targets=Targets(choices=True))
