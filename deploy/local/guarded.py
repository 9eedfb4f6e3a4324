"""A process that ends with the one that started it, whatever the latter dies of."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_GUARDIAN = Path(__file__).with_name("guardian.py")


def start_guarded(
    command: Sequence[str],
    *,
    directory: Path,
    grace_seconds: float,
    status: int | None = None,
    remove: bool = False,
    kept_open: Sequence[int] = (),
    **popen: Any,
) -> subprocess.Popen[bytes]:
    """Start a command under a guardian (`guardian.py`), and give the guardian.

    Closing the guardian's standard input ends the command and all that it started; the guardian
    itself ends after them.

    Args:
        command: What to run.
        directory: Where.
        grace_seconds: Between the signal that asks it to end and the one that does not.
        status: The writing end of a pipe, for the command's process id and its return code;
            None where nobody asks.
        remove: Whether the directory goes when the command has ended.
        kept_open: Descriptors that stay open until the command has ended.
        popen: More for `subprocess.Popen`.
    """
    return subprocess.Popen(
        [
            *(sys.executable, "-I", "-S", str(_GUARDIAN)),
            *(
                str(-1 if status is None else status),
                str(grace_seconds),
                str(directory),
                "remove" if remove else "keep",
            ),
            *command,
        ],
        stdin=subprocess.PIPE,
        pass_fds=(*kept_open, *(() if status is None else (status,))),
        start_new_session=True,
        **popen,
    )
