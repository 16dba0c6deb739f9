"""A pool with the real llama.cpp server as one of its nodes, beside a mock that speaks Ollama's API."""

import json
import math

from conftest import Server, serve_llamacpp

from loadgen import _core
from loadgen.dispatch import Answer
from loadgen.node import NodePool

TEXTS = [f"a sentence about the number {i}" for i in range(60)]


def test_embeddings_come_from_llamacpp_and_from_a_node_of_another_api() -> None:
    mock = _core.MockServer(json.dumps({"ttft": 5, "any_model": True, "models": ["tiny"]}))
    with serve_llamacpp(EMBEDDINGS="1") as real, mock:
        pool = NodePool([{"url": real.url, "name": "real"}, {"url": mock.url, "name": "mock", "api": "ollama"}])
        batch = pool.embed_batch("tiny", TEXTS).check()
        work = {one.name: one for one in batch.work}
        assert work["real"].served > 0
        assert work["mock"].served > 0
        assert work["real"].served + work["mock"].served == len(TEXTS)
        health = {node.name: one for node, one in pool.check().items()}
        assert health["real"].models == ("tiny",)


def test_llamacpps_vectors_are_its_own_for_each_text_in_order() -> None:
    with serve_llamacpp(EMBEDDINGS="1") as real:
        pool = NodePool([real.url])  # one at a time: together, the server rounds them otherwise
        first, again = pool.embed_batch("tiny", TEXTS[:20]).values, pool.embed_batch("tiny", TEXTS[:20][::-1]).values
        for one, other in zip(first, reversed(again), strict=True):
            assert isinstance(one, list)
            assert isinstance(other, list)
            assert math.dist(one, other) < 1e-3, "the same text, the same vector, wherever it stands"
        assert isinstance(first[0], list)
        assert isinstance(first[1], list)
        assert math.dist(first[0], first[1]) > 0


def test_answers_come_from_llamacpp(llamacpp: Server) -> None:
    batch = NodePool([llamacpp.url]).ask_batch("tiny", ["hello", "world"], output_tokens=4).check()
    assert [answer.tokens_out for answer in batch.values if isinstance(answer, Answer)] == [4, 4]
