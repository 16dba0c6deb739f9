"""AIPerf: processes for workers, records and control, over ZMQ."""

from __future__ import annotations

from typing import ClassVar

from harness.process import Command
from peers.peer import CONNECTIONS, Job, Peer, Ttft, only, told, value
from peers.recipe import Pip


class AIPerf(Peer):
    """As its documentation has it, without what looks at GPUs and servers' metrics."""

    name = "AIPerf"
    sees = "events"
    recipe = Pip("aiperf==0.13.0", (3, 11))
    lengths: ClassVar = {"A": (1_000, 4_000), "B": (250, 1_000)}
    needs_tokenizer = True
    is_paced = True

    def closed(self, job: Job, length: int, connections: int = CONNECTIONS) -> Command:
        """A number of requests at a concurrency."""
        return [*self._any(job), "--concurrency", str(connections), "--request-count", str(length)]

    def paced(self, job: Job, rate: int, seconds: int) -> Command:
        """As many requests as the time has of them."""
        load = ("--request-rate", str(rate), "--arrival-pattern", "poisson", "--request-count", str(rate * seconds))
        return [*self._any(job), *load]

    def ttft(self, job: Job) -> Ttft:
        """From its JSON export, in milliseconds."""
        report = told(only(job.out, "profile_export_aiperf.json"))
        return Ttft(value(report, "time_to_first_token", "p50"), value(report, "time_to_first_token", "p99"))

    def _any(self, job: Job) -> Command:
        streaming = ["--streaming"] if job.streamed else []
        return [
            *(self.binary("aiperf"), "profile", "-m", "mock", "--url", job.url, "--endpoint-type", "chat"),
            *("--tokenizer", job.tokenizer, "--isl", "25", "--isl-stddev", "0", "--num-dataset-entries", "64"),
            *("--ui-type", "none", "--artifact-dir", job.out / "artifacts"),
            *("--no-gpu-telemetry", "--no-server-metrics", *streaming),
        ]
