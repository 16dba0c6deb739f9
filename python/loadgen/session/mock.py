"""What a mock server may be told: one table, for ``loadgen mock`` and for the query of a ``mock:`` URL."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from loadgen.config import secret, values
from loadgen.config.known import nearest
from loadgen.errors import ConfigError


class MockOption(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that a mock server may be told.

    Args:
        read: From text (or a value that JSON made) to what the core's configuration holds.
        help: One line for ``--help``.
        group: Heading in ``--help``.
        metavar: What stands for the value; empty for a switch.
        key: The core's name, where it is another.
        many: It may be given several times.
    """

    read: Callable[[Any], Any]
    help: str
    group: str
    metavar: str = ""
    key: str = ""
    many: bool = False


_SHAPES = {
    "uniform": ("low", "high"),
    "normal": ("mean", "std"),
    "lognormal": ("median", "sigma"),
    "exponential": ("mean",),
    "constant": (),
}


def _delay(value: Any) -> Any:
    return _distribution(value, lambda text: values.duration_or_zero(text) * 1e3 if _has_unit(text) else _amount(text))


def _tokens(value: Any) -> Any:
    return _distribution(value, _amount)


def _distribution(value: Any, quantity: Callable[[str], float]) -> Any:
    """Read ``50ms``, ``uniform:10ms,20ms``, ``lognormal:50ms,0.5`` …; what JSON made goes on as it is."""
    if isinstance(value, dict):
        return value
    text = str(value)
    shape, colon, rest = text.partition(":")
    if not colon:
        return quantity(text)
    names = _SHAPES.get(shape)
    parts = rest.split(",")
    if not names or len(parts) != len(names):
        shapes = ", ".join(f"{name}:{','.join(args).upper()}" for name, args in _SHAPES.items() if args)
        raise ValueError(f"must be one value, or one of {shapes}")
    return {shape: {n: _amount(p) if n == "sigma" else quantity(p) for n, p in zip(names, parts, strict=True)}}


def _amount(text: str) -> float:
    got = values.number(text)
    if got < 0:
        raise ValueError("must be 0 or more")
    return got


def _has_unit(text: str) -> bool:
    return text.strip()[-1:].isalpha()


def _fault(value: Any) -> Any:
    """Read ``NAME``, or ``NAME:share=10%:every=7:ms=50``."""
    if isinstance(value, dict):
        return value
    name, *settings = str(value).split(":")
    got: dict[str, Any] = {"name": name}
    readers: dict[str, Callable[[Any], Any]] = {"share": values.share, "every": values.count, "ms": _amount}
    for setting in settings:
        key, _, raw = setting.partition("=")
        if key not in readers:
            raise ValueError("must be a fault's name, with :share=10%, :every=7 or :ms=50 behind it")
        got[key] = readers[key](raw)
    return got if settings else name


def _outage(value: Any) -> Any:
    """Read ``60s:30s``: after how long, and for how long."""
    if isinstance(value, dict):
        return value
    after, colon, lasts = str(value).partition(":")
    if not colon:
        raise ValueError("must be two times: after how long it begins, and how long it lasts, such as 60s:30s")
    return {"after": values.duration_or_zero(after) * 1e3, "lasts": values.duration(lasts) * 1e3}


def _rate_limit(value: Any) -> Any:
    """Read ``100``, or ``100:burst=10:retry_after=date:header=x-retry``."""
    if isinstance(value, dict):
        return value
    rps, *settings = str(value).split(":")
    got: dict[str, Any] = {"rps": values.positive(rps.removesuffix("/s"))}
    for setting in settings:
        key, _, raw = setting.partition("=")
        if key not in ("burst", "retry_after", "header"):
            raise ValueError("must be requests per second, with :burst=10, :retry_after=date or :header=NAME behind it")
        got[key] = values.positive(raw) if key == "burst" else raw
    return got


def _switch(value: Any) -> bool:
    if value in ("", None, 1, "1", "true", True):
        return True
    if value in (0, "0", "false", False):
        return False
    raise ValueError("must be true or false")


def _port(value: Any) -> int:
    got = values.whole(value)
    if got > 65535:
        raise ValueError("must be a port, from 0 to 65535")
    return got


def _secret_of(value: Any) -> str:
    name = values.text(value)
    return secret.key_from_env(name, needed=True) or ""


def _option(group: str) -> Callable[..., MockOption]:
    def make(read: Callable[[Any], Any], metavar: str, words: str, key: str = "", many: bool = False) -> MockOption:
        return MockOption(read=read, metavar=metavar, help=words, group=group, key=key, many=many)

    return make


_listen, _pace, _answer, _refuse = (
    _option("Listening"),
    _option("Pace"),
    _option("Answers"),
    _option("Refusals and faults"),
)

OPTIONS: dict[str, MockOption] = {
    "host": _listen(values.text, "ADDR", "Address to listen on.  [default: 127.0.0.1]"),
    "port": _listen(_port, "N", "Port to listen on; 0 takes a free one.  [default: 0]"),
    "unix": _listen(values.path, "PATH", "Listen on a Unix socket instead of a port."),
    "threads": _listen(values.count, "N", "Threads that serve.  [default: 1]"),
    "tls_cert": _listen(values.path, "FILE", "Serve TLS with this PEM certificate (and --tls-key).", key="tls.cert"),
    "tls_key": _listen(values.path, "FILE", "PEM key of the certificate.", key="tls.key"),
    "seed": _pace(values.whole, "N", "Seed of every draw.  [default: 0]"),
    "ttft": _pace(_delay, "TIME", "Time to the first token: 50ms, uniform:10ms,20ms, lognormal:50ms,0.5; "
                  "a bare number is milliseconds.  [default: 0]"),
    "gap": _pace(_delay, "TIME", "Time between two events that carry tokens, likewise.  [default: 0]"),
    "capacity": _pace(values.count, "N", "Requests served at once; the others queue.  [default: no bound]"),
    "queue": _pace(values.whole, "N", "Requests that may queue.  [default: no bound]"),
    "coalesce": _pace(_switch, "", "One write for all events that are due, instead of a write an event."),
    "events_per_write": _pace(values.count, "N", "Hold events back until so many are due.  [default: 1]"),
    "headers": _pace(values.choice("arrival", "slot", "first_token"), "WHEN", "When the head goes out: arrival, "
                     "slot or first_token.  [default: as the flavour does]"),
    "flavour": _answer(values.choice("openai", "vllm", "llamacpp", "ollama", "transformers", "litellm"), "NAME",
                       "Server to imitate: openai, vllm, llamacpp, ollama, transformers, litellm.  [default: openai]"),
    "model": _answer(values.text, "NAME", "Model to serve.  [default: mock]", key="models", many=True),
    "any_model": _answer(_switch, "", "Serve any model, instead of answering 404 for an unknown one."),
    "output_tokens": _answer(_tokens, "N", "Tokens of an answer, cut at max_tokens: 128, uniform:64,256.  "
                             "[default: max_tokens, or 16]"),
    "words": _answer(values.choice("same", "prompt"), "WHICH", "Words of an answer: the same in each, or drawn by its "
                     "prompt.  [default: same]"),
    "tokens_per_chunk": _answer(_tokens, "N", "Tokens in an event.  [default: 1]"),
    "usage": _answer(values.choice("own", "delta", "finish", "none"), "WHERE", "Where a stream's usage goes: "
                     "own, delta, finish or none.  [default: as the flavour does]"),
    "reasoning": _answer(values.share, "SHARE", "Share of an answer that is reasoning.  [default: 0]"),
    "reasoning_field": _answer(values.text, "NAME", "Field that carries it.  [default: reasoning_content]"),
    "tool_calls": _answer(_switch, "", "Answer chats with a tool call."),
    "api_key_env": _refuse(_secret_of, "NAME", "Environment variable with the key to require.", key="api_key"),
    "rate_limit": _refuse(_rate_limit, "R", "Answer 429 above R requests a second: 100, "
                          "100:burst=10:retry_after=date."),
    "queue_status": _refuse(values.whole, "N", "Status when the queue is full.  [default: 503]"),
    "error_rate": _refuse(values.share, "SHARE", "Share of requests answered with --error-status.  [default: 0]"),
    "error_status": _refuse(values.whole, "N", "That status.  [default: 500]"),
    "stall_rate": _refuse(values.share, "SHARE", "Share of requests that stall.  [default: 0]"),
    "prompt_stall_rate": _refuse(values.share, "SHARE", "Share of prompts that stall, every time.  [default: 0]"),
    "stall_time": _refuse(_delay, "TIME", "Time to their first token: uniform:20s,90s.  [default: it never comes]"),
    "outage": _refuse(_outage, "A:B", "Answer 503 from A after the start for B, such as 60s:30s.", key="outages",
                      many=True),
    "refuse_usage": _refuse(values.whole, "N", "Answer this status (400, 422) when usage is asked for."),
    "fault": _refuse(_fault, "NAME", "Fault to have: crlf, stop_midstream:share=10%, slowloris:ms=50; "
                     "--list-faults names them.", key="faults", many=True),
}  # fmt: skip


def config_of(given: Iterable[tuple[str, Any]], called: Callable[[str], str]) -> dict[str, Any]:
    """Return the core's configuration of a mock server.

    Args:
        given: Options by name, in order; one that may be given several times may come several times.
        called: How the user calls an option.

    Raises:
        ConfigError: If an option is unknown, given twice, or its value breaks a rule.
    """
    got: dict[str, Any] = {}
    for name, value in given:
        option = OPTIONS.get(name)
        if option is None:
            raise _unknown(name, called)
        try:
            read = option.read(value)
        except ValueError as error:
            raise ConfigError(f"{called(name)} {value} {error}") from None
        place, _, inner = (option.key or name).partition(".")
        if inner:
            got.setdefault(place, {})[inner] = read
        elif option.many:
            got.setdefault(place, []).append(read)
        elif place in got:
            raise ConfigError(f"{called(name)} is given twice")
        else:
            got[place] = read
    if "tls" in got and len(got["tls"]) != 2:
        raise ConfigError(f"{called('tls_cert')} and {called('tls_key')} go together")
    return got


def _unknown(name: str, called: Callable[[str], str]) -> ConfigError:
    close = nearest(name, OPTIONS)
    hint = f"perhaps {called(close)}?" if close else f"it may be told {', '.join(OPTIONS)}"
    return ConfigError(f"a mock server has no option {name}", hint)


def config_of_url(url: str) -> dict[str, Any]:
    """Return the core's configuration of the server that a ``mock:`` URL asks for.

    Args:
        url: ``mock:`` alone, or with options: ``mock:?ttft=50&gap=10ms&fault=crlf``. A value in braces is read as JSON.

    Raises:
        ConfigError: As :func:`config_of`.
    """
    _, _, query = url.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError:
        raise ConfigError(f"{url}: the options must look like ttft=50ms&gap=10ms") from None
    given = [(name.replace("-", "_"), _value(value)) for name, value in pairs]
    for name, _ in given:
        if name in OPTIONS and OPTIONS[name].group == "Listening" and name != "threads":
            raise ConfigError(f"{url}: {name} is for `loadgen mock`; a mock: server listens where it likes")
    return config_of(given, lambda name: f"mock:?{name}=")


def _value(raw: str) -> Any:
    if not raw.startswith("{"):
        return raw
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise ConfigError(f"mock: {raw} is not JSON: {error}") from None
