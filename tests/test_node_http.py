"""A pool over mock servers that speak OpenAI's and Ollama's API: embeddings, answers, health checks, failover."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from loadgen import _core
from loadgen.dispatch import Answer
from loadgen.errors import ConfigError, NodeError, RequestError
from loadgen.node import Node, NodeBatch, NodePool
from loadgen.node.group import Groups

if TYPE_CHECKING:
    from node_fixtures import Start

WAIT_S = 20.0
TEXTS = [f"text {i}" for i in range(40)]

pytest_plugins = ["node_fixtures"]


def answers_of(batch: NodeBatch[Answer]) -> list[Answer]:
    return [answer for answer in batch.check().values if isinstance(answer, Answer)]


def requests_of(server: _core.MockServer) -> int:
    return int(json.loads(server.truth())["requests"])


@pytest.mark.parametrize("api", ["openai", "ollama"])
def test_embeddings_come_in_order_from_both_apis(start: Start, api: str) -> None:
    pool = NodePool([{"url": start().url, "api": api}, {"url": start().url, "api": api}])
    batch = pool.embed_batch("mock", TEXTS)
    assert batch.ok
    assert len(batch) == len(TEXTS)
    assert all(isinstance(vector, list) and isinstance(vector[0], float) for vector in batch.values)
    assert sum(one.served for one in batch.work) == len(TEXTS)
    assert all(one.stats.tokens_in > 0 for one in batch if one.stats)


@pytest.mark.parametrize("api", ["openai", "ollama"])
def test_a_request_carries_as_many_texts_as_the_node_takes(start: Start, api: str) -> None:
    alone, together = start(), start()
    one_by_one = NodePool([{"url": alone.url, "api": api}]).embed_batch("mock", TEXTS)
    batch = NodePool([{"url": together.url, "api": api, "batch": 16}]).embed_batch("mock", TEXTS)
    assert batch.ok
    assert len(batch.values) == len(TEXTS) == requests_of(alone)
    assert requests_of(together) <= 12, "a batch of 16 at first, and then what waits"
    tokens = [sum(one.stats.tokens_in for one in done if one.stats) for done in (one_by_one, batch)]
    assert tokens[0] == pytest.approx(tokens[1], rel=0.5)


def test_a_group_that_is_refused_for_one_texts_sake_is_sent_in_halves() -> None:
    sent: list[list[str]] = []

    async def send(node: Node, texts: Sequence[str]) -> list[str]:
        sent.append(list(texts))
        if "poison" in texts:
            raise RequestError("no", failure="http", status=400)
        return [text.upper() for text in texts]

    async def main() -> list[Any]:
        groups = Groups(send, bound.append)
        node = Node(url="http://a", batch=8)
        return await asyncio.gather(
            *(groups.ask(node, text) for text in ("a", "poison", "b", "c")), return_exceptions=True
        )

    bound: list[int] = []
    first, poison, *last = asyncio.run(main())
    assert (first, *last) == ("A", "B", "C")
    assert isinstance(poison, RequestError)
    assert sent == [["a", "poison", "b", "c"], ["a", "poison"], ["a"], ["poison"], ["b", "c"]]
    assert bound == [], "one text was at fault, not their number"


@pytest.mark.parametrize(
    "refusal", [(413, "too large"), (400, "array too long"), (500, "CUDA out of memory"), (503, "failed to allocate")]
)
def test_a_group_that_is_refused_for_its_size_shows_how_many_the_node_takes(refusal: tuple[int, str]) -> None:
    sent: list[int] = []
    bound: list[int] = []

    async def send(node: Node, texts: Sequence[str]) -> list[str]:
        sent.append(len(texts))
        if len(texts) > 3:
            raise RequestError(refusal[1], failure="http", status=refusal[0])
        return [text.upper() for text in texts]

    async def main() -> None:
        groups = Groups(send, bound.append)
        node = Node(url="http://a", batch=12)
        texts = [f"text {i}" for i in range(12)]
        for _ in range(2):
            assert await asyncio.gather(*(groups.ask(node, text) for text in texts)) == [t.upper() for t in texts]

    asyncio.run(main())
    assert sent[:7] == [12, 6, 3, 3, 6, 3, 3]
    assert sent[7:] == [3, 3, 3, 3], "nothing larger is sent again"
    assert bound == [3]


def test_a_node_that_breaks_down_under_a_group_is_not_asked_for_its_halves() -> None:
    sent: list[int] = []

    async def send(node: Node, texts: Sequence[str]) -> list[str]:
        sent.append(len(texts))
        raise RequestError("the model crashed", failure="http", status=500)

    async def main() -> list[Any]:
        node = Node(url="http://a", batch=8)
        groups = Groups(send, print)
        return await asyncio.gather(*(groups.ask(node, text) for text in "abc"), return_exceptions=True)

    assert all(isinstance(error, RequestError) for error in asyncio.run(main()))
    assert sent == [3]


@pytest.mark.parametrize("api", ["openai", "ollama"])
def test_a_pool_learns_how_many_texts_a_request_carries_and_says_so(start: Start, api: str, tmp_path: Path) -> None:
    server = start(ttft=60)
    nodes = [{"url": server.url, "api": api, "batch": "auto"}]
    texts = [f"text {i}" for i in range(600)]
    pool = NodePool(nodes, state=tmp_path / "state")
    batch = pool.embed_batch("mock", texts)
    assert batch.ok
    first = requests_of(server)
    assert first < 60, "600 texts, ever more of them in a request: 4, 8, 16, 32, 64, …"
    learned = pool.stats().nodes[0]
    assert (learned.learns_batch, learned.batch >= 16) == (True, True)
    assert batch.work[0].speed == pytest.approx(learned.speed)
    later = NodePool(nodes, state=tmp_path / "state")
    assert later.stats().nodes[0].batch == learned.batch
    assert later.embed_batch("mock", texts[: learned.batch]).ok
    assert requests_of(server) - first == 1, "it begins with what was learned"
    assert later.report().rows[0].times is not None


def test_a_group_that_nobody_waits_for_is_cut_off_and_others_go_on() -> None:
    ended: list[str] = []

    async def send(node: Node, texts: Sequence[str]) -> list[str]:
        try:
            await asyncio.sleep(WAIT_S if "slow" in texts else 0)
        except asyncio.CancelledError:
            ended.append("cut off")
            raise
        return list(texts)

    async def main() -> None:
        groups = Groups(send, print)
        node = Node(url="http://a", batch=2)
        slow = [asyncio.ensure_future(groups.ask(node, text)) for text in ("slow", "other")]
        waits = asyncio.ensure_future(groups.ask(node, "waits"))
        await asyncio.sleep(0.01)
        slow[0].cancel()
        await asyncio.sleep(0.01)
        assert ended == [], "the other one still waits for it"
        slow[1].cancel()
        assert await waits == "waits"
        assert ended == ["cut off"]

    asyncio.run(asyncio.wait_for(main(), WAIT_S / 2))


@pytest.mark.parametrize("api", ["openai", "ollama"])
@pytest.mark.parametrize("kind", ["chat", "completions"])
def test_answers_come_from_both_apis(start: Start, api: str, kind: str) -> None:
    pool = NodePool([{"url": start().url, "api": api}])
    batch = pool.ask_batch("mock", ["hello", "world"], kind=kind, output_tokens=3)
    assert batch.ok
    answers = answers_of(batch)
    assert {(answer.tokens_out, answer.finish) for answer in answers} == {(3, "length")}
    assert all(answer.text for answer in answers)


def test_a_chat_takes_whole_conversations(start: Start) -> None:
    pool = NodePool([start().url])
    talk = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hello"}]
    assert answers_of(pool.ask_batch("mock", [talk], output_tokens=2))[0].text


def test_the_two_apis_may_be_mixed_and_the_faster_node_does_more(start: Start) -> None:
    fast, slow = start(ttft=5, capacity=1), start(ttft=150, capacity=1)
    pool = NodePool(
        [{"url": slow.url, "name": "slow", "api": "openai"}, {"url": fast.url, "name": "fast", "api": "ollama"}]
    )
    batch = pool.embed_batch("mock", [f"text {i}" for i in range(60)])
    assert batch.ok
    assert batch.shares["fast"] > 0.6


def test_a_node_without_the_model_gets_nothing(start: Start) -> None:
    right, wrong = start(models=["m"]), start(models=["other"])
    batch = NodePool([{"url": right.url, "name": "right"}, {"url": wrong.url, "name": "wrong"}]).embed_batch("m", TEXTS)
    assert batch.ok
    work = {one.name: one for one in batch.work}
    assert (work["wrong"].served, work["wrong"].reason) == (0, "it has no model m: there are other")
    assert work["right"].served == len(TEXTS)


def test_a_node_of_another_api_is_found_out_before_anything_is_asked_of_it(start: Start) -> None:
    pool = NodePool(["http://127.0.0.1:1", {"url": start().url + "/deep", "name": "odd", "api": "ollama"}])
    with pytest.raises(NodeError) as caught:
        pool.embed_batch("mock", TEXTS)
    words = str(caught.value)
    assert "none of the 2 nodes can be asked" in words
    assert "http://127.0.0.1:1: connection refused" in words
    assert "odd: it answered 404 to /api/tags: does it speak Ollama's API? If not, say api: openai" in words


def test_a_dead_node_is_seen_before_and_left_out(start: Start) -> None:
    dead, alive = start(), start()
    url = dead.url
    dead.stop()
    batch = NodePool([url, alive.url]).embed_batch("mock", TEXTS)
    assert batch.ok
    assert [(one.state, one.reason) for one in batch.work if one.url == url] == [("down", "connection refused")]


def test_a_node_killed_in_the_middle_of_a_batch_loses_nothing(start: Start) -> None:
    victim, other = start(ttft=20), start(ttft=20)
    killer = threading.Event()

    def told(progress: Any) -> None:
        if progress.done >= 10:
            killer.set()

    def kill() -> None:
        assert killer.wait(WAIT_S)
        victim.stop()

    thread = threading.Thread(target=kill)
    thread.start()
    pool = NodePool([{"url": victim.url, "name": "victim"}, {"url": other.url, "name": "other"}], progress=told)
    batch = pool.embed_batch("mock", [f"text {i}" for i in range(120)])
    thread.join(WAIT_S)
    assert batch.ok
    assert len(batch.values) == 120
    assert all(isinstance(vector, list) for vector in batch.values), "none is silently missing"
    work = {one.name: one for one in batch.work}
    assert work["victim"].served > 0
    assert work["victim"].failed > 0
    assert work["victim"].served + work["other"].served == 120


def test_a_server_that_fails_now_and_then_is_asked_again(start: Start) -> None:
    pool = NodePool([start(error_rate=0.3).url, start().url])
    batch = pool.embed_batch("mock", TEXTS)
    assert batch.ok
    assert batch.totals["retries"] > 0


def test_what_a_server_refuses_for_the_item_s_sake_isnt_asked_again(start: Start) -> None:
    server = start()
    batch = NodePool([server.url], copies=0).ask_batch("mock", ["hello"], extra_body={"messages_": 1, "n": -1})
    assert isinstance(batch.errors[0], RequestError)
    assert "answered 4" in str(batch.errors[0])
    stats = batch[0].stats
    assert stats is not None
    assert len(stats.attempts) == 1


def test_modes_that_need_speeds_have_each_node_show_its_own_once(start: Start) -> None:
    servers = [start(ttft=30), start(ttft=1)]
    pool = NodePool([server.url for server in servers], mode="sequential")
    batch = pool.embed_batch("mock", TEXTS)
    assert batch.nodes == (servers[1].url,), "the fastest measured one, not the first"
    assert requests_of(servers[0]) == 1, "one item to measure it"
    pool.embed_batch("mock", TEXTS)
    assert requests_of(servers[0]) == 1, "it is measured by now"


def test_a_probe_measures_every_node(start: Start) -> None:
    pool = NodePool([start(ttft=20).url, start().url])
    assert pool.report(model="mock").unmeasured == tuple(node.name for node in pool.nodes)
    pool.probe("mock")
    report = pool.report((10,))
    assert report.unmeasured == ()
    assert report.rows[0].times is not None
    assert (report.kind, report.model) == ("embeddings", "mock")


def test_health_tells_models_ping_and_memory(start: Start) -> None:
    ollama, openai = start(models=["m:latest"]), start(models=["m"])
    pool = NodePool([{"url": ollama.url, "api": "ollama", "name": "o"}, {"url": openai.url, "name": "p"}])
    health = {node.name: one for node, one in pool.check().items()}
    assert (health["o"].models, health["p"].models) == (("m:latest",), ("m",))
    assert health["o"].lacks("m") == "", "the tag may be left out"
    assert (health["o"].vram_bytes, health["p"].vram_bytes) == (4_000_000_000, None)
    assert all(one.ping_s is not None and one.ping_s > 0 for one in health.values())


def test_a_server_that_wants_a_key_is_given_it_and_never_shows_it(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start(api_key="secret-key")
    with pytest.raises(NodeError, match=r"it answered 401 to /v1/models: say api_key_env"):
        NodePool([server.url]).embed_batch("mock", TEXTS)
    monkeypatch.setenv("NODE_KEY", "secret-key")
    pool = NodePool([Node(url=server.url, api_key_env="NODE_KEY")])
    batch = pool.embed_batch("mock", TEXTS)
    assert batch.ok
    assert "secret-key" not in repr((pool, pool.nodes, batch, batch.work, pool.stats()))
    monkeypatch.delenv("NODE_KEY")
    with pytest.raises(ConfigError, match="names the environment variable NODE_KEY, which is not set"):
        pool.embed_batch("mock", TEXTS)


def test_a_journal_resumes_a_batch(start: Start, tmp_path: Any) -> None:
    server = start()
    pool = NodePool([server.url], journal=tmp_path / "done.jsonl")
    first = pool.ask_batch("mock", ["a", "b"], output_tokens=2)
    asked = requests_of(server)
    again = pool.ask_batch("mock", ["a", "b"], output_tokens=2)
    assert again.values == first.values
    assert requests_of(server) == asked


async def _answer(raw: bytes) -> tuple[asyncio.Server, str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(raw)
            await writer.drain()
            if b"onnection: close" in raw or b"ength" not in raw:
                writer.close()
                return

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return server, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


MODELS = b'{"data":[{"id":"m"}]}'


@pytest.mark.parametrize(
    ("raw", "up", "reason"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n" + MODELS, True, ""),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n15;x=y\r\n" + MODELS + b"\r\n0\r\nLength: 1\r\n\r\n",
            True,
            "",
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n" + MODELS, True, ""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n" + MODELS, True, ""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\nConnection: close\r\n\r\n" + MODELS, False, "ended too early"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", False, "the answer's length 'x' is none"),
        (b"SSH-2.0-OpenSSH\r\nlength\r\n\r\n", False, "does not speak HTTP/1.1"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", False, "are no models"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", True, ""),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", False, "it answered 500 to /v1/models"),
    ],
)
def test_answers_of_any_form_are_read_and_what_is_none_is_a_reason(raw: bytes, up: bool, reason: str) -> None:
    async def main() -> None:
        server, url = await _answer(raw)
        async with server:
            (health,) = (await NodePool([url]).acheck()).values()
        assert health.up is up
        assert reason in health.reason

    asyncio.run(asyncio.wait_for(main(), WAIT_S))
