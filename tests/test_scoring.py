"""Scorers: what each takes from the shapes in which models answer, and what it says when there is nothing to take."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.dataset import Sample
from loadgen.errors import ConfigError
from loadgen.session import scoring
from loadgen.session.scoring import (
    ExactMatch,
    FunctionScorer,
    JsonSchema,
    MultipleChoice,
    NumericAnswer,
    RegexMatch,
    Rouge,
    Score,
    scorer_of,
)
from loadgen.session.scoring.choice import NO_OPTION, UNKNOWN_TARGET, option
from loadgen.session.scoring.function import as_score
from loadgen.session.scoring.score import MOST_TEXT, NO_TARGET

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k_test.jsonl"
ASKED = Sample(prompt="?")
BUILT_IN: list[Any] = [
    ExactMatch(ignore_case=True, ignore_punctuation=True, ignore_articles=True),
    NumericAnswer(tolerance=0.5, relative=0.01),
    MultipleChoice(),
    RegexMatch(r"(\d+)"),
    RegexMatch("x"),
    JsonSchema({"type": "object"}),
    Rouge("rouge2"),
    Rouge(),
]


def value_of(scorer: Any, answer: str, target: Any, choices: list[str] | None = None) -> float | None:
    score = scorer.score(answer, target, Sample(prompt="?", target=target, choices=choices))
    assert isinstance(score, Score)
    return score.value


class TestMultipleChoice:
    CHOICES = ("a duck", "a swan", "a goose", "a grey goose")

    @pytest.mark.parametrize(
        ("answer", "letter"),
        [
            ("B", "B"),
            ("b", "B"),
            ("(b)", "B"),
            ("**B.**", "B"),
            ("B) a swan", "B"),
            ("B. Because of its neck.", "B"),
            ("(b) a swan", "B"),
            ("A swan", "B"),
            ("a grey goose.", "D"),
            ("The answer is B.", "B"),
            ("The answer is (C), not (A).", "C"),
            ("Answer: B", "B"),
            ("**Answer:** (B)", "B"),
            ("The correct answer is option C because of the colour.", "C"),
            ("The answer is A because it quacks.", "A"),
            ("The answer is A duck", "A"),
            ("The answer is a swan, I think.", "B"),
            ("the answer is a grey goose", "D"),
            ("First I thought of (A). The answer is: \\boxed{D}", "D"),
            ("\\boxed{\\text{C}}", "C"),
            ("(A) is wrong; I take (C)", "C"),
            ("It must be a swan.", "B"),
            ("It must be a grey goose here.", "D"),
            ("It is a duck or a swan.", None),
            ("A pelican.", None),
            ("The answer is E.", None),
            ("I have no idea.", None),
            ("", None),
        ],
    )
    def test_the_option_taken_is_found(self, answer: str, letter: str | None) -> None:
        assert option(answer, list(self.CHOICES)) == letter
        score = MultipleChoice().score(answer, "B", Sample(prompt="?", choices=list(self.CHOICES)))
        assert score.value == (None if letter is None else float(letter == "B"))
        assert (score.note == NO_OPTION) == (letter is None)

    def test_without_known_choices_every_letter_counts(self) -> None:
        assert option("The answer is J.", []) == "J"
        assert value_of(MultipleChoice(), "J", "j") == 1

    def test_a_target_that_is_none_of_the_options_scores_nothing(self) -> None:
        scorer = MultipleChoice()
        assert scorer.score("B", "Z", Sample(prompt="?", choices=["x", "y"])).note == UNKNOWN_TARGET
        assert scorer.score("B", None, ASKED).note == NO_TARGET

    @given(st.text(), st.lists(st.text(), min_size=2, max_size=26))
    def test_any_text_takes_an_option_that_exists_or_none(self, answer: str, choices: list[str]) -> None:
        taken = option(answer, choices)
        assert taken is None or ord(taken) - ord("A") < len(choices)


class TestExactMatch:
    @pytest.mark.parametrize(
        ("options", "answer", "target", "value"),
        [
            ({}, "Paris", "Paris", 1),
            ({}, "  Paris \n", "Paris", 1),
            ({}, "New\n York", "New  York", 1),
            ({}, "caf\u0065\u0301", "café", 1),
            ({}, "paris", "Paris", 0),
            ({}, "Paris.", "Paris", 0),
            ({}, "", "Paris", 0),
            ({}, "4", 4, 1),
            ({}, "b", ["a", "b"], 1),
            ({"ignore_case": True}, "STRASSE", "Straße", 1),
            ({"ignore_punctuation": True}, "“Paris.”", "Paris", 1),
            ({"ignore_punctuation": True}, "-3.5", "3.5", 0),
            ({"ignore_punctuation": True}, "3.5", "35", 0),
            ({"ignore_punctuation": True}, "(-3.5).", "-3.5", 1),
            ({"ignore_punctuation": True}, "-- Paris --", "Paris", 1),
            ({"ignore_articles": True}, "The Hague", "Hague", 1),
        ],
    )
    def test_compares_what_is_not_ignored(self, options: Any, answer: str, target: Any, value: int) -> None:
        assert value_of(ExactMatch(**options), answer, target) == value

    @pytest.mark.parametrize("target", [None, []])
    def test_needs_a_target(self, target: Any) -> None:
        assert ExactMatch().score("x", target, ASKED) == Score(None, note=NO_TARGET)


class TestRegexMatch:
    @pytest.mark.parametrize(
        ("scorer", "answer", "value"),
        [
            (RegexMatch(r"result: (\w+)"), "result: no. result: yes", 1),
            (RegexMatch(r"result: (\w+)"), "result: no", 0),
            (RegexMatch(r"result: (\w+)"), "yes", None),
            (RegexMatch(r"(a)|b"), "b", None),
            (RegexMatch(r"(\w+) (\w+)", group=2), "no yes", 1),
            (RegexMatch(r"(?P<r>\w+)!", group="r"), "yes!", 1),
            (RegexMatch(r"\w+", group=0), "no yes", 1),
            (RegexMatch(r"(\w+)", ignore_case=True), "YES", 1),
            (RegexMatch(r"^sorry"), "sorry, no", 1),
            (RegexMatch(r"^sorry"), "no", 0),
        ],
    )
    def test_takes_the_last_match(self, scorer: RegexMatch, answer: str, value: int | None) -> None:
        assert value_of(scorer, answer, "yes") == value

    def test_without_a_group_no_target_is_needed(self) -> None:
        assert (RegexMatch("x").needs, RegexMatch("(x)").needs, RegexMatch("x", group=0).needs) == (
            "nothing",
            "target",
            "target",
        )
        assert value_of(RegexMatch("x"), "an x", None) == 1
        assert RegexMatch("(x)").score("x", None, ASKED).note == NO_TARGET

    def test_searches_the_answers_end_only(self) -> None:
        assert value_of(RegexMatch("x"), "x" + " " * MOST_TEXT, None) == 0
        assert value_of(RegexMatch("x"), "x" + " " * (MOST_TEXT - 1), None) == 1


SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"$ref": "#/$defs/count"}},
    "required": ["n"],
    "$defs": {"count": {"type": "integer"}},
}


class TestJsonSchema:
    @pytest.mark.parametrize(
        ("answer", "value"),
        [
            ('{"n": 1}', 1),
            (' \n{"n": 1}\n', 1),
            ('Here it is:\n```json\n{"n": 1}\n```\nDone.', 1),
            ('```\n{"n": 1}\n```', 1),
            ('```json\n{"n": "x"}\n```\nno, rather\n```json\n{"n": 2}\n```', 1),
            ('{"n": "1"}', 0),
            ("{}", 0),
            ("[]", 0),
            ('{"n": 1', 0),
            ('{"n": NaN}', 0),
            ("none", 0),
            ("", 0),
            ("[" * 100_000, 0),
        ],
    )
    def test_an_answer_keeps_to_it_or_is_wrong(self, answer: str, value: int) -> None:
        score = JsonSchema(SCHEMA).score(answer, None, ASKED)
        assert score.value == value
        assert (score.note is None) == bool(value)

    def test_says_where_an_answer_breaks_it(self) -> None:
        assert JsonSchema(SCHEMA).score('{"n": "1"}', None, ASKED).note == "$.n: '1' is not of type 'integer'"

    def test_fetches_no_reference(self) -> None:
        scorer = JsonSchema({"$ref": "http://127.0.0.1:9/schema.json"})
        with pytest.raises(Exception, match="Unresolvable"):
            scorer.score("{}", None, ASKED)


# ROUGE-1, ROUGE-2 and ROUGE-L (F1) by the package rouge-score 0.1.2 without stemming, computed once.
ROUGE: list[tuple[str, str, tuple[float, float, float]]] = [
    (
        "the quick brown dog jumps on the log",
        "The quick brown fox jumps over the lazy dog",
        (0.705882352941, 0.266666666667, 0.588235294118),
    ),
    ("police kill the gunman", "police killed the gunman", (0.75, 0.333333333333, 0.75)),
    ("the gunman kill police", "police killed the gunman", (0.75, 0.333333333333, 0.5)),
    (
        "Ducks lay 16 eggs; she eats 3 of them, and sells nine.",
        "She sells nine of the 16 eggs that her ducks lay.",
        (0.695652173913, 0.285714285714, 0.260869565217),
    ),
    ("x", "y z", (0.0, 0.0, 0.0)),
    ("don't stop-me now!", "Don't stop me now", (1.0, 1.0, 1.0)),
    ("a a a b", "a b b a a", (0.888888888889, 0.571428571429, 0.666666666667)),
    ("naïve café", "naive cafe", (0.0, 0.0, 0.0)),
    ("one", "one", (1.0, 0.0, 1.0)),
]


class TestRouge:
    @pytest.mark.parametrize(("answer", "target", "expected"), ROUGE)
    def test_gives_what_the_reference_package_gives(self, answer: str, target: str, expected: Any) -> None:
        found = [value_of(Rouge(kind), answer, target) for kind in ("rouge1", "rouge2", "rougeL")]
        assert found == pytest.approx(expected, abs=1e-9)

    def test_a_list_gives_the_best(self) -> None:
        assert value_of(Rouge("rouge1"), "a b", ["c", "a b"]) == 1

    def test_a_text_in_another_script_is_not_scored(self) -> None:
        assert value_of(Rouge(), "鸭子", "鸭子") is None
        assert value_of(Rouge(), "鸭子", "a duck") == 0

    def test_needs_a_target(self) -> None:
        assert Rouge().score("x", None, ASKED).note == NO_TARGET

    @given(st.text(), st.text())
    def test_is_a_share_and_1_for_the_same(self, answer: str, target: str) -> None:
        for kind in ("rouge1", "rouge2", "rougeL"):
            value = value_of(Rouge(kind), answer, target)
            assert value is None or 0 <= value <= 1
        assert value_of(Rouge(), f"a {target}", f"a {target}") == 1


class TestFunctions:
    def test_any_callable_is_a_scorer(self) -> None:
        class Own:
            def score(self, answer: str, target: Any, sample: Sample) -> Score:
                return Score(0.5, extracted=answer)

        def own(answer: str, target: Any, sample: Sample) -> bool:
            return bool(answer == target)

        assert scorer_of(own).score("x", "x", ASKED) == Score(1.0)
        assert scorer_of(Own()).score("x", "x", ASKED) == Score(0.5, extracted="x")
        assert scorer_of(lambda *given: len(given)).score("x", "x", ASKED) == Score(3.0)
        assert scorer_of(lambda *_: None).score("x", "x", ASKED) == Score(None)
        assert scorer_of(own).words.endswith("own")

    def test_one_that_cannot_be_called_like_that_is_said_before_the_run(self) -> None:
        async def later(answer: str, target: Any, sample: Sample) -> float:
            return 1.0

        with pytest.raises(ConfigError, match="coroutine"):
            scorer_of(later)
        with pytest.raises(ConfigError, match="can't be called: too many positional"):
            scorer_of(lambda answer, target: 1.0)

    @pytest.mark.parametrize(
        ("given", "error"), [("1", TypeError), (float("nan"), ValueError), (Score(float("inf")), ValueError)]
    )
    def test_what_is_no_score_is_an_error(self, given: Any, error: type[Exception]) -> None:
        with pytest.raises(error, match="mine gave"):
            as_score(given, "mine")


class TestNames:
    @pytest.mark.parametrize(
        ("asked", "scorer"),
        [
            ("exact", ExactMatch()),
            ("numeric", NumericAnswer()),
            ("choice", MultipleChoice()),
            ("rouge", Rouge()),
            ({"exact": None}, ExactMatch()),
            ({"exact": {"ignore_case": True}}, ExactMatch(ignore_case=True)),
            ({"numeric": {"tolerance": 1}}, NumericAnswer(tolerance=1.0)),
            ({"regex": "(x)"}, RegexMatch("(x)")),
            ({"regex": {"pattern": "x", "group": 0}}, RegexMatch("x", group=0)),
            ({"rouge": "rouge2"}, Rouge("rouge2")),
            ({"json_schema": {"type": "object"}}, JsonSchema({"type": "object"})),
        ],
    )
    def test_make_scorers_that_are_stored_and_made_again(self, asked: Any, scorer: Any) -> None:
        made = scorer_of(asked)
        assert made == scorer
        kept = json.loads(json.dumps(scoring.described(made, "d.jsonl")["scorer"]))
        assert scorer_of(kept) == scorer
        assert made.words

    @pytest.mark.parametrize(
        ("asked", "words"),
        [
            ("bleu", "there is no scorer 'bleu'"),
            ({"numeric": {}, "exact": {}}, "one name with its options, not 2"),
            ({"numeric": {"tolerence": 1}}, "the scorer numeric: object contains unknown field `tolerence`"),
            ({"numeric": {"tolerance": -1}}, "tolerance must be a number of at least 0, not -1"),
            ("regex", "missing required field `pattern`"),
            ({"regex": "("}, "is not a regular expression"),
            ({"regex": {"pattern": "(x)", "group": 2}}, r"has no group 2 \(it has: 1\)"),
            ({"rouge": "rougeX"}, "rougeX"),
            ("json_schema", "needs a schema"),
            ({"json_schema": "nowhere.json"}, "nowhere.json can't be read"),
            ({"json_schema": {"type": "objekt"}}, "not a JSON schema"),
            ({"python": "nowhere"}, "names no callable"),
            ({"python": "no.such.module:f"}, "can't be imported"),
            ({"python": "json:nothing"}, "can't be imported"),
            (5, "not int"),
            (None, "not NoneType"),
        ],
    )
    def test_that_mean_nothing_are_said(self, asked: Any, words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            scorer_of(asked)

    @pytest.mark.parametrize("asked", [{"numeric": {"tolerence": 1}}, {"numeric": 0.01}])
    def test_that_have_no_such_option_are_told_which_they_have(self, asked: Any) -> None:
        with pytest.raises(ConfigError) as caught:
            scorer_of(asked)
        assert caught.value.way_out == "it has: tolerance, relative"

    def test_a_schema_is_read_from_its_file(self, tmp_path: Path) -> None:
        file = tmp_path / "s.json"
        file.write_text('{"type": "object"}')
        assert scorer_of({"json_schema": str(file)}) == JsonSchema({"type": "object"})
        file.write_text("[]")
        with pytest.raises(ConfigError, match="not a JSON object"):
            scorer_of({"json_schema": str(file)})

    def test_a_function_is_found_in_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "own_scorer_of_a_test.py").write_text("def right(answer, target, sample):\n    return True\n")
        scorer = scorer_of({"python": "own_scorer_of_a_test:right"})
        assert isinstance(scorer, FunctionScorer)
        assert scorer.score("", None, ASKED) == Score(1.0)
        assert scoring.described(scorer, None)["scorer"] == {"python": "own_scorer_of_a_test:right"}
        assert str(tmp_path) not in sys.path

    @pytest.mark.parametrize(
        ("asked", "module"), [("rouge", "rapidfuzz.distance"), ({"json_schema": {"type": "object"}}, "jsonschema")]
    )
    def test_a_missing_package_is_said_with_the_way_out(
        self, asked: Any, module: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(ConfigError, match=r"loadgen\[accuracy\]"):
            scorer_of(asked)


@pytest.mark.parametrize("scorer", BUILT_IN, ids=lambda scorer: scorer.words)
@given(
    answer=st.text(), target=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text())
)
def test_no_built_in_scorer_raises_whatever_it_is_given(scorer: Any, answer: str, target: Any) -> None:
    assert isinstance(scorer.score(answer, target, Sample(prompt="?", choices=["x", "y"])), Score)


@pytest.mark.parametrize("scorer", BUILT_IN, ids=lambda scorer: scorer.words)
@pytest.mark.parametrize(
    "piece",
    [
        *(
            "9",
            "1,",
            "1,234",
            "1/",
            "-$",
            "e1",
            "####",
            "#### ",
            "\\boxed{",
            "\\frac{",
            "answer is ",
            "answer: ",
            "(A) ",
        ),
        *("```\n", "{", "a ", " "),
    ],
)
def test_a_long_answer_of_one_piece_ends(scorer: Any, piece: str) -> None:
    """A pattern that takes more than linear time would never come to an end here."""
    answer = piece * (200_000 // len(piece))
    assert isinstance(scorer.score(answer, "18", Sample(prompt="?", choices=["x", "y"])), Score)
