"""The workflows: what they call is there, what they name is the project's, and they may do no more than they need."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / ".github" / "workflows"
NAMES = ("bench", "docs", "test", "wheels")

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="a source distribution has no workflows")


def workflow(name: str) -> dict[str, Any]:
    found = yaml.safe_load((FOLDER / f"{name}.yml").read_text())
    assert isinstance(found, dict)
    # YAML 1.1 reads the key `on` as true.
    return {"on" if key is True else key: value for key, value in found.items()}


def jobs() -> Iterator[tuple[str, dict[str, Any]]]:
    for name in NAMES:
        for job, told in workflow(name)["jobs"].items():
            yield f"{name}.{job}", told


def steps() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, job in jobs():
        for step in job["steps"]:
            yield name, step


def makefile_targets() -> set[str]:
    return set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_there_is_a_workflow_for_each_purpose_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.yml")} == set(NAMES)


def test_every_make_target_that_a_workflow_calls_is_one() -> None:
    called = {
        (name, target)
        for name, step in steps()
        for line in re.findall(r"^\s*make\b(.*)$", step.get("run", ""), re.MULTILINE)
        for target in line.split()
        if "=" not in target
    }
    assert len(called) > 10
    known = makefile_targets()
    assert {(name, target) for name, target in called if target not in known} == set()


@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_may_read_and_what_more_a_job_may_do_it_says(name: str) -> None:
    assert workflow(name)["permissions"] == {"contents": "read"}


def test_only_what_publishes_has_an_identity() -> None:
    more = {name: job["permissions"] for name, job in jobs() if "permissions" in job}
    assert more == {
        "wheels.publish": {"id-token": "write"},
        "docs.publish": {"pages": "write", "id-token": "write"},
    }


def test_what_publishes_runs_nothing_of_the_repository() -> None:
    for name, step in steps():
        if name.endswith(".publish"):
            assert "run" not in step
            assert not step["uses"].startswith("actions/checkout")


def test_a_release_is_published_by_a_tag_alone_after_its_check() -> None:
    publish = workflow("wheels")["jobs"]["publish"]
    assert publish["if"] == "startsWith(github.ref, 'refs/tags/')"
    assert publish["needs"] == "check"
    assert workflow("wheels")["jobs"]["check"]["needs"] == ["sdist", "wheels"]


def test_no_checkout_leaves_its_token_behind() -> None:
    found = [step for _, step in steps() if step.get("uses", "").startswith("actions/checkout@")]
    assert len(found) >= 10
    assert all(step.get("with", {}).get("persist-credentials") is False for step in found)


def test_every_action_is_pinned_to_a_release_and_is_the_same_one_everywhere() -> None:
    used: dict[str, set[str]] = {}
    for _, step in steps():
        if "uses" in step:
            action, at, release = step["uses"].partition("@")
            assert at
            assert re.fullmatch(r"v\d+(\.\d+)*|[0-9a-f]{40}", release), step["uses"]
            used.setdefault(action, set()).add(release)
    assert {action: found for action, found in used.items() if len(found) > 1} == {}


def test_every_job_ends_by_itself() -> None:
    assert [name for name, job in jobs() if not 0 < job.get("timeout-minutes", 0) <= 90] == []


def test_what_is_said_to_be_supported_is_what_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["requires-python"] == ">=3.11"
    tested = {str(entry["python"]) for entry in workflow("test")["jobs"]["test"]["strategy"]["matrix"]["include"]}
    built = {one.removeprefix("cp3").removesuffix("-*") for one in project["tool"]["cibuildwheel"]["build"]}
    assert tested == {f"3.{minor}" for minor in built} == {"3.11", "3.14"}


def test_a_release_has_a_job_for_each_of_its_platforms() -> None:
    from release import wheel_file

    names = {entry["name"] for entry in workflow("wheels")["jobs"]["wheels"]["strategy"]["matrix"]["include"]}
    wanted = {re.sub(r"_\d+_\d+_", "-", platform).replace("macosx", "macos") for platform in wheel_file.PLATFORMS}
    assert names == wanted


def test_nothing_that_is_published_comes_from_a_cache() -> None:
    assert [name for name, step in steps() if name.startswith("wheels.") and "cache" in str(step).lower()] == []


def test_the_oldest_rust_is_read_where_it_is_declared() -> None:
    (command,) = (step["run"] for name, step in steps() if name == "test.oldest" and "rustup" in step.get("run", ""))
    (expression,) = re.findall(r"sed -n 's/\^(rust-version.*?)\$/", command)
    pattern = expression.replace("\\(", "(").replace("\\)", ")")
    (oldest,) = re.findall(f"^{pattern}$", (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
    assert oldest == tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["rust-version"]
