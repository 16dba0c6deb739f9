"""Serves a mock in a process of its own, until its standard input ends: so it goes with whoever started it.

usage: python -m loadgen.dispatch.experiment.mock_server CONFIG        (JSON; its URL is the first line of output)
"""

from __future__ import annotations

import sys

from loadgen import _core


def main(config: str) -> None:
    """Serve until nobody holds the other end of standard input any more."""
    try:
        server = _core.MockServer(config)
    except (ValueError, OSError) as error:
        sys.exit(str(error))
    with server:
        print(server.url, flush=True)
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main(sys.argv[1])
