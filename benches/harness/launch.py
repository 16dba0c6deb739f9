"""Runs one command, and tells what it cost: started by `process.run` as a small process of its own.

usage: launch.py FD COMMAND…

Writes the command's pid, and after its end one line of JSON, to the descriptor FD. A process of its own, because Linux
counts the memory of whoever spawned a program into that program's own peak (`exec` keeps the high-water mark): the
spawner must be smaller than what is measured. So this file imports nothing that it can do without.
"""

import os
import sys
import time


def main() -> None:
    """Run the command of the arguments."""
    told, command = int(sys.argv[1]), sys.argv[2:]
    os.set_inheritable(told, False)  # noqa: FBT003 -- positional-only
    began = time.monotonic_ns()
    pid = os.posix_spawn(command[0], command, os.environ)
    os.write(told, b"%d\n" % pid)
    _, status, used = os.wait4(pid, 0)
    ended = time.monotonic_ns()
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    line = (
        f'{{"status": {os.waitstatus_to_exitcode(status)}, "began_ns": {began}, "ended_ns": {ended}, '
        f'"cpu_s": {used.ru_utime + used.ru_stime:.6f}, "peak_bytes": {peak}}}\n'
    )
    os.write(told, line.encode())


if __name__ == "__main__":
    main()
