"""What becomes of a batch whose last run died: pure.

Only the death of a worker, never a failed step, is held against a batch; and an object is given up
only when it was alone, had every retry, and others could be processed meanwhile. So a machine on
which everything dies, or a service that is down, puts nothing into quarantine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import ceil, log2

from service_core.manifest import Manifest, PartOf
from service_core.source_object import SourceObject

#: So many objects of one batch are given up. When more of them kill their workers, the fault is
#: a producer's export or the worker, and somebody has to look.
MOST_GIVEN_UP = 5


class How(StrEnum):
    """How a run ended without being able to say why."""

    DIED = "died"
    HUNG = "hung"
    OUT_OF_MEMORY = "out_of_memory"

    @property
    def did(self) -> str:
        """As what a batch did."""
        return _DID[self]


_DID = {
    How.DIED: "killed its worker",
    How.HUNG: "hung its worker",
    How.OUT_OF_MEMORY: "took more memory than its worker has",
}


@dataclass(frozen=True, slots=True)
class Death:
    """The end of a batch's last run.

    Attributes:
        run_id: The run.
        how: What ended it.
        said: What Dagster has written down about it, a sentence or two.
        step: The step that was in hand; None where none was.
        attempts: Ids of all runs of this work that ended in such a way, this one included.
    """

    run_id: str
    how: How
    said: str
    step: str | None
    attempts: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """What is known of it."""
        step = f" in step {self.step}" if self.step else " before its first step"
        runs = f"run {self.run_id}"
        if len(self.attempts) > 1:
            runs = f"each of {len(self.attempts)} runs ({', '.join(self.attempts)})"
        return (
            f"the file {self.how.did}{step}, in {runs}, with no other file beside it: {self.said}"
        )


class Health(StrEnum):
    """What other batches say of the worker: none has been processed since this one was asked for;
    one has, though only since it died; or one was while it was being tried."""

    UNKNOWN = "unknown"
    MENDED = "mended"
    WELL = "well"


@dataclass(frozen=True, slots=True)
class Case:
    """What has been asked for, by now, because of the batch that was split first.

    Attributes:
        splits: Batches that were split.
        given_up: Objects that were given up.
    """

    splits: int = 0
    given_up: int = 0


@dataclass(frozen=True, slots=True)
class Split:
    """Process these in its place."""

    parts: tuple[Manifest, ...]


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Refuse the one object, without reading it."""

    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Wait:
    """Not yet, and why."""

    because: str


@dataclass(frozen=True, slots=True)
class Leave:
    """Nothing, and why: somebody has to look."""

    because: str


Decision = Split | GiveUp | Wait | Leave


def decide(
    manifest: Manifest,
    undecided: Sequence[SourceObject],
    death: Death,
    case: Case,
    *,
    health: Health,
    elsewhere: str | None = None,
) -> Decision:
    """What becomes of a batch whose last run died.

    Args:
        manifest: The batch's.
        undecided: Those of its objects that are still its own, and about which nothing has been
            decided.
        health: The worker's.
        elsewhere: Why the death says nothing about the batch, where it does not.
    """
    root_objects = manifest.part_of.root_objects if manifest.part_of else len(manifest.objects)
    if not undecided:
        return Leave("all of its source objects have been decided about, or are another batch's")
    if manifest.given_up is not None:
        return Leave("the run that was to refuse its file unread died as well: look at the worker")
    if elsewhere is not None:
        return Leave(elsewhere)
    alone = len(manifest.objects) == 1
    if (alone or manifest.part_of is not None) and health is Health.UNKNOWN:
        return Wait("no other batch has been processed since, so the worker itself may be at fault")
    if not alone:
        if case.splits >= most_splits(root_objects):
            return Leave(f"{case.splits} splits have not got to the bottom of it")
        return Split(halves(manifest, undecided))
    if case.given_up >= MOST_GIVEN_UP:
        return Leave(f"{case.given_up} files of its batch have been given up already")
    tried_again = manifest.part_of is not None and manifest.part_of.again
    if health is Health.MENDED and not tried_again:
        # What killed it may be gone: it is tried once more, beside what now gets through.
        return Split(halves(manifest, undecided))
    return GiveUp(_part(manifest, undecided, given_up=death.sentence))


def halves(manifest: Manifest, objects: Sequence[SourceObject]) -> tuple[Manifest, ...]:
    """A batch's objects as two batches, in their order; a single one as one."""
    middle = len(objects) // 2
    return tuple(_part(manifest, half) for half in (objects[:middle], objects[middle:]) if half)


def most_splits(objects: int) -> int:
    """How many splits a batch of so many objects may take: enough to find `MOST_GIVEN_UP`."""
    return MOST_GIVEN_UP * ceil(log2(objects)) if objects > 1 else 0


def most_runs(objects: int, retries: int) -> int:
    """How many runs a batch may take in all, if every one of them dies.

    Args:
        retries: How often Dagster starts a dead run again.
    """
    parts = 2 * most_splits(objects)
    return (1 + retries) * (1 + 2 * parts) + MOST_GIVEN_UP * (1 + retries)


def _part(
    manifest: Manifest, objects: Sequence[SourceObject], *, given_up: str | None = None
) -> Manifest:
    """Some of a batch's objects as a batch of its own, which remembers where it comes from."""
    before = manifest.part_of
    return Manifest.model_validate(
        {
            **manifest.model_dump(),
            "objects": tuple(objects),
            "part_of": PartOf(
                batch_id=manifest.batch_id,
                root=before.root if before else manifest.batch_id,
                root_objects=before.root_objects if before else len(manifest.objects),
                depth=(before.depth if before else 0) + 1,
                again=len(manifest.objects) == 1,
            ),
            "given_up": given_up,
        }
    )
