"""The in-process mock server as Python sees it: its life, its refusals, its truth, and what only Python can unpack."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from loadgen import _core

CHAT = "/v1/chat/completions"
PROMPT = {"model": "mock", "messages": [{"role": "user", "content": "hi"}], "stream": True, "max_tokens": 4}


def _post(server: _core.MockServer, body: dict[str, Any], **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=60)
    connection.request("POST", CHAT, json.dumps(body), {"connection": "close", **headers})
    return connection.getresponse()


@pytest.fixture
def server() -> Iterator[_core.MockServer]:
    with _core.MockServer("{}") as server:
        yield server


def test_a_server_answers_a_library_that_it_shares_nothing_with(server: _core.MockServer) -> None:
    before = _core.now_ns()
    lines = _post(server, PROMPT, **{"x-request-id": "py-1"}).read().decode().split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    truth = json.loads(server.truth(rows=True))
    assert truth["rows"]["id"] == ["py-1"]
    assert truth["rows"]["tokens"] == [4]
    assert before <= truth["rows"]["arrival_ns"][0] <= truth["rows"]["first_token_ns"][0] <= _core.now_ns()


def test_truth_by_http_is_the_truth_in_process(server: _core.MockServer) -> None:
    _post(server, PROMPT).read()
    with urllib.request.urlopen(server.url + "/truth?rows=1") as answer:
        by_http = json.load(answer)
    in_process = json.loads(server.truth(rows=True))
    # The question itself came on a connection of its own.
    assert by_http.pop("connections") == in_process.pop("connections") == 2
    assert by_http == in_process
    server.reset_truth()
    assert json.loads(server.truth())["requests"] == 0


def test_a_stopped_server_is_gone_and_may_be_stopped_again() -> None:
    server = _core.MockServer("{}")
    server.stop()
    server.stop()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(server.url + "/health")


def test_bad_configurations_are_value_errors_that_name_the_key() -> None:
    with pytest.raises(ValueError, match="unknown field `ttfd`"):
        _core.MockServer('{"ttfd": 1}')
    with pytest.raises(ValueError, match=r"no fault is called \"crlff\"; did you mean \"crlf\"\?"):
        _core.MockServer('{"faults": ["crlff"]}')


def test_a_port_that_is_taken_is_an_os_error_that_names_it(server: _core.MockServer) -> None:
    port = int(server.url.rpartition(":")[2])
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}"):
        _core.MockServer(json.dumps({"port": port}))


def test_faults_are_listed_with_what_they_do() -> None:
    faults = dict(_core.mock_faults())
    assert len(faults) == len(_core.mock_faults()) > 100
    assert faults["crlf"] == "lines of the stream end with CR LF"


def test_the_gzip_bomb_is_sound_gzip_that_becomes_a_thousand_times_its_size(server: _core.MockServer) -> None:
    answer = _post(server, PROMPT, **{"x-mock-fault": "gzip_bomb"})
    assert answer.headers["content-encoding"] == "gzip"
    unpacked = zlib.decompressobj(wbits=31)
    packed = answer.read()
    # All of it is unpacked, in pieces: zlib checks the checksum at the end, so that a wrong code would show.
    size, rest = 0, packed
    while rest and not unpacked.eof:
        piece = unpacked.decompress(rest, 64 << 20)
        size, rest = size + len(piece), unpacked.unconsumed_tail
    assert unpacked.eof
    assert size > 1000 * len(packed)
    assert len(packed) > 1 << 20
