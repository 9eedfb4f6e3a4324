"""A process and everything that it started end together, and with whoever had it started.

Run as a script, in a session of its own, by `deploy.local.guarded`:

    python guardian.py STATUS_FD GRACE_SECONDS DIRECTORY keep|remove COMMAND...

It starts the command in DIRECTORY, writes `{"pid": ...}` and at the end `{"returncode": ...}`
(negative for a signal) to STATUS_FD unless that is -1, and removes DIRECTORY where that is asked
for. It ends the command as soon as its own standard input closes: when its user asks for it, and
when its user is no more, even if it was killed with the signal that cannot be caught. On Linux it
adopts what a process leaves behind, so that a Java virtual machine or a process in a session of its
own is found and ended too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_POLL_SECONDS = 0.02
_REAP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


def main() -> None:
    status, grace, directory = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
    remove, command = sys.argv[4] == "remove", sys.argv[5:]
    asked_to_stop = False

    def stop(signum: int, frame: object) -> None:
        nonlocal asked_to_stop
        asked_to_stop = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    child = subprocess.Popen(
        command,
        cwd=directory,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )
    _write(status, {"pid": child.pid})
    while child.poll() is None and not asked_to_stop:
        if select.select([0], [], [], _POLL_SECONDS)[0] and not os.read(0, 1024):
            asked_to_stop = True
    if asked_to_stop:
        _signal_group(child.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(grace)
    _signal_group(child.pid, signal.SIGKILL)
    returncode = child.wait()
    _end_adopted()
    if remove:
        shutil.rmtree(directory, ignore_errors=True)
    _write(status, {"returncode": returncode})


def _end_with_parent() -> None:
    """In the command's process, before it starts: die if the guardian does."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _signal_group(leader: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signum)


def _end_adopted() -> None:
    """Kill what is left, and what that leaves in turn, until there is nothing."""
    deadline = time.monotonic() + _REAP_SECONDS
    while time.monotonic() < deadline:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            gone, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if gone == 0:
            time.sleep(_POLL_SECONDS)


def _children() -> list[int]:
    own, found = str(os.getpid()), []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # The command's name, in brackets, may hold anything.
            if stat.read_text(errors="replace").rpartition(")")[2].split()[1] == own:
                found.append(int(stat.parent.name))
    return found


def _write(status: int, message: dict[str, int]) -> None:
    if status < 0:
        return
    # Nobody reads it where its user is gone.
    with contextlib.suppress(BrokenPipeError):
        os.write(status, json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main()
