"""Waiting for a replay: its folder says how far it is, whoever asked for it and however."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from service_core.layout import Zone, replay_answer_key
from service_core.ports import ObjectMissingError, ObjectStore
from service_core.replay import audit
from service_core.replay.folder import ASKED, COMPLETED, REQUEST, RESOLVED, ReplayFolder
from service_core.replay.intake import REJECTED, Answer, TakenRequest
from service_core.replay.resolution import Resolution

_LOOK_SECONDS = 1.0
#: Without an answer for so long, nobody looks: the sensor is off or the daemon does not run.
_UNANSWERED_SECONDS = 180.0


class ReplayRejected(Exception):
    """The request was answered with a rejection; `problems` are its sentences."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


class ReplayOverdue(Exception):
    """The replay did not come to its end in time; it goes on even so."""


@dataclass(frozen=True, slots=True)
class ReplayStanding:
    """How far a replay is.

    Attributes:
        taken: The request, once it is accepted.
        resolution: Once it is resolved.
        asked, done: Batches.
        end: The record of its end.
    """

    taken: TakenRequest | None = None
    resolution: Resolution | None = None
    asked: int = 0
    done: int = 0
    end: audit.AuditRecord | None = None

    @property
    def word(self) -> str:
        """Where it stands, in a word."""
        if self.end is not None:
            return "completed"
        if self.resolution is not None:
            return "running"
        return "resolving" if self.taken is not None else "requested"

    def to_json(self) -> dict[str, Any]:
        """For scripts; docs/cli.md describes it."""
        return {
            "replay_id": None if self.taken is None else self.taken.request.replay_id,
            "state": self.word,
            "request": None
            if self.taken is None
            else self.taken.request.model_dump(mode="json", by_alias=True, exclude_none=True),
            "objects": None if self.resolution is None else self.resolution.objects,
            "passed_over": {} if self.resolution is None else dict(self.resolution.passed_over),
            "batches": None if self.resolution is None else self.resolution.batches,
            "batches_asked": self.asked,
            "batches_done": self.done,
            "outcomes": {} if self.end is None else dict(self.end.outcomes),
            "rows_before": None if self.end is None else self.end.rows_before,
            "rows_after": None if self.end is None else self.end.rows_after,
            "failed_batches": [] if self.end is None else failed_batches(self.end),
            "said": "" if self.end is None else self.end.said,
        }


def failed_batches(end: audit.AuditRecord) -> list[str]:
    """Ids of the batches whose runs ended without a decision."""
    return [str(batch_id) for batch_id in end.detail.get("failed_batches", ())]


def replay_standing(store: ObjectStore, replay_id: str) -> ReplayStanding:
    """How far a replay is."""
    folder = ReplayFolder(store, replay_id)
    taken = folder.read(REQUEST, TakenRequest)
    if taken is None:
        return ReplayStanding()
    facts = audit.facts(folder)
    return ReplayStanding(
        taken=taken,
        resolution=folder.read(RESOLVED, Resolution),
        asked=len(folder.numbers(ASKED)),
        done=sum(fact.startswith(audit.BATCH) for fact in facts),
        end=folder.read(COMPLETED, audit.AuditRecord),
    )


@dataclass
class Waiting:
    """Follows one replay to its end.

    Args:
        request_key: Where its request lies.
        timeout: Seconds; None for as long as it takes.
    """

    store: ObjectStore
    replay_id: str
    request_key: str
    timeout: float | None = None
    sleep: Callable[[float], None] = time.sleep
    _began: float = field(default_factory=time.monotonic)

    def until_the_end(self, show: Callable[[ReplayStanding], None]) -> ReplayStanding:
        """Return once the replay is complete.

        Raises:
            ReplayRejected: the request was.
            ReplayOverdue: time was up, or nobody answers.
        """
        while True:
            now = replay_standing(self.store, self.replay_id)
            if now.taken is None:
                self._look_for_rejection()
            show(now)
            if now.end is not None:
                return now
            waited = time.monotonic() - self._began
            if now.taken is None and waited > _UNANSWERED_SECONDS:
                raise ReplayOverdue(
                    f"Nobody has answered the request for {waited:.0f} s. Is the sensor `replays` "
                    "on, and the Dagster daemon running? The request stays where it is."
                )
            if self.timeout is not None and waited > self.timeout:
                raise ReplayOverdue(
                    f"The replay {self.replay_id} is {now.word} after {waited:.0f} s, and goes on; "
                    f"`lakegate status {self.replay_id}` says how far it is."
                )
            self.sleep(_LOOK_SECONDS)

    def _look_for_rejection(self) -> None:
        if (problems := request_problems(self.store, self.request_key)) is not None:
            raise ReplayRejected(problems)


def request_problems(store: ObjectStore, request_key: str) -> tuple[str, ...] | None:
    """Why a request is rejected, as sentences; None where it is not, or not yet."""
    try:
        body = store.read(Zone.MANIFESTS, replay_answer_key(request_key, REJECTED))
    except ObjectMissingError:
        return None
    return Answer.model_validate_json(body).problems


@contextmanager
def progress_of(console: Console) -> Iterator[Callable[[ReplayStanding], None]]:
    """A bar on a terminal; nothing elsewhere."""
    bars = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("batches"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with bars:
        task = bars.add_task("requested", total=None)

        def show(now: ReplayStanding) -> None:
            total = None if now.resolution is None else now.resolution.batches
            bars.update(task, description=now.word, completed=now.done, total=total)

        yield show
