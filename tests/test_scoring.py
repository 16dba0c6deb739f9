"""Scorers: what each takes from the shapes in which models answer, and what it says when there is nothing to take."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.dataset import Sample, Targets, load
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
from loadgen.session.scoring.number import last, numbers, written
from loadgen.session.scoring.numeric import NO_NUMBER, NO_TARGET_NUMBER, result, target_number
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


class TestNumbers:
    @pytest.mark.parametrize(
        ("text", "found"),
        [
            ("42", ["42"]),
            ("-42 and \N{MINUS SIGN}7 and \N{EN DASH}3", ["-42", "-7", "-3"]),
            ("$1,234,567.50", ["1234567.5"]),
            ("-$5, $-6, \\$7, € 8", ["-5", "-6", "7", "8"]),
            ("70\u202f000 and 70\u00a0000 and 70{,}000", ["70000", "70000", "70000"]),
            ("1,2 and 1,2345 and 12,34", ["1", "2", "1", "2345", "12", "34"]),
            ("16-3-4=9", ["16", "3", "4", "9"]),
            ("(5)-3", ["5", "3"]),
            ("pages 3\N{EN DASH}5", ["3", "5"]),
            ("42%", ["42"]),
            ("42.", ["42"]),
            (".5 and 0.50 and 3.14159", ["0.5", "0.5", "3.14159"]),
            ("Rs.42", ["42"]),
            ("1e3 and 2.5E-2", ["1000", "0.025"]),
            ("1e999999999", ["1"]),
            ("3/4 and 1 / 3 and \\frac{1}{2} and -\\dfrac{3}{4}", ["0.75", "1/3", "0.5", "-0.75"]),
            ("1/0 and \\frac{1}{0}", ["1", "0"]),
            ("on 1/2/2024", ["1", "2", "2024"]),
            ("CO2, GPT4 and H2O", []),
            ("2kg 5th", ["2", "5"]),
            ("答案是42。", ["42"]),
            ("9" * 61, []),
            ("9" * 60, ["9" * 60]),
            ("٤٢", []),
            ("- 3 apples", ["3"]),
            ("", []),
        ],
    )
    def test_are_read_as_people_write_them(self, text: str, found: list[str]) -> None:
        assert [str(number) for number in numbers(text)] == found

    def test_know_where_they_stand(self) -> None:
        text = "a -$1,000 b"
        (number,) = numbers(text)
        assert text[number.start : number.end] == "-$1,000"

    @given(st.text(alphabet=st.sampled_from("0123456789.,-+/eE$%#{}\\= \n\u2212\u2013\u202fabcé٤𝟜"), max_size=200))
    def test_of_any_text_are_found_in_order_and_written_back(self, text: str) -> None:
        place = 0
        for number in numbers(text):
            assert place <= number.end <= len(text)
            place = number.end
            assert Fraction(written(number.value)) == number.value

    @given(st.fractions(), st.text(alphabet="xyz (", max_size=5))
    def test_that_were_written_are_read_again(self, value: Fraction, before: str) -> None:
        if value.numerator < 10**17 and value.denominator < 10**17:
            number = last(f"{before} {written(value)}")
            assert number is not None
            assert number.value == value


class TestNumericAnswer:
    @pytest.mark.parametrize(
        ("answer", "found"),
        [
            ("18", "18"),
            ("She makes 9 * 2 = $18 every day.\n#### 18", "18"),
            ("#### 18\nLet me check: 16 - 3 - 4 = 9.", "18"),
            ("####18", "18"),
            ("#### $70,000", "70000"),
            ("#### **-5**", "-5"),
            ("#### \\(42\\)", "42"),
            ("#### 3\n#### 4", "4"),
            ("#### 12 apples", "12"),
            ("#### 1. First step\nThen 5 more.\n#### 2. Second step\nThe answer is 12.", "12"),
            ("#### Step 1\nThere are 3.\n#### Answer\n12", "12"),
            ("##### 7\nthe answer is 8", "8"),
            ("The answer is 42.", "42"),
            ("The answer is: **$42**.", "42"),
            ("So the final answer is \\(42\\). I used 3 steps.", "42"),
            ("**Answer:** 42 dollars, of which 12 are left", "42"),
            ("**Answer**: 42", "42"),
            ("Answer:\n\n42", "42"),
            ("The answer is 3 * 4 = 12 apples for 2 kids.", "12"),
            ("The answer is about x = 12.5. Then 3.", "12.5"),
            ("the answer is 7.\nThe answer is 8.", "8"),
            ("Answer: Janet sells 16 - 3 - 4 = 9 eggs.\nShe makes 18.", "18"),
            ("The answer is below.\nIt takes 3 bolts.", "3"),
            ("\\boxed{18}", "18"),
            ("Thus $\\boxed{x = \\frac{3}{4}}$. The answer is 9.", "0.75"),
            ("\\boxed{\\text{about } 1,000}", "1000"),
            ("\\boxed{none} so 4", "4"),
            ("16 - 3 - 4 = 9 eggs, 9 * 2 = 18", "18"),
            ("It is -7", "-7"),
            ("It is \N{MINUS SIGN}7", "-7"),
            ("答案是42", "42"),
            ("It costs 5%.", "5"),
            ("#### 1e3", "1000"),
            ("1 2 3" * 50_000 + " 4", "4"),
            ("I don't know", None),
            ("", None),
            ("####", None),
        ],
    )
    def test_the_result_is_found(self, answer: str, found: str | None) -> None:
        score = NumericAnswer().score(answer, "so it is 5\n#### 18", ASKED)
        assert score.extracted == found
        assert score.value == (None if found is None else float(found == "18"))
        assert score.target == "18"
        assert (score.note == NO_NUMBER) == (found is None)

    @pytest.mark.parametrize(
        ("target", "value"),
        [
            (18, 18),
            (-3.5, Fraction(-7, 2)),
            (0.1, Fraction(1, 10)),
            ("18", 18),
            ("$18.00", 18),
            ("<<9*2=18>>18\n#### 1,800", 1800),
            ("first 3, then 4", 4),
            ("none", None),
            (True, None),
            (float("nan"), None),
            (float("inf"), None),
            ({"a": 1}, 1),
        ],
    )
    def test_the_number_of_a_target(self, target: Any, value: Any) -> None:
        assert target_number(target) == value

    @pytest.mark.parametrize(
        ("scorer", "answer", "target", "value"),
        [
            (NumericAnswer(), "18.00", "18", 1),
            (NumericAnswer(), "18.01", "18", 0),
            (NumericAnswer(), "0.1", 0.1, 1),
            (NumericAnswer(), "9007199254740993", "9007199254740992", 0),
            (NumericAnswer(tolerance=0.01), "18.01", "18", 1),
            (NumericAnswer(tolerance=0.01), "18.02", "18", 0),
            (NumericAnswer(relative=0.01), "-99", "-100", 1),
            (NumericAnswer(relative=0.01), "-98.9", "-100", 0),
            (NumericAnswer(), "it is 4", [3, "4"], 1),
            (NumericAnswer(), "it is 5", [3, "4"], 0),
        ],
    )
    def test_is_right_within_its_tolerance(self, scorer: NumericAnswer, answer: str, target: Any, value: int) -> None:
        assert value_of(scorer, answer, target) == value

    def test_without_a_target_or_its_number_nothing_is_scored(self) -> None:
        assert NumericAnswer().score("18", None, ASKED) == Score(None, note=NO_TARGET)
        assert NumericAnswer().score("18", "none", ASKED) == Score(None, note=NO_TARGET_NUMBER)

    @given(st.text(), st.text())
    def test_any_text_has_a_result_or_none(self, answer: str, target: str) -> None:
        NumericAnswer().score(answer, target, ASKED)
        found, _ = result(answer)
        assert (found is None) == (last(answer) is None)

    @pytest.mark.skipif(not GSM8K.exists(), reason="shared/data is absent")
    def test_every_target_of_gsm8k_is_a_number_and_its_own_answer(self) -> None:
        data = load(GSM8K, targets=Targets())
        assert len(data) == 1319
        for sample in data:
            assert sample.target == sample.reference
            score = NumericAnswer().score(sample.target, sample.target, sample)
            assert (score.value, score.note) == (1.0, "after ####")


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
