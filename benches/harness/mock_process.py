"""The mock server as a process of its own: `mock_process.py CONFIG`, started by `servers.Mock`.

Prints its URL, then its CPU seconds for each line it is sent; it ends when its standard input does, so it never
outlives whoever started it.
"""

import resource
import sys

from loadgen import _core


def main() -> None:
    """Serve until standard input ends."""
    server = _core.MockServer(sys.argv[1])
    try:
        print(server.url, flush=True)
        for _ in sys.stdin:
            used = resource.getrusage(resource.RUSAGE_SELF)
            print(f"{used.ru_utime + used.ru_stime:.6f}", flush=True)
    finally:
        server.stop()


if __name__ == "__main__":
    main()
