"""Selection: which source objects a replay means, and which of those it passes over.

What is meant is decided from the raw listing and the ledger together: the listing knows what has
landed and which version is a key's latest, the ledger what became of it. Whatever is meant and yet
passed over is recorded with the reason, so that nobody wonders where it is.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from service_core.contract.model import Contract, PublicationMode
from service_core.ledger import Entry, KeyHead, State
from service_core.replay.request import Options, Selector
from service_core.source_object import SourceObject


class Why(StrEnum):
    """Why a source object that a replay means is passed over."""

    PUBLISHED = "published"
    SUPERSEDED = "superseded"
    NOT_LATEST = "not_latest"
    NOT_THERE = "not_there"

    @property
    def sentence(self) -> str:
        """The same for a person."""
        return _SENTENCES[self]


_SENTENCES = {
    Why.PUBLISHED: "It is published, and the replay does not force it.",
    Why.SUPERSEDED: "A newer version of its key has taken its place since.",
    Why.NOT_LATEST: "It is not the latest version of its key: that was overwritten or deleted. "
    "Name the version to replay it even so.",
    Why.NOT_THERE: "The raw bucket holds no such object, or not that version of it.",
}


class PassedOver(BaseModel):
    """A source object that a replay means and does not process; `object_id` is None where there
    is no such object."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    version_id: str | None = None
    object_id: str | None = None
    partition: str | None = None
    why: Why


@dataclass(frozen=True, slots=True)
class Criteria:
    """A selector, made ready: every criterion that is not None must hold.

    Attributes:
        partitions: Names of partitions.
        objects: Ids of the batch's source objects.
    """

    partitions: Collection[str] | None = None
    key_prefix: str | None = None
    objects: Collection[str] | None = None
    state: State | None = None
    contract_version: str | None = None
    reason_codes: frozenset[str] = field(default=frozenset())

    @classmethod
    def of(
        cls,
        selector: Selector,
        *,
        partitions: Collection[str] | None,
        objects: Collection[str] | None,
    ) -> Criteria:
        """A selector's, with its partitions and its batch's objects looked up."""
        return cls(
            partitions=partitions,
            key_prefix=selector.key_prefix,
            objects=objects,
            state=selector.state,
            contract_version=selector.contract_version,
            reason_codes=frozenset(code.value for code in selector.reason_codes or ()),
        )

    def may_mean(self, source_object: SourceObject) -> bool:
        """Whether an object is meant as far as it can be told without the ledger."""
        return (
            (self.partitions is None or source_object.partition in self.partitions)
            and (self.key_prefix is None or source_object.key.startswith(self.key_prefix))
            and (self.objects is None or source_object.id in self.objects)
        )

    def mean(self, entry: Entry | None, reasons: Collection[str]) -> bool:
        """Whether an object that may be meant is.

        Args:
            entry: Its entry; None where the ledger does not know it yet.
            reasons: Every reason for which it, or rows of it, were diverted.
        """
        if self.state is not None and (entry is None or entry.state is not self.state):
            return False
        if self.contract_version is not None and (
            entry is None or entry.contract_version != self.contract_version
        ):
            return False
        return not self.reason_codes or not self.reason_codes.isdisjoint(reasons)


def why_passed_over(
    options: Options,
    contract: Contract,
    source_object: SourceObject,
    entry: Entry | None,
    head: KeyHead | None,
    *,
    latest: bool,
    named: bool,
) -> Why | None:
    """Why an object that is meant is not replayed; None where it is.

    Args:
        contract: By which it would be judged.
        head: The newest published version of its key, where that matters.
        latest: Whether it is its key's latest version.
        named: Whether the request names this very version.
    """
    if entry is not None and entry.state is State.SUPERSEDED:
        return Why.SUPERSEDED
    if (
        head is not None
        and contract.publication is PublicationMode.REPLACE
        and head.object_id != source_object.id
        and head.order > source_object.order
    ):
        return Why.SUPERSEDED
    if not latest and not named:
        return Why.NOT_LATEST
    if entry is None or options.force:
        return None
    if options.skip_if_published:
        published = entry.state is State.PUBLISHED or entry.published_batch_id is not None
        return Why.PUBLISHED if published else None
    return Why.PUBLISHED if published_wholly(entry, contract) else None


def published_wholly(entry: Entry, contract: Contract) -> bool:
    """Whether every row of an object is published under this very contract."""
    return (
        entry.state is State.PUBLISHED
        and entry.contract_version == contract.version
        and entry.contract_hash in (None, contract.hash)
        and not entry.rows_quarantined
    )
