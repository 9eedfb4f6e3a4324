"""Writing: where the rows of a batch's files go, those without shape apart."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from service_core.canonical import MALFORMED_SCHEMA, canonical_schema
from service_core.contract.model import Contract
from service_core.layout import Zone, malformed_key, validated_part_key
from service_core.manifest import Manifest
from service_core.ports import ObjectStore
from service_core.run import Run
from service_core.validation.csv_rows import DelimitedReader, MalformedRow
from service_core.validation.header import Heads, dialect_of
from service_core.validation.parts import PartWriter, malformed_table
from service_core.validation.record import StagedFile
from service_core.validation.records import Grammar
from service_core.validation.refusal import Tally


class Writing:
    """Where the batch's rows go."""

    def __init__(
        self, contract: Contract, manifest: Manifest, store: ObjectStore, run: Run
    ) -> None:
        place = (manifest.dataset, manifest.partition, manifest.batch_id)

        def ship_part(part: int, path: Path) -> str:
            return store.upload(path, Zone.VALIDATED, validated_part_key(*place, part))

        def ship_malformed(part: int, path: Path) -> str:
            return store.upload(path, Zone.VALIDATED, malformed_key(*place))

        grammar = Grammar(dialect_of(contract))
        self.heads = Heads(contract, grammar)
        self.rows = PartWriter(
            canonical_schema(contract),
            lambda part: run.scratch / f"part-{part:05d}.parquet",
            ship_part,
        )
        self.malformed = PartWriter(
            MALFORMED_SCHEMA,
            lambda _: run.scratch / "malformed.parquet",
            ship_malformed,
            part_bytes=None,
        )
        self.tallies: dict[str, Tally] = {}
        self.delimited = DelimitedReader(contract, grammar, self.rows.add, self._take_malformed)

    def _take_malformed(self, object_id: str, rows: list[MalformedRow]) -> None:
        self.malformed.add(tallied(self.tallies[object_id], object_id, rows))

    def finish(self) -> tuple[tuple[StagedFile, ...], StagedFile | None]:
        """Ship everything; returns the parts, and the malformed rows if there are any."""
        self.delimited.flush()
        parts, malformed = self.rows.finish(), self.malformed.finish()
        return parts, malformed[0] if malformed else None

    def abandon(self) -> None:
        """Close what is open; nothing more is shipped."""
        self.rows.abandon()
        self.malformed.abandon()


def tallied(tally: Tally, object_id: str, rows: list[MalformedRow]) -> pa.Table:
    """Rows of a file without shape as a table, once they have been counted."""
    for _, line, code, column, message, raw in rows:
        tally.add(code, message, line=line, column=column, raw=raw)
    return malformed_table(MALFORMED_SCHEMA, object_id, rows)
