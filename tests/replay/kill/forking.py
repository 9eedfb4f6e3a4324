"""Processes made by fork: one process imports everything once, and every case gets a copy of it.

The copy is as new: the process that forks has only imported, and has no other thread of Python's
(see `only_thread`). It talks in lines of JSON over the Unix socket that it was asked by, and who
asked learns of its death, by whatever signal, from the end of the stream.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

Json = dict[str, Any]
Say = Callable[[Json], None]

_PR_SET_PDEATHSIG = 1
_BACKLOG = 16
_ANSWER_SECONDS = 180.0


class NoAnswerError(Exception):
    """A process that was asked does not come to its end."""


def die_with_parent() -> None:
    """No process of a campaign outlives the one that started it."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def only_thread(within: float = 10.0) -> None:
    """Wait until this thread is Python's only one. A fork copies no other thread, but every lock
    that one holds.

    Raises:
        NoAnswerError: others go on.
    """
    deadline = time.monotonic() + within
    while threading.active_count() > 1:
        if time.monotonic() > deadline:
            raise NoAnswerError(f"Threads that go on: {threading.enumerate()}.")
        time.sleep(0.005)


def serve_forks(
    path: Path,
    work: Callable[[Json, Say], None],
    *,
    asked: Mapping[str, Callable[[], None]] | None = None,
) -> NoReturn:
    """Fork for each request on a Unix socket; the copy does `work(request, say)` and ends.

    Args:
        path: The socket's; it listens as soon as it is there.
        asked: What is done without a fork, by the request's `do`.
    """
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(_BACKLOG)
        gc.freeze()
        while True:
            connection, _ = listener.accept()
            with connection:
                line = connection.makefile("rb").readline()
                if not line:
                    continue
                request = json.loads(line)
                if (own := (asked or {}).get(request.get("do", ""))) is not None:
                    own()
                    _say(connection, {"done": True})
                    continue
                only_thread()
                if os.fork() == 0:
                    die_with_parent()
                    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                    listener.close()
                    say = partial(_say, connection)
                    _end_of_a_copy(partial(work, request, say), 0)


def ask(path: Path, request: Json, *, first_only: bool = False) -> list[Json]:
    """What a copy said until its end, or its first line.

    Raises:
        NoAnswerError: it takes too long.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        connection.connect(str(path))
        connection.sendall(json.dumps(request).encode() + b"\n")
        lines = connection.makefile("rb")
        try:
            if first_only:
                return [json.loads(lines.readline())]
            return [json.loads(line) for line in lines]
        except TimeoutError:
            raise NoAnswerError(f"No end of {request} within {_ANSWER_SECONDS:g} s.") from None


def wait_for(path: Path, process: subprocess.Popen[bytes], within: float = 120.0) -> None:
    """Wait until a process serves forks.

    Raises:
        NoAnswerError: it ended, or takes too long.
    """
    deadline = time.monotonic() + within
    while not path.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            raise NoAnswerError(f"Process {process.pid} did not get to {path.name}.")
        time.sleep(0.02)


def _end_of_a_copy(does: Callable[[], None], exit_code: int) -> NoReturn:
    """A copy ends where it is, and does not go on with what its original was about."""
    try:
        does()
    except BaseException:  # noqa: BLE001 - the boundary of the process
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(exit_code)


def _say(connection: socket.socket, line: Json) -> None:
    connection.sendall(json.dumps(line, default=str).encode() + b"\n")
