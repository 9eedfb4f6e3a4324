"""Shipment: files in scratch go to their zones, under names that nothing has yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from service_core.curation.staging import Part, counted
from service_core.layout import (
    Zone,
    accepted_part_key,
    quarantined_rows_key,
    quarantined_rows_prefix,
    staged_prefix,
)
from service_core.manifest import Manifest
from service_core.ports import ObjectStore
from service_core.run import Run
from service_core.validation.record import StagedFile


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Files of accepted and of quarantined rows in scratch: `workbench.Files`."""

    manifest: Manifest
    store: ObjectStore
    run: Run
    staged: Sequence[Part]
    diverted: Sequence[Part]

    @property
    def accepted(self) -> int:
        return sum(counted(part.path) for part in self.staged)

    @property
    def quarantined(self) -> int:
        return sum(counted(part.path) for part in self.diverted)

    def ship(self) -> tuple[tuple[StagedFile, ...], tuple[StagedFile, ...]]:
        """Upload them."""
        place = (self.manifest.dataset, self.manifest.partition, self.manifest.batch_id)
        attempt = _fresh_attempt(self.store, place, self.run.attempt)
        staged = tuple(
            self._upload(part, Zone.CURATED, accepted_part_key(*place, attempt, number))
            for number, part in enumerate(self.staged)
        )
        diverted = tuple(
            self._upload(part, Zone.QUARANTINE, quarantined_rows_key(*place, attempt, number))
            for number, part in enumerate(self.diverted)
        )
        return staged, diverted

    def _upload(self, part: Part, zone: Zone, key: str) -> StagedFile:
        size = part.path.stat().st_size
        return StagedFile(uri=self.store.upload(part.path, zone, key), rows=part.rows, bytes=size)


def _fresh_attempt(store: ObjectStore, place: tuple[str, str, str], attempt: str) -> str:
    """A name for what this attempt stages. An attempt may judge its batch twice, and a file that
    a published snapshot refers to must never be written again."""
    name, number = attempt, 1
    while any(
        next(iter(store.keys(zone, prefix)), None) is not None
        for zone, prefix in (
            (Zone.CURATED, staged_prefix(*place, name)),
            (Zone.QUARANTINE, quarantined_rows_prefix(*place, name)),
        )
    ):
        number += 1
        name = f"{attempt}-{number}"
    return name
