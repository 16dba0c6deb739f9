"""Small questions to a server: where they go, and who is said to ask."""

import asyncio
import ssl

import pytest

from loadgen import http_get
from loadgen.config import target
from loadgen.node import Node
from loadgen.node.wire import Wire


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("http://h/x", "h", 80),
        ("https://h", "h", 443),
        ("http://h:81", "h", 81),
        ("http://[::1]/v1", "::1", 80),
        ("https://[fe80::1]:9", "fe80::1", 9),
    ],
)
def test_a_connection_leads_to_the_urls_host_and_port(url: str, host: str, port: int) -> None:
    made = http_get.connection(url, 1.0)
    assert (made.host, made.port) == (host, port)


def test_only_https_asks_what_is_trusted() -> None:
    def trusted() -> ssl.SSLContext:
        raise AssertionError("nobody needs it")

    http_get.connection("http://h", 1.0, trusted)
    http_get.connection("unix:/s", 1.0, trusted)
    with pytest.raises(AssertionError, match="nobody needs it"):
        http_get.connection("https://h", 1.0, trusted)


@pytest.mark.parametrize(
    ("url", "key", "said"),
    [
        ("http://h", None, None),
        ("unix:/s@t", None, None),
        ("http://u:p%40ss@h", None, "Basic dTpwQHNz"),
        ("http://u@h", "sk-a", "Bearer sk-a"),
    ],
)
def test_who_asks_is_said_by_the_key_or_else_by_the_url(url: str, key: str | None, said: str | None) -> None:
    assert http_get.headers(url, key).get("Authorization") == said


def test_a_urls_query_is_asked_with_every_path() -> None:
    assert http_get.with_query("http://h/v1?v=1", "/v1/models") == "/v1/models?v=1"
    assert http_get.with_query("http://h", "/v1/models") == "/v1/models"
    assert http_get.with_query("unix:/s?", "/v1/models") == "/v1/models"


@pytest.mark.parametrize("base", ["http://h/x", "http://h/x/", "http://h/x/v1"])
def test_a_base_leads_to_the_paths_of_both_apis(base: str) -> None:
    node = Node(url=base, api="ollama")
    assert [node.at(path) for path in ("/v1/models", "/api/tags")] == ["/x/v1/models", "/x/api/tags"]


def test_two_spellings_of_a_place_are_one() -> None:
    assert len({target.place(url) for url in ("http://h", "http://H:80/", "http://u@h/v1?x=1")}) == 1
    assert target.place("unix:/s") == target.place("unix:///s") == ("unix", "/s")
    assert target.server("http://u@h") != target.server("http://h")


def test_what_is_trusted_is_read_once_for_all_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[ssl.SSLContext] = []
    default = ssl.create_default_context

    def counted() -> ssl.SSLContext:
        made.append(default())
        return made[-1]

    monkeypatch.setattr(ssl, "create_default_context", counted)

    async def ask(urls: list[str]) -> None:
        async with Wire() as wire:
            for url in urls:
                with pytest.raises(ConnectionRefusedError):
                    await wire.get(Node(url=url), "/v1/models")

    asyncio.run(ask(["https://127.0.0.1:9", "https://127.0.0.1:9/x"]))
    assert len(made) == 1
