"""What is asked of a target before a run: which models a server has, and what a ``mock:`` URL tells it to be."""

import asyncio
import http.server
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import loadgen
from loadgen.cli import app, early
from loadgen.config import resolve
from loadgen.errors import ConfigError, TargetError
from loadgen.session import mock, models
from loadgen.speech import in_flags

pytest_plugins = ["surface_fixtures"]


def test_a_mock_url_tells_the_server_what_to_be() -> None:
    url = (
        "mock:?ttft=50&gap=10ms&output-tokens=uniform:8,16&model=a&model=b&fault=crlf&fault=stop_midstream:share=10%25"
    )
    assert mock.config_of_url(url) == {
        "ttft": 50.0,
        "gap": 10.0,
        "output_tokens": {"uniform": {"low": 8.0, "high": 16.0}},
        "models": ["a", "b"],
        "faults": ["crlf", {"name": "stop_midstream", "share": 0.1}],
    }
    assert mock.config_of_url("mock:") == {}
    assert mock.config_of_url('mock:?ttft={"normal":{"mean":50,"std":5}}') == {
        "ttft": {"normal": {"mean": 50, "std": 5}}
    }


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mock:?ttfd=5", "no option ttfd"),
        ("mock:?ttft", "must look like"),
        ("mock:?ttft=x", "must be a"),
        ("mock:?ttft=1&ttft=2", "given twice"),
        ("mock:?port=80", "is for `loadgen mock`"),
        ("mock:?ttft={", "is not JSON"),
        ("mock:?ttft=gauss:1,2", "must be one value, or one of"),
        ("mock:?fault=crlf:often=1", "must be a fault's name"),
        ("mock:?rate_limit=0", "must be above 0"),
    ],
)
def test_a_bad_mock_url_names_what_is_bad(url: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        mock.config_of_url(url)
    assert words in str(caught.value)


# --- which models a server has


class _Handler(http.server.BaseHTTPRequestHandler):
    answers: dict[str, tuple[int, bytes]]
    seen: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        self.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        status, body = self.answers.get(self.path, (404, b"{}"))
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...

    def address_string(self) -> str:
        return ""


class _UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


@contextmanager
def serving(answers: dict[str, tuple[int, bytes]], unix: Path | None = None) -> Iterator[tuple[str, list[Any]]]:
    handler = type("Handler", (_Handler,), {"answers": answers, "seen": []})
    server: Any
    if unix is None:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        url = f"http://127.0.0.1:{server.server_address[1]}"
    else:
        server = _UnixServer(str(unix), handler)
        url = f"unix:{unix}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield url, handler.seen  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def listed(*names: str) -> bytes:
    return json.dumps({"object": "list", "data": [{"id": name, "object": "model"} for name in names]}).encode()


def config_for(url: str, **given: Any) -> Any:
    return resolve(url, {"concurrency": 1, "requests": 1, **given})


@pytest.mark.parametrize("tail", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
def test_models_are_asked_where_the_base_url_says(tail: str) -> None:
    with serving({"/v1/models": (200, listed("tiny"))}) as (url, seen):
        assert models.only(config_for(url + tail), "sk-a") == "tiny"
    assert seen[0][1]["authorization"] == "Bearer sk-a"


def test_models_are_asked_below_a_prefix_and_with_the_users_headers() -> None:
    with serving({"/gate/v1/models?v=1": (200, listed("tiny"))}) as (url, seen):
        config = config_for(f"{url}/gate?v=1", header={"Authorization": "Custom x"})
        assert models.only(config, None) == "tiny"
    assert seen[0][1]["authorization"] == "Custom x"


@pytest.mark.parametrize("value", ["é", "€"])
def test_a_header_is_sent_in_utf_8_as_the_engine_sends_it(value: str) -> None:
    with serving({"/v1/models": (200, listed("tiny"))}) as (url, seen):
        assert models.only(config_for(url, header=[f"X-Key: {value}"]), None) == "tiny"
    assert seen[0][1]["x-key"].encode("latin-1").decode() == value


def test_userinfo_becomes_basic_authorisation() -> None:
    with serving({"/v1/models": (200, listed("tiny"))}) as (url, seen):
        models.ask(config_for(url.replace("//", "//user:p%40ss@")), None)
    assert seen[0][1]["authorization"] == "Basic dXNlcjpwQHNz"


def test_models_are_asked_through_a_unix_socket(tmp_path: Path) -> None:
    with serving({"/v1/models": (200, listed("tiny"))}, tmp_path / "s") as (url, _):
        assert models.only(config_for(url), None) == "tiny"


def test_models_are_asked_through_the_proxy_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with serving({"http://far.example:81/v1/models": (200, listed("tiny"))}) as (proxy, seen):
        config = config_for("http://far.example:81", proxy=proxy.replace("//", "//u:p@"))
        assert models.only(config, None) == "tiny"
    assert seen[0][1]["proxy-authorization"] == "Basic dTpw"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, listed("a", "b")), "the server has 2 models: a, b"),
        ((200, listed()), "lists no model"),
        ((200, b"<html>"), "did not answer with a list of models"),
        ((200, b'{"data": [{"name": "x"}]}'), "did not answer with a list of models"),
        ((302, b""), "answered 302"),
    ],
)
def test_without_exactly_one_model_the_user_is_asked_to_name_it(answer: tuple[int, bytes], words: str) -> None:
    with serving({"/v1/models": answer}) as (url, _), pytest.raises(TargetError) as caught:
        models.only(config_for(url), None)
    assert words in caught.value.message
    assert "model" in caught.value.way_out


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_lets_nobody_in_is_a_matter_of_the_key(status: int) -> None:
    with serving({"/v1/models": (status, b"{}")}) as (url, _), pytest.raises(TargetError) as caught:
        models.only(config_for(url), None)
    assert caught.value.message == f"{url}/v1/models answered {status}"
    assert "check the API key: api_key_env=NAME" in caught.value.way_out


def test_an_unreachable_server_is_named_without_its_credentials(here: Path) -> None:
    with pytest.raises(TargetError) as caught:
        loadgen.run("http://u:canary@127.0.0.1:9", concurrency=1, requests=1)
    assert caught.value.message == "can't ask http://127.0.0.1:9/v1/models: connection refused"
    assert list(here.iterdir()) == []


def test_who_can_not_be_reached_is_looked_for_where_the_connection_goes(here: Path) -> None:
    for proxy, way_out in (
        (None, "is the server up, and the URL right?"),
        ("http://u:canary@127.0.0.1:9", "is the proxy http://127.0.0.1:9 up, and the server behind it?"),
    ):
        with pytest.raises(TargetError) as caught:
            loadgen.run("http://127.0.0.1:9", concurrency=1, requests=1, proxy=proxy)
        assert caught.value.way_out == f"no model was named, so the server was asked; {way_out}"
        assert early_stop(f"http://127.0.0.1:9{'' if proxy is None else '/v1'}", proxy=proxy) == way_out


def test_a_server_without_tls_is_a_matter_of_the_scheme(here: Path) -> None:
    with serving({"/v1/models": (200, listed("tiny"))}) as (url, _):
        secure = url.replace("http:", "https:")
        with pytest.raises(TargetError) as caught:
            loadgen.run(secure, concurrency=1, requests=1)
        what = "the server does not speak TLS on this port"
        assert caught.value.message == f"no secure connection to {secure}/v1/models: {what}"
        assert caught.value.way_out.endswith("; does it speak TLS there? Else the URL begins with http://")
        assert early_stop(secure) == "does it speak TLS there? Else the URL begins with http://"
        assert early_stop(secure, http2=True) == "does it speak HTTP/2? Without --http2 it is asked for HTTP/1.1"


def test_a_server_that_waits_for_more_of_a_tls_greeting_may_be_one_without_tls(here: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = config_for(f"https://127.0.0.1:{silent.getsockname()[1]}", connect_timeout="50ms")
        with pytest.raises(TargetError, match=r"did not answer within 0\.05 s") as caught:
            models.ask(config, None)
        way_out = "is the server up, and does it speak TLS there? Else the URL begins with http://"
        assert early_stop(config.url, connect_timeout="50ms") == caught.value.way_out == way_out


@pytest.mark.parametrize("model", ["tiny", "llama3", "llama3:latest", "tiny:online"])
@pytest.mark.filterwarnings("error")
def test_a_model_that_is_listed_or_a_variant_of_it_is_no_reason_to_warn(model: str) -> None:
    with serving({"/v1/models": (200, listed("tiny", "llama3:latest"))}) as (url, seen):
        models.warn_if_unlisted(config_for(url), model, "sk-a")
    assert [headers["authorization"] for _, headers in seen] == ["Bearer sk-a"]


@pytest.mark.parametrize(
    ("model", "names", "way_out"),
    [
        ("tini", ("small", "tiny"), "perhaps model='tiny'?"),
        ("gpt-9", ("a", "b"), "it lists a, b"),
        ("x", tuple("abcdefghij"), "it lists a, b, c, d, e, f, g, h, and 2 more"),
    ],
)
def test_a_model_that_is_not_listed_is_warned_of_with_those_that_are(
    model: str, names: tuple[str, ...], way_out: str
) -> None:
    with serving({"/v1/models": (200, listed(*names))}) as (url, _), pytest.warns(RuntimeWarning) as caught:
        models.warn_if_unlisted(config_for(url), model, None)
    words = [str(warning.message) for warning in caught]
    assert words == [f"the server lists no model {model}, and may refuse every call\n{way_out}"]


@pytest.mark.parametrize(
    "answer", [(404, b"{}"), (401, b"{}"), (200, b"<html>"), (200, listed()), (200, listed("openai/*"))]
)
@pytest.mark.filterwarnings("error")
def test_a_server_that_does_not_say_which_models_it_has_is_left_to_its_answers(answer: tuple[int, bytes]) -> None:
    with serving({"/v1/models": answer}) as (url, seen):
        models.warn_if_unlisted(config_for(url), "any", None)
        assert len(seen) == 1
    models.warn_if_unlisted(config_for(url), "any", None)  # nobody listens there any more


def test_a_certificate_that_nobody_vouches_for_shows_how_to_trust_it() -> None:
    config = config_for("https://h", http2=True)
    assert models.insecure(config, unverified=True) == "cacert=FILE trusts its authority, insecure any certificate"


def test_a_file_of_authorities_that_holds_none_is_named(here: Path) -> None:
    (here / "ca.key").write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    with pytest.raises(ConfigError) as caught:
        loadgen.run("https://127.0.0.1:9", concurrency=1, requests=1, cacert="ca.key")
    assert caught.value.message == "cacert ca.key holds no certificate"


def early_stop(url: str, **given: Any) -> str:
    """The way out that the command line names for a run none of whose requests found a connection."""
    result = loadgen.run(url, concurrency=1, requests=3, model="m", **given)
    with in_flags():
        return early.error_of(result, config_for(url, model="m", **given))[1].splitlines()[0]


# --- who is told


def test_python_is_told_of_keywords_and_the_command_line_of_flags(here: Path) -> None:
    with serving({"/v1/models": (200, listed("a", "b"))}) as (url, _):
        with pytest.raises(TargetError) as caught:
            loadgen.run(url, concurrency=1, requests=1)
        with pytest.raises(TargetError) as awaited:
            asyncio.run(loadgen.arun(url, concurrency=1, requests=1))
        session = loadgen.BenchmarkSession(loadgen.HttpIssuer(url))
        with pytest.raises(TargetError) as in_session:
            session.run(
                [
                    loadgen.PhaseConfig(
                        name="p", strategy=loadgen.ConcurrencyStrategy(1), limits=loadgen.Limits(samples=1)
                    )
                ]
            )
        typed = CliRunner().invoke(app, ["run", url, "--concurrency", "1", "--requests", "1"], prog_name="loadgen")
    for error in (caught, awaited, in_session):
        assert error.value.way_out == "name the one to ask for: model='a'"
    assert typed.stderr.endswith("       name the one to ask for: --model a\n")
