"""The page on dispatch: its signatures are the code's, it names every option, strategy and public thing."""

import inspect
import re
from pathlib import Path

import pytest

import loadgen
from loadgen import dispatch
from loadgen.dispatch.strategy import STRATEGIES, DispatchOptions

PAGE = (Path(__file__).parents[1] / "docs" / "dispatch.md").read_text()


def signatures() -> list[str]:
    found = re.search(r"<!-- signatures -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def signature(name: str) -> str:
    owner, _, method = name.partition(".")
    found = getattr(dispatch, owner, None) or getattr(loadgen, owner)
    shown = str(inspect.signature(getattr(found, method) if method else found))
    if inspect.isclass(found) and not method:
        shown = shown.removesuffix(" -> 'None'").removesuffix(" -> None")
    # Annotations are strings: their quotes go, those of default values stay.
    return name + re.sub(r"(: |-> )'([^']*)'", r"\1\2", shown)


@pytest.mark.parametrize("line", signatures(), ids=lambda line: line.partition("(")[0])
def test_a_signature_is_the_codes(line: str) -> None:
    assert line == signature(line.partition("(")[0])


def test_every_public_verb_of_a_dispatcher_has_its_signature() -> None:
    verbs = {name for name in vars(loadgen.Dispatcher) if not name.startswith("_") and name != "strategy"}
    told = {line.partition("(")[0].partition(".")[2] for line in signatures() if line.startswith("Dispatcher.")}
    assert verbs - {"amap", "map"} == told


def test_the_page_names_every_strategy_and_every_option() -> None:
    assert [name for name in STRATEGIES if f"| `{name}` |" not in PAGE] == []
    assert [
        name for name in DispatchOptions.__annotations__ if f"`{name}`" not in PAGE and f"`{name}=" not in PAGE
    ] == []
    docs = loadgen.Dispatcher.__doc__ or ""
    assert [name for name in DispatchOptions.__annotations__ if f"``{name}``" not in docs] == []


def test_every_public_name_can_be_got() -> None:
    for name in dispatch.__all__:
        assert getattr(dispatch, name) is not None
    assert set(dispatch.__all__) <= set(dir(dispatch))
    with pytest.raises(AttributeError, match="has no attribute 'Dispatch'"):
        getattr(dispatch, "Dispatch")  # noqa: B009  # a checker knows that there is none
