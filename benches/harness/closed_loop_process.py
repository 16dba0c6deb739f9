"""One node and one connection, request after request: `closed_loop_process.py URL COUNT`, started by `nodes_mock`.

The least that a client of a node that takes one request at a time can do: no policy, no threads, no event loop. For
each line it is sent it makes COUNT requests, and prints when it began and ended, in monotonic nanoseconds.
"""

import socket
import sys
import time
from urllib.parse import urlsplit

_BODY = b'{"model":"mock","input":"text"}'
_HEAD = "POST /v1/embeddings HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n"
_LENGTH = b"content-length: "


def main() -> None:
    """Answer each line of standard input by a round of requests."""
    where, count = urlsplit(sys.argv[1]), int(sys.argv[2])
    request = _HEAD.format(where.netloc, len(_BODY)).encode() + _BODY
    with socket.create_connection((where.hostname, where.port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print("ready", flush=True)
        for _ in sys.stdin:
            began = time.monotonic_ns()
            for _ in range(count):
                connection.sendall(request)
                _answer(connection)
            print(began, time.monotonic_ns(), flush=True)


def _answer(connection: socket.socket) -> None:
    """Read one answer to its end."""
    got = b""
    while b"\r\n\r\n" not in got:
        got += _some(connection)
    head, _, body = got.partition(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 200 "):
        raise SystemExit(f"the node answered {head[:40]!r}")
    left = int(head.lower().partition(_LENGTH)[2].partition(b"\r\n")[0]) - len(body)
    while left > 0:
        left -= len(_some(connection))


def _some(connection: socket.socket) -> bytes:
    got = connection.recv(65536)
    if not got:
        raise SystemExit("the node closed the connection")
    return got


if __name__ == "__main__":
    main()
