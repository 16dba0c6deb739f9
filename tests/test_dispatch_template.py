"""Templates: what is filled in, what is left alone, and that nothing filled in is obeyed."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.dispatch.template import Template, read
from loadgen.errors import ConfigError, DatasetError

BODY = (
    '{"messages": [{"role": "user", "content": "Can {col} cause {row.mode}?"}], "max_tokens": "{row.most}", "seed": 3}'
)


def prompt(text: str, **of: Any) -> str:
    return Template(text, "t.txt").prompt(of)


@pytest.mark.parametrize(
    ("text", "item", "filled"),
    [
        ("Say {item}.", "hello", "Say hello."),
        ("{item.a.b} {item.list.1}", {"a": {"b": "x"}, "list": [1, {"n": 2}]}, 'x {"n":2}'),
        ("{item}", {"a": 1}, '{"a":1}'),
        ("{item.n} of {item.n}", {"n": 2.5}, "2.5 of 2.5"),
        ('Answer {"a": {"b": 1}}: {item}', "q", 'Answer {"a": {"b": 1}}: q'),
        ("{{item}} is {item}, {{item.x}} isn't", "q", "{item} is q, {item.x} isn't"),
        ("{ item} {items} {item.} {Item} {0}: {item}", "q", "{ item} {items} {item.} {Item} {0}: q"),
        ("{item!r} {item:>9} {item[0]} {item}", "q", "{item!r} {item:>9} {item[0]} q"),
        ("{item}", "{item.__class__} {row}", "{item.__class__} {row}"),
        ("{item.größe}", {"größe": "ü"}, "ü"),
    ],
)  # fmt: skip
def test_places_are_filled_and_all_else_is_left(text: str, item: Any, filled: str) -> None:
    assert prompt(text, item=item) == filled


def test_a_body_is_filled_within_its_texts_and_a_lone_place_keeps_its_type() -> None:
    template = Template(BODY, "t.json")
    body = template.request({"row": {"mode": 'a "b"\n', "most": 16}, "col": "heat"})
    assert body == {
        "messages": [{"role": "user", "content": 'Can heat cause a "b"\n?'}],
        "max_tokens": 16,
        "seed": 3,
    }
    assert template.places == {"row", "col"}


@given(st.text(), st.text())
def test_whatever_is_filled_in_stays_one_text_of_the_body(row: str, col: str) -> None:
    body = Template('{"prompt": "a {row} b {col}", "n": 1}', "t.json").request({"row": row, "col": col})
    assert body == {"prompt": f"a {row} b {col}", "n": 1}


@pytest.mark.parametrize(
    ("item", "error"),
    [
        ({"a": 1}, r"no \{item\.b\} in \{\"a\":1\} \(fields: a\)"),
        ("text", r"no \{item\.b\} in text$"),
        ([1], r"no \{item\.b\} in \[1\]"),
        ("__class__", r"no \{item\.b\} in __class__"),
    ],
)
def test_a_field_that_lacks_is_named_with_those_there_are(item: Any, error: str) -> None:
    with pytest.raises(DatasetError, match=error):
        prompt("{item.b}", item=item)


def test_python_is_never_reached() -> None:
    with pytest.raises(DatasetError):
        prompt("{item.__class__}", item="x")
    with pytest.raises(DatasetError):
        prompt("{item.keys}", item={"a": 1})


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        ("t.txt", "Say hello", "has no place to fill in"),
        ("t.txt", "Say {{item}}", "has no place to fill in"),
        ("t.json", '{"prompt": "hello", "{item}": 1}', "has no place to fill in"),
        ("t.json", '{"n": {item.n}}', "is not JSON: .*\nplaces stand within texts"),
        ("t.json", '["{item}"]', "is not a JSON object"),
        ("t.txt", " \n", "is empty"),
        ("t.txt", b"\xff{item}", "is not UTF-8 text"),
    ],
)
def test_what_is_no_template_is_an_error(tmp_path: Path, name: str, content: str | bytes, error: str) -> None:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=error):
        read(str(path))


def test_a_template_that_is_not_there_or_too_large_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"can't read the template .*: No such file"):
        read(str(tmp_path / "no"))
    with (tmp_path / "large").open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(ConfigError, match="is larger than 16 MiB"):
        read(str(tmp_path / "large"))


def test_a_files_kind_is_told_by_its_content_unless_its_name_says_json(tmp_path: Path) -> None:
    for content, is_body in [(BODY, True), ("{item}\n", False), ('{"a": {item}}', False), ("\ufeffSay {item}", False)]:
        path = tmp_path / "t"
        path.write_text(content, encoding="utf-8")
        assert (read(str(path)).body is not None) is is_body
    assert read(str(path)).prompt({"item": "x"}) == "Say x"


@pytest.mark.parametrize(
    ("text", "given", "error"),
    [
        ("{item}", {"row", "col"}, r"uses \{item\}, and there is none\nway"),
        ("{row} {col}", {"item"}, r"uses \{col\}, and there is none\nway"),
        ("{row}", {"row", "col"}, r"doesn't use \{col\}, so calls would repeat each other"),
    ],
)
def test_a_template_must_use_just_what_there_is(text: str, given: set[str], error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        Template(text, "t").check(frozenset(given), "way")
