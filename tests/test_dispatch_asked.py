"""What a batch asks: items and grids from files, names for people, bodies for servers."""

from pathlib import Path
from typing import Any

import pytest

from loadgen import config as configs
from loadgen.cli.dispatch import asked
from loadgen.cli.dispatch.asked import Source
from loadgen.dispatch.template import Template
from loadgen.errors import ConfigError, DatasetError

ROWS = '{"name": "pump-3", "kind": "sensor"}\n{"name": "fan", "kind": "sensor"}\n'
COLS = "bearing wear\noverheating\n\nlow oil\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    (tmp_path / "rows.jsonl").write_text(ROWS)
    (tmp_path / "cols.txt").write_text(COLS)
    (tmp_path / "grid.txt").write_text("Can {col} be seen by {row.name}?\n")
    (tmp_path / "items.csv").write_text("id,q\n7,What?\n8,Why?\n")
    (tmp_path / "q.txt").write_text("Answer: {item.q}\n")
    return tmp_path


def options(**given: Any) -> configs.Config:
    return configs.resolve("mock:", given, needs_load=False)


def asked_of(source: Source, served: str | None = "m", **given: Any) -> list[Any]:
    return asked.bodies(source, options(**given), served)


def test_a_grid_goes_row_by_row(here: Path) -> None:
    source = asked.read("grid.txt", None, "rows.jsonl", "cols.txt")
    assert (source.rows, source.columns) == (["pump-3", "fan"], ["bearing wear", "overheating", "low oil"])
    assert [source.name(index) for index in (0, 2, 3)] == [
        "pump-3 × bearing wear",
        "pump-3 × low oil",
        "fan × bearing wear",
    ]
    assert source.cell(5) == ("fan", "low oil")
    bodies = asked_of(source)
    assert len(bodies) == 6
    assert bodies[4] == {
        "messages": [{"role": "user", "content": "Can overheating be seen by fan?"}],
        "model": "m",
    }


def test_a_list_takes_the_rows_of_a_table(here: Path) -> None:
    source = asked.read("q.txt", "items.csv", None, None)
    assert [source.name(index) for index in (0, 1)] == ["7", "8"]
    assert source.cell(0) is None
    assert [body["messages"][0]["content"] for body in asked_of(source)] == ["Answer: What?", "Answer: Why?"]


def test_without_a_template_an_item_is_its_own_prompt(here: Path) -> None:
    (here / "p.txt").write_text("one\ntwo\n")
    bodies = asked_of(asked.read(None, "p.txt", None, None), api="completions", output_tokens=5, extra_body='{"n": 2}')
    assert bodies[1] == {"prompt": "two", "model": "m", "max_tokens": 5, "n": 2}


def test_without_a_template_an_object_is_asked_by_its_prompt_and_refused_without_one(here: Path) -> None:
    (here / "p.jsonl").write_text('{"id": 7, "prompt": "Why {item}?"}\n')
    source = asked.read(None, "p.jsonl", None, None)
    assert asked_of(source)[0]["messages"] == [{"role": "user", "content": "Why {item}?"}]
    assert source.calls == [{"item": {"id": 7, "prompt": "Why {item}?"}}]
    with pytest.raises(ConfigError, match=r"record 1 of items\.csv has no prompt \(fields: id, q\).*\n--template FILE"):
        asked.read(None, "items.csv", None, None)
    (here / "mixed.jsonl").write_text('{"prompt": "a"}\n"b"\n')
    with pytest.raises(ConfigError, match=r"record 2 of mixed\.jsonl has no prompt \(fields: none\)"):
        asked.read(None, "mixed.jsonl", None, None)
    (here / "all.txt").write_text("{item}")
    whole = asked_of(asked.read("all.txt", "items.csv", None, None))[0]
    assert whole["messages"][0]["content"] == '{"id":"7","q":"What?"}'


def test_a_body_template_is_sent_as_it_is_with_the_flags_on_top(here: Path) -> None:
    (here / "b.json").write_text(
        '{"messages": [{"role": "user", "content": "{item.q}"}], "temperature": 0, "model": "t"}'
    )
    source = asked.read("b.json", "items.csv", None, None)
    assert not source.needs_model
    assert asked_of(source, None)[0]["model"] == "t"
    body = asked_of(source, None, model="flag", output_tokens=9, extra_body='{"temperature": 1}')[0]
    assert body == {
        "messages": [{"role": "user", "content": "What?"}],
        "temperature": 1,
        "model": "flag",
        "max_tokens": 9,
    }


def test_a_body_without_a_model_gets_the_servers(here: Path) -> None:
    (here / "b.json").write_text('{"prompt": "{item.q}"}')
    source = asked.read("b.json", "items.csv", None, None)
    assert source.needs_model
    assert asked_of(source, "m", api="completions")[0] == {"model": "m", "prompt": "What?"}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ((None, None, None, None), "nothing to call given\n--items FILE"),
        ((None, "items.csv", "rows.jsonl", None), "--items is a list, --rows and --cols are a grid"),
        (("grid.txt", None, "rows.jsonl", None), "a grid needs --cols too"),
        (("grid.txt", None, None, "cols.txt"), "a grid needs --rows too"),
        ((None, None, "rows.jsonl", "cols.txt"), "a grid needs a template"),
        (("grid.txt", "items.csv", None, None), r"uses \{col\}, and there is none"),
        (("q.txt", None, "rows.jsonl", "cols.txt"), r"uses \{item\}, and there is none"),
    ],
)
def test_what_does_not_go_together_is_an_error(here: Path, given: Any, error: str) -> None:
    with pytest.raises(ConfigError, match=error):
        asked.read(*given)


@pytest.mark.parametrize(
    ("body", "api", "error"),
    [
        ('{"messages": "{item}", "stream": true}', "chat", 'may not set "stream"\nuse --stream'),
        ('{"prompt": "{item}"}', "chat", 'has no "messages", which the API chat wants\n.*--api completions'),
        ('{"messages": "{item}"}', "completions", 'has no "prompt"'),
    ],
)
def test_a_body_that_is_not_the_apis_is_an_error(here: Path, body: str, api: str, error: str) -> None:
    (here / "b.json").write_text(body)
    with pytest.raises(ConfigError, match=error):
        asked_of(asked.read("b.json", "items.csv", None, None), api=api)


def test_what_is_asked_is_whole_before_anything_is_sent(here: Path) -> None:
    (here / "some.jsonl").write_text('{"q": "a"}\n{"p": "b"}\n')
    with pytest.raises(DatasetError, match=r'no \{item\.q\} in \{"p":"b"\} \(fields: p\)'):
        asked_of(asked.read("q.txt", "some.jsonl", None, None))
    (here / "blank.jsonl").write_text('"a"\n"  "\n')
    with pytest.raises(DatasetError, match="the prompt of call 2 is blank"):
        asked_of(asked.read(None, "blank.jsonl", None, None))
    (here / "none.txt").write_text("\n\n")
    with pytest.raises(DatasetError, match=r"none\.txt holds no record"):
        asked.read(None, "none.txt", None, None)


@pytest.mark.parametrize(
    ("record", "name"),
    [
        ("a  b\nc", "a b c"),
        ({"n": 1, "text": "t"}, "t"),
        ({"text": "t", "id": 7}, "7"),
        ({"n": 1}, '{"n":1}'),
        ([1, 2], "[1,2]"),
        ("x" * 50, "x" * 39 + "…"),
    ],
)
def test_records_have_names_for_people(record: Any, name: str) -> None:
    source = Source(Template("{item}", "t"), [{"item": record}], [], [])
    assert source.name(0) == name
