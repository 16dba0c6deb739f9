"""A small OpenAI-like server that shares no code with loadgen and stamps what it does: the truth to compare with.

usage: asyncio_sse.py [--port 0] [--ttft MS] [--gap MS] [--chunks N]        prints READY and its address

Every request's arrival and every write are stamped with `time.monotonic_ns`, the clock that loadgen stamps with on
Linux, just after the request was read and just before the write is handed to the kernel. So what a client saw can't
be shorter than what is told here. GET /stamps gives them as JSON and forgets them. Standard library only.
"""

import argparse
import asyncio
import json
import signal
import time
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Stamps:
    """What the server did for one request, in nanoseconds of the monotonic clock."""

    arrived_ns: int
    writes_ns: list[int] = field(default_factory=list)
    """One for each chunk that carries a token, in order; one for a whole answer that isn't streamed."""
    finished: bool = False
    """False if the client left before the end."""


@dataclass(frozen=True)
class Shape:
    """How an answer is spread over time."""

    ttft_s: float
    gap_s: float
    chunks: int


class Server:
    """Answers chat and text completions, streamed or not, at a fixed pace."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.stamps: list[Stamps] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until its client closes it."""
        try:
            while (request := await _read_request(reader)) is not None:
                await self._answer(*request, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client left; its stamps say how far it got
        finally:
            writer.close()

    async def _answer(self, target: str, body: bytes, writer: asyncio.StreamWriter) -> None:
        if target == "/stamps":
            told, self.stamps = self.stamps, []
            _send_json(writer, 200, [asdict(stamps) for stamps in told])
        elif target == "/v1/models":
            _send_json(writer, 200, {"object": "list", "data": [{"id": "asyncio", "object": "model"}]})
        elif target in ("/v1/chat/completions", "/v1/completions"):
            stamps = Stamps(time.monotonic_ns())
            self.stamps.append(stamps)
            wish = json.loads(body)
            chat, chunks = target.endswith("chat/completions"), int(wish.get("max_tokens") or self.shape.chunks)
            if wish.get("stream"):
                await self._stream(
                    writer, stamps, chat, chunks, bool((wish.get("stream_options") or {}).get("include_usage"))
                )
            else:
                await asyncio.sleep(self.shape.ttft_s + self.shape.gap_s * (chunks - 1))
                stamps.writes_ns.append(time.monotonic_ns())
                _send_json(writer, 200, _whole(chat, chunks))
            stamps.finished = True
        else:
            _send_json(writer, 404, {"error": {"message": f"no such path: {target}", "code": 404}})
        await writer.drain()

    async def _stream(self, writer: asyncio.StreamWriter, stamps: Stamps, chat: bool, chunks: int, usage: bool) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        loop = asyncio.get_running_loop()
        start = loop.time()
        for n in range(chunks):
            # Against the start, so that lateness doesn't add up.
            await asyncio.sleep(start + self.shape.ttft_s + n * self.shape.gap_s - loop.time())
            if writer.is_closing():
                raise ConnectionResetError
            stamps.writes_ns.append(time.monotonic_ns())
            writer.write(_chunk(_event(chat, f"w{n} ", None)))
            await writer.drain()
        ending = _event(chat, None, "stop")
        if usage:
            ending += _sse({"choices": [], "usage": _usage(chunks)})
        writer.write(_chunk(ending + b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def _read_request(reader: asyncio.StreamReader) -> tuple[str, bytes] | None:
    """Read a request's target and body; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as end:
        if end.partial:
            raise
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return first.split(" ")[1], await reader.readexactly(int(headers.get("content-length", 0)))


def _event(chat: bool, text: str | None, finish: str | None) -> bytes:
    if chat:
        choice: dict[str, Any] = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    else:
        choice = {"index": 0, "text": text or "", "finish_reason": finish}
    return _sse({"id": "a", "model": "asyncio", "choices": [choice]})


def _whole(chat: bool, chunks: int) -> dict[str, Any]:
    text = "".join(f"w{n} " for n in range(chunks))
    said = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
    return {"id": "a", "choices": [{"index": 0, "finish_reason": "stop", **said}], "usage": _usage(chunks)}


def _usage(chunks: int) -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": chunks, "total_tokens": chunks + 1}


def _sse(value: object) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def _send_json(writer: asyncio.StreamWriter, status: int, value: object) -> None:
    body = json.dumps(value).encode()
    reason = "OK" if status == 200 else "Not Found"
    head = f"HTTP/1.1 {status} {reason}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)


async def main() -> None:
    """Serve until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--ttft", type=float, default=50.0, help="milliseconds to the first token")
    parser.add_argument("--gap", type=float, default=10.0, help="milliseconds between tokens")
    parser.add_argument("--chunks", type=int, default=33, help="tokens, where the request doesn't say max_tokens")
    told = parser.parse_args()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = Server(Shape(told.ttft / 1000, told.gap / 1000, told.chunks))
    listener = await asyncio.start_server(server.serve, "127.0.0.1", told.port, backlog=4096)
    print(f"READY http://127.0.0.1:{listener.sockets[0].getsockname()[1]}", flush=True)
    await stop.wait()
    listener.close()


if __name__ == "__main__":
    asyncio.run(main())
