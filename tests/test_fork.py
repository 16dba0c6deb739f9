"""A run after a fork: the child has the object and none of its threads."""

import json
import os
from pathlib import Path

from loadgen import _core


def test_a_forked_child_is_told_and_does_not_hang(tmp_path: Path) -> None:
    with _core.MockServer("{}") as server:
        config = {
            "url": server.url,
            "timeout_s": 30,
            "connect_timeout_s": 5,
            "stall_timeout_s": 30,
            "workers": 1,
            "dir": str(tmp_path),
            "meta": {"id": "fork"},
        }
        engine = _core.Engine(json.dumps(config))
        child = os.fork()
        if child == 0:
            try:
                engine.finish()
            except RuntimeError as error:
                os._exit(7 if "after a fork" in str(error) else 8)
            os._exit(9)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        engine.finish()
