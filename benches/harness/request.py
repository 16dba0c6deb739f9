"""The request that loadgen really sends: caught once, so that wrk can be given the very same."""

from __future__ import annotations

import http.server
import json
import threading
from dataclasses import dataclass
from typing import Any, Self

from harness.errors import BenchError


@dataclass(frozen=True)
class Request:
    """One request as it was sent."""

    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def lua(self) -> str:
        """Write the script that lets wrk send the same, and print what it counted as one line of JSON."""
        own = ("host", "content-length")  # wrk makes them itself
        headers = "".join(
            f"wrk.headers[{_lua(name.encode())}] = {_lua(value.encode())}\n"
            for name, value in self.headers
            if name.lower() not in own
        )
        return f'wrk.method = "POST"\n{headers}wrk.body = {_lua(self.body)}\n{_LUA_DONE}'


_LUA_DONE = """
function done(summary, latency, requests)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.status + e.timeout
  io.write(string.format('{"requests": %d, "bytes": %d, "failed": %d}\\n', summary.requests, summary.bytes, failed))
end
"""


def _lua(text: bytes) -> str:
    """Write a Lua string; what isn't plain ASCII, or is special, as three decimal digits."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in text)
    return f'"{"".join(plain)}"'


class Catcher:
    """Answers one request with the least that is an answer, and keeps it."""

    def __init__(self) -> None:
        self._requests: list[Request] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def caught(self) -> Request:
        """Return the request.

        Raises:
            BenchError: If none came.
        """
        if not self._requests:
            raise BenchError("loadgen sent no request to the catcher")
        return self._requests[0]

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        requests = self._requests

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                requests.append(Request(self.path, tuple(self.headers.items()), body))
                kind, answer = _answer(bool(json.loads(body).get("stream")))
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
                """Say nothing."""

        return Handler


def _answer(streamed: bool) -> tuple[str, bytes]:
    if streamed:
        event = '{"choices":[{"index":0,"delta":{"content":"yes"},"finish_reason":"stop"}]}'
        return "text/event-stream", f"data: {event}\n\ndata: [DONE]\n\n".encode()
    return "application/json", (
        b'{"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],'
        b'"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}'
    )
