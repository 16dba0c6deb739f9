"""What a user may say of a dispatch: names, options, environment; and what is remembered of an endpoint."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import loadgen
import virtual_loop
from loadgen.dispatch import remember, strategy

NAMES = "sequential, parallel, adaptive_ceiling, hedged, auto"


def config(name: str | None = None, items: int | None = 63, **options: Any) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(strategy.read(name, options).config(items))
    return read


def from_env(prefix: str = "LOADGEN_", environ: dict[str, str] | None = None, **options: Any) -> strategy.Options:
    return strategy.read(*strategy.from_env(prefix, options.pop("strategy", None), options, environ or {}))


def test_an_unknown_strategy_lists_the_choices() -> None:
    with pytest.raises(
        loadgen.ConfigError, match=rf"strategy 'hegded' is none \(did you mean hedged\?\)\nchoose one of {NAMES}"
    ):
        loadgen.Dispatcher("hegded")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"workers": 0}, "workers 0 must be 1 or more"),
        ({"workers": -2}, "workers -2 must be 1 or more"),
        ({"max_concurrency": 0}, "max_concurrency 0 must be 1 or more"),
        ({"hedge_after": 0}, "hedge_after 0 must be above 0"),
        ({"hedge_after": "-1s"}, "hedge_after -1s must be a duration"),
        ({"hedge_after": "soon"}, "hedge_after soon must be a duration"),
        ({"budget": 1.5}, "budget 1.5 must be a share: from 0 to 1"),
        ({"budget": "120%"}, "budget 120% must be a share: from 0 to 1"),
        ({"attempt_timeout": 0}, "attempt_timeout 0 must be above 0"),
        ({"rpm": 0}, "rpm 0 must be above 0"),
        ({"retry": 0}, "retry 0 must be 1 or more"),
        ({"retry": {"tries": 3}}, "has the unknown key 'tries': there are attempts, base"),
        ({"retry": {"base": "never"}}, "has base 'never', which must be a duration"),
        ({"push_back": 429}, "push_back 429 must be a list of statuses and exceptions"),
        ({"push_back": [42]}, "holds 42, which is neither a status nor an exception"),
        ({"key": "name"}, "key must be a function, not str"),
        ({"hedge_afer": 3}, "unknown option hedge_afer\nperhaps hedge_after?"),
        ({"max_workers": 8}, "unknown option max_workers\nhere it is max_concurrency"),
        ({"num_retries": 3}, "unknown option num_retries\nhere it is retry, which counts all attempts"),
        ({"streaming": "yes"}, "streaming yes must be true or false"),
        ({"profile": "published"}, "profile published is none: there is fmsr"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_an_option_that_cannot_be_used_says_value_and_rule(options: dict[str, Any], words: str) -> None:
    with pytest.raises(loadgen.ConfigError) as raised:
        loadgen.Dispatcher("hedged", **options)
    assert words in str(raised.value)


def test_what_the_core_refuses_is_a_config_error_in_its_words() -> None:
    with pytest.raises(loadgen.ConfigError, match="attempt_timeout_s must be at most 3600 seconds"):
        config("hedged", attempt_timeout="2h")


def test_options_reach_the_policy() -> None:
    said = config(
        "hedged",
        hedge_after="3s",
        attempt_timeout=30,
        call_timeout="5m",
        retry={"attempts": 2, "base": 1, "jitter": "none"},
        budget="50%",
        rpm=600,
        tpm=90_000,
        push_back=[429, 500, ValueError],
        streaming=True,
    )
    assert said["hedge"]["after_s"] == 3.0
    assert (said["attempt_timeout_s"], said["call_timeout_s"], said["streaming"]) == (30.0, 300.0, True)
    assert {"attempts": 2, "base_s": 1.0, "jitter": "none", "budget": 0.5}.items() <= said["retry"].items()
    assert (said["rates"]["rpm"], said["rates"]["tpm"], said["push_back"]["statuses"]) == (600.0, 90_000.0, [429, 500])


@pytest.mark.parametrize(("items", "ceiling"), [(63, 63), (5_000, 1_000), (None, 1_000), (0, 1)])
def test_the_ceiling_is_the_number_of_items_up_to_a_thousand(items: int | None, ceiling: int) -> None:
    assert config("adaptive_ceiling", items)["limit"]["ceiling"] == ceiling
    assert config("adaptive_ceiling", items, max_concurrency=7)["limit"]["ceiling"] == 7


@pytest.mark.parametrize(("items", "ceiling"), [(1, 2), (7, 14), (8, 16), (12, 16), (16, 16), (63, 63)])
def test_a_small_hedged_batch_has_room_for_copies(items: int, ceiling: int) -> None:
    assert config("hedged", items)["limit"]["ceiling"] == ceiling


def test_the_ceiling_is_what_the_limit_on_open_files_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (100, 4096))
    assert config("adaptive_ceiling", 500)["limit"]["ceiling"] == 36


def test_sequential_and_parallel_are_fixed() -> None:
    assert config("sequential")["limit"] == {"kind": "fixed", "n": 1}
    assert config("parallel")["limit"] == {"kind": "fixed", "n": 2}
    assert config("parallel", workers=5)["limit"] == {"kind": "fixed", "n": 5}
    assert config("hedged", workers=5)["limit"]["kind"] == "aimd"


def test_the_environment_chooses_and_code_wins() -> None:
    environ = {"LOADGEN_STRATEGY": "parallel", "LOADGEN_PARALLEL_WORKERS": "7", "LOADGEN_HEDGE_AFTER_S": "2.5"}
    assert from_env(environ=environ).strategy == "parallel"
    assert from_env(environ=environ).overrides["limit"]["n"] == 7
    assert from_env(environ=environ, workers=3).overrides["limit"]["n"] == 3
    assert from_env(environ=environ, strategy="hedged").overrides["hedge"] == {"after_s": 2.5}
    assert from_env().strategy == from_env(environ={"LOADGEN_STRATEGY": " "}).strategy == "auto"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"LOADGEN_STRATEGY": "fastest"}, f"LOADGEN_STRATEGY 'fastest' is none\nchoose one of {NAMES}"),
        ({"LOADGEN_PARALLEL_WORKERS": "0"}, "LOADGEN_PARALLEL_WORKERS 0 must be 1 or more"),
        ({"LOADGEN_PARALLEL_WORKERS": "two"}, "LOADGEN_PARALLEL_WORKERS two must be a whole number"),
        ({"LOADGEN_HEDGE_AFTER_S": "0"}, "LOADGEN_HEDGE_AFTER_S 0 must be above 0"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named(environ: dict[str, str], words: str) -> None:
    with pytest.raises(loadgen.ConfigError) as raised:
        from_env(environ=environ)
    assert str(raised.value) == words


def test_the_published_names_have_the_published_behaviour() -> None:
    options = from_env("FMSR_")
    assert options.strategy == "parallel"
    said = json.loads(options.config(63))
    assert said["limit"] == {"kind": "fixed", "n": 2}
    assert 500 in said["push_back"]["statuses"]
    assert {"attempts": 4, "base_s": 1.0, "most_s": 4.0, "jitter": "none"}.items() <= said["retry"].items()
    assert (said["breaker"]["failures"], said["breaker"]["cooldown_s"]) == (3, 30.0)
    hedged = from_env("FMSR_", {"FMSR_STRATEGY": "hedged", "FMSR_HEDGE_AFTER_S": "4", "LOADGEN_STRATEGY": "auto"})
    assert (hedged.strategy, json.loads(hedged.config(63))["hedge"]["after_s"]) == ("hedged", 4.0)


def test_another_prefix_is_refused() -> None:
    with pytest.raises(loadgen.ConfigError, match="use 'LOADGEN_' or 'FMSR_'"):
        loadgen.Dispatcher.from_env("OTHER_")


def test_a_dispatcher_is_made_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FMSR_STRATEGY", "sequential")
    dispatcher = loadgen.Dispatcher.from_env("FMSR_")
    assert dispatcher.strategy == "sequential"
    assert repr(dispatcher) == "Dispatcher('sequential')"
    assert dispatcher.run(str, [1, 2]).values == ("1", "2")


def test_what_was_learned_is_kept_in_a_private_file(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.json"
    assert remember.load(str(path)) is None
    remember.save(str(path), {"limit": 24, "rate": 5.5})
    assert remember.load(str(path)) == {"limit": 24, "rate": 5.5}
    remember.save(str(path), {"limit": 30})
    assert remember.load(str(path)) == {"limit": 30}
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["endpoint.json"]


def test_a_batch_begins_where_the_last_one_at_the_endpoint_ended(tmp_path: Path) -> None:
    path = tmp_path / "endpoint.json"

    async def call(item: int) -> int:
        await asyncio.sleep(3)
        return item

    async def main(_: Any) -> None:
        dispatcher = loadgen.Dispatcher("auto", remember=path)
        first = await dispatcher.arun(call, range(63))
        bore = json.loads(path.read_text())["limit"]
        assert bore == first.totals["in_flight_most"] > first.trace["limit"][0]
        assert (await dispatcher.arun(call, range(63))).trace["limit"][0] == bore

    virtual_loop.run(main)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"loadgen_remembered":9,"limit":3}', '{"loadgen_remembered":1,"limit":0}', "\x00", "[" * 5000],
)
def test_a_file_that_holds_something_else_is_refused_and_left_as_it_is(content: str, tmp_path: Path) -> None:
    path = tmp_path / "endpoint.json"
    path.write_text(content)
    with pytest.raises(loadgen.ConfigError, match="holds nothing that a batch remembered"):
        loadgen.Dispatcher("auto", remember=path).run(str, [1])
    assert path.read_text() == content


def test_a_file_that_cannot_be_read_or_written_says_so(tmp_path: Path) -> None:
    with pytest.raises(loadgen.ConfigError, match=r"can't read .*: Is a directory"):
        remember.load(str(tmp_path))
    with pytest.raises(loadgen.DispatchError, match=r"can't write .*: No such file or directory"):
        remember.save(str(tmp_path / "none" / "endpoint.json"), {"limit": 3})


def test_what_the_policy_is_told_in_its_own_words_lies_over_the_rest() -> None:
    said = config("hedged", hedge_after="3s", retry={"base": 2}, policy={"hedge": {"copies": 2}, "breaker": None})
    assert (said["hedge"]["after_s"], said["hedge"]["copies"], said["retry"]["base_s"]) == (3.0, 2, 2.0)
    assert said["breaker"] is None
    assert config("hedged", hedge_after="3s", policy={"hedge": {"kind": "none"}})["hedge"] == {"kind": "none"}


@pytest.mark.parametrize(("policy", "rule"), [(["hedge"], "mapping of the policy's own keys"), ({"hegde": 1}, "hegde")])
def test_a_policy_that_is_none_is_refused(policy: Any, rule: str) -> None:
    with pytest.raises(loadgen.ConfigError, match=rule):
        config("hedged", policy=policy)


def test_where_nothing_can_be_remembered_nothing_is_called(tmp_path: Path) -> None:
    called: list[int] = []
    path = tmp_path / "none" / "endpoint.json"
    with pytest.raises(loadgen.ConfigError, match=r"can't keep .*: its directory isn't there"):
        loadgen.Dispatcher("auto", remember=path).run(called.append, [1])
    assert not called


def test_values_are_not_lost_with_what_was_learned(tmp_path: Path) -> None:
    here = tmp_path / "here"
    here.mkdir()

    def call(item: int) -> int:
        here.rmdir()
        return item

    with pytest.warns(RuntimeWarning, match=r"isn't remembered: can't write .*: No such file or directory"):
        assert loadgen.Dispatcher("auto", remember=here / "endpoint.json").run(call, [7]).values == (7,)
