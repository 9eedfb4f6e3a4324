"""The keys of a batch's staged rows, beside those of rows that are published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from service_core.platform_columns import SOURCE_KEY, SOURCE_OBJECT_ID, SOURCE_ROW
from service_core.ports import ObjectStore
from service_core.verdict import Verdict

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa


class StagedKeys:
    """Key columns of a batch's staged rows; fetched only where they have to be compared."""

    def __init__(
        self, store: ObjectStore, verdict: Verdict, withheld: frozenset[str], scratch: Path
    ) -> None:
        self._store = store
        self._staged = [file for file in verdict.staged if file.rows]
        self._withheld = sorted(withheld)
        self._scratch = scratch
        self._fetched: list[Path] = []
        self._keys: dict[tuple[str, ...], pl.DataFrame] = {}

    def first_overlap(
        self, columns: tuple[str, ...], published: pa.RecordBatch
    ) -> tuple[str, int] | None:
        """The source key and row of a published row whose key a staged row has too. A key with a
        null in it is no key."""
        import polars as pl

        theirs = pl.DataFrame(published)
        mine = self._of(columns).cast({name: theirs.schema[name] for name in columns})
        shared = theirs.join(mine, on=list(columns), how="semi")
        if not shared.height:
            return None
        return str(shared[SOURCE_KEY][0]), int(shared[SOURCE_ROW][0])

    def _of(self, columns: tuple[str, ...]) -> pl.DataFrame:
        import polars as pl

        if columns not in self._keys:
            self._keys[columns] = (
                pl.scan_parquet(self._files())
                .filter(~pl.col(SOURCE_OBJECT_ID).is_in(self._withheld))
                .select(columns)
                .collect()
            )
        return self._keys[columns]

    def _files(self) -> list[Path]:
        if not self._fetched:
            for number, file in enumerate(self._staged):
                path = self._scratch / f"staged-keys-{number}.parquet"
                self._store.download(file.uri, path)
                self._fetched.append(path)
        return self._fetched
