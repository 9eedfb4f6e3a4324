"""Trying the catalog again: only what does no harm when it is repeated is repeated.

A call that changes nothing, or nothing more the second time, is made until it is answered. A commit
is not made again: where it lost to another, or its answer was lost, the next attempt begins with a
new reading of the table, which tells what has become of the last.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_T = TypeVar("_T")

_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 5.0


class PublicationConflictError(Exception):
    """Others kept committing to the table, or the catalog did not answer, until time was up.
    Nothing is lost: publishing again takes up where this left off."""


class NotSettledError(Exception):
    """This attempt came to nothing, or may have: look at the table again."""


def settle(commit: Callable[[], object]) -> None:
    """Make a commit, once.

    Raises:
        NotSettledError: somebody else came first, or there was no answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from pyiceberg.exceptions import CommitFailedException, ValidationException

    try:
        commit()
    except (CommitFailedException, ValidationException) as conflict:
        raise NotSettledError from conflict
    except (BotoCoreError, ClientError) as error:
        if not _passing(error):
            raise
        # The answer is lost, and the commit may stand: only the table knows.
        raise NotSettledError from error


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the catalog is tried.

    Attributes:
        seconds: From the first try; after them no other is begun.
    """

    seconds: float

    def until_answered(self, call: Callable[[], _T]) -> _T:
        """Call until it is answered. For calls that do no harm when they are repeated.

        Raises:
            BotoCoreError, ClientError: the call's last error, or one that waiting does not mend.
            FileNotFoundError: a file that the call reads was still not there.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        waits = _Waits(self.seconds)
        while True:
            try:
                return call()
            except (BotoCoreError, ClientError, FileNotFoundError) as error:
                # A metadata file can go between its being named and its being read, when a
                # hundred commits come between.
                if not (isinstance(error, FileNotFoundError) or _passing(error)):
                    raise
                if not waits.left():
                    raise
            waits.wait()

    def until_settled(self, attempt: Callable[[], _T], failed: str, advice: str) -> _T:
        """Attempt a commit until it stands, or there is nothing to commit.

        Args:
            attempt: Reads the table and commits against what it has read, through `settle`.
            failed: How the error begins; it goes on with the time and the reason.
            advice: What to do then, a sentence.

        Raises:
            PublicationConflictError: time was up.
        """
        waits = _Waits(self.seconds)
        while True:
            try:
                return attempt()
            except NotSettledError as unsettled:
                if not waits.left():
                    raise PublicationConflictError(
                        f"{failed} within {self.seconds:g} s: "
                        f"{unsettled.__cause__ or unsettled}. {advice}"
                    ) from unsettled
            waits.wait()


class _Waits:
    """The waits between tries, each as long as twice the one before, until time is up."""

    def __init__(self, seconds: float) -> None:
        self._deadline = time.monotonic() + seconds
        self._longest = _FIRST_WAIT_SECONDS

    def left(self) -> bool:
        """Whether there is time for another wait."""
        return time.monotonic() + self._longest <= self._deadline

    def wait(self) -> None:
        # Full jitter: publishers that met once must not meet again and again.
        time.sleep(random.uniform(0, self._longest))
        self._longest = min(self._longest * 2, _LONGEST_WAIT_SECONDS)


def _passing(error: Exception) -> bool:
    """Whether an error is the service's or the network's and may be gone in a moment."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        return status >= 500 or "Throttl" in code or code == "ConcurrentModificationException"
    return isinstance(error, ConnectionError | HTTPClientError)
