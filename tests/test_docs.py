"""What the documentation names exists: flags, commands, targets, metrics, links, reasons for dependencies."""

import json
import re
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

import cli_page
import readme_page
from loadgen import _core
from loadgen.session import mock
from page_examples import PAGES, ROOT, environment


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        check=False,
    )


def flags() -> dict[str, set[str]]:
    """Every command's own flags."""
    return {
        name: {
            flag
            for option in command.params
            if isinstance(option, click.Option) and not option.hidden
            for flag in option.opts + option.secondary_opts
        }
        for name, command in cli_page.commands().items()
    }


def test_every_flag_a_page_names_exists() -> None:
    known = set().union(*flags().values()) | {"--help", "--version"}
    others = {"--exclude", "--no-fail-fast"}
    for page in PAGES:
        # Only in code, and only of loadgen: pip's and make's lines have their own.
        code = [
            line for line in re.findall(r"`([^`\n]+)`", page.read_text()) if not line.startswith(("pip ", "cargo "))
        ]
        named = {flag for text in code for flag in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", text)}
        if page.name == "moving.md":  # whose table names those of others, and test_elsewhere.py looks at them
            rows = [row.partition(" | ")[2] for row in page.read_text().splitlines() if row.startswith("| `")]
            named -= set(re.findall(r"--[a-z][a-z0-9-]*", " ".join(rows)))
        assert named - known - others == set(), page.name


def test_every_weakened_ordering_stands_on_the_lock_free_page_as_rejected() -> None:
    page = (ROOT / "docs" / "lock-free.md").read_text()
    rust = ROOT / "rust" / "src"
    weakened = re.findall(
        r'^ +\("(the [^"]+)", ',
        "".join((rust / "series" / n).read_text() for n in ("orders.rs", "model.rs")),
        re.MULTILINE,
    )
    tests = re.findall(
        r"^ +(without_\w+): [A-Z]+;$",
        "".join((rust / n).read_text() for n in ("event/ring.rs", "bell.rs")),
        re.MULTILINE,
    )
    assert (len(weakened), len(tests)) == (8, 6)
    for name in weakened:
        assert f": rejected without {name}\n" in page
    for name in tests:
        assert f"{name} - should panic ... ok\n" in page


def test_the_command_lines_pages_are_what_help_says() -> None:
    shown: set[str] = set()
    for path in cli_page.pages():
        page = path.read_text()
        found = cli_page.named(page)
        assert all(cli_page.page_of(name) == path for name in found)
        assert page == cli_page.refreshed(page), "refresh it: .venv/bin/python tests/cli_page.py"
        shown |= found
    assert shown == set(cli_page.commands())


def test_the_metrics_page_defines_each_metric_in_the_reports_own_words(tmp_path: Path) -> None:
    done = run(["loadgen", "run", "mock:?error_rate=0.5", "--requests", "20", "--concurrency", "2", "--json"], tmp_path)
    metrics = json.loads(done.stdout)["phases"][0]["metrics"]
    page = (ROOT / "docs" / "metrics.md").read_text()
    missing = {name for name in metrics if f"| `{name}` | " not in page}
    assert missing == set()
    told = {name: metric["definition"] for name, metric in metrics.items() if metric is not None}
    assert {name for name, words in told.items() if f"| `{name}` | {words} |" not in page} == set()
    assert {"ttft", "failed_latency", "latency", "tpot"} <= told.keys()


def test_the_reports_page_has_each_key_of_its_schema() -> None:
    schema = json.loads((ROOT / "python" / "loadgen" / "report" / "report.schema.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
    parts = dict(part.split("\n", 1) for part in page.split("\n## ")[1:])
    defined = {"phases": "phase", "A metric": "metric"}
    sections = ("run", "phases", "counts", "throughput", "goodput", "A metric", "tokens", "series", "trust")
    for name in sections:
        keys = schema["$defs"][defined.get(name, name)]["properties"].keys()
        rows = "".join(row.split(" | ")[0] for row in re.findall(r"^\| .+$", parts[name], re.MULTILINE)) or parts[name]
        named = {word for word in re.findall(r"`(\w+)`", rows) if not re.fullmatch(r"p\d+(_\d+)?", word)}
        assert keys - set(re.findall(r"`(\w+)`", parts[name])) == set(), name
        assert named - keys == set(), name


def test_the_mock_servers_page_has_its_options() -> None:
    rows = [
        line.split("|")[1]
        for line in (ROOT / "docs" / "mock.md").read_text(encoding="utf-8").splitlines()
        if "|" in line
    ]
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(mock.OPTIONS)


def test_the_formats_page_names_each_column_of_a_request() -> None:
    _, _, told = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8").partition("## From Python")
    assert {name for name, _ in _core.row_columns()} <= set(re.findall(r"`(\w+)`", told))


def test_every_command_and_target_a_page_names_exists() -> None:
    known = set(cli_page.commands())
    groups = {name.split()[0] for name in known if " " in name}
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        text = page.read_text()
        code = [*re.findall(r"`([^`\n]+)`", text), *re.findall(r"^ *\$ (.*)$", text, re.MULTILINE)]
        for words in (re.findall(r"[\w-]+", line) for line in code if line.startswith(("loadgen ", "make "))):
            if words[0] == "make":
                assert words[1] in targets, (page.name, words)
            elif words[1] in groups and len(words) > 2:
                assert f"{words[1]} {words[2]}" in known, (page.name, words)
            else:
                assert words[1] in known | groups | {"COMMAND"}, (page.name, words)


def test_on_a_package_index_every_link_of_the_readme_is_whole() -> None:
    # That of a release's source distribution has been rewritten already, and stays as it is.
    page = readme_page.absolute((ROOT / "README.md").read_text(), "https://host/owner/loadgen/", "v1.2.3")
    targets = re.findall(r"\]\(([^)]+)\)", page)
    assert len(targets) > 20
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert readme_page.absolute(page, "https://other/owner/loadgen", "v2") == page


def test_a_link_leads_to_the_release_and_a_picture_to_its_bytes() -> None:
    page = "[pages](docs/index.md#start) ![a picture](docs/a.svg) [here](#there) [site](https://host/x)"
    assert readme_page.absolute(page, "https://host/owner/loadgen/", "v1.2.3") == (
        "[pages](https://host/owner/loadgen/blob/v1.2.3/docs/index.md#start) "
        "![a picture](https://host/owner/loadgen/raw/v1.2.3/docs/a.svg) [here](#there) [site](https://host/x)"
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_dependency_has_its_reason() -> None:
    cargo = tomllib.loads((ROOT / "Cargo.toml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*cargo["dependencies"], *cargo["dev-dependencies"]}
    wanted |= {name for target in cargo.get("target", {}).values() for name in target.get("dependencies", {})}
    wanted |= {re.split(r"[<>=;\[ ]", wish)[0] for wish in project["dependencies"]}
    wanted |= set(project["optional-dependencies"])
    words = set(re.findall(r"[\w-]+", (ROOT / "docs" / "decisions.md").read_text()))
    assert wanted - words == set()


def test_every_public_file_names_no_machine_and_no_registry() -> None:
    forbidden = re.compile(
        r"/work/|/root/|" + r"pypi\.org|" + r"files\.python" + r"hosted|static\.crates|index\.crates"
    )
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    named = []
    for name in filter(None, tracked.stdout.split("\0")):
        path = ROOT / name
        if path == Path(__file__) or path.suffix == ".lock" or not path.is_file():
            continue
        if forbidden.search(path.read_text(errors="replace")):
            named.append(name)
    assert named == []
