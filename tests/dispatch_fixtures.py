"""Fixtures of the tests of ``loadgen dispatch run``: files to call with, and who answers the calls."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from dispatch_support import ANSWERS, Fake, call
from loadgen.cli.dispatch import run
from loadgen.dispatch.progress import Progress


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with items, and with rows, columns and a template of a grid."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "NO_COLOR", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "items.txt").write_text("one\ntwo\nthree\n")
    (tmp_path / "rows.txt").write_text("pump\n=fan\n")
    (tmp_path / "cols.txt").write_text("wear\nheat\n")
    (tmp_path / "grid.txt").write_text("{row}, {col}?\n")
    return tmp_path


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[Fake]:
    """The dispatchers made; set ``answer`` of ``ANSWERS`` to change what they answer."""
    made: list[Fake] = []

    def make(choices: Mapping[str, Any]) -> Fake:
        made.append(Fake(ANSWERS["answer"], choices))
        return made[-1]

    monkeypatch.setattr(run, "_dispatcher", make)
    monkeypatch.setitem(ANSWERS, "answer", lambda index, body: f"answer {index}")
    return made


@pytest.fixture
def stopped(files: Path, fake: list[Fake], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Calls that Ctrl-C stops before any has an answer, and after this progress was shown."""

    def stop(*args: str, shown: Progress | None = None) -> Result:
        def answer(index: int, body: Any) -> str:
            if shown is not None:
                fake[-1].choices["progress"].show(shown)
            raise KeyboardInterrupt

        monkeypatch.setitem(ANSWERS, "answer", answer)
        result = call("mock:", "--items", "items.txt", *args)
        assert result.exit_code == 130
        return result

    return stop
