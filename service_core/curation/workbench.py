"""Workbenches: where the rows of a batch are worked on, in this process or on many machines.

What is decided about files and keys is decided once, by whoever drives (`Settling`); a workbench
goes over the rows, in as many passes as that takes, and every pass is made of the same functions
wherever it runs. Thus where rows are worked on changes nothing that becomes of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from service_core.contract.model import Contract
from service_core.curation.key_watch import Key, Suspects
from service_core.curation.set_rules import Figure
from service_core.curation.tally import Samples, Tally
from service_core.manifest import Manifest
from service_core.validation.record import Finding, StagedFile, ValidationRecord

if TYPE_CHECKING:
    from service_core.curation.settlement import Settlement
    from service_core.curation.uniqueness import Duplicates


@dataclass(frozen=True, slots=True)
class Batch:
    """A validated batch."""

    contract: Contract
    manifest: Manifest
    record: ValidationRecord

    @property
    def objects(self) -> list[tuple[str, str]]:
        """Id and key of its source objects, in the manifest's order."""
        return [(o.id, o.key) for o in self.manifest.objects]

    @property
    def owners(self) -> list[str]:
        """Ids of its source objects, in the manifest's order."""
        return [o.id for o in self.manifest.objects]


@dataclass(frozen=True, slots=True)
class RowsJudged:
    """What the kernel said of a batch's rows.

    Attributes:
        tallies: By source object id.
        samples: Rows that broke a rule, by check name.
    """

    tallies: Mapping[str, Tally]
    samples: Samples


class Files(Protocol):
    """Parquet files of a batch's rows, of the source objects that stay.

    Attributes:
        accepted, quarantined: Rows in them, by their footers.
    """

    @property
    def accepted(self) -> int: ...

    @property
    def quarantined(self) -> int: ...

    def ship(self) -> tuple[tuple[StagedFile, ...], tuple[StagedFile, ...]]:
        """Bring the files to their zones, unless they lie there; returns both kinds, in order."""


@dataclass(frozen=True, slots=True)
class Divided:
    """What became of a batch's rows.

    Attributes:
        files: Accepted rows and quarantined ones.
        samples: Rows that gave way to others, by check name.
        duplicates: Findings of rows that gave way, by source object id.
    """

    files: Files
    samples: Samples
    duplicates: Mapping[str, Sequence[Finding]]


class Workbench(Protocol):
    """Goes over the rows of one batch. The passes are asked for in the order in which they stand
    here; those between the first and the last any number of times."""

    def judge(self) -> RowsJudged:
        """Pass every row through the kernel, once, and keep what is accepted and what is not."""

    def suspects(self, key: Key, replaced: Sequence[str]) -> Suspects:
        """Find the accepted rows whose value of a unique key may stand more than once, in the
        batch or in what is published.

        Args:
            replaced: Source keys whose published rows do not count, because they will be replaced.
        """

    def distinct(
        self, columns: Key, duplicates: Duplicates, *, by_object: bool
    ) -> Mapping[str | None, tuple[int, int]]:
        """How many rows that are left have a value of all `columns`, and how many values.

        By source object, or for the batch under None; nothing where there is no such row.
        """

    def measure(
        self, owners: Collection[str], duplicates: Duplicates
    ) -> Mapping[str, Mapping[str, Figure]]:
        """Set rules' partial figures, taken anew of the rows that are left of some objects."""

    def divide(self, settlement: Settlement, duplicates: Duplicates) -> Divided:
        """Bring the files to what was decided: without the rows of objects that go whole, and
        with the rows that gave way among the quarantined ones."""
