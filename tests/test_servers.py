"""The stamping server that truth is compared with: what it says it wrote is what a plain client receives."""

import http.client
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parent / "servers" / "asyncio_sse.py"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    command = [sys.executable, str(SCRIPT), "--ttft", "5", "--gap", "1", "--chunks", "4"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        yield child.stdout.readline().removeprefix("READY http://").strip()
        child.terminate()
        assert child.wait(10) == 0


@pytest.fixture
def connection(server: str) -> Iterator[http.client.HTTPConnection]:
    made = http.client.HTTPConnection(server, timeout=10)
    ask(made, "GET", "/stamps")
    yield made
    made.close()


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> bytes:
    connection.request(method, path, json.dumps(body) if body else None)
    return connection.getresponse().read()


def stamps(connection: http.client.HTTPConnection) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(ask(connection, "GET", "/stamps"))
    return told


@pytest.mark.parametrize(
    ("path", "text"), [("chat/completions", '{"content": "w0 "}'), ("completions", '"text": "w0 "')]
)
def test_a_stream_is_stamped_between_its_sending_and_its_arrival(
    connection: http.client.HTTPConnection, path: str, text: str
) -> None:
    before = time.monotonic_ns()
    wish = {"stream": True, "max_tokens": 3, "stream_options": {"include_usage": True}}
    body = ask(connection, "POST", f"/v1/{path}", wish).decode()
    after = time.monotonic_ns()
    events = body.split("\n\n")
    assert text in events[0]
    assert json.loads(events[4].removeprefix("data: "))["usage"]["completion_tokens"] == 3
    assert events[5:] == ["data: [DONE]", ""]
    (told,) = stamps(connection)
    assert told["finished"]
    assert len(told["writes_ns"]) == 3
    assert before <= told["arrived_ns"] < told["writes_ns"][0] <= told["writes_ns"][1] <= told["writes_ns"][2] <= after


def test_usage_is_told_only_when_asked_for(connection: http.client.HTTPConnection) -> None:
    assert b"usage" not in ask(connection, "POST", "/v1/completions", {"stream": True, "stream_options": {}})


def test_an_answer_that_is_not_streamed_has_one_stamp(connection: http.client.HTTPConnection) -> None:
    told = json.loads(ask(connection, "POST", "/v1/chat/completions", {"n": 1}))
    assert told["choices"][0]["message"]["content"] == "w0 w1 w2 w3 "
    assert [len(one["writes_ns"]) for one in stamps(connection)] == [1]


def test_a_client_that_leaves_is_seen(server: str, connection: http.client.HTTPConnection) -> None:
    leaver = http.client.HTTPConnection(server, timeout=10)
    leaver.request("POST", "/v1/completions", json.dumps({"stream": True, "max_tokens": 1_000_000}))
    leaver.getresponse().read(1)
    leaver.close()
    (told,) = stamps(connection)
    assert not told["finished"]
    assert 0 < len(told["writes_ns"]) < 1_000_000


def test_an_unknown_path_and_the_models(connection: http.client.HTTPConnection) -> None:
    assert b"no such path: /x" in ask(connection, "GET", "/x")
    assert json.loads(ask(connection, "GET", "/v1/models"))["data"][0]["id"] == "asyncio"
