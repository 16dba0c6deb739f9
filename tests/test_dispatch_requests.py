"""Batches that the engine makes: what is asked, what comes back in which order, and what is cut off."""

import asyncio
import json
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.pretty import pretty_repr

from loadgen import CallTimeoutError, ConfigError, Dispatcher, DispatchError, RequestError, _core
from loadgen.dispatch import Answer, Call, Journal, native_run
from loadgen.dispatch.native_run import NativeRun
from loadgen.dispatch.requests import endpoint_of

QUICK = {"base": 0.001, "most": 0.01}


@contextmanager
def mock(**config: Any) -> Iterator[_core.MockServer]:
    server = _core.MockServer(json.dumps({"any_model": True, **config}))
    try:
        yield server
    finally:
        server.stop()


def truth(server: _core.MockServer) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(server.truth(rows=True))
    return found


async def until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not done():  # noqa: ASYNC110 - the server tells nobody: it is asked
            await asyncio.sleep(0.005)


def test_answers_come_in_the_order_of_their_bodies_however_they_are_given() -> None:
    bodies: list[Any] = [
        "a prompt",
        [{"role": "user", "content": "a conversation"}],
        {"messages": [{"role": "user", "content": "a body"}], "max_tokens": 5},
    ]
    with mock(output_tokens=3) as server:
        batch = Dispatcher("parallel", workers=2).requests(bodies, url=server.url, model="m", output_tokens=2)
    assert batch.ok
    answers = [answer for answer in batch.values if isinstance(answer, Answer) and answer.text and answer.finish]
    assert [answer.tokens_out for answer in answers] == [2, 2, 3]
    assert batch.totals["attempts"] == 3
    stats = batch[2].stats
    assert stats is not None
    assert [(attempt.kind, attempt.status, attempt.outcome) for attempt in stats.attempts] == [("first", 200, "ok")]
    assert stats.tokens_out == 3
    assert 0 <= stats.queued <= (stats.started or 0) <= stats.ended <= batch.wall_s


@pytest.mark.parametrize("stream", [False, True])
def test_failures_are_tried_again_and_each_call_is_settled_once(stream: bool) -> None:
    with mock(error_rate=0.3, seed=4, output_tokens=2) as server:
        dispatcher = Dispatcher("adaptive_ceiling", max_concurrency=8, retry={**QUICK, "attempts": 20, "budget": 1})
        batch = dispatcher.requests([f"prompt {n}" for n in range(60)], url=server.url, stream=stream)
        seen = truth(server)["requests"]
    assert batch.ok
    assert len(batch) == 60
    assert batch.totals["attempts"] == seen > 60
    assert sum(len(stats.attempts) for stats in batch.stats if stats is not None) == seen


def test_where_nobody_listens_the_batch_ends_and_goes_on_once_somebody_does(tmp_path: Path) -> None:
    looks = {"breaker": {"cooldown_s": 0.2, "absent_s": 0.2}}
    with socket.socket() as held, mock(output_tokens=1) as server:
        held.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{held.getsockname()[1]}"
        prompts = [f"prompt {n}" for n in range(40)]
        journal = Journal(tmp_path / "j", config={"url": "the service"})
        ended = Dispatcher("auto", policy=looks, journal=journal).requests(prompts, url=nobody, model="m")
        again = Dispatcher("auto", policy=looks, journal=journal).requests(prompts, url=server.url, model="m")
    assert len(ended.errors) == 40
    assert "Connection refused" in str(ended.errors[0])
    assert 1 <= ended.totals["probes"] < 20, "it did not take as many as somebody who was there once is given"
    assert again.ok
    assert again.totals["restored"] == 0, "nothing was answered, and so nothing kept"


def test_a_failed_call_is_an_error_with_the_servers_words_and_shifts_no_other() -> None:
    with mock(output_tokens=1) as server:
        bodies: list[Any] = ["good", {"messages": [{"role": "user", "content": "bad"}], "n": 1000}, "good as well"]
        batch = Dispatcher("parallel").requests(bodies, url=server.url)
    assert [result.ok for result in batch] == [True, False, True]
    error = batch.errors[1]
    assert isinstance(error, RequestError)
    assert (error.failure, error.status) == ("http", 400)
    assert "n must lie between 1 and 128" in str(error)


def told(stats: Any) -> tuple[str, int, int]:
    """What a trace tells of a call that has these statistics."""
    kinds = [attempt.kind for attempt in stats.attempts]
    return kinds[stats.winner], len(kinds), kinds.count("hedge")


def test_a_stalled_call_is_copied_and_the_loser_is_gone_from_the_server() -> None:
    async def main() -> None:
        with mock(stall_rate=0.5, stall_time="30m", seed=2, output_tokens=1) as server:
            # Where both copies stall, the time limit ends them. Which calls stall is a matter of who comes first:
            # so many make sure that a copy wins somewhere.
            retry = {**QUICK, "attempts": 20, "budget": 1}
            calls: list[Call] = []
            dispatcher = Dispatcher(
                "hedged", hedge_after=0.3, attempt_timeout=1.0, retry=retry, max_concurrency=16, trace=calls.append
            )
            batch = await dispatcher.arequests([f"prompt {n}" for n in range(20)], url=server.url)
            assert batch.ok
            assert batch.totals["hedges_won"] > 0
            # What was told while it went on is what the policy knows at the end.
            known = [(index, *told(stats)) for index, stats in enumerate(batch.stats)]
            assert sorted((call.index, call.kind, call.attempts, call.hedges) for call in calls) == known
            await until(lambda: bool(truth(server)["in_flight"] == 0))
            met = truth(server)
            # Whoever was cut off got no byte and made no token. On a slow machine a copy may come for a call that was
            # only late: then both are answered.
            answered = sum(met["rows"]["tokens"])
            assert answered >= 20
            assert met["left_waiting"] == met["disconnected"] == batch.totals["attempts"] - answered > 0

    asyncio.run(main())


def test_a_call_that_never_ends_is_a_timeout() -> None:
    with mock(stall_rate=1) as server:
        batch = Dispatcher("parallel", attempt_timeout=0.05, retry={**QUICK, "attempts": 2}).requests(
            ["hello"], url=server.url
        )
    assert isinstance(batch.errors[0], CallTimeoutError)
    assert str(batch.errors[0]) == "the call had no answer within the attempt_timeout of 0.05 s, in 2 attempts"
    assert [attempt.outcome for attempt in batch[0].stats.attempts] == ["timed_out", "timed_out"]  # type: ignore[union-attr]


def test_cancelling_the_caller_cuts_off_every_call() -> None:
    async def main() -> None:
        with mock(stall_rate=1) as server:
            task = asyncio.create_task(
                Dispatcher("parallel", workers=3).arequests([f"p{n}" for n in range(10)], url=server.url)
            )
            await until(lambda: bool(truth(server)["requests"] == 3))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await until(lambda: bool(truth(server)["in_flight"] == 0))
            assert truth(server)["requests"] == truth(server)["left_waiting"] == 3

    asyncio.run(main())


def test_a_batch_that_is_cancelled_while_it_connects_leaves_no_connection_behind() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0)
            # It accepts, and never shakes hands.
            url = f"https://127.0.0.1:{server.getsockname()[1]}"
            task = asyncio.create_task(Dispatcher("parallel").arequests(["a"], url=url, connect_timeout=3600))
            connection, _ = await loop.sock_accept(server)
            with connection:
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                connection.settimeout(60)
                while connection.recv(65_536):
                    pass  # until the client has closed it

    asyncio.run(main())


class FakeEngine:
    """Tells of some completions when it is looked at, and of others when it has been stopped."""

    def __init__(self, now: list[Any], then: list[Any]) -> None:
        self.waiting, self.then = now, then
        self.read, self.write = socket.socketpair()
        self.write.send(b"!")

    def fileno(self) -> int:
        return self.read.fileno()

    def take_completions(self) -> list[Any]:
        taken, self.waiting = self.waiting, []
        return taken

    def wait(self, timeout: float) -> None:
        return None

    def stop(self, grace: float) -> None:
        self.waiting, self.then = self.then, []

    def close(self) -> None:
        self.read.close()
        self.write.close()


def test_an_error_at_one_answer_loses_none_of_the_others_nor_those_that_had_come_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def completion(request: int, failure: str) -> tuple[Any, ...]:
        return request, None, None, failure

    engine = FakeEngine(
        [completion(0, "none"), completion(1, "http"), completion(2, "none")],
        [completion(3, "cancelled"), completion(4, "none")],
    )
    monkeypatch.setattr(NativeRun, "_end", lambda run: run.engine.stop(0.0))
    told: list[int] = []

    def ended(one: tuple[Any, ...]) -> None:
        told.append(one[0])
        if one[0] == 0:
            raise ZeroDivisionError("in the trace")

    async def main() -> BaseException:
        broken: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
        run = NativeRun(engine, 0)  # type: ignore[arg-type]
        run.listen(ended, broken.set_result)
        error = await broken
        await run.end()
        engine.close()
        return error

    assert isinstance(asyncio.run(main()), ZeroDivisionError)
    assert told == [0, 1, 2, 4]


def test_a_batch_that_breaks_off_gives_the_answers_that_it_has() -> None:
    def trace(_: Call) -> None:
        if len(seen) == 2:
            raise DispatchError("that is enough")
        seen.append(1)

    seen: list[int] = []
    with mock(output_tokens=1, ttft=5, capacity=1) as server:
        dispatcher = Dispatcher("sequential", trace=trace)
        with pytest.raises(DispatchError, match="that is enough") as raised:
            dispatcher.requests([f"prompt {n}" for n in range(1000)], url=server.url)
    batch = raised.value.batch
    assert len(batch) == 1000
    assert [result.value.tokens_out for result in batch[:3]] == [1, 1, 1]
    unsettled = [result for result in batch if not result.ok]
    assert unsettled
    assert all(result.error is raised.value for result in unsettled)
    assert batch.strategy == "sequential"


def test_a_batch_whose_engine_breaks_down_gives_the_answers_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    class Breaking:
        """An engine that breaks down when it has told of two requests."""

        def __init__(self, config: str) -> None:
            self.engine = _core.Engine(config)
            self.told = 0

        def take_completions(self) -> list[Any]:
            taken = self.engine.take_completions()
            self.told += len(taken)
            return taken

        def wait(self, timeout: float) -> str | None:
            if self.told >= 2:
                raise RuntimeError("a worker panicked")
            return self.engine.wait(timeout)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.engine, name)

    monkeypatch.setattr(native_run, "_core", SimpleNamespace(**{**vars(_core), "Engine": Breaking}))
    with (
        mock(output_tokens=1, stall_rate=0.5, seed=3) as server,
        pytest.raises(DispatchError) as raised,
        pytest.warns(RuntimeWarning, match="as the batch ended: the engine broke down"),
    ):
        Dispatcher("parallel", workers=8).requests([f"prompt {n}" for n in range(8)], url=server.url)
    assert str(raised.value) == "the engine broke down: a worker panicked"
    results = list(raised.value.batch)
    assert sum(result.ok for result in results) >= 2
    assert [result.error for result in results if not result.ok] == [raised.value] * sum(not r.ok for r in results)


def test_a_batch_needs_no_room_in_the_temporary_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: list[list[Path]] = []
    with mock(output_tokens=1) as server:
        dispatcher = Dispatcher("parallel", trace=lambda _: seen.append(list(tmp_path.iterdir())))
        assert dispatcher.requests(["a", "b"], url=server.url).ok
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "full"))
        assert dispatcher.requests(["a"], url=server.url).ok
    # What isn't there while it goes on, no kill can leave behind.
    assert seen == [[], [], []]


def test_values_are_kept_where_the_engine_fails_to_account_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Any) -> None:
        raise DispatchError("the engine broke down: a worker panicked")

    monkeypatch.setattr(NativeRun, "_end", broken)
    with mock(output_tokens=1) as server, pytest.warns(RuntimeWarning, match="the batch is whole.*a worker panicked"):
        batch = Dispatcher("parallel").requests(["a", "b"], url=server.url)
    assert batch.ok
    assert batch[0].stats is None


def test_a_journal_keeps_the_answers_and_what_finished_is_not_asked_again(tmp_path: Path) -> None:
    path = tmp_path / "batch.jsonl"
    prompts = [f"prompt {n}" for n in range(5)]
    with mock(output_tokens=2) as server:
        first = Dispatcher("parallel", journal=path).requests(prompts[:3], url=server.url, model="m")
        again = Dispatcher("parallel", journal=path).requests(prompts, url=server.url, model="m")
        assert truth(server)["requests"] == 5
        assert again.values[:3] == first.values
        assert [result.restored for result in again] == [True, True, True, False, False]
        whole = Dispatcher("parallel", journal=path).requests(prompts, url=server.url, model="m")
        assert whole.totals.keys() == first.totals.keys()
        assert (whole.totals["attempts"], whole.totals["ok"], whole.totals["restored"]) == (0, 0, 5)
        assert (whole.trace.keys(), whole.nodes) == (first.trace.keys(), [])
        with pytest.raises(ConfigError, match="another"):
            Dispatcher("parallel", journal=path).requests(prompts, url=server.url, model="other")


def test_equal_requests_are_asked_once_where_they_are_to_be_coalesced() -> None:
    with mock(output_tokens=1) as server:
        batch = Dispatcher("parallel", coalesce=str).requests(["a", "b", "a", "a"], url=server.url)
        assert truth(server)["requests"] == 2
    assert batch.values[0] is batch.values[2] is batch.values[3]


def test_tokens_that_are_given_hold_calls_back() -> None:
    with mock(output_tokens=1) as server:
        dispatcher = Dispatcher("parallel", workers=8, tpm=60_000, tokens=lambda _: 5_000)
        batch = dispatcher.requests(["a", "b"], url=server.url)
    # A tenth of a minute's worth may go at once: the second waits for its tokens.
    assert batch.stats[1].waits["rate"] > 0  # type: ignore[union-attr]


def test_whoever_watches_is_told_of_each_call_and_of_the_end() -> None:
    calls: list[Call] = []
    seen: list[Any] = []
    with mock(output_tokens=1) as server:
        batch = Dispatcher("parallel", trace=calls.append, progress=seen.append).requests(["a", "b"], url=server.url)
    assert sorted(call.index for call in calls) == [0, 1]
    assert all(call.ok and call.seconds >= 0 for call in calls)
    assert (seen[-1].done, seen[-1].total) == (2, 2)
    assert batch.trace["limit"][-1] == 2


def test_the_api_key_is_sent_and_stands_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-3f9c")
    with mock(api_key="canary-3f9c", output_tokens=1) as server:
        assert Dispatcher("parallel").requests(["a"], url=server.url, api_key_env="CANARY").ok
        refused = Dispatcher("parallel").requests(["a"], url=server.url).errors[0]
    assert isinstance(refused, RequestError)
    assert refused.status == 401
    assert "canary" not in str(refused)


def test_an_empty_batch_sends_nothing() -> None:
    batch = Dispatcher("parallel").requests([], url="http://127.0.0.1:1")
    assert (len(batch), batch.ok, batch.wall_s) == (0, True, 0.0)


@pytest.mark.parametrize(
    ("options", "given", "words"),
    [
        ({}, {"url": "ftp://here"}, "url must begin with http://, https://"),
        ({}, {"url": "mock:?ttft=5"}, "url is no server: start one with `loadgen mock`"),
        ({}, {"url": "http://127.0.0.1:1", "strem": True}, "unknown option strem\nperhaps stream?"),
        ({}, {"url": "http://127.0.0.1:1", "max_tokens": 4}, "unknown option max_tokens\nhere it is output_tokens"),
        ({}, {"url": "http://127.0.0.1:1", "timeout": 9}, "timeout\nthe Dispatcher has it, as attempt_timeout$"),
        ({}, {"url": "http://127.0.0.1:1", "rpm": 60}, "unknown option rpm\nthe Dispatcher has it$"),
        ({}, {"url": ""}, "url must be a URL, such as"),
        ({}, {"url": None}, "url must be a URL, such as"),
        ({}, {"url": "canary@127.0.0.1:1"}, "^url must be a whole URL; perhaps http://127.0.0.1:1$"),
        ({}, {"url": "http://127.0.0.1:1", "proxy": "canary:1"}, "^proxy must begin with http://: no proxy"),
        ({}, {"url": "http://127.0.0.1:1", "api": "embeddings"}, "api 'embeddings' must be one of chat, completions"),
        ({}, {"url": "http://127.0.0.1:1", "extra_body": [1]}, "^extra_body must be a mapping of fields$"),
        ({}, {"url": "http://127.0.0.1:1", "headers": ["X-Key canary"]}, '^headers must look like "Name: value"$'),
        ({}, {"url": "http://127.0.0.1:1", "output_tokens": 0}, "output_tokens"),
        ({}, {"url": "http://127.0.0.1:1", "api_key_env": "NOT_SET_ANYWHERE"}, "NOT_SET_ANYWHERE, which is not set"),
        ({"push_back": [ValueError]}, {"url": "http://127.0.0.1:1"}, "no Python runs within native requests"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_sent(
    options: dict[str, Any], given: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        Dispatcher("parallel", **options).requests(["a"], **given)


def test_an_endpoint_shows_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CANARY", "canary-key")
    endpoint = endpoint_of(
        "http://u:canary-pw@127.0.0.1:1", {"api_key_env": "CANARY", "headers": ["X-A: ${CANARY}"], "model": "m"}
    )
    assert endpoint.told["api_key"] == "canary-key"
    for shown in (repr(endpoint), pretty_repr(endpoint)):
        assert "http://127.0.0.1:1" in shown
        assert "canary" not in shown


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (7, "a request is int"),
        ([], "a request is list"),
        ({"messages": [], "stream": True}, 'may not set "stream"'),
        ({"messages": [object()]}, "can't be sent as JSON"),
    ],
)
def test_a_body_that_is_none_is_refused(body: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Dispatcher("parallel").requests([body], url="http://127.0.0.1:1")


def test_within_a_running_loop_the_way_out_is_named() -> None:
    async def main() -> None:
        with pytest.raises(DispatchError, match="arequests"):
            Dispatcher("parallel").requests(["a"], url="http://127.0.0.1:1")

    asyncio.run(main())


def test_a_service_that_goes_down_and_comes_back_is_waited_for() -> None:
    with mock(output_tokens=1, outages=[{"after": 0, "lasts": "300ms"}]) as server:
        dispatcher = Dispatcher("adaptive_ceiling", max_concurrency=4, retry={"base": 0.05, "most": 0.2})
        batch = dispatcher.requests([f"prompt {n}" for n in range(8)], url=server.url)
    assert batch.ok
    assert batch.totals["push_backs"] > 0
    assert batch.totals["limit_least"] < 4


@pytest.mark.parametrize(
    "kind", ["seconds", "date", "negative", "huge", "garbage", "absent", "fraction", "milliseconds"]
)
def test_every_form_of_retry_after_is_survived_and_none_is_waited_for_beyond_the_bound(kind: str) -> None:
    limit = {"rps": 40, "burst": 1, "retry_after": kind}
    with mock(output_tokens=1, rate_limit=limit) as server:
        retry = {"base": 0.01, "most": 0.05, "retry_after_most": 0.05}
        batch = Dispatcher("adaptive_ceiling", max_concurrency=4, retry=retry).requests(
            [f"prompt {n}" for n in range(6)], url=server.url
        )
    assert batch.ok
    refused = [attempt for stats in batch.stats if stats for attempt in stats.attempts if attempt.status == 429]
    assert refused
    assert {attempt.outcome for attempt in refused} == {"rejected"}
