"""Where the grid comes from: settings, the two MCP servers over stdio, and what a scenario keeps of what they tell."""

import asyncio
import re
import sys
from pathlib import Path

import msgspec
import pytest

from loadgen.dispatch.experiment import catalogue, settings
from loadgen.dispatch.experiment.catalogue import Catalogue
from loadgen.dispatch.experiment.settings import Scenario, Sources
from loadgen.errors import ConfigError, DispatchError

pytest.importorskip("mcp", reason="the extra mcp is not installed")

SETTINGS = settings.read()
SHAPES = {
    **dict.fromkeys(("106", "118", "119"), (1, 7)),
    "107": (5, 7),
    "108": (6, 7),
    **dict.fromkeys(("109", "110", "114", "120"), (None, 7)),
    **dict.fromkeys(("111", "112", "113", "115", "116", "117"), (None, 1)),
}
"""Sensors and failure modes of each scenario, as the experiment has them; ``None`` is all sensors."""


def fetched(sources: Sources) -> Catalogue:
    return asyncio.run(catalogue.fetch(sources))


@pytest.mark.parametrize(("asset", "sensors"), [("small-chiller", 9), ("large-chiller", 11)])
def test_the_scenarios_have_the_published_shapes(asset: str, sensors: int) -> None:
    known = fetched(msgspec.structs.replace(SETTINGS.sources, asset=asset))
    assert (len(known.sensors), len(known.failure_modes)) == (sensors, 7)
    grids = {scenario.id: catalogue.pick(known, scenario) for scenario in SETTINGS.scenarios}
    shapes = {name: (len(grid.rows), len(grid.cols)) for name, grid in grids.items()}
    assert shapes == {name: (rows or sensors, cols) for name, (rows, cols) in SHAPES.items()}
    assert len(grids["109"].pairs) == sensors * 7


def test_rows_and_columns_are_what_the_servers_tell_now(tmp_path: Path) -> None:
    """Nothing of the grid stands in the code: other files make another grid."""
    (tmp_path / "sensors.yaml").write_text("assets: {fan: [hub vibration, noise]}\n")
    (tmp_path / "modes.yaml").write_text("assets: {fan: [{name: loose blade, effect: it rattles}]}\n")
    sources = Sources(
        "fan",
        (*SETTINGS.sources.sensors, str(tmp_path / "sensors.yaml")),
        (*SETTINGS.sources.failure_modes, str(tmp_path / "modes.yaml")),
    )
    known = fetched(sources)
    assert known == Catalogue("fan", ("hub vibration", "noise"), {"loose blade": "it rattles"})
    grid = catalogue.pick(known, Scenario("1", sensors=("VIBRATION",)))
    assert grid.pairs == [("hub vibration", "loose blade")]
    assert grid.prompt("hub vibration", "loose blade").startswith(
        "Does the sensor 'hub vibration' help to detect the failure mode 'loose blade' (it rattles)?"
    )


def test_an_unknown_asset_is_refused_in_the_servers_words() -> None:
    with pytest.raises(DispatchError, match="there is no asset 'boiler'; there are small-chiller, large-chiller"):
        fetched(msgspec.structs.replace(SETTINGS.sources, asset="boiler"))


def test_a_server_that_does_not_start_is_named() -> None:
    with pytest.raises(DispatchError, match="can't start the MCP server /no/such/server"):
        fetched(Sources("fan", ("/no/such/server",), ("/no/such/server",)))


def test_a_server_that_speaks_no_mcp_is_named() -> None:
    silent = (sys.executable, "-c", "print('hello')")
    with pytest.raises(DispatchError, match="can't start the MCP server"):
        fetched(Sources("fan", silent, silent))


def test_a_server_without_the_tool_is_named() -> None:
    swapped = Sources("small-chiller", SETTINGS.sources.failure_modes, SETTINGS.sources.failure_modes)
    with pytest.raises(DispatchError, match="tool sensors"):
        fetched(swapped)


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(ConfigError, match="the package mcp") as raised:
        fetched(SETTINGS.sources)
    assert raised.value.way_out == "pip install 'loadgen[mcp]'"


@pytest.mark.parametrize(
    ("scenario", "message"),
    [
        (Scenario("1", sensors=("sound",)), "scenario 1 keeps no sensor of fan"),
        (Scenario("2", failure_modes=()), "scenario 2 keeps no failure mode of fan"),
    ],
)
def test_a_filter_that_keeps_nothing_is_an_error(scenario: Scenario, message: str) -> None:
    with pytest.raises(DispatchError, match=message):
        catalogue.pick(Catalogue("fan", ("noise",), {"loose blade": ""}), scenario)


def test_servers_that_tell_nothing_make_no_grid() -> None:
    with pytest.raises(DispatchError, match="keeps no sensor") as raised:
        catalogue.pick(Catalogue("fan", (), {"loose blade": ""}), Scenario("1"))
    assert raised.value.way_out == "the server names none; looked for any name"


# --- settings


def test_the_published_table_is_of_our_scenarios_and_strategies() -> None:
    assert set(SETTINGS.published) <= {scenario.id for scenario in SETTINGS.scenarios}
    assert {name for times in SETTINGS.published.values() for name in times} == {
        "sequential", "parallel", "adaptive_ceiling", "hedged"
    }  # fmt: skip
    assert SETTINGS.baseline == "sequential"


def test_a_file_replaces_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text('strategies: [{name: auto, label: ours, colour: "#123456"}]\n')
    mine = settings.read(str(tmp_path / "mine.yaml"))
    assert [(strategy.label, strategy.colour) for strategy in mine.strategies] == [("ours", "#123456")]
    assert mine.scenarios == SETTINGS.scenarios


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("strategies: []", "names no strategy"),
        ("scenarios: [{id: a}, {id: a}]", "names the scenario a twice"),
        ("strategies: [{name: auto}]", "missing required field `label`"),
        ("colours: {}", "unknown field `colours`"),
        ("scenarios: [{id: a, sensors: heat}]", "Expected `array | null`"),
    ],
)
def test_a_wrong_file_is_named_with_its_rule(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        settings.read(str(path))
    assert str(path) in str(raised.value)


def test_names_are_chosen_in_our_order() -> None:
    assert settings.choose("--strategies", "auto, sequential", ["sequential", "hedged", "auto"]) == (
        "sequential",
        "auto",
    )
    assert settings.choose("--strategies", None, ["a", "b"]) == ("a", "b")


@pytest.mark.parametrize(("names", "said"), [("autp", "names autp"), (" , ", "names nothing")])
def test_an_unknown_name_lists_the_choices(names: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as raised:
        settings.choose("--strategies", names, ["sequential", "auto"])
    assert raised.value.way_out == "there are sequential, auto"
