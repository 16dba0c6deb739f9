"""What exceptions mean, of the SDKs and of Python; how long a pushed-back call waits; clients that retry themselves."""

import asyncio
import email.message
import socket
import time
import types
import urllib.error
import warnings
from typing import Any

import pytest

import loadgen
import virtual_loop
from loadgen.dispatch.callee import Callee
from loadgen.dispatch.classify import Classifier, Outcome, Retryable, headers_of, status_of
from loadgen.dispatch.usage import usage_of

REJECTED, FAILED, TIMED_OUT, UNREACHED = Outcome.REJECTED, Outcome.FAILED, Outcome.TIMED_OUT, Outcome.UNREACHED
YES, NO, BY_STATUS = Retryable.YES, Retryable.NO, Retryable.BY_STATUS


def kind(name: str, module: str, *bases: type) -> type[Exception]:
    """A class of exceptions as a library has it; the library needn't be here."""
    return type(name, bases or (Exception,), {"__module__": module})


def made(name: str, module: str, *bases: type, **attributes: Any) -> Exception:
    error = kind(name, module, *bases)()
    for key, value in attributes.items():
        setattr(error, key, value)
    return error


def response(status: int, **headers: str) -> Any:
    return types.SimpleNamespace(status_code=status, headers=headers)


OPENAI = kind("OpenAIError", "openai")
CONNECTION = kind("APIConnectionError", "openai", OPENAI)


@pytest.mark.parametrize(
    ("error", "outcome", "status", "retryable"),
    [
        (made("RateLimitError", "openai", OPENAI, status_code=429, response=response(429)), FAILED, 429, BY_STATUS),
        (made("BadRequestError", "openai", OPENAI, status_code=400, response=response(400)), FAILED, 400, BY_STATUS),
        (made("APITimeoutError", "openai", CONNECTION), TIMED_OUT, 0, YES),
        (
            made("Timeout", "litellm.exceptions", kind("APITimeoutError", "openai", CONNECTION), status_code=408),
            TIMED_OUT,
            0,
            YES,
        ),
        (made("APIConnectionError", "openai", OPENAI), FAILED, 0, YES),
        (made("HTTPStatusError", "httpx", response=response(503)), FAILED, 503, BY_STATUS),
        (made("ReadTimeout", "httpx", kind("TimeoutException", "httpx")), TIMED_OUT, 0, YES),
        (made("ConnectError", "httpx", kind("TransportError", "httpx", AttributeError)), UNREACHED, 0, YES),
        (made("ClientResponseError", "aiohttp.client_exceptions", status=502, headers={}), FAILED, 502, BY_STATUS),
        (made("ClientPayloadError", "aiohttp.client_exceptions"), FAILED, 0, YES),
        (made("HTTPError", "requests.exceptions", OSError, response=response(500)), FAILED, 500, BY_STATUS),
        (
            made("ReadTimeout", "requests.exceptions", kind("Timeout", "requests.exceptions", OSError)),
            TIMED_OUT,
            0,
            YES,
        ),
        (urllib.error.HTTPError("http://x", 429, "slow", email.message.Message(), None), FAILED, 429, BY_STATUS),
        (TimeoutError(), TIMED_OUT, 0, YES),
        (asyncio.CancelledError(), FAILED, 0, YES),
        (ConnectionResetError(), FAILED, 0, YES),
        (ConnectionRefusedError(), UNREACHED, 0, YES),
        (urllib.error.URLError(socket.gaierror(-2, "Name or service not known")), UNREACHED, 0, YES),
        (made("APIConnectionError", "openai", OPENAI, __cause__=made("ConnectError", "httpx")), UNREACHED, 0, YES),
        (made("APIConnectionError", "openai", OPENAI, __cause__=made("ReadError", "httpx")), FAILED, 0, YES),
        (ValueError("not JSON"), FAILED, 0, YES),
        (AttributeError("typo"), FAILED, 0, NO),
        (TypeError("arguments"), FAILED, 0, NO),
        (loadgen.PushBack(), REJECTED, 0, YES),
    ],
    ids=lambda value: f"{type(value).__module__}.{type(value).__name__}" if isinstance(value, BaseException) else None,
)
def test_an_exception_means(error: BaseException, outcome: Outcome, status: int, retryable: Retryable) -> None:
    end = Classifier().ending(error)
    assert (end.outcome, end.status, end.retryable) == (outcome, status, retryable)


@pytest.mark.parametrize(("said", "retryable"), [("true", YES), ("false", NO)])
def test_a_service_that_says_whether_to_retry_is_believed(said: str, retryable: Retryable) -> None:
    error = made("InternalServerError", "openai", OPENAI, response=response(500, **{"x-should-retry": said}))
    assert Classifier().ending(error).retryable is retryable


def test_push_back_is_what_the_user_says_it_is() -> None:
    class BusyError(Exception):
        pass

    def judge(error: BaseException) -> bool | float | None:
        return {"wait": 2.5, "yes": True, "no": False}.get(str(error))

    assert Classifier([429, BusyError]).ending(BusyError()).outcome is REJECTED
    assert Classifier([429, BusyError]).ending(ValueError()).outcome is FAILED
    ending = Classifier(judge).ending
    assert (ending(BusyError("wait")).outcome, ending(BusyError("wait")).retry_after_s) == (REJECTED, 2.5)
    assert (ending(BusyError("yes")).outcome, ending(BusyError("yes")).retry_after_s) == (REJECTED, None)
    assert ending(BusyError("?")).outcome is FAILED
    limited = made("no", "openai", status_code=429)
    limited.args = ("no",)
    assert (ending(limited).outcome, ending(limited).status, ending(limited).retryable) == (FAILED, 0, YES)


def test_headers_and_statuses_are_found_where_each_library_keeps_them() -> None:
    raw = email.message.Message()
    raw["Retry-After"] = "3"
    raw["Content-Type"] = "text/html"
    assert headers_of(urllib.error.HTTPError("http://x", 429, "slow", raw, None)) == {"retry-after": "3"}
    assert headers_of(made("E", "httpx", response=response(429, **{"X-RateLimit-Reset-Requests": "6m0s"}))) == {
        "x-ratelimit-reset-requests": "6m0s"
    }
    assert headers_of(ValueError()) is None
    assert status_of(made("E", "x", code="rate_limit_exceeded", status_code=None)) == 0
    assert status_of(made("E", "x", code=True)) == 0


NOW = time.time_ns()
PAST = "Wed, 21 Oct 2015 07:28:00 GMT"


@pytest.mark.parametrize(
    ("headers", "least_s", "most_s"),
    [
        ({"Retry-After": "7"}, 7, 7),
        ({"retry-after": "0.5"}, 0.5, 0.5),
        ({"Retry-After-Ms": "1500", "Retry-After": "9"}, 1.5, 1.5),
        ({"llm_provider-retry-after": "4"}, 4, 4),
        ({"Retry-After": "date"}, 29, 30),
        ({"Retry-After": PAST}, 0, 0),
        ({"Retry-After": "99999999999999999999"}, 120, 120),
        ({"Retry-After": "-5"}, 0.25, 0.25),
        ({"Retry-After": "soon"}, 0.25, 0.25),
        ({}, 0.25, 0.25),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else None,
)
def test_a_429_is_made_again_when_its_answer_says(headers: dict[str, str], least_s: float, most_s: float) -> None:
    times: list[float] = []

    async def call(item: int) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            at = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 30))
            told = {name: at if value == "date" else value for name, value in headers.items()}
            raise made("RateLimitError", "openai", OPENAI, status_code=429, response=response(429, **told))

    async def main(_: Any) -> Any:
        once = {"attempts": 2, "base": 0.25, "jitter": "none", "budget": 1}
        return await loadgen.Dispatcher("sequential", retry=once).arun(call, [1])

    done = virtual_loop.run(main)
    assert done.ok
    assert done.totals["push_backs"] == 1
    assert least_s <= times[1] - times[0] <= most_s


def test_a_callable_may_say_itself_how_long_to_wait() -> None:
    times: list[float] = []

    async def call(item: int) -> None:
        times.append(asyncio.get_running_loop().time())
        if len(times) == 1:
            raise loadgen.PushBack("busy", retry_after=11)

    async def main(_: Any) -> Any:
        return await loadgen.Dispatcher("sequential", budget=1, retry={"jitter": "none"}).arun(call, [1])

    assert virtual_loop.run(main).ok
    assert times == [0.0, 11.0]


class Completions:
    """As in openai: a resource of a client, whose methods are called."""

    __module__ = "openai.resources"

    def __init__(self, client: Any) -> None:
        self._client = client

    async def create(self, item: Any = None, **_: Any) -> Any:
        return item


class OpenAI:
    __module__ = "openai"

    def __init__(self, max_retries: int) -> None:
        self.max_retries = max_retries
        self.completions = Completions(self)


def test_a_client_that_retries_by_itself_is_refused() -> None:
    with pytest.raises(loadgen.ConfigError, match=r"OpenAI retries by itself, 2 times\nturn them off"):
        loadgen.Dispatcher().run(OpenAI(2).completions.create, [1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert loadgen.Dispatcher("parallel").run(OpenAI(0).completions.create, [1]).values == (1,)


def test_retries_given_to_a_function_are_refused() -> None:
    import functools

    call = functools.partial(OpenAI(0).completions.create, num_retries=3)
    with pytest.raises(loadgen.ConfigError, match="num_retries=3 is given to"):
        loadgen.Dispatcher().run(call, [1])


def test_a_function_that_only_holds_such_a_client_gets_a_warning() -> None:
    client = OpenAI(2)

    async def call(item: int) -> Any:
        return await client.completions.create(item)

    with pytest.warns(UserWarning, match="client, which .*call uses, is a OpenAI that retries by itself, 2 times"):
        Callee(call)


@pytest.mark.parametrize(
    ("value", "tokens"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, (3, 4)),
        (types.SimpleNamespace(usage=types.SimpleNamespace(input_tokens=5, output_tokens=6)), (5, 6)),
        (types.SimpleNamespace(usage=None), (0, 0)),
        ({"usage": {"prompt_tokens": -3, "completion_tokens": True}}, (0, 0)),
        ({"usage": "much"}, (0, 0)),
        ("text", (0, 0)),
        (None, (0, 0)),
    ],
)
def test_usage_is_read_where_a_value_has_it(value: Any, tokens: tuple[int, int]) -> None:
    assert usage_of(value) == tokens
