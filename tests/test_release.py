"""The checks of what is published: that each can fail, and what they let through."""

import io
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import oldest
import page_examples
from release import __main__ as release
from release import empty, sdist, wheel_file

ROOT = Path(__file__).parents[1]

METADATA = """\
Metadata-Version: 2.4
Name: loadgen
Version: 0.1.0
Requires-Dist: click>=8.1
Requires-Dist: hdrhistogram>=0.10.3 ; extra == 'hdr'
Requires-Python: >=3.11
License-Expression: Apache-2.0

About it.
"""

INFO = "loadgen-0.1.0.dist-info"
FILES = {
    "loadgen/__init__.py": "",
    "loadgen/__main__.py": "",
    "loadgen/_core.pyi": "",
    "loadgen/_core.abi3.so": "",
    "loadgen/py.typed": "",
    f"{INFO}/METADATA": METADATA,
    f"{INFO}/RECORD": "",
    f"{INFO}/entry_points.txt": "",
    f"{INFO}/licenses/LICENSE": "",
}


def wheel(folder: Path, files: dict[str, str], *, tag: str = "cp311-abi3") -> Path:
    path = folder / f"loadgen-0.1.0-{tag}-manylinux_2_28_x86_64.whl"
    with zipfile.ZipFile(path, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return path


def test_a_wheel_as_it_must_be_has_no_fault(tmp_path: Path) -> None:
    assert list(wheel_file.faults(wheel(tmp_path, FILES))) == []


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"tests/test_a.py": ""}, "tests/test_a.py has no place in a wheel"),
        ({"loadgen/__pycache__/a.cpython-311.pyc": ""}, "a.cpython-311.pyc has no place"),
        ({"loadgen/.DS_Store": ""}, "loadgen/.DS_Store has no place"),
        ({"other/__init__.py": ""}, "other/__init__.py has no place"),
        ({"loadgen/_other.abi3.so": ""}, "a wheel has one compiled file"),
    ],
)
def test_what_has_no_place_in_a_wheel_is_told(changed: dict[str, str], fault: str, tmp_path: Path) -> None:
    assert any(fault in found for found in wheel_file.faults(wheel(tmp_path, FILES | changed)))


@pytest.mark.parametrize("name", sorted(FILES))
def test_what_is_missing_from_a_wheel_is_told(name: str, tmp_path: Path) -> None:
    rest = {other: text for other, text in FILES.items() if other != name}
    (found,) = wheel_file.faults(wheel(tmp_path, rest))
    assert name in found


@pytest.mark.parametrize("tag", ["cp312-abi3", "cp311-cp311", "py3-none"])
def test_a_wheel_for_one_python_is_no_wheel_for_all(tag: str, tmp_path: Path) -> None:
    (found,) = wheel_file.faults(wheel(tmp_path, FILES, tag=tag))
    assert "must be loadgen-VERSION-cp311-abi3-PLATFORM.whl" in found


def test_a_wheel_above_its_size_is_told(tmp_path: Path) -> None:
    path = wheel(tmp_path, FILES | {"loadgen/large.txt": "x" * wheel_file.MOST_BYTES})
    (found,) = wheel_file.faults(path)
    assert "15,000,000 is the most" in found


@pytest.mark.parametrize(
    ("line", "other", "fault"),
    [
        ("Version: 0.1.0", "Version: 0.2.0", "Version is 0.2.0, and must be 0.1.0"),
        ("Requires-Python: >=3.11", "Requires-Python: >=3.10", "Requires-Python is >=3.10"),
        ("License-Expression: Apache-2.0", "License: Apache", "License-Expression is None"),
        ("Requires-Dist: click>=8.1", "\n".join(f"Requires-Dist: p{n}" for n in range(7)), "7 packages are needed"),
    ],
)
def test_what_a_wheel_says_of_itself_is_checked(line: str, other: str, fault: str) -> None:
    assert list(wheel_file.metadata_faults(METADATA, "0.1.0")) == []
    (found,) = wheel_file.metadata_faults(METADATA.replace(line, other), "0.1.0")
    assert fault in found


def test_a_platform_without_a_wheel_is_told() -> None:
    names = [f"loadgen-0.1.0-cp311-abi3-{platform}.whl" for platform in wheel_file.PLATFORMS]
    # auditwheel names all that a wheel is good for.
    names[0] = "loadgen-0.1.0-cp311-abi3-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl"
    assert wheel_file.missing(map(Path, names)) == []
    assert wheel_file.missing(map(Path, names[1:])) == ["manylinux_2_28_x86_64"]


def archive(folder: Path, names: list[str], inside: str = "loadgen-0.1.0") -> Path:
    path = folder / "loadgen-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as made:
        for name in names:
            made.addfile(tarfile.TarInfo(f"{inside}/{name}"), io.BytesIO(b""))
    return path


REPOSITORY = [*sorted(sdist._NEEDED), "fuzz/Cargo.toml", ".github/workflows/test.yml", "docs/a.md"]


def test_a_source_distribution_holds_the_repository_and_nothing_else(tmp_path: Path) -> None:
    good = [name for name in REPOSITORY if not name.startswith(("fuzz/", "."))] + ["PKG-INFO"]
    assert list(sdist.faults(sdist.names(archive(tmp_path, good)), REPOSITORY, [".*"])) == []
    found = list(sdist.faults([*good, "loadgen-runs/run.log", ".ci/run"], REPOSITORY, [".*"]))
    assert [fault.split()[0] for fault in found] == [".ci/run", "loadgen-runs/run.log"]
    for name in good:
        (fault,) = sdist.faults([other for other in good if other != name], REPOSITORY, [".*"])
        assert fault == f"{name} is missing from the source distribution"


def test_a_source_distribution_is_one_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must hold one folder, loadgen-0\.1\.0/, and has elsewhere/a"):
        sdist.names(archive(tmp_path, ["a"], inside="elsewhere"))


def test_what_is_left_out_of_the_source_distribution_is_what_cargo_says() -> None:
    assert sdist.excluded(ROOT) == [".*"]
    assert sdist.version(ROOT) == tomllib.loads((ROOT / "Cargo.lock").read_text())["package"][_own()]["version"]


def _own() -> int:
    return [package["name"] for package in tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]].index("loadgen")


def test_a_release_without_anything_is_told_what_it_lacks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main(["check", str(tmp_path)]) == 1
    told = capsys.readouterr().out
    assert told.count("FAULT: there is no wheel for ") == len(wheel_file.PLATFORMS)
    assert "a release has one source distribution" in told


def test_the_release_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert release.main(["publish"]) == 2
    assert "usage: PYTHONPATH=tests" in capsys.readouterr().err


def shown(line: int, text: str) -> page_examples.Block:
    return page_examples.Block(page_examples.ROOT / "README.md", line, "runs", "console", text)


def test_an_install_is_driven_through_each_block_of_the_readme(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "loadgen").write_text('#!/bin/sh\nexit "$1"\n')
    (tmp_path / "loadgen").chmod(0o755)
    blocks = [shown(4, "$ loadgen 3\n"), shown(8, "$ loadgen 0\n"), shown(9, "$ exit 1\n")._replace(mark="")]
    monkeypatch.setattr(page_examples, "blocks", lambda: iter(blocks))
    (fault,) = empty.drive(tmp_path / "python")
    assert fault.startswith("README.md:4: loadgen 3\nended with 3")
    assert capsys.readouterr().out.splitlines() == [
        "  FAILED README.md:4  loadgen 3",
        "  ok     README.md:8  loadgen 0",
    ]


def test_a_readme_without_commands_drives_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(page_examples, "blocks", lambda: iter(()))
    with pytest.raises(ValueError, match="nothing would be driven"):
        list(empty.drive(tmp_path / "python"))


def test_the_lowest_version_of_everything_is_what_is_tested() -> None:
    assert list(oldest.lowest(["click>=8.1", "PyYAML >= 6.0.2"])) == ["click==8.1", "PyYAML==6.0.2"]
    named = {line.split("==")[0] for line in oldest.lowest(oldest.requirements())}
    assert {"msgspec", "pyzmq", "pyyaml", "rich", "click", "tokenizers"} <= named


@pytest.mark.parametrize("wish", ["click", "click>=8,<9", "click==8", "click>=8; python_version < '3.12'"])
def test_a_dependency_without_a_lowest_version_is_refused(wish: str) -> None:
    with pytest.raises(ValueError, match=r"must be NAME>=VERSION"):
        list(oldest.lowest([wish]))
