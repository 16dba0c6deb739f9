"""Datasets: what each form of file becomes, and the sentence that each unusable one gets."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from loadgen.dataset import Dataset, Sample, field, lines, load
from loadgen.dataset.words import WORDS
from loadgen.errors import DatasetError

GSM8K = Path(__file__).parents[2] / "shared" / "data" / "gsm8k_test.jsonl"
LONE_SURROGATE = b'{"prompt": "\\ud800"}'


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def jsonl(path: Path, *records: Any) -> Path:
    return write(path, "".join(json.dumps(record) + "\n" for record in records))


def the_error(path: Path | None, **options: Any) -> str:
    with pytest.raises(DatasetError) as caught:
        load(path, **options)
    return str(caught.value)


class TestJsonLines:
    @pytest.mark.parametrize("name", [name for name in field.AUTOMATIC if name not in ("messages", "conversations")])
    def test_the_prompt_field_is_found(self, tmp_path: Path, name: str) -> None:
        data = load(jsonl(tmp_path / "a.jsonl", {"id": 7, name: "Why?"}, {"id": 8, name: "How?"}))
        assert [sample.prompt for sample in data] == ["Why?", "How?"]

    def test_the_field_named_wins_over_the_one_found(self, tmp_path: Path) -> None:
        path = jsonl(tmp_path / "a.jsonl", {"prompt": "found", "other": "named"})
        assert load(path, prompt_field="other")[0].prompt == "named"

    @pytest.mark.parametrize(
        ("named", "prompt"), [("a.b", "nested"), ("turns.1", "second"), ("dotted.name", "literal")]
    )
    def test_a_path_reaches_into_nested_fields(self, tmp_path: Path, named: str, prompt: str) -> None:
        record = {"a": {"b": "nested"}, "turns": ["first", "second"], "dotted.name": "literal"}
        assert load(jsonl(tmp_path / "a.jsonl", record), prompt_field=named)[0].prompt == prompt

    def test_the_answer_is_the_reference(self, tmp_path: Path) -> None:
        assert load(jsonl(tmp_path / "a.jsonl", {"question": "1+1?", "answer": "2"}))[0] == Sample(
            prompt="1+1?", reference="2"
        )

    def test_a_file_with_a_bom_crlf_blank_lines_and_no_last_newline(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"prompt":"a"}\r\n\r\n  \n{"prompt":"b"}')
        data = load(path)
        assert [sample.prompt for sample in data] == ["a", "b"]
        assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_lines_that_are_strings_are_prompts(self, tmp_path: Path) -> None:
        assert load(jsonl(tmp_path / "a.jsonl", "x", "y"))[1].prompt == "y"

    def test_a_limit_reads_that_many_and_still_names_the_whole_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", b'{"prompt":"a"}\n{"prompt":"b"}\n' + b"never parsed\n" * 100_000)
        data = load(path, samples=2)
        assert len(data) == 2
        assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_control_characters_and_astral_ones_survive(self, tmp_path: Path) -> None:
        prompt = "nul \x00 bell \x07 emoji 😀 bidi \u202e"
        assert load(jsonl(tmp_path / "a.jsonl", {"prompt": prompt}))[0].prompt == prompt

    @pytest.mark.parametrize("key", ["output_tokens", "max_tokens", "max_completion_tokens"])
    def test_a_record_may_say_how_many_tokens_to_ask_for(self, tmp_path: Path, key: str) -> None:
        path = jsonl(
            tmp_path / "a.jsonl", {"prompt": "a", key: 12}, {"prompt": "b", key: "13"}, {"prompt": "c", key: None}
        )
        assert [sample.output_tokens for sample in load(path)] == [12, 13, None]
        assert [sample.output_tokens for sample in load(path, output_tokens=5)] == [5, 5, 5]

    @pytest.mark.parametrize("value", [0, -1, 1.5, True, "many", [3]])
    def test_a_length_that_is_none_is_an_error(self, tmp_path: Path, value: Any) -> None:
        message = the_error(jsonl(tmp_path / "a.jsonl", {"prompt": "a", "max_tokens": value}))
        assert 'a.jsonl, line 1: field "max_tokens" is' in message

    @pytest.mark.parametrize(
        ("line", "what"),
        [
            (b'{"prompt": "b"', "is not valid JSON"),
            (b"{'prompt': 'b'}", "is not valid JSON"),
            (b'{"prompt": "b"} {}', "is not valid JSON"),
            (b'{"prompt": NaN}', "is not valid JSON"),
            (LONE_SURROGATE, "is not valid JSON"),
            (b'{"prompt": "\xff"}', "is not UTF-8 text"),
            (b'{"prompt": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "is nested too deep"),
            (b"[1]", "is a list, not an object"),
            (b"12", "is a number, not an object"),
            (b"null", "is null, not an object"),
            (b'{"prompt": 5}', 'field "prompt" is a number, not text'),
            (b'{"prompt": null}', 'field "prompt" is null, not text'),
            (b'{"prompt": {"a": 1}}', 'field "prompt" is an object, not text'),
            (b'{"prompt": true}', 'field "prompt" is true or false, not text'),
            (b'{"prompt": " \\n"}', 'field "prompt" is blank'),
            (b'{"other": "b"}', 'no field "prompt"'),
            (b'{"prompt": ["a"]}', "holds text where a message"),
        ],
        ids=lambda value: value[:20] if isinstance(value, bytes) else None,
    )
    def test_one_bad_line_in_many_is_named(self, tmp_path: Path, line: bytes, what: str) -> None:
        path = write(tmp_path / "a.jsonl", b'{"prompt":"a"}\n' * 1000 + line + b'\n{"prompt":"c"}\n')
        message = the_error(path)
        assert "a.jsonl, line 1001" in message
        assert what in message

    def test_a_missing_field_lists_those_there_and_names_one_to_send(self, tmp_path: Path) -> None:
        path = jsonl(tmp_path / "a.jsonl", {"id": 1, "question": "Why?", "answer": "So."})
        assert the_error(path, prompt_field="prompt") == (
            f'no field "prompt" in {path}, line 1 (fields: id, question, answer)\n'
            "name the one to send: prompt_field='question'"
        )

    def test_a_file_without_a_usual_field_says_so(self, tmp_path: Path) -> None:
        path = jsonl(tmp_path / "trace.jsonl", {"timestamp": 0, "input_length": 6758})
        assert the_error(path) == (
            f"no field that looks like a prompt in {path}, line 1 (fields: timestamp, input_length)\n"
            "none of them reads like one"
        )

    def test_a_usual_field_is_named_before_another_text_however_few_letters_it_has(self, tmp_path: Path) -> None:
        path = jsonl(tmp_path / "a.jsonl", {"title": "A sum", "question": "What is 1 + 1?", "answer": "2"})
        assert the_error(path, prompt_field="txt").endswith("name the one to send: prompt_field='question'")

    def test_a_time_or_a_list_of_numbers_is_not_named_as_the_prompt(self, tmp_path: Path) -> None:
        path = jsonl(tmp_path / "trace.jsonl", {"when": "2023-11-16 18:15:46", "ids": [1, 2], "words": "say a b"})
        assert the_error(path).endswith("name the one to send: prompt_field='words'")

    def test_an_overlong_line_is_refused_before_it_is_held(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(lines, "MAX_LINE", 2 * 1024 * 1024)
        path = write(tmp_path / "a.jsonl", b'{"prompt":"a"}\n' + b"x" * (2 * 1024 * 1024 + 1))
        assert the_error(path) == f"{path}, line 2 is longer than 2 MiB"


class TestConversations:
    CHAT = (
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Why?"},
        {"role": "assistant", "content": "So."},
    )
    SHAREGPT = (
        {"from": "human", "value": "Hi"},
        {"from": "gpt", "value": "Hello"},
        {"from": "human", "value": "Why?"},
        {"from": "gpt", "value": "So."},
    )

    def test_messages_are_sent_up_to_the_last_question(self, tmp_path: Path) -> None:
        sample = load(jsonl(tmp_path / "a.jsonl", {"messages": self.CHAT}))[0]
        assert sample == Sample(messages=list(self.CHAT[:4]), reference="So.")

    def test_messages_keep_what_else_they_hold(self, tmp_path: Path) -> None:
        parts = [{"type": "image_url", "image_url": {"url": "data:,"}}, {"type": "text", "text": "What is it?"}]
        chat = [
            {"role": "user", "content": parts, "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "tool_call_id": "1", "content": "3"},
        ]
        assert load(jsonl(tmp_path / "a.jsonl", {"messages": chat}))[0].messages == chat

    def test_a_sharegpt_list_gives_its_first_human_turns(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.json", json.dumps([{"id": "x", "conversations": self.SHAREGPT}] * 2, indent=2))
        data = load(path)
        assert list(data) == [Sample(prompt="Hi", reference="Hello")] * 2
        assert data.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()

    def test_sharegpt_by_name_gives_whole_conversations(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.json", json.dumps([{"conversations": self.SHAREGPT}]))
        sample = load(path, prompt_field="conversations")[0]
        assert sample.prompt is None
        assert sample.messages == [
            {"role": "user", "content": "Hi"},
            {"role": "assistant", "content": "Hello"},
            {"role": "user", "content": "Why?"},
        ]
        assert sample.reference == "So."

    def test_conversations_in_which_nobody_asks_are_left_out_and_counted(self, tmp_path: Path) -> None:
        silent = [[], [{"from": "gpt", "value": "Hello"}], [{"from": "human", "value": " "}]]
        asked = [{"from": "gpt", "value": "Hello"}, {"from": "human", "value": "Hi"}]
        records = [{"conversations": turns} for turns in (*silent, asked)]
        data = load(write(tmp_path / "a.json", json.dumps(records)))
        assert [sample.prompt for sample in data] == ["Hi"]
        assert data.note == "3 conversations without a human turn were left out"

    def test_a_dataset_of_silent_conversations_holds_no_prompt(self, tmp_path: Path) -> None:
        assert "holds no prompt" in the_error(write(tmp_path / "a.json", '[{"conversations": []}]'))

    @pytest.mark.parametrize(
        ("turn", "what"),
        [
            ({"role": "assistant", "content": "a"}, "has no user message with text"),
            ({"role": "user", "content": ""}, "has no user message with text"),
            ({"role": "user", "content": [{"type": "image_url"}]}, "has no user message with text"),
            ({"role": "user", "content": 5}, "content is a number"),
            ({"from": "martian", "value": "a"}, 'without "role"'),
            ({"content": "a"}, 'without "role"'),
            ("a", "holds text where a message"),
        ],
    )
    def test_messages_that_are_none_are_named(self, tmp_path: Path, turn: Any, what: str) -> None:
        message = the_error(jsonl(tmp_path / "a.jsonl", {"messages": [turn]}))
        assert 'line 1: field "messages"' in message
        assert what in message

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            ('[{"prompt": "a"}, {"prompt": ]', "is not a JSON list"),
            ('[{"prompt": "a"}', "is not a JSON list"),
            ('[{"prompt": "a"}, 5]', "entry 2: is a number"),
            (b'[{"prompt": "a"}, {"prompt": "\xff"}]', "entry 2 is not UTF-8"),
            ("[]", "holds no prompt"),
            ('{"prompt":\n"a"}', "line 1 is not valid JSON"),
        ],
    )
    def test_a_broken_json_file_is_named(self, tmp_path: Path, content: str | bytes, what: str) -> None:
        assert what in the_error(write(tmp_path / "a.json", content))

    def test_a_json_file_with_an_object_a_line_is_read_as_that(self, tmp_path: Path) -> None:
        assert len(load(jsonl(tmp_path / "a.json", {"prompt": "a"}, {"prompt": "b"}))) == 2


class TestTables:
    def test_quoted_columns_with_commas_quotes_and_line_ends(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", 'id,question,answer\r\n1,"a, ""b""\nc",x\r\n\r\n2,d,y\r\n')
        assert list(load(path)) == [Sample(prompt='a, "b"\nc', reference="x"), Sample(prompt="d", reference="y")]

    @pytest.mark.parametrize(("name", "between"), [("a.csv", ";"), ("a.tsv", "\t")])
    def test_other_delimiters(self, tmp_path: Path, name: str, between: str) -> None:
        path = write(tmp_path / name, f"id{between}text\n1{between}a, b\n")
        assert load(path)[0].prompt == "a, b"

    def test_a_column_is_named(self, tmp_path: Path) -> None:
        assert load(write(tmp_path / "a.csv", "a.b,prompt\nx,y\n"), prompt_field="a.b")[0].prompt == "x"

    def test_a_field_longer_than_the_modules_own_limit(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.csv", "prompt\n" + "x" * 300_000 + "\n")
        prompt = load(path)[0].prompt
        assert prompt is not None
        assert len(prompt) == 300_000

    @pytest.mark.parametrize(
        ("content", "what"),
        [
            ("prompt,b\nx\n", "line 2 has 1 columns, but the header names 2"),
            ("prompt\nok\n\nx,y\n", "line 4 has 2 columns, but the header names 1"),
            ('prompt\n"never closed\nx\n', "line 2 is not valid CSV"),
            ("prompt,prompt\nx,y\n", 'names the column "prompt" twice'),
            ("id,prompt\n1,\n", 'line 2: field "prompt" is blank'),
            (b"prompt\nok\n\xe9t\xe9\n", "line 3 is not UTF-8 text (byte 0 of the line)"),
            ("id,n\n1,2\n", "(fields: id, n)"),
            ("prompt\n", "holds no prompt"),
        ],
    )
    def test_a_broken_table_is_named(self, tmp_path: Path, content: str | bytes, what: str) -> None:
        assert what in the_error(write(tmp_path / "a.csv", content))


class TestText:
    @pytest.mark.parametrize("name", ["a.txt", "prompts"])
    def test_a_line_is_a_prompt(self, tmp_path: Path, name: str) -> None:
        data = load(write(tmp_path / name, "first\r\n\n  second \nthird"))
        assert [sample.prompt for sample in data] == ["first", "  second ", "third"]

    def test_a_file_without_a_suffix_is_told_by_its_first_character(self, tmp_path: Path) -> None:
        assert load(write(tmp_path / "a", '\n {"prompt": "x"}\n'))[0].prompt == "x"
        assert load(write(tmp_path / "b", '\n [{"prompt": "y"}]'))[0].prompt == "y"

    def test_text_has_no_fields(self, tmp_path: Path) -> None:
        assert "without fields" in the_error(write(tmp_path / "a.txt", "x"), prompt_field="question")

    def test_a_binary_file_is_not_text(self, tmp_path: Path) -> None:
        assert "line 1 is not UTF-8 text" in the_error(write(tmp_path / "a.bin", bytes(range(128, 256))))

    def test_only_blank_lines(self, tmp_path: Path) -> None:
        assert "holds no prompt" in the_error(write(tmp_path / "a.txt", "\n \n"))


class TestFiles:
    def test_gsm8k_needs_nothing_but_its_path(self) -> None:
        if not GSM8K.exists():
            pytest.skip(f"{GSM8K} is not there")
        data = load(GSM8K)
        assert (data.name, len(data), data.note) == ("gsm8k_test.jsonl", 1319, None)
        assert data[0].prompt is not None
        assert data[0].prompt.startswith("Janet\u2019s ducks")
        assert data[0].reference is not None
        assert data[0].reference.endswith("#### 18")

    def test_a_missing_file(self, tmp_path: Path) -> None:
        assert the_error(tmp_path / "a.jsonl").startswith(f"the dataset {tmp_path / 'a.jsonl'} does not exist")

    def test_a_directory(self, tmp_path: Path) -> None:
        assert "is a directory" in the_error(tmp_path)

    def test_an_empty_file(self, tmp_path: Path) -> None:
        assert "is empty" in the_error(write(tmp_path / "a.jsonl", ""))

    def test_a_pipe_is_refused_rather_than_waited_for(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert "is not a regular file" in the_error(tmp_path / "pipe")

    @pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
    def test_an_unreadable_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", "x")
        path.chmod(0)
        assert "can't be read: Permission denied" in the_error(path)

    def test_a_path_through_a_file(self, tmp_path: Path) -> None:
        path = write(tmp_path / "a.jsonl", "x")
        assert "can't be read: Not a directory" in the_error(path / "b.jsonl")

    @pytest.mark.parametrize("name", ["a.parquet", "a.jsonl.gz", "a.jsonl.zst"])
    def test_forms_that_are_not_read_are_said_to_be_so(self, tmp_path: Path, name: str) -> None:
        assert "convert it to JSONL" in the_error(write(tmp_path / name, "x"))

    def test_a_dataset_is_a_sequence(self, tmp_path: Path) -> None:
        data = load(write(tmp_path / "a.txt", "a\nb\nc"))
        assert (data[-1].prompt, len(data[:2]), len(list(data))) == ("c", 2, 3)


class TestSynthetic:
    def test_the_same_seed_gives_the_same_prompts_whatever_their_number(self) -> None:
        few, many, other = load(None, samples=10), load(None, samples=50), load(None, samples=10, seed=1)
        assert list(few) == many[:10]
        assert not {s.prompt for s in few} & {s.prompt for s in other}
        assert few.sha256 == load(None, samples=10).sha256 != other.sha256

    def test_the_prompts_of_a_seed_never_change(self) -> None:
        first = load(None, input_tokens=5, samples=1)[0].prompt
        assert first == "string shine king equal milk"

    def test_words_are_counted_and_that_is_said(self) -> None:
        data = load(None, input_tokens=17, output_tokens=9)
        assert {len((sample.prompt or "").split()) for sample in data} == {17}
        assert {sample.output_tokens for sample in data} == {9}
        assert len({sample.prompt for sample in data}) == len(data) == 1000
        assert data.name == "synthetic, 17 words"
        assert "in words" in (data.note or "")

    def test_long_prompts_are_fewer_unless_asked_for(self) -> None:
        assert len(load(None, input_tokens=40_000)) == 100
        assert len(load(None, input_tokens=40_000, samples=101)) == 101

    def test_more_distinct_prompts_than_there_are(self) -> None:
        assert "distinct prompts of 1 tokens could be made, not 5000" in the_error(None, input_tokens=1, samples=5000)
        found = load(None, input_tokens=1)
        assert len({sample.prompt for sample in found}) == len(found) < 1000

    def test_a_tokenizer_makes_lengths_exact(self, tmp_path: Path) -> None:
        tokenizers = pytest.importorskip("tokenizers")
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=600,
            initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
            special_tokens=["<s>"],
            show_progress=False,
        )
        tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
        tokenizer.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
        tokenizer.save(str(tmp_path / "tokenizer.json"))
        data = load(None, input_tokens=50, tokenizer=tmp_path, samples=200)
        counts = {len(tokenizer.encode(sample.prompt, add_special_tokens=False).ids) for sample in data}
        assert counts == {50}
        assert len({sample.prompt for sample in data}) == 200
        assert (data.name, data.note) == ("synthetic, 50 tokens", None)
        assert list(load(None, input_tokens=50, tokenizer=tmp_path / "tokenizer.json", samples=3)) == data[:3]

    def test_a_tokenizer_that_makes_one_token_of_any_text_is_refused(self, tmp_path: Path) -> None:
        tokenizers = pytest.importorskip("tokenizers")
        tokenizers.Tokenizer(tokenizers.models.WordLevel({"?": 0}, unk_token="?")).save(
            str(tmp_path / "tokenizer.json")
        )
        message = the_error(None, input_tokens=50, tokenizer=tmp_path / "tokenizer.json")
        assert f"the tokenizer {tmp_path / 'tokenizer.json'} makes 1 tokens of " in message
        assert "prompts of 50 tokens can't be made" in message
        assert len(load(None, input_tokens=1, tokenizer=tmp_path, samples=3)) == 3

    def test_a_tokenizer_that_is_none(self, tmp_path: Path) -> None:
        assert "does not exist" in the_error(None, tokenizer=tmp_path / "nowhere.json")
        assert "does not exist" in the_error(None, tokenizer=tmp_path)
        assert "can't be read" in the_error(None, tokenizer=write(tmp_path / "b.json", b"\xff"))
        pytest.importorskip("tokenizers")
        assert "is not a tokenizer.json" in the_error(None, tokenizer=write(tmp_path / "c.json", "{}"))

    def test_without_the_package_it_says_how_to_get_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tokenizers", None)
        message = the_error(None, tokenizer=write(tmp_path / "tokenizer.json", "{}"))
        assert "pip install 'loadgen[tokenizers]'" in message


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "what"),
        [
            ({"input_tokens": 0}, "input_tokens must be at least 1, not 0"),
            ({"output_tokens": -5}, "output_tokens must be at least 1, not -5"),
            ({"samples": 0}, "samples must be at least 1, not 0"),
            ({"prompt_field": "question"}, "prompt_field question needs a dataset"),
        ],
    )
    def test_what_cannot_be_is_refused(self, options: dict[str, Any], what: str) -> None:
        assert what in the_error(None, **options)

    def test_a_file_and_synthetic_lengths_exclude_each_other(self, tmp_path: Path) -> None:
        message = the_error(write(tmp_path / "a.txt", "x"), input_tokens=5)
        assert "input_tokens makes synthetic prompts" in message

    def test_a_dataset_error_is_a_value_error(self) -> None:
        with pytest.raises(ValueError, match="does not exist"):
            load("nowhere.jsonl")

    def test_a_datasets_parts_are_public(self) -> None:
        assert Dataset("n", "0", [Sample(prompt="a")])[0].prompt == "a"


def test_a_mistyped_field_is_compared_with_those_there_are(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"id": "abc", "question": "why?"}\n')
    with pytest.raises(DatasetError) as caught:
        load(path, prompt_field="questoin")
    assert caught.value.way_out == "perhaps prompt_field='question'?"


def test_a_record_without_the_field_that_the_first_one_showed_is_not_asked_for_another(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('{"prompt": "why?"}\n{"promt": "and how?"}\n')
    with pytest.raises(DatasetError) as caught:
        load(path)
    assert caught.value.message.startswith(f'no field "prompt" in {path}, line 2')
    assert caught.value.way_out == "the first record has it, and each must"
