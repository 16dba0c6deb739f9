"""``python tests/with_fake_core.py run mock: …``: the command line in a process of its own, over the stand-in core.

``FAKE_POLLS`` says how many polls a phase lasts; ``hold`` makes it last until it is stopped.
"""

import os

import fake_core

fake_core.install()
polls = os.environ.get("FAKE_POLLS", "2")
fake_core.Script.polls = 10**9 if polls == "hold" else int(polls)
if polls == "hold":
    # The first poll tells the test that the run is going: it waits for this line, not for a while.
    fake_core.Script.on_poll = lambda engine: print("polled", flush=True) if not engine.stops else None

from loadgen.cli import main  # noqa: E402

main()
