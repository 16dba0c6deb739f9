"""Runs one command, and tells what it cost: started by `process.run` as a small process of its own.

usage: launch.py FD alone|tree COMMAND…

Writes the command's pid, and after its end one line of JSON, to the descriptor FD. A process of its own, because Linux
counts the memory of whoever spawned a program into that program's own peak (`exec` keeps the high-water mark): the
spawner must be smaller than what is measured. So this file imports nothing that it can do without.

With `tree` it takes in the command's processes that outlive their parents (PR_SET_CHILD_SUBREAPER, Linux), waits for
them, and counts their CPU too; what doesn't end by itself within ten seconds is killed.
"""

import os
import sys
import time

_LEFT_S = 10.0
_SET_CHILD_SUBREAPER = 36  # of prctl, in linux/prctl.h


def main() -> None:
    """Run the command of the arguments."""
    told, is_tree, command = int(sys.argv[1]), sys.argv[2] == "tree", sys.argv[3:]
    if is_tree:
        _adopt()
    os.set_inheritable(told, False)  # noqa: FBT003 -- positional-only
    began = time.monotonic_ns()
    pid = os.posix_spawn(command[0], command, os.environ)
    os.write(told, b"%d\n" % pid)
    _, status, used = os.wait4(pid, 0)
    ended = time.monotonic_ns()
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cpu_s = used.ru_utime + used.ru_stime + (_left() if is_tree else 0.0)
    line = (
        f'{{"status": {os.waitstatus_to_exitcode(status)}, "began_ns": {began}, "ended_ns": {ended}, '
        f'"cpu_s": {cpu_s:.6f}, "peak_bytes": {peak}}}\n'
    )
    os.write(told, line.encode())


def _adopt() -> None:
    """Become the parent of whatever the command leaves behind."""
    if sys.platform != "linux":
        sys.exit("a whole tree of processes can be measured on Linux only")
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _left() -> float:
    """Wait for what the command left behind, and return the CPU seconds of it."""
    cpu_s, until = 0.0, time.monotonic() + _LEFT_S
    while True:
        try:
            pid, _, used = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return cpu_s
        if pid:
            cpu_s += used.ru_utime + used.ru_stime
        elif time.monotonic() < until:
            time.sleep(0.01)
        else:
            _kill_children()


def _kill_children() -> None:
    """What a killed child had started is ours then, and its turn comes next."""
    with open(f"/proc/self/task/{os.getpid()}/children") as file:  # noqa: PTH123 -- pathlib is no small import
        for pid in file.read().split():
            os.kill(int(pid), 9)
    time.sleep(0.01)


if __name__ == "__main__":
    main()
