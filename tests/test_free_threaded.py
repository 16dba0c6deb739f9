"""On a Python without its lock: nothing that loadgen imports turns it on again."""

import subprocess
import sys
import sysconfig

import pytest

EVERYTHING = """
import pkgutil, sys
import loadgen, loadgen._core, zmq, msgspec, yaml, rich, click

for module in pkgutil.walk_packages(loadgen.__path__, "loadgen."):
    if not module.name.endswith("__main__"):
        __import__(module.name)
print(sys._is_gil_enabled())
"""


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="this Python has its lock")
def test_importing_all_of_loadgen_leaves_the_lock_off() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", EVERYTHING], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("False\n", "")
