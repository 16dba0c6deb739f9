"""Runs other clients beside ours, against the same server and in turns, and prints the tables: `make bench-peers`.

Each is installed from its registry into an environment of its own first; what can't be had is left out, and the tables
say why. CPU is that of the whole tree of processes. Everything stays on the loopback interface, and takes some twenty
minutes with all clients there.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from harness import machine, package, process
from harness.clients import Loadgen
from harness.errors import BenchError
from harness.request import Request
from peers import costs, start, truth
from peers.aiperf import AIPerf
from peers.guidellm import GuideLLM
from peers.inference_perf import InferencePerf
from peers.ours import Ours
from peers.peer import Peer
from peers.plain import K6, Locust, Oha, Wrk
from peers.recipe import install
from peers.results import OURS, Results, tables
from peers.running import Client

ROOT = Path(__file__).resolve().parents[1]
PEERS: dict[str, type[Peer]] = {
    peer.name: peer for peer in (Ours, Wrk, Oha, K6, Locust, AIPerf, InferencePerf, GuideLLM)
}
FAMILIES = ("costs", "truth", "start")
_TOKENIZER_S = 300.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Install, measure, print, and return the exit status: 1 if ours could not be measured, 130 after Ctrl-C."""
    options = _parser().parse_args(arguments)
    here = machine.look(ROOT)
    print(here.words())
    if here.busy:
        print("WARNING: the machine is busy; wait until it is quiet before you believe a figure")
    package.compile_it()
    results = Results()
    peers = _installed(options, results)
    status = 0
    if not options.install_only:
        try:
            _measure(options, peers, results)
        except KeyboardInterrupt:
            status = 130
    print(f"\n{tables(results, peers, options.rates)}")
    if options.json is not None:
        kept = {"machine": here.json(), "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), **results.json()}
        options.json.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return status or int(any(name == OURS for name, _ in results.failures))


def _installed(options: argparse.Namespace, results: Results) -> list[Peer]:
    """Install what was asked for; what can't be is a failure of its own."""
    homes: Path = options.home
    homes.mkdir(parents=True, exist_ok=True)
    peers = []
    for name in dict.fromkeys((OURS, *options.only)):
        with results.guard(name, "install"):
            say(f"install: {name}")
            peer = PEERS[name]
            installed = install(name, peer.recipe, homes, python=options.python, timeout_s=options.install_timeout)
            peers.append(peer(installed))
    return peers


def _measure(options: argparse.Namespace, peers: list[Peer], results: Results) -> None:
    with tempfile.TemporaryDirectory(prefix="loadgen-peers-") as made:
        work = Path(made)
        requests: dict[bool, Request] = {}
        # Without ours there is nothing to compare, and no request to give the others.
        with results.guard(OURS, "its request"):
            requests |= _requests(peers, work / "requests")
        if not requests:
            return
        words = _tokenizer(peers, options.home, results)
        clients = [
            Client(peer, work, words, requests, options.timeout)
            for peer in peers
            if not (peer.needs_tokenizer and (peer.name, "tokenizer") in results.failures)
        ]
        if "costs" in options.tables:
            costs.measure(clients, options.rounds, results, say)
        if "truth" in options.tables:
            truth.measure(clients, options.rates, options.seconds, results, say)
        if "start" in options.tables:
            start.measure(clients, options.rounds, results, say)


def _requests(peers: Sequence[Peer], work: Path) -> dict[bool, Request]:
    """Catch what ours sends, plain and streamed."""
    ours = next((peer for peer in peers if peer.name == OURS), None)
    if ours is None:
        raise BenchError("it isn't installed")
    work.mkdir()
    loadgen = Loadgen(ours.binary("loadgen"), work)
    return {False: loadgen.request("--no-stream"), True: loadgen.request()}


def _tokenizer(peers: Sequence[Peer], homes: Path, results: Results) -> Path:
    """Make the tokenizer's directory with the Python of the first peer that can."""
    directory = homes / "tokenizer"
    wanting = [peer for peer in peers if peer.needs_tokenizer]
    if not wanting or (directory / "tokenizer_config.json").is_file():
        return directory
    shutil.rmtree(directory, ignore_errors=True)
    why = ""
    for peer in wanting:
        command: process.Command = [peer.binary("python"), ROOT / "benches" / "peers" / "tokenizer.py", directory]
        try:
            process.checked(process.run(command, timeout_s=_TOKENIZER_S), command)
        except BenchError as error:
            why = str(error)
        else:
            return directory
    for peer in wanting:
        results.failures[peer.name, "tokenizer"] = why
    return directory


def say(what: str) -> None:
    """Tell how far it is, on standard error."""
    print(f"{time.strftime('%H:%M:%S')}  {what}", file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    names = [name for name in PEERS if name != OURS]
    parser.add_argument("--only", type=_names, default=names, metavar="LIST", help=f"some of {','.join(names)}")
    parser.add_argument(
        "--tables", type=_families, default=list(FAMILIES), metavar="LIST", help="of " + ",".join(FAMILIES)
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each has its turn (3)")
    parser.add_argument("--rates", type=_rates, default=[50, 200, 500], metavar="LIST", help="of truth (50,200,500)")
    parser.add_argument("--seconds", type=int, default=10, help="of each run of truth (10)")
    parser.add_argument("--timeout", type=float, default=240.0, metavar="S", help="of one run (240)")
    homes = ROOT / ".venvs" / "peers"
    parser.add_argument("--home", type=Path, default=homes, metavar="DIR", help="their environments (.venvs/peers)")
    parser.add_argument("--python", metavar="PATH", help="the Python of those that need one, 3.12 or newer")
    parser.add_argument("--install-timeout", type=float, default=3_600.0, metavar="S", help="of one step (3600)")
    parser.add_argument("--install-only", action="store_true", help="measure nothing")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all values there")
    return parser


def _names(text: str) -> list[str]:
    return _some(text, [name for name in PEERS if name != OURS])


def _families(text: str) -> list[str]:
    return _some(text, FAMILIES)


def _some(text: str, known: Sequence[str]) -> list[str]:
    lower = {name.lower(): name for name in known}
    asked = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in asked if name.lower() not in lower]
    if unknown or not asked:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown) or repr(text)} is none of {', '.join(known)}")
    return [lower[name.lower()] for name in asked]


def _rates(text: str) -> list[int]:
    try:
        rates = [int(word) for word in text.split(",")]
    except ValueError:
        rates = [0]
    if min(rates) < 1:
        raise argparse.ArgumentTypeError(
            f"rates are whole numbers of at least 1, with commas between them, not {text!r}"
        )
    return rates


if __name__ == "__main__":
    # Ended in order, so that no server and no client outlives it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
