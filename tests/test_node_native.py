"""A pool's requests are the engine's: whole batches of them, and single ones where Python has a say in each."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from loadgen.dispatch import Answer
from loadgen.dispatch.native import run_requests
from loadgen.dispatch.strategy import Options
from loadgen.errors import ConfigError, RequestError
from loadgen.node import Node, NodePool
from loadgen.node.call import Asking
from loadgen.node.memory import Seen
from loadgen.node.progress import Watch
from loadgen.node.service import NodeService

if TYPE_CHECKING:
    from node_fixtures import Start

WAIT_S = 20.0
TEXTS = [f"text {i}" for i in range(30)]

pytest_plugins = ["node_fixtures"]


def is_native(batch: Any) -> bool:
    """Whether the engine made it: it alone tells of first bytes."""
    return all(one.stats.first_byte is not None for one in batch)


def test_the_engine_makes_a_batch_and_says_where_each_item_went(start: Start) -> None:
    pool = NodePool([{"url": start(ttft=5).url, "name": "a"}, {"url": start(ttft=5).url, "name": "b", "api": "ollama"}])
    batch = pool.embed_batch("mock", TEXTS)
    assert batch.ok
    assert is_native(batch)
    nodes = [one.stats.attempts[one.stats.winner or 0].node for one in batch if one.stats]
    served = {one.name: one.served for one in batch.work}
    assert sorted(served.values()) == sorted([nodes.count(0), nodes.count(1)])
    assert all(count > 0 for count in served.values())
    assert [node.in_flight for node in pool.stats().nodes] == [0, 0]


def test_a_node_that_is_left_out_leaves_the_batch_to_the_engine(start: Start) -> None:
    dead, alive = start(), start()
    url = dead.url
    dead.stop()
    batch = NodePool([url, alive.url]).embed_batch("mock", TEXTS)
    assert batch.ok
    assert is_native(batch)
    assert {one.url: one.served for one in batch.work} == {url: 0, alive.url: len(TEXTS)}


def test_an_item_that_went_nowhere_blames_no_node(start: Start) -> None:
    node = Node(url=start().url, name="n")
    options = Options(strategy="parallel", max_concurrency=1, overrides={"route": {"nodes": [{"slots": 1}]}})

    async def main() -> Any:
        async with asking_of(node, kind="embeddings") as asking:
            service = NodeService(asking, [Seen(node)], Watch(None, ["n"], "embeddings"))
            return await run_requests(options, service, TEXTS[:2], None, None, absent=[0])

    batch = asyncio.run(asyncio.wait_for(main(), WAIT_S))
    assert [str(one.error) for one in batch] == ["the call was given up before it was made"] * 2
    assert [one.stats.attempts for one in batch] == [(), ()]


def test_a_rule_in_python_is_asked_of_each_failure(start: Start) -> None:
    met: list[BaseException] = []

    def rule(error: BaseException) -> None:
        met.append(error)

    pool = NodePool([start(error_rate=0.4).url, start().url], push_back=rule)
    batch = pool.ask_batch("mock", TEXTS, output_tokens=2)
    assert batch.ok
    assert not is_native(batch)
    assert met
    assert all(isinstance(error, RequestError) and error.status == 500 for error in met)
    answers = [answer for answer in batch.check().values if isinstance(answer, Answer)]
    assert len(answers) == len(TEXTS)
    assert all(answer.text and answer.tokens_out == 2 for answer in answers)


def test_a_statuses_rule_needs_no_python(start: Start) -> None:
    # Each node gets an item at once, and this one refuses it: how many more it gets is the machine's affair.
    batch = NodePool([start(error_rate=1).url, start().url], push_back=[500]).embed_batch("mock", TEXTS)
    assert batch.ok
    assert is_native(batch)
    assert batch.totals["push_backs"] > 0


def test_why_a_node_failed_is_said_of_the_node(start: Start) -> None:
    alive = start(ttft=5, capacity=1)  # else it may have done everything before the other one has failed

    async def main() -> Any:
        # A health check would leave it out; what is mapped has none.
        closes = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        url = f"http://127.0.0.1:{closes.sockets[0].getsockname()[1]}"
        async with closes:
            pool = NodePool([{"url": url, "name": "closes"}, {"url": alive.url, "name": "alive"}])
            return await pool.amap(Asking(pool.nodes, "embeddings", "mock"), TEXTS)

    batch = asyncio.run(asyncio.wait_for(main(), WAIT_S))
    assert batch.ok
    work = {one.name: one for one in batch.work}
    assert work["closes"].failed > 0
    assert work["closes"].reason
    assert (work["alive"].served, work["alive"].reason) == (len(TEXTS), "")


def test_what_cant_be_sent_is_refused_before_anything_is(start: Start) -> None:
    server = start()
    with pytest.raises(ConfigError, match="input"):
        NodePool([server.url]).embed_batch("mock", TEXTS, extra_body={"input": "mine"})
    assert json.loads(server.truth())["requests"] == 0


@asynccontextmanager
async def asking_of(*nodes: Node, kind: Any = "chat") -> AsyncIterator[Asking]:
    async with Asking(nodes, kind, "mock") as asking:
        yield asking


@asynccontextmanager
async def answering(raw: bytes) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
            writer.write(raw)
            await writer.drain()
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    ("raw", "failure", "status", "words"),
    [
        (b"HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n", "http", 413, "n answered 413"),
        (b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n", "http", 0, "n answered 404"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n", "protocol", 0, "text/html"),
        (b'HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\n{"data": [7]}', "body", 0, "n answered holds no vectors"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{", "body", 0, "n: "),
    ],
)
def test_a_single_request_that_fails_says_why(raw: bytes, failure: str, status: int, words: str) -> None:
    async def main() -> RequestError:
        async with answering(raw) as url, asking_of(node := Node(url=url, name="n"), kind="embeddings") as asking:
            with pytest.raises(RequestError) as caught:
                asking.value(node, await asking._ask(node, b'{"input":"a"}'))
            return caught.value

    error = asyncio.run(asyncio.wait_for(main(), WAIT_S))
    assert (error.failure, error.status) == (failure, status)
    assert words in str(error)


def test_a_single_request_tells_when_to_come_again() -> None:
    raw = b"HTTP/1.1 429 No\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n"

    async def main() -> RequestError:
        async with answering(raw) as url, asking_of(node := Node(url=url, name="n")) as asking:
            with pytest.raises(RequestError) as caught:
                await asking._ask(node, b'{"messages":[]}')
            return caught.value

    error = asyncio.run(asyncio.wait_for(main(), WAIT_S))
    assert error.headers == {"retry-after-ms": "2000.0"}  # type: ignore[attr-defined]


def test_a_single_request_that_nobody_waits_for_is_cut_off(start: Start) -> None:
    async def main() -> None:
        closed = asyncio.Event()
        begun = asyncio.Event()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            begun.set()
            await reader.read()  # to the end, which comes when the client closes
            writer.close()
            closed.set()

        silent = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
        nodes = [Node(url=url, name="silent"), Node(url=start().url, name="other")]
        async with silent, asking_of(*nodes) as asking:
            waiting = asyncio.ensure_future(asking._ask(nodes[0], b'{"messages":[]}'))
            await begun.wait()
            body = asking.body("chat", "hello")
            assert (await asking._ask(nodes[1], body))[3] == "none"
            waiting.cancel()
            await closed.wait()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(asyncio.wait_for(main(), WAIT_S))


def test_an_address_that_cant_be_used_is_said_at_the_first_request() -> None:
    async def main() -> None:
        node = Node(url="http://127.0.0.1:1", name="n")
        async with asking_of(node) as asking:
            with pytest.raises(RequestError, match=r"n: .*refused") as caught:
                await asking._ask(node, b'{"messages":[]}')
            assert caught.value.failure == "connect"

    asyncio.run(asyncio.wait_for(main(), WAIT_S))
