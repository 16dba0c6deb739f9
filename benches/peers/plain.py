"""Clients for any HTTP server: they count bytes and answers, and know nothing of events and tokens."""

from __future__ import annotations

import json
from typing import ClassVar

from harness.process import Command
from peers.peer import CONNECTIONS, Job, Peer
from peers.recipe import Cargo, Go, Pip, Present

_BYTES = "bytes"

_K6 = """
import http from 'k6/http';
const body = open('./body.json');
const params = {headers: %s, timeout: '60s'};
export const options = {
  scenarios: {all: {executor: 'shared-iterations', vus: %d, iterations: %d, maxDuration: '10m'}},
  discardResponseBodies: true,
};
export default function () { http.post('%s', body, params); }
"""

_LOCUST = """
from pathlib import Path
from locust import FastHttpUser, constant, task

BODY = Path(__file__).with_name("body.json").read_bytes()
HEADERS = {headers!r}


class Caller(FastHttpUser):
    wait_time = constant(0)

    @task
    def call(self):
        self.client.post({path!r}, data=BODY, headers=HEADERS)
"""


class Wrk(Peer):
    """One thread of C, and a script only where the request is made."""

    name = "wrk"
    sees = _BYTES
    recipe = Present("wrk", "apt install wrk")
    by_time = True
    lengths: ClassVar = {"A": (1, 4), "B": (1, 4)}

    def closed(self, job: Job, length: int, connections: int = CONNECTIONS) -> Command:
        """As everywhere in these benches."""
        script = job.out / "post.lua"
        script.write_text(job.request.lua())
        return [
            self.binary("wrk"),
            "-t1",
            f"-c{connections}",
            f"-d{length}s",
            "--timeout",
            "60s",
            "-s",
            script,
            job.target,
        ]


class Oha(Peer):
    """Rust, on hyper."""

    name = "oha"
    sees = _BYTES
    recipe = Cargo("oha@1.16.0")
    lengths: ClassVar = {"A": (20_000, 100_000), "B": (1_000, 5_000)}

    def closed(self, job: Job, length: int, connections: int = CONNECTIONS) -> Command:
        """Without its screen."""
        return [
            *(self.binary("oha"), "--no-tui", "--output-format", "json", "-m", "POST", "-T", "application/json"),
            *("-D", job.body(), "-n", str(length), "-c", str(connections), job.target),
        ]


class K6(Peer):
    """Go, with a script in JavaScript."""

    name = "k6"
    sees = _BYTES
    recipe = Go("go.k6.io/k6@v1.8.0")
    lengths: ClassVar = {"A": (5_000, 30_000), "B": (500, 4_000)}
    env: ClassVar = {**Peer.env, "K6_NO_USAGE_REPORT": "true"}

    def closed(self, job: Job, length: int, connections: int = CONNECTIONS) -> Command:
        """With the bodies thrown away, as its documentation advises for load."""
        job.body()
        script = job.out / "load.js"
        headers = json.dumps(dict(sent(job)))
        script.write_text(_K6 % (headers, min(connections, length), length, job.target))
        return [self.binary("k6"), "run", "--quiet", "--no-color", "--address", "localhost:0", script]


class Locust(Peer):
    """Python on gevent."""

    name = "locust"
    sees = _BYTES
    recipe = Pip("locust==2.47.0")
    by_time = True
    lengths: ClassVar = {"A": (2, 8), "B": (2, 8)}

    def closed(self, job: Job, length: int, connections: int = CONNECTIONS) -> Command:
        """With its quick client."""
        job.body()
        script = job.out / "load.py"
        script.write_text(_LOCUST.format(headers=dict(sent(job)), path=job.request.path))
        return [
            *(self.binary("locust"), "-f", script, "--headless", "--host", job.url, "--json", "--only-summary"),
            *("-u", str(connections), "-r", str(connections), "-t", f"{length}s", "--loglevel", "ERROR"),
        ]


def sent(job: Job) -> list[tuple[str, str]]:
    """The request's headers, less those that every client makes itself."""
    own = ("host", "content-length", "connection")
    return [(name, value) for name, value in job.request.headers if name.lower() not in own]
