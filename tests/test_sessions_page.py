"""The page on sessions: its signatures are the code's; the example beside it runs and says what it should."""

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import loadgen

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "sessions.md").read_text()


def signatures() -> list[str]:
    found = re.search(r"<!-- signatures -->\n```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[1].splitlines()


def signature(name: str) -> str:
    owner, _, method = name.partition(".")
    found = getattr(loadgen, owner)
    shown = str(inspect.signature(getattr(found, method) if method else found))
    if not method:
        shown = shown.removesuffix(" -> 'None'").removesuffix(" -> None")
    # Annotations are strings: their quotes go, those of default values stay.
    return name + re.sub(r"(: |-> )'([^']*)'", r"\1\2", shown)


@pytest.mark.parametrize("line", signatures(), ids=lambda line: line.partition("(")[0])
def test_a_signature_is_the_codes(line: str) -> None:
    assert line == signature(line.partition("(")[0])


def test_the_example_drives_a_python_function_and_prints_its_report(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "python_callable.py"],
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "100"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"saturated\s+closed loop, 16 in flight", done.stdout)
    assert re.search(r"^ 200 ok   0 failed   0 cancelled$", done.stdout, re.MULTILINE)
    assert "stamps taken in Python" in re.sub(r"\s+", " ", done.stdout)
    assert len(list((tmp_path / "loadgen-runs").iterdir())) == 1
