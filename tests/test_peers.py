"""The peers' harness: installing, the whole tree of a client's processes, each tool's report, and the tables."""

import dataclasses
import json
import os
import select
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import run_peers
from harness import process
from harness.errors import BenchError
from harness.figures import Spread
from harness.request import Request
from peers import costs
from peers.aiperf import AIPerf
from peers.guidellm import GuideLLM
from peers.inference_perf import InferencePerf
from peers.ours import Ours
from peers.peer import Job, Peer
from peers.plain import K6, Locust, Oha, Wrk
from peers.recipe import Installed, Pip, Present, install
from peers.results import Cost, Results, Start, Truth, tables
from peers.running import Client, counted

REQUEST = Request("/v1/chat/completions", (("Host", "x"), ("Content-Type", "application/json")), b'{"model": "mock"}')
linux = pytest.mark.skipif(sys.platform != "linux", reason="trees of processes are Linux's")


def _peer(kind: type[Peer], home: Path, what: str = "tool==1.2") -> Peer:
    return kind(Installed(home, what, 2_000_000, 3))


def _job(out: Path, *, streamed: bool = True) -> Job:
    return Job("http://127.0.0.1:1", out, out / "tokenizer", REQUEST, streamed)


@dataclasses.dataclass(frozen=True)
class _Fake:
    """A recipe that counts how often it is made."""

    what: str
    made: list[str]
    is_here: bool = False
    fails: bool = False

    def make(self, home: Path, python: str | None, timeout_s: float) -> tuple[int, int]:
        self.made.append(self.what)
        (home / "half").touch()
        if self.fails:
            raise BenchError("no such version")
        return 5, 2


def test_what_is_installed_is_installed_once(tmp_path: Path) -> None:
    made: list[str] = []
    for _ in range(2):
        got = install("tool", _Fake("tool==1", made), tmp_path, python=None, timeout_s=1)
        assert (got.home, got.what, got.bytes, got.packages) == (tmp_path / "tool", "tool==1", 5, 2)
    assert made == ["tool==1"]
    install("tool", _Fake("tool==2", made), tmp_path, python=None, timeout_s=1)
    assert made == ["tool==1", "tool==2"]


def test_a_half_made_environment_is_made_anew(tmp_path: Path) -> None:
    made: list[str] = []
    with pytest.raises(BenchError, match="no such version"):
        install("tool", _Fake("tool==1", made, fails=True), tmp_path, python=None, timeout_s=1)
    install("tool", _Fake("tool==1", made), tmp_path, python=None, timeout_s=1)
    assert made == ["tool==1"] * 2


def test_what_is_here_already_is_looked_up_each_time(tmp_path: Path) -> None:
    made: list[str] = []
    for _ in range(2):
        install("tool", _Fake("tool==1", made, is_here=True), tmp_path, python=None, timeout_s=1)
    assert len(made) == 2


def test_a_system_package_is_never_installed_and_says_how(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"no-such-command is not installed: apt install it"):
        install("tool", Present("no-such-command", "apt install it"), tmp_path, python=None, timeout_s=1)


def test_a_python_that_is_too_old_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match=r"tool==1 needs Python 9.0 or newer, .*: name one with --python"):
        install("tool", Pip("tool==1", (9, 0)), tmp_path, python=sys.executable, timeout_s=60)


def _run(code: str, *, tree: bool) -> process.Finished:
    return process.run([sys.executable, "-S", "-c", code], timeout_s=60, tree=tree)


# A child that its parent doesn't wait for, and that works on after it is gone.
_ORPHAN = """
import os, time
if os.fork() == 0:
    os.setsid()
    until = time.process_time() + 0.5
    while time.process_time() < until: pass
    os._exit(0)
"""


@linux
def test_the_cpu_of_processes_that_outlive_their_parent_is_counted() -> None:
    assert _run(_ORPHAN, tree=False).cpu_s < 0.5 <= _run(_ORPHAN, tree=True).cpu_s


@linux
def test_what_leaves_the_group_is_ended_with_the_rest(tmp_path: Path) -> None:
    told = tmp_path / "pid"
    code = f"""
import os, time
from pathlib import Path
if os.fork() == 0:
    os.setsid()
    Path({str(told)!r}).write_text(str(os.getpid()))
time.sleep(600)
"""
    watched: list[int] = []

    def until_told(_: int) -> None:
        if told.exists() and (pid := told.read_text()):
            watched.append(os.pidfd_open(int(pid)))
            raise InterruptedError

    with pytest.raises(InterruptedError):
        process.run([sys.executable, "-c", code], timeout_s=60, watch=until_told, tree=True)
    assert select.select(watched, [], [], 10)[0] == watched
    os.close(watched[0])


@linux
def test_the_memory_of_all_processes_together_is_seen(tmp_path: Path) -> None:
    code = """
import os, time
held = os.urandom(1) * 40_000_000
if os.fork() == 0:
    own = os.urandom(1) * 60_000_000
    time.sleep(3)
    os._exit(0)
os.wait()
"""

    class Holder(Peer):
        name, sees, recipe = "holder", "", _Fake("x", [])
        lengths = {"A": (1, 2), "B": (1, 2)}  # noqa: RUF012

        def closed(self, job: Job, length: int, connections: int = 1) -> process.Command:
            return [sys.executable, "-c", code]

    client = Client(_peer(Holder, tmp_path), tmp_path, tmp_path, {True: REQUEST}, 60.0)
    with client.job("", streamed=True) as job:
        _, memory = client.run(job, lambda job: client.peer.closed(job, 1))
    # The forty are shared, and count once.
    assert 100e6 < memory.peak_bytes < 140e6


def _statuses(**counts: int) -> dict[str, Any]:
    return {"statuses": counts, "chunks": 12, "finished": 3}


def test_units_are_what_the_server_did() -> None:
    assert counted(_statuses(**{"200": 3}), streamed=True) == 12
    assert counted(_statuses(**{"200": 3}), streamed=False) == 3
    with pytest.raises(BenchError, match=r"the server refused requests: \{'404': 2\}"):
        counted(_statuses(**{"200": 3, "404": 2}), streamed=True)
    with pytest.raises(BenchError, match="no request reached the server"):
        counted({"statuses": {}, "chunks": 0, "finished": 0}, streamed=True)


@pytest.mark.parametrize(
    ("kind", "name", "report", "said"),
    [
        (
            AIPerf,
            "artifacts/x/profile_export_aiperf.json",
            {"time_to_first_token": {"p50": 51.5, "p99": 60}},
            (51.5, 60),
        ),
        (
            InferencePerf,
            "reports/x/summary_lifecycle_metrics.json",
            {"successes": {"latency": {"time_to_first_token": {"median": 0.0515, "p99": 0.06}}}},
            (51.5, 60),
        ),
        (
            GuideLLM,
            "report.json",
            {
                "benchmarks": [
                    {"metrics": {"time_to_first_token_ms": {"successful": {"percentiles": {"p50": 51.5, "p99": 60}}}}}
                ]
            },
            (51.5, 60),
        ),
        (
            Ours,
            "run/report.json",
            {"phases": [{"type": "warmup"}, {"type": "performance", "metrics": {"ttft": {"p50": 51.5, "p99": 60}}}]},
            (51.5, 60),
        ),
    ],
)
def test_ttft_is_read_from_each_tools_report(
    kind: type[Peer], name: str, report: Any, said: tuple[float, float], tmp_path: Path
) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(report))
    peer, job = _peer(kind, tmp_path), _job(tmp_path)
    ttft = peer.ttft(job)
    assert dataclasses.astuple(ttft) == pytest.approx(said)
    file.write_text("{}")
    with pytest.raises(BenchError, match="the report has nothing at"):
        peer.ttft(job)
    file.unlink()
    with pytest.raises(BenchError, match=r"can't be read|0 files"):
        peer.ttft(job)


@pytest.mark.parametrize("kind", list(run_peers.PEERS.values()))
@pytest.mark.parametrize("streamed", [False, True])
def test_every_peer_has_commands_for_its_loads(kind: type[Peer], streamed: bool, tmp_path: Path) -> None:
    peer, job = _peer(kind, tmp_path), _job(tmp_path, streamed=streamed)
    for shape in ("A", "B"):
        short, long = peer.lengths[shape]
        assert 0 < short < long
    command = [str(word) for word in peer.closed(job, 640)]
    assert Path(command[0]).parent == tmp_path / "bin"
    written = [file.read_text() for file in tmp_path.iterdir() if file.is_file()]
    assert any("640" in text for text in (*command, *written))
    if peer.is_paced:
        assert peer.paced(job, 50, 10)
    else:
        with pytest.raises(BenchError, match="no Poisson arrivals"):
            peer.paced(job, 50, 10)
        with pytest.raises(BenchError, match="tells no TTFT"):
            peer.ttft(job)


def test_clients_of_any_server_send_what_loadgen_sends(tmp_path: Path) -> None:
    for kind, script in ((Wrk, "post.lua"), (K6, "load.js"), (Locust, "load.py")):
        _peer(kind, tmp_path).closed(_job(tmp_path), 10)
        assert "application/json" in (tmp_path / script).read_text()
    assert (tmp_path / "body.json").read_bytes() == REQUEST.body
    assert tmp_path / "body.json" in _peer(Oha, tmp_path).closed(_job(tmp_path), 10)


def _results() -> Results:
    results = Results()
    results.costs = {
        ("loadgen", "A"): Cost(Spread.of([7.0]), Spread.of([20.0])),
        ("loadgen", "B"): Cost(Spread.of([0.1, 0.2, 0.3]), Spread.of([21.0])),
        ("wrk", "A"): Cost(Spread.of([6.0]), Spread.of([6.0])),
    }
    results.truths = {("loadgen", 50): Truth(0.25, -1.5, 50.4, 1.01)}
    results.starts = {
        "loadgen": Start(Spread.of([0.2]), Spread.of([0.02]), Spread.of([0.3])),
        "wrk": Start(Spread.of([0.02]), Spread.of([0.01]), None),
    }
    results.failures = {("k6", "install"): "go is not installed: a|b"}
    return results


def test_the_tables_have_the_cheapest_first_and_ours_in_bold(tmp_path: Path) -> None:
    peers = [_peer(Ours, tmp_path, "loadgen==0.1.0"), _peer(Wrk, tmp_path, "wrk==4.1.0")]
    costs, truths, starts, failures = tables(_results(), peers, [50, 200]).split("\n\n")
    assert costs.splitlines()[2:] == [
        "| wrk 4.1.0 | bytes | 6.00 | – | 6.00 / – |",
        "| **loadgen 0.1.0** | events | 7.00 | 0.200 (0.100–0.300) | 20.0 / 21.0 |",
    ]
    assert truths.splitlines()[2:] == ["| **loadgen 0.1.0** | +0.250 / -1.50 (50/s, 1.01) | – |"]
    assert starts.splitlines()[2:] == [
        "| **loadgen 0.1.0** | 0.200 | 0.0200 | 0.300 | 2.00 MB, 3 packages |",
        "| wrk 4.1.0 | 0.0200 | 0.0100 | – | 2.00 MB, 3 packages |",
    ]
    assert failures.splitlines()[2:] == ["| k6 | install | go is not installed: a\\|b |"]


def test_nothing_measured_has_no_tables() -> None:
    assert tables(Results(), [], [50]) == ""


def _fail(error: Exception) -> None:
    raise error


def test_a_failure_is_noted_and_the_next_goes_on() -> None:
    results = Results()
    with results.guard("k6", "A"):
        _fail(BenchError("it ended\nwith status 3"))
    assert results.failures == {("k6", "A"): "it ended with status 3"}
    with pytest.raises(KeyError), results.guard("k6", "B"):
        _fail(KeyError("a mistake of ours is no failure of theirs"))


def test_who_failed_once_is_left_out_of_the_other_rounds(tmp_path: Path) -> None:
    asked: list[str] = []

    class Broken(Peer):
        name, sees, recipe = "broken", "", _Fake("x", [])
        lengths = {"A": (1, 2), "B": (1, 2)}  # noqa: RUF012

        def closed(self, job: Job, length: int, connections: int = 1) -> process.Command:
            asked.append(job.url)
            return [sys.executable, "-c", "import sys; sys.exit('out of order')"]

    client = Client(_peer(Broken, tmp_path), tmp_path, tmp_path, {False: REQUEST, True: REQUEST}, 60.0)
    results = Results()
    costs.measure([client], 3, results, lambda what: None)
    assert len(asked) == 2
    assert not results.costs
    assert {what for _, what in results.failures} == {"A", "B"}
    assert all("out of order" in why for why in results.failures.values())


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (["--only", "wrk,nonesuch"], "nonesuch is none of wrk, oha"),
        (["--tables", "nothing"], "nothing is none of costs, truth, start"),
        (["--rates", "50,x"], "rates are whole numbers"),
        (["--rates", "0"], "rates are whole numbers"),
    ],
)
def test_a_bad_flag_says_what_there_is(flag: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run_peers.main(flag)
    assert ended.value.code == 2
    assert words in " ".join(capsys.readouterr().err.split())


def test_without_ours_nothing_is_measured_and_the_status_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "bin" / "python"))
    assert run_peers.main(["--only", "wrk", "--home", str(tmp_path / "homes")]) == 1
    out = capsys.readouterr().out
    assert "| loadgen | install |" in out
    assert "run this with the Python that loadgen is installed for" in out
    assert "| loadgen | its request | it isn't installed |" in out


@linux
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_ours_and_wrk_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "told.json"
    flags = ["--only", "wrk", "--rounds", "1", "--rates", "50", "--seconds", "2"]
    assert run_peers.main([*flags, "--home", str(tmp_path / "homes"), "--json", str(out)]) == 0
    told = json.loads(out.read_bytes())
    assert {(cost["client"], cost["shape"]) for cost in told["costs"]} == {
        (client, shape) for client in ("loadgen", "wrk") for shape in "AB"
    }
    assert [truth["client"] for truth in told["truths"]] == ["loadgen"]
    assert {start["client"] for start in told["starts"]} == {"loadgen", "wrk"}
    assert told["failures"] == []
    assert "| **loadgen" in capsys.readouterr().out
