"""Fixtures of the surface's tests: a core that answers at once, a directory of their own, a terminal's signals."""

import importlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import fake_core


@pytest.fixture
def core(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The stand-in for the compiled core, where the surface looks for it."""
    for place in fake_core.PLACES:
        monkeypatch.setattr(importlib.import_module(place), "_core", fake_core)
    fake_core.reset()
    yield fake_core
    fake_core.reset()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and an environment without keys."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "NO_COLOR", "COLUMNS", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def with_hangup() -> Iterator[None]:
    """SIGHUP as at a terminal, also where the tests run without one and ignore it (``nohup``)."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)
