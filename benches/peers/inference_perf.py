"""inference-perf: asyncio and aiohttp in worker processes."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from harness.process import Command
from peers.peer import CONNECTIONS, Job, Peer, Ttft, only, told, value
from peers.recipe import Pip


class InferencePerf(Peer):
    """By a configuration file, which is JSON, and so YAML too."""

    name = "inference-perf"
    sees = "events"
    recipe = Pip("inference-perf==0.7.0", (3, 12))
    lengths: ClassVar = {"A": (1_000, 5_000), "B": (500, 2_500)}
    needs_tokenizer = True
    is_paced = True
    env: ClassVar = {**Peer.env, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}

    def closed(self, job: Job, length: int, connections: int = CONNECTIONS) -> Command:
        """One stage with a number of requests at a concurrency."""
        stage = {"num_requests": length, "concurrency_level": connections}
        return self._any(job, {"type": "concurrent", "stages": [stage]})

    def paced(self, job: Job, rate: int, seconds: int) -> Command:
        """One stage for a time."""
        return self._any(job, {"type": "poisson", "stages": [{"rate": rate, "duration": seconds}]})

    def ttft(self, job: Job) -> Ttft:
        """From its summary, in seconds there."""
        report = told(only(job.out, "summary_lifecycle_metrics.json"))
        where = ("successes", "latency", "time_to_first_token")
        return Ttft(value(report, *where, "median") * 1e3, value(report, *where, "p99") * 1e3)

    def _any(self, job: Job, load: dict[str, Any]) -> Command:
        config = {
            "api": {"type": "chat", "streaming": job.streamed},
            "server": {"type": "vllm", "model_name": "mock", "base_url": job.url, "ignore_eos": True},
            "tokenizer": {"pretrained_model_name_or_path": str(job.tokenizer)},
            "data": {"type": "mock"},
            "load": load,
            "storage": {"local_storage": {"path": str(job.out / "reports")}},
        }
        file = job.out / "config.yml"
        file.write_text(json.dumps(config))
        return [self.binary("inference-perf"), "--config_file", file]
