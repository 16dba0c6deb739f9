"""Answers that are numbers: which one is meant, in which of the ways of writing one, and how near it must be."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.dataset import Sample, Targets, load
from loadgen.session.scoring import (
    NumericAnswer,
    Score,
)
from loadgen.session.scoring.number import last, numbers, written
from loadgen.session.scoring.numeric import NO_NUMBER, NO_TARGET_NUMBER, result, target_number
from loadgen.session.scoring.score import NO_TARGET

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k_test.jsonl"
ASKED = Sample(prompt="?")


def value_of(scorer: NumericAnswer, answer: str, target: Any) -> float | None:
    score = scorer.score(answer, target, Sample(prompt="?", target=target))
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
