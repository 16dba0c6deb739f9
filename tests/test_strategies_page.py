"""The page on load strategies: its signatures are the code's, its own strategy runs."""

import asyncio
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import loadgen
from fake_issuer import FakeIssuer
from loadgen.session.order import ORDERS
from loadgen.session.pattern import create_load_strategy

PAGE = (Path(__file__).parents[1] / "docs" / "strategies.md").read_text()


def block(mark: str) -> str:
    found = re.search(rf"<!-- {mark} -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1]


def signature(name: str) -> str:
    owner, _, method = name.partition(".")
    found = getattr(loadgen, owner)
    shown = str(inspect.signature(getattr(found, method) if method else found))
    if inspect.isclass(found) and not method:
        shown = shown.removesuffix(" -> 'None'")
    # Annotations are strings: their quotes go, those of default values stay.
    return name + re.sub(r"(: |-> )'([^']*)'", r"\1\2", shown)


@pytest.mark.parametrize("line", block("signatures").splitlines(), ids=lambda line: line.partition("(")[0])
def test_a_signature_is_the_codes(line: str) -> None:
    assert line == signature(line.partition("(")[0])


def test_the_pages_own_strategy_does_what_it_says() -> None:
    names: dict[str, Any] = {}
    exec(compile(block("strategy"), "strategies.md", "exec"), names)
    issuer = FakeIssuer(requests=10)
    assert asyncio.run(names["Pulses"](4, 0.25).execute(issuer)) == 10
    after = [request.issued_ns - issuer.start_ns for request in issuer.issued]
    assert after == [0] * 4 + [250_000_000] * 4 + [500_000_000] * 2
    stopped = FakeIssuer(duration_ns=600_000_000)
    assert asyncio.run(names["Pulses"](4, 0.25).execute(stopped)) == 12


def test_the_page_names_every_public_construct() -> None:
    rooms = tuple(f"loadgen.session.{name}" for name in ("adaptive", "strategy", "pattern", "delays", "order", "plan"))
    public = {name for name in loadgen.__all__ if getattr(getattr(loadgen, name), "__module__", "") in rooms}
    assert len(public) == 16
    assert {name for name in public if f"`{name}" not in PAGE} == set()
    for order in ORDERS:
        assert f"| `{order}` |" in PAGE
    for pattern in ("concurrency", "rate", "stages", "burst"):
        assert f"`{pattern}`" in PAGE
    with pytest.raises(ValueError, match="one of concurrency, rate, stages, burst"):
        create_load_strategy({})
