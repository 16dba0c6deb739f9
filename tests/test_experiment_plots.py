"""The plots: each is drawn where there is something to draw, in the configured colours, and without a display."""

import random
import sys
from pathlib import Path

import msgspec
import pytest

from experiment_fakes import FakeCallee, fetch
from loadgen.dispatch.experiment import plots, settings
from loadgen.dispatch.experiment.hardware import Hardware, Used
from loadgen.dispatch.experiment.record import Record
from loadgen.dispatch.experiment.runner import Experiment, Plan
from loadgen.dispatch.experiment.settings import Scenario, Settings
from loadgen.dispatch.experiment.store import Store
from loadgen.dispatch.experiment.summary import summarise
from loadgen.errors import ConfigError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def chosen() -> Settings:
    scenarios = (Scenario("all"), Scenario("one", sensors=("vibration",)))
    return msgspec.structs.replace(settings.read(), scenarios=scenarios, published={"all": {"hedged": 3.5}})


def records(out: Path, chosen: Settings, runs: int = 3) -> list[Record]:
    experiment = Experiment(FakeCallee(), out, chosen, Plan(runs=runs), fetch=fetch)
    experiment.run()
    return Store(experiment.directory).records()


def test_every_plot_is_a_picture(tmp_path: Path, chosen: Settings) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    used = Used(3, 1.5, 2.0)
    found = [msgspec.structs.replace(r, hardware=Hardware(used, used, used, 0.5)) for r in records(tmp_path, chosen)]
    drawn = plots.draw(found, summarise(found, chosen, callee="sim"), chosen, tmp_path / "plots")
    assert [path.stem for path in drawn] == list(plots.names())
    assert all(path.read_bytes().startswith(PNG) and path.stat().st_size > 5_000 for path in drawn)


def test_what_has_nothing_to_show_is_left_out(tmp_path: Path, chosen: Settings) -> None:
    """One run, without hardware, in one size: no hardware, no scaling; the rest has single values."""
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    single = msgspec.structs.replace(chosen, scenarios=chosen.scenarios[:1])
    found = records(tmp_path, single, runs=1)
    drawn = plots.draw(found, summarise(found, single, callee="sim"), single, tmp_path / "plots")
    assert {path.stem for path in drawn} == set(plots.names()) - {"hardware", "scaling"}


def test_failed_runs_alone_make_no_plot(tmp_path: Path, chosen: Settings) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    found = [msgspec.structs.replace(r, ok=False, error="TimeoutError") for r in records(tmp_path, chosen, runs=1)]
    assert plots.draw(found, summarise(found, chosen, callee="sim"), chosen, tmp_path / "plots") == []


def test_strategies_have_the_configured_colours(tmp_path: Path, chosen: Settings) -> None:
    pytest.importorskip("matplotlib", reason="the extra plots is not installed")
    from PIL import Image

    odd = "#ff00aa"
    painted = msgspec.structs.replace(
        chosen,
        strategies=tuple(msgspec.structs.replace(s, colour=odd) if s.name == "auto" else s for s in chosen.strategies),
    )
    found = records(tmp_path, chosen)
    for look, has in ((painted, True), (chosen, False)):
        plots.draw(found, summarise(found, look, callee="sim"), look, tmp_path / "plots")
        with Image.open(tmp_path / "plots" / "walls.png") as picture:
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24) or []}
        assert ((0xFF, 0x00, 0xAA) in colours) is has


def test_without_matplotlib_the_extra_is_named(
    tmp_path: Path, chosen: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ConfigError, match="matplotlib, which is not installed") as raised:
        plots.draw([], summarise([], chosen, callee="sim"), chosen, tmp_path)
    assert raised.value.way_out == "pip install 'loadgen[plots]'"


def test_runs_in_any_order_make_the_same_summary(tmp_path: Path, chosen: Settings) -> None:
    found = records(tmp_path, chosen)
    shuffled = list(found)
    random.Random(1).shuffle(shuffled)
    assert summarise(found, chosen, callee="sim") == summarise(shuffled, chosen, callee="sim")
