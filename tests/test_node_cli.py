"""``loadgen nodes``, and the file it reads: reports before and after learning, figures, batches, refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from loadgen import _core
from loadgen.cli.nodes.table import compared, report_lines, stats_lines
from loadgen.errors import ConfigError
from loadgen.node import NodePool
from loadgen.node.memory import Speed

ROOT = Path(__file__).parents[1]
WAIT_S = 60.0


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """A directory with a pool of four nodes of unequal speed, and a file of texts."""
    with ExitStack() as stack:
        times = {"gpu-box": 2, "laptop-1": 60, "laptop-2": 60, "laptop-3": 90}
        lines = ["nodes:"]
        for number, (name, ttft) in enumerate(times.items()):
            server = stack.enter_context(_core.MockServer(json.dumps({"ttft": ttft, "capacity": 1})))
            label, api = ("cpu", "openai") if number else ("gpu", "ollama")
            lines.append(f"  - {{url: '{server.url}', name: {name}, labels: [{label}], api: {api}}}")
        (tmp_path / "nodes.yaml").write_text("\n".join([*lines, "state: learned"]))
        (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "number {i}"}}\n' for i in range(60)))
        yield tmp_path


def loadgen(here: Path, *words: str, code: int = 0) -> tuple[str, str]:
    env = {name: value for name, value in os.environ.items() if name != "LOADGEN_NODE_MODE"}
    done = subprocess.run(
        [sys.executable, "-m", "loadgen", "nodes", *words],
        cwd=here,
        env=env,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_report_and_stats_before_and_after_a_batch(here: Path) -> None:
    before, _ = loadgen(here, "report")
    assert "not measured yet: gpu-box, laptop-1, laptop-2, laptop-3" in before
    out, _ = loadgen(here, "run", "texts.jsonl", "--model", "mock", "--out", "vectors.jsonl")
    vectors = [json.loads(line) for line in (here / "vectors.jsonl").read_text().splitlines()]
    assert [line["index"] for line in vectors] == list(range(60))
    assert all(len(line["value"]) > 1 for line in vectors)
    assert "60 items: auto (pull_by_free_slot)" in out
    assert "Time saved" in out
    told = json.loads(loadgen(here, "report", "--json")[0])
    assert [row["batch"] for row in told["rows"]] == [10, 50, 100, 200, 500]
    for row in told["rows"]:
        assert row["decision"]["mode"] == "auto"
        assert row["times"]["auto"] <= min(row["times"][mode] for mode in ("sequential", "parallel", "hybrid"))
    stats = {node["name"]: node for node in json.loads(loadgen(here, "stats", "--json")[0])["nodes"]}
    assert sum(node["served"] for node in stats.values()) == 60
    assert stats["gpu-box"]["speed"] > 3 * stats["laptop-1"]["speed"]
    assert stats["gpu-box"]["share"] > 0.5
    assert 300 <= stats["gpu-box"]["health"] <= 400
    assert all(50 <= stats[name]["health"] <= 100 for name in stats if name != "gpu-box")
    assert all(node["state"] == "up" and node["ping_s"] > 0 for node in stats.values())
    shown, _ = loadgen(here, "stats", "-v")
    assert "health = base × state × answered² × steady × near" in shown


def test_a_file_of_answers_is_private_whole_and_sure_before_anything_is_sent(here: Path) -> None:
    (here / "vectors.jsonl").write_text("what was there, longer than what comes\n" * 100_000)
    loadgen(here, "run", "texts.jsonl", "--model", "mock", "--out", "vectors.jsonl", "--quiet")
    assert len((here / "vectors.jsonl").read_text().splitlines()) == 60
    assert (here / "vectors.jsonl").stat().st_mode & 0o777 == 0o600
    _, err = loadgen(here, "run", "texts.jsonl", "--model", "mock", "--out", "no/vectors.jsonl", code=2)
    assert err.startswith("error: can't write --out no/vectors.jsonl: No such file")
    stats = json.loads(loadgen(here, "stats", "--json")[0])["nodes"]
    assert sum(node["served"] for node in stats) == 60, "none for the file that can't be"


def test_the_published_rules_on_the_command_line(here: Path) -> None:
    loadgen(here, "report", "--probe", "--model", "mock")
    told = json.loads(loadgen(here, "report", "--policy", "thresholds", "--json", "--batch", "10")[0])
    (row,) = told["rows"]
    assert (row["decision"]["mode"], row["decision"]["reason"]) == ("sequential", "dominant_node")
    assert row["decision"]["detail"].endswith("x faster - sequential wins")


def test_one_node_that_is_not_measured_hides_no_other() -> None:
    pool = NodePool([{"url": f"http://{name}", "name": name} for name in ("gpu-box", "one", "two", "three")])
    for seen, seconds in zip(pool._memory.seen[1:], (0.1, 0.2, 0.4), strict=True):
        seen.speeds = {("embeddings", "m"): _speed(seconds)}
    report = pool.report((10,))
    (row,) = report.rows
    assert report.unmeasured == ("gpu-box",)
    assert row.times is not None
    assert row.times.sequential == pytest.approx(1.0)
    assert row.recommendation == "auto"
    assert row.decision.detail == (
        "No speed is known yet of gpu-box, shown as it pulls; speed ratio 4.0x of the other 3"
    )
    shown = "\n".join(report_lines(report))
    assert "not measured yet, so the times are without: gpu-box." in shown
    pool._memory.seen[0].speeds = {("embeddings", "m"): _speed(0.05)}
    assert "not measured" not in "\n".join(report_lines(pool.report((10,))))


def test_a_probe_asks_the_only_model_that_is_known(here: Path) -> None:
    loadgen(here, "report", "--probe", "--model", "mock", "--kind", "chat")
    before = json.loads(loadgen(here, "stats", "--json", "--no-check")[0])
    loadgen(here, "report", "--probe")
    after = json.loads(loadgen(here, "stats", "--json", "--no-check")[0])
    assert (after["kind"], after["model"]) == ("chat", "mock")
    assert [node["served"] for node in after["nodes"]] == [node["served"] + 1 for node in before["nodes"]]
    state = json.loads((here / "learned").read_text())
    state["nodes"][0]["speeds"].append({**state["nodes"][0]["speeds"][0], "model": "other"})
    (here / "learned").write_text(json.dumps(state))
    _, err = loadgen(here, "report", "--probe", code=2)
    assert "a probe asks a model, and none is named" in err
    assert "--model NAME, such as mock or other" in err


def test_what_is_expected_of_a_batch_is_told_from_what_it_took_and_left_out_where_a_node_went() -> None:
    pool = NodePool(["http://a", "http://b"])
    for seen in pool._memory.seen:
        seen.speeds = {("embeddings", "m"): _speed(0.1)}
    batch: Any = pool.map(lambda node, item: item, range(10))
    report = pool.report((10,), kind="embeddings", model="m")
    assert compared(report, batch).startswith(" 10 items, expected: auto (pull, tail copied) 0.50 s")
    batch.work = tuple(msgspec.structs.replace(one, state="down") for one in batch.work)
    assert compared(report, batch) == ""


def test_quiet_has_a_short_name(here: Path) -> None:
    assert loadgen(here, "run", "texts.jsonl", "--model", "mock", "--out", "vectors.jsonl", "-q") == ("", "")


def test_values_go_to_standard_output_and_the_table_beside_it(here: Path) -> None:
    out, err = loadgen(here, "run", "texts.jsonl", "--model", "mock", "--kind", "chat", "--output-tokens", "2")
    assert [json.loads(line)["value"]["tokens_out"] for line in out.splitlines()] == [2] * 60
    assert "60 items: auto" in err


def test_a_batch_without_a_node_ends_with_1_and_says_why(here: Path) -> None:
    _, err = loadgen(here, "run", "texts.jsonl", "--model", "mock", "--node", "http://127.0.0.1:1", code=1)
    assert "none of the 1 nodes can be asked: http://127.0.0.1:1: connection refused" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "texts.jsonl"), "no model is named"),
        (("run", "texts.jsonl", "--model", "m", "--field", "prompt"), "line 1: no text in prompt"),
        (("run", "nothing.jsonl", "--model", "m"), "nothing.jsonl"),
        (("report", "--mode", "fast"), "mode 'fast' is none"),
        (("report", "--policy", "rules"), "must be one of auto, thresholds"),
        (("report", "--nodes", "nodes.yaml", "--node", "http://a"), "give one of the two"),
        (("stats", "--nodes", "other.yaml"), "can't read the configuration other.yaml"),
        (("report", "--probe"), "a probe asks a model"),
    ],
)
def test_what_cant_be_is_refused_before_anything_is_sent(here: Path, words: tuple[str, ...], said: str) -> None:
    _, err = loadgen(here, *words, code=2)
    assert said in err


def test_without_nodes_it_says_how_to_name_them(tmp_path: Path) -> None:
    _, err = loadgen(tmp_path, "stats", code=2)
    assert "no nodes given, and there is no nodes.yaml here" in err


def test_the_example_is_a_pool(tmp_path: Path) -> None:
    (tmp_path / "nodes.yaml").write_text((ROOT / "examples" / "nodes.yaml").read_text())
    pool = NodePool.from_yaml(tmp_path / "nodes.yaml")
    assert [(node.name, node.speaks, node.capacity) for node in pool.nodes] == [
        ("gpu-box", "ollama", 2),
        ("laptop", "ollama", None),
        ("http://127.0.0.1:8000", "openai", None),
    ]
    assert pool.mode == "auto"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("mode: auto", "has no list of nodes"),
        ("nodes: http://a", "has no list of nodes"),
        ("nodes: [http://a]\nspeed: 3", "has the unknown key 'speed'"),
        ("nodes: [http://a]\ntop-n: 3", "perhaps top_k?"),
        ("nodes: [http://a, http://a]", "the node http://a is given twice"),
        ("nodes: [{host: a}]", "a node has the unknown key 'host'"),
        ("nodes: [http://a]\nmode: fast", "mode 'fast' is none"),
    ],
)
def test_a_file_that_is_no_pool_says_why(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "nodes.yaml").write_text(content)
    with pytest.raises(ConfigError) as caught:
        NodePool.from_yaml(tmp_path / "nodes.yaml")
    assert words in str(caught.value)


def test_a_files_mode_gives_way_to_the_environment_and_that_to_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "nodes.yaml"
    path.write_text("nodes: [http://a]\nmode: sequential")
    assert NodePool.from_yaml(path).mode == "sequential"
    monkeypatch.setenv("LOADGEN_NODE_MODE", "parallel")
    assert NodePool.from_yaml(path).mode == "parallel"
    assert NodePool.from_yaml(path, mode="hybrid").mode == "hybrid"


def test_a_gpu_that_measures_like_a_cpu_is_flagged() -> None:
    nodes = [{"url": "http://a", "labels": "gpu"}, {"url": "http://b", "labels": "cpu"}]
    pool = NodePool(nodes)

    def call(node: object, item: int) -> int:
        return item

    pool.map(call, range(4))
    for seen, seconds in zip(pool._memory.seen, (1.0, 1.1), strict=True):
        seen.speeds = {("embeddings", "m"): _speed(seconds)}
    lines = "\n".join(stats_lines(pool.stats(kind="embeddings", model="m")))
    assert "labelled gpu, and measures like a CPU" in lines
    pool._memory.seen[0].speeds = {("embeddings", "m"): _speed(0.1)}
    assert [node.flag for node in pool.stats(kind="embeddings", model="m").nodes] == ["", ""]


@pytest.mark.parametrize("width", [80, 100, 120, None])
def test_a_table_leaves_out_what_has_no_room_and_never_a_node(width: int | None) -> None:
    names = ("gpu-box", "laptop-one", "laptop-two")
    pool = NodePool([{"url": f"http://127.0.0.1:1816{at}", "name": name} for at, name in enumerate(names)])
    for seen in pool._memory.seen:
        seen.speeds = {("embeddings", "m"): _speed(0.1)}
    stats = stats_lines(pool.stats(kind="embeddings", model="m"), width=width)
    tables = [stats, report_lines(pool.report((10, 500)), width=width)[:5]]
    for table in tables:
        assert width is None or max(map(len, table)) < width
    assert [line.split()[0] for line in stats[3:]] == list(names)
    assert all(head in stats[2] for head in ("state", "health", "speed", "p95", "errors", "share"))
    assert ("http://127.0.0.1:18160" in stats[3]) is (width in (120, None))


def test_nodes_that_are_called_by_their_urls_are_named_once() -> None:
    (node,) = stats_lines(NodePool([{"url": "http://127.0.0.1:18160"}]).stats())[3:]
    assert node.count("127.0.0.1:18160") == 1
    assert "url" not in stats_lines(NodePool([{"url": "http://127.0.0.1:18160"}]).stats())[2]


def _speed(seconds: float) -> Speed:
    return Speed(seconds, 5.0, 1.0)


def test_names_from_outside_are_harmless_for_a_terminal() -> None:
    pool = NodePool([{"url": "http://a", "name": "bad\u202ename"}])
    shown = "\n".join([*stats_lines(pool.stats()), *report_lines(pool.report())])
    assert "\u202e" not in shown
    assert "\\u202e" in shown
