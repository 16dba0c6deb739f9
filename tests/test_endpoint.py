"""Request bodies: what an endpoint is sent for a sample, and where a marker may go."""

import json
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.dataset import Message, Sample
from loadgen.endpoint import Api, render
from loadgen.errors import ConfigError

APIS: list[Api] = list(get_args(Api))


def marked(body: bytes, hole: int) -> Any:
    """Insert a marker as the engine does, and read the body back."""
    return json.loads(body[:hole] + b"MARK" + body[hole:])


def test_a_prompt_becomes_one_user_message() -> None:
    body, hole = render("chat", Sample(prompt='say "é"\n'), model="m", output_tokens=8)
    assert json.loads(body) == {
        "messages": [{"role": "user", "content": 'say "é"\n'}],
        "model": "m",
        "max_tokens": 8,
    }
    assert marked(body, hole)["messages"][0]["content"] == 'MARKsay "é"\n'


def test_a_completion_takes_the_prompt_as_it_is() -> None:
    body, hole = render("completions", Sample(prompt="a"), model="m")
    assert body == b'{"prompt":"a","model":"m"}'
    assert marked(body, hole)["prompt"] == "MARKa"


def test_without_a_model_or_a_length_only_the_prompt_is_sent() -> None:
    assert render("completions", Sample(prompt="a"), model=None)[0] == b'{"prompt":"a"}'


def test_the_samples_length_counts_where_none_is_given() -> None:
    sample = Sample(prompt="a", output_tokens=3)
    assert json.loads(render("chat", sample, model="m")[0])["max_tokens"] == 3
    assert json.loads(render("chat", sample, model="m", output_tokens=4)[0])["max_tokens"] == 4


def test_a_conversation_is_sent_whole_and_marked_at_its_first_user_text() -> None:
    messages: list[Message] = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "image_url", "image_url": {"url": "u"}}, {"type": "text", "text": "one"}],
        },
        {"role": "assistant", "content": None, "tool_calls": []},
        {"role": "user", "content": "two"},
    ]
    body, hole = render("chat", Sample(messages=messages), model="m")
    assert json.loads(body)["messages"] == messages
    read = marked(body, hole)["messages"]
    assert read[1]["content"][1] == {"type": "text", "text": "MARKone"}
    assert read[0]["content"] == "be brief"
    assert read[3]["content"] == "two"


def test_a_user_message_without_text_passes_the_marker_on() -> None:
    image: Message = {"role": "user", "content": [{"type": "image_url"}]}
    body, hole = render("chat", Sample(messages=[image, {"content": "b", "role": "user"}]), model="m")
    assert marked(body, hole)["messages"][1]["content"] == "MARKb"


def test_a_conversation_nobody_asks_in_is_an_error() -> None:
    with pytest.raises(ConfigError, match="without a user message"):
        render("chat", Sample(messages=[{"role": "assistant", "content": "a"}]), model="m")


def test_a_conversations_texts_become_a_completions_prompt() -> None:
    parts = [{"type": "text", "text": "b"}, {"type": "image_url"}]
    messages: list[Message] = [{"role": "system", "content": "a"}, {"role": "user", "content": parts}, {"role": "tool"}]
    body, _ = render("completions", Sample(messages=messages), model="m")
    assert json.loads(body)["prompt"] == "a\n\nb"


def test_the_extra_body_wins_over_model_and_length() -> None:
    extra = {"model": "other", "max_tokens": 1, "temperature": 0, "stop": ["é"], "nested": {"a": None}}
    body, _ = render("completions", Sample(prompt="a"), model="m", output_tokens=9, extra_body=extra)
    assert json.loads(body) == {"prompt": "a", **extra}


def test_the_newer_name_of_the_length_takes_the_place_of_the_older() -> None:
    body, _ = render("chat", Sample(prompt="a"), model="m", output_tokens=9, extra_body={"max_completion_tokens": 5})
    assert "max_tokens" not in json.loads(body)
    assert json.loads(body)["max_completion_tokens"] == 5


@pytest.mark.parametrize("key", ["stream", "stream_options", "messages", "prompt"])
def test_what_is_not_the_extra_bodys_to_say(key: str) -> None:
    with pytest.raises(ConfigError, match=f'extra_body may not set "{key}"'):
        render("chat", Sample(prompt="a"), model="m", extra_body={key: 1})


@pytest.mark.parametrize("value", [object(), "\ud800", {"a": {1, object()}}])
def test_an_extra_body_that_is_not_json(value: Any) -> None:
    with pytest.raises(ConfigError, match="can't be sent as JSON"):
        render("chat", Sample(prompt="a"), model="m", extra_body={"key": value})


def test_an_unknown_api_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'soap' is not known\none of: chat, completions"):
        render("soap", Sample(prompt="a"), model="m")  # type: ignore[arg-type]


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(api=st.sampled_from(APIS), prompt=text, model=text, extra=st.dictionaries(text.map("x".__add__), st.integers()))
def test_any_body_reads_back_and_the_marker_stands_before_any_prompt(
    api: Api, prompt: str, model: str, extra: dict[str, int]
) -> None:
    body, hole = render(api, Sample(prompt=prompt), model=model, extra_body={"n": 10**30} | extra if extra else None)
    read = marked(body, hole)
    found = read["messages"][0]["content"] if "messages" in read else read.get("prompt", read.get("input"))
    assert found == "MARK" + prompt
    assert read["model"] == model
    assert {key: read[key] for key in extra} == extra
    assert body.startswith(b'{"')


def test_ollama_has_its_own_word_for_a_length_and_keeps_the_other_options() -> None:
    body, _ = render(
        "ollama_chat", Sample(prompt="a"), model="m", output_tokens=7, extra_body={"options": {"temperature": 0}}
    )
    assert json.loads(body) == {
        "messages": [{"role": "user", "content": "a"}],
        "model": "m",
        "options": {"num_predict": 7, "temperature": 0},
    }


@pytest.mark.parametrize("api", ["embeddings", "ollama_embed"])
def test_vectors_are_asked_for_without_a_length(api: Api) -> None:
    body, hole = render(api, Sample(prompt="a b"), model="m", output_tokens=7)
    assert json.loads(body) == {"input": "a b", "model": "m"}
    assert body[hole:].startswith(b"a b")
