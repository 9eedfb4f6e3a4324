"""Which files kill their workers cannot be known beforehand, so the halving is tried on made-up
batches in which every set of files may be the one at fault."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from service_core.isolation.decision import (
    MOST_GIVEN_UP,
    Case,
    Death,
    GiveUp,
    Health,
    How,
    Leave,
    Split,
    Wait,
    decide,
    halves,
    most_runs,
    most_splits,
)
from service_core.manifest import Manifest, Origin
from service_core.source_object import SourceObject

AT = datetime(2026, 11, 21, tzinfo=UTC)
RETRIES = 2


def batch_of(count: int) -> Manifest:
    objects = tuple(
        SourceObject(
            bucket="raw", key=f"orders/{n:05d}", version_id=f"v{n}", etag="e", size=1,
            last_modified=AT, partition="2026-11-21",
        )
        for n in range(count)
    )  # fmt: skip
    return Manifest(
        dataset="orders", partition="2026-11-21", contract_version="1.0.0", contract_hash="h",
        origin=Origin.SENSOR, objects=objects, created_at=AT,
    )  # fmt: skip


def death(run_id: str = "r1") -> Death:
    return Death(run_id, How.DIED, "it was terminated by signal 9", "orders_validated", (run_id,))


@dataclass
class Outcome:
    published: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)
    waiting: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    runs: int = 0
    batches: set[str] = field(default_factory=set)


def play(manifest: Manifest, culprits: set[str], *, others: Health = Health.UNKNOWN) -> Outcome:
    """Process a batch as Dagster would: a run dies when it reads a culprit, is tried again as
    often as it may be, and then the decision is carried out.

    Args:
        others: What other batches show of the worker.
    """
    outcome, splits, given_up, health = Outcome(), 0, 0, others
    queue, dead = deque([manifest]), deque[Manifest]()
    while queue or dead:
        if queue:
            batch = queue.popleft()
            assert batch.batch_id not in outcome.batches, "the same batch was asked for twice"
            outcome.batches.add(batch.batch_id)
            keys = {o.key for o in batch.objects}
            if batch.given_up is not None:
                outcome.runs += 1
                outcome.given_up |= keys
            elif keys & culprits:
                many = batch.part_of is not None and len(keys) > 1
                outcome.runs += 1 if many else 1 + RETRIES
                dead.append(batch)
            else:
                outcome.runs += 1
                outcome.published |= keys
                health = Health.WELL
            continue
        batch = dead.popleft()
        case = Case(splits, given_up)
        match decide(batch, batch.objects, death(), case, health=health):
            case Split(parts=parts):
                splits += 1
                queue.extend(parts)
            case GiveUp(manifest=given):
                given_up += 1
                queue.append(given)
            case Wait():
                outcome.waiting |= {o.key for o in batch.objects}
            case Leave():
                outcome.left |= {o.key for o in batch.objects}
    return outcome


@pytest.mark.parametrize("seed", range(60))
def test_whatever_few_files_are_at_fault_they_alone_are_given_up(seed: int) -> None:
    luck = random.Random(seed)
    manifest = batch_of(luck.randint(2, 200))
    keys = [o.key for o in manifest.objects]
    most = min(MOST_GIVEN_UP, len(keys) - 1)
    culprits = set(luck.sample(keys, luck.randint(1, most)))

    outcome = play(manifest, culprits, others=Health.WELL)

    assert outcome.given_up == culprits
    assert outcome.published == set(keys) - culprits
    assert not outcome.waiting and not outcome.left
    assert outcome.runs <= most_runs(len(keys), RETRIES)


@pytest.mark.parametrize("count", [2, 3, 5, 64, 500, 1000])
def test_one_file_at_fault_costs_twice_the_logarithm_in_runs(count: int) -> None:
    """And needs nobody else: the halves without it are what shows that the worker is well."""
    manifest = batch_of(count)
    culprit = manifest.objects[count // 3].key

    outcome = play(manifest, {culprit})

    depth = (count - 1).bit_length()
    assert outcome.given_up == {culprit}
    assert len(outcome.published) == count - 1
    assert outcome.runs <= 2 * depth + 2 * RETRIES + 2


def test_where_everything_dies_nothing_goes_to_quarantine() -> None:
    """A machine without memory kills whatever it is given."""
    manifest = batch_of(500)

    outcome = play(manifest, {o.key for o in manifest.objects})

    assert outcome.given_up == set()
    assert outcome.waiting == {o.key for o in manifest.objects}
    assert outcome.runs == (1 + RETRIES) + 2


@pytest.mark.parametrize("count", [7, 64, 500])
def test_a_delivery_full_of_killers_is_left_after_a_few(count: int) -> None:
    """The worker is well, for others are processed; so is nobody's guess what to do with them."""
    manifest = batch_of(count)

    outcome = play(manifest, {o.key for o in manifest.objects}, others=Health.WELL)

    assert len(outcome.given_up) <= MOST_GIVEN_UP
    assert outcome.left | outcome.given_up == {o.key for o in manifest.objects}
    assert outcome.left and not outcome.published
    assert outcome.runs <= most_runs(count, RETRIES)


def test_the_same_batch_is_always_split_alike() -> None:
    manifest = batch_of(5)

    first, second = halves(manifest, manifest.objects)

    assert [o.key for o in (*first.objects, *second.objects)] == [o.key for o in manifest.objects]
    assert halves(manifest, manifest.objects) == (first, second)
    assert first.part_of is not None
    assert (first.part_of.batch_id, first.part_of.root) == (manifest.batch_id, manifest.batch_id)


def test_a_file_that_is_left_over_of_many_is_first_tried_alone() -> None:
    """The others have been decided about; it has not been seen to die by itself."""
    manifest = batch_of(3)

    decision = decide(manifest, manifest.objects[1:2], death(), Case(), health=Health.WELL)

    assert isinstance(decision, Split)
    assert [part.given_up for part in decision.parts] == [None]
    assert [part.objects for part in decision.parts] == [manifest.objects[1:2]]


def test_a_part_is_another_batch_than_the_same_files_by_themselves() -> None:
    """They may have a verdict of their own, which is not what was asked for."""
    whole, alone = batch_of(1), halves(batch_of(2), batch_of(2).objects)[0]

    given_up = decide(alone, alone.objects, death(), Case(), health=Health.WELL)

    assert isinstance(given_up, GiveUp)
    assert len({whole.batch_id, alone.batch_id, given_up.manifest.batch_id}) == 3


def test_only_a_batch_of_one_can_be_given_up() -> None:
    with pytest.raises(ValueError, match="exactly one source object"):
        Manifest.model_validate({**batch_of(2).model_dump(), "given_up": "it died"})


def test_a_worker_that_dies_of_what_it_does_not_read_is_itself_at_fault() -> None:
    alone = batch_of(1)
    given_up = decide(alone, alone.objects, death(), Case(), health=Health.WELL)
    assert isinstance(given_up, GiveUp)

    again = decide(given_up.manifest, alone.objects, death(), Case(given_up=1), health=Health.WELL)

    assert isinstance(again, Leave)
    assert "look at the worker" in again.because


def test_what_died_before_the_worker_was_mended_is_tried_once_more() -> None:
    """It may have been the machine; it is given up only beside what gets through."""
    alone = batch_of(1)

    once_more = decide(alone, alone.objects, death(), Case(), health=Health.MENDED)

    assert isinstance(once_more, Split)
    (part,) = once_more.parts
    assert (part.objects, part.given_up) == (alone.objects, None)
    for health in (Health.WELL, Health.MENDED):
        decision = decide(part, part.objects, death(), Case(splits=1), health=health)
        assert isinstance(decision, GiveUp)


def test_splits_are_enough_for_as_many_as_may_be_given_up() -> None:
    assert most_splits(1) == 0
    assert most_splits(1000) == MOST_GIVEN_UP * 10


def test_what_is_known_names_every_run() -> None:
    many = Death("r2", How.HUNG, "Exceeded maximum runtime of 60 seconds.", None, ("r1", "r2"))

    assert many.sentence == (
        "the file hung its worker before its first step, in each of 2 runs (r1, r2), with no "
        "other file beside it: Exceeded maximum runtime of 60 seconds."
    )
