"""Errands: what every task of a batch is told, and where it finds and leaves things.

A file that a task writes has the task attempt's own name, so nothing that another attempt wrote is
ever written over, and only files that a report names exist for the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from service_core.curation.losers import Losers
from service_core.curation.staging import PartWriter
from service_core.curation.workbench import Batch
from service_core.layout import Zone, quarantined_rows_prefix, staged_prefix
from service_core.spark.reach import Reach
from service_core.spark.spans import Piece
from service_core.validation.record import StagedFile

if TYPE_CHECKING:
    import numpy


@dataclass(frozen=True, slots=True)
class Errand:
    """What every task of a batch is told.

    Attributes:
        batch: Whose rows.
        reach: How to get at them.
        attempt: Names what this judgement of the batch stages, and no other does.
    """

    batch: Batch
    reach: Reach
    attempt: str

    @property
    def staged(self) -> str:
        """Curated bucket: the prefix of what is staged."""
        return staged_prefix(*self._place, self.attempt)

    @property
    def quarantined(self) -> str:
        """Quarantine bucket: the prefix of diverted rows."""
        return quarantined_rows_prefix(*self._place, self.attempt)

    @property
    def work(self) -> str:
        """Curated bucket: the prefix of what passes hand to each other."""
        return f"{self.staged}_work/"

    @property
    def _place(self) -> tuple[str, str, str]:
        manifest = self.batch.manifest
        return (manifest.dataset, manifest.partition, manifest.batch_id)

    def ship(self, writer: PartWriter, zone: Zone, stem: str) -> tuple[Piece, ...]:
        """Bring what was written to where it stays."""
        prefix = self.staged if zone is Zone.CURATED else self.quarantined
        store, own = self.reach.store(), own_name()
        pieces = []
        for number, part in enumerate(writer.finish()):
            size = part.path.stat().st_size
            uri = store.upload(part.path, zone, f"{prefix}{stem}-{own}-{number:03d}.parquet")
            part.path.unlink()
            pieces.append(Piece(StagedFile(uri=uri, rows=part.rows, bytes=size), part.owners))
        return tuple(pieces)

    @contextmanager
    def losers(self, uri: str | None) -> Iterator[Losers]:
        """The rows that gave way, from the file in which the driver keeps them."""
        with TemporaryDirectory(prefix="losers-") as folder:
            path = None
            if uri is not None:
                path = Path(folder) / "losers.parquet"
                self.reach.store().download(uri, path)
            yield Losers.kept(self.batch.contract, self.batch.owners, path)

    @contextmanager
    def hashes(self, uri: str | None) -> Iterator[numpy.ndarray[Any, Any] | None]:
        """Ascending hashes, from a file; mapped, so that the workers of a machine share them."""
        import numpy

        if uri is None:
            yield None
            return
        with TemporaryDirectory(prefix="hashes-") as folder:
            path = Path(folder) / "hashes.npy"
            self.reach.store().download(uri, path)
            yield numpy.load(path, mmap_mode="r")


def own_name() -> str:
    """A name that no other attempt at any task has: Spark's own id of it where there is one."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return f"t{context.taskAttemptId()}" if context is not None else f"d{uuid4().hex[:8]}"


@contextmanager
def scratch() -> Iterator[Callable[[str], Callable[[int], Path]]]:
    """A folder of the task's own, as a namer of the files in it."""
    with TemporaryDirectory(prefix="curated-") as folder:

        def path_of(stem: str) -> Callable[[int], Path]:
            return lambda number: Path(folder) / f"{stem}-{number:05d}.parquet"

        yield path_of
