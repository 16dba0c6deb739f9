"""GuideLLM: worker processes around httpx."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from harness.process import Command
from peers.peer import CONNECTIONS, Job, Peer, Ttft, told, value
from peers.recipe import Pip

_BY_REQUESTS = "kind=max_requests,count={}"


class GuideLLM(Peer):
    """With as many workers as this machine has cores; its own default is ten."""

    name = "GuideLLM"
    sees = "events"
    recipe = Pip("guidellm==0.8.1", (3, 12))
    lengths: ClassVar = {"A": (500, 2_000), "B": (250, 1_000)}
    needs_tokenizer = True
    is_paced = True
    env: ClassVar = {
        **Peer.env,
        "GUIDELLM__DISABLE_TELEMETRY": "1",
        "GUIDELLM__MAX_WORKER_PROCESSES": "2",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
    }

    def closed(self, job: Job, length: int, connections: int = CONNECTIONS) -> Command:
        """A number of requests at a concurrency."""
        profile = f"kind=concurrent,streams={connections}"
        return [*self._any(job), "--profile", profile, "--constraint", _BY_REQUESTS.format(length)]

    def paced(self, job: Job, rate: int, seconds: int) -> Command:
        """For a time."""
        constraint = f"kind=max_duration,seconds={seconds}"
        return [*self._any(job), "--profile", f"kind=poisson,rate={rate}", "--constraint", constraint]

    def ttft(self, job: Job) -> Ttft:
        """From its JSON, in milliseconds, of the requests that succeeded."""
        report = told(job.out / "report.json")
        where = ("benchmarks", 0, "metrics", "time_to_first_token_ms", "successful", "percentiles")
        return Ttft(value(report, *where, "p50"), value(report, *where, "p99"))

    def _any(self, job: Job) -> Command:
        backend: dict[str, Any] = {
            "kind": "openai_http",
            "target": job.url,
            "model": "mock",
            "request_format": "/v1/chat/completions",
        }
        if not job.streamed:
            backend["stream"] = False
        return [
            *(self.binary("guidellm"), "run", "--backend", json.dumps(backend)),
            *("--tokenizer", json.dumps({"kind": "huggingface_auto", "model": str(job.tokenizer)})),
            *("--data", "kind=synthetic_text,prompt_tokens=25,output_tokens=128", "--disable-console-interactive"),
            *("--output", f"kind=json,path={job.out / 'report.json'}"),
        ]
