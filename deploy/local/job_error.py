"""The one line by which Glue tells why a job run failed.

Glue shows the last exception where there is one, otherwise the last thing that was said, and the
exit code or signal only where nothing was. Log lines and Java stack frames say less than the line
they follow, and are passed over.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence
from itertools import dropwhile

_CHARACTERS = 2_000
#: An exception's message may have this many lines; what is longer is somebody else's talk.
_MESSAGE_LINES = 8
#: Log4j's `25/11/21 10:00:00 WARN`, with two or four digits for the year, and Spark's chatter.
_LOG_LINE = re.compile(
    r"^(\d{2,4}[/-]\d\d[/-]\d\d[ T]\d\d:\d\d:\d\d\S* (\[[^]]*\] )?"
    r"(TRACE|DEBUG|INFO|WARN|ERROR|FATAL)"
    r"|Setting default log level|To adjust logging level|Using Spark's default log4j"
    r"|:: |WARNING: )"
)
_STACK_FRAME = re.compile(r"^(\s|Caused by: |Driver stacktrace:|at )")
_TRACEBACK = "Traceback (most recent call last):"


def failure(errors: Sequence[str], output: Sequence[str], returncode: int) -> str:
    """One line that says why a process failed.

    Args:
        errors: The last lines of its standard error.
        output: The last lines of its standard output.
        returncode: Its exit code; the negative number of a signal.
    """
    ended = _how_it_ended(returncode)
    if returncode < 0:
        # Whatever it said last, that is not why it ended.
        return ended
    said = _last_exception(errors) or _last_line(errors) or _last_line(output)
    return (said or ended)[:_CHARACTERS]


def _how_it_ended(returncode: int) -> str:
    if returncode >= 0:
        return f"Command failed with exit code {returncode}"
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = "unknown"
    return f"Command failed: its process was ended by signal {-returncode} ({name})"


def _last_exception(lines: Sequence[str]) -> str | None:
    """The last traceback's own line with what belongs to it, unless much was said after it."""
    starts = [number for number, line in enumerate(lines) if line == _TRACEBACK]
    if not starts:
        return None
    after = [line for line in lines[starts[-1] + 1 :] if line.strip()]
    message = list(dropwhile(lambda line: line.startswith(" "), after))
    # py4j puts Java's exception on a line of its own.
    said = [line.removeprefix(": ").strip() for line in message if not _passed_over(line)]
    return " ".join(said) if 0 < len(said) <= _MESSAGE_LINES else None


def _last_line(lines: Sequence[str]) -> str | None:
    for line in reversed(lines):
        if line.strip() and not _passed_over(line):
            return line.strip()
    return None


def _passed_over(line: str) -> bool:
    return bool(_LOG_LINE.match(line) or _STACK_FRAME.match(line))
