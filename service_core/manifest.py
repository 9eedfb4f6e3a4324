"""Manifests and batches: the list that drives every run, and the id of the work it asks for.

A batch id is a hash of the source objects' ids and the contract's version hash. The same work has
the same id whoever asks for it, which is what makes a repeated request harmless. Work that is to be
done anew though it has been done before says so, and has an id of its own; so has a part of a batch
that killed or hung its worker (`service_core.isolation`).
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import cached_property
from typing import Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, field_validator, model_validator

from service_core.source_object import SourceObject

_ID_CHARACTERS = 32


class Origin(StrEnum):
    """Who asked for a manifest."""

    SENSOR = "sensor"
    BACKFILL = "backfill"
    REPLAY = "replay"
    PERSON = "person"


class PartOf(BaseModel):
    """Where a part of a batch comes from that killed or hung its worker.

    Attributes:
        batch_id: The batch of which it is a half, or whose one object it gives up.
        root: The batch that was split first.
        root_objects: How many source objects that one had.
        depth: How many times it has been halved since.
        again: Whether its one object had been alone before, and is tried once more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    batch_id: str
    root: str
    root_objects: int
    depth: int
    again: bool = False


class Manifest(BaseModel):
    """What one run processes: source objects of one data set and one partition.

    `objects` are sorted by key and version, and hold at most one version of a key: the order is
    the order in which rows count as first where two share a key.

    Attributes:
        replay_id: The replay, or the backfill, that it is part of.
        anew: Where the same objects under the same contract are to be judged once more: the
            replay or run that wants it. Part of the batch id.
        named_contract: Whether a replay named this version of the contract, so that the batch is
            judged by it whatever is in force.
        part_of: The batch that it was split from. Part of the batch id.
        given_up: What is known of the failure for which its one object is refused without being
            read. That it is given up is part of the batch id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: str
    partition: str
    contract_version: str
    contract_hash: str
    origin: Origin
    objects: tuple[SourceObject, ...]
    created_at: AwareDatetime
    replay_id: str | None = None
    anew: str | None = None
    named_contract: bool = False
    part_of: PartOf | None = None
    given_up: str | None = None

    @field_validator("objects")
    @classmethod
    def _sorted_without_repeats(cls, objects: tuple[SourceObject, ...]) -> tuple[SourceObject, ...]:
        ordered = tuple(sorted(objects, key=lambda o: (o.key, o.order)))
        keys = [o.key for o in ordered]
        if len(set(keys)) != len(keys):
            raise ValueError("a manifest holds at most one version of a key")
        return ordered

    @model_validator(mode="after")
    def _gives_up_one(self) -> Self:
        if self.given_up is not None and len(self.objects) != 1:
            raise ValueError("a manifest gives up exactly one source object")
        return self

    @cached_property
    def batch_id(self) -> str:
        """32 hexadecimal characters; see the module's docstring."""
        digest = hashlib.sha256(f"{self.dataset}\x1f{self.contract_hash}".encode())
        for source_object in self.objects:
            digest.update(source_object.id.encode())
        if self.anew is not None:
            digest.update(f"\x1fanew\x1f{self.anew}".encode())
        if self.part_of is not None:
            digest.update(f"\x1fpart of\x1f{self.part_of.batch_id}".encode())
        if self.given_up is not None:
            digest.update(b"\x1fgiven up")
        return digest.hexdigest()[:_ID_CHARACTERS]

    @property
    def size(self) -> int:
        """Bytes of all objects."""
        return sum(o.size for o in self.objects)
