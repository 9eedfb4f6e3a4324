"""What one batch changes in its table: which rows go, which files are written anew, what comes.

Everything is planned against one reading of the table and stands or falls with it. Only the
batch's own partition is looked at, only its files whose bounds can hold a row to be taken out,
and of those only the columns of origin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from uuid import uuid4

import pyarrow as pa
import pyarrow.compute as pc
from pyiceberg.expressions import (
    AlwaysTrue,
    And,
    BooleanExpression,
    EqualTo,
    GreaterThanOrEqual,
    In,
    LessThanOrEqual,
    Or,
)
from pyiceberg.io.pyarrow import ArrowScan
from pyiceberg.manifest import DataFile, ManifestEntryStatus
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Snapshot

from resources.table_files import (
    StagedFileError,
    Written,
    is_missing,
    read_batches,
    read_columns,
    read_footer,
    require_partition,
    require_shape,
    rewrite,
)
from resources.table_io import TableFileIO
from resources.table_schema import TableColumn, table_columns
from service_core.canonical import (
    BATCH_ID,
    CONTRACT_VERSION,
    INGESTED_AT,
    PARTITION,
    SOURCE_KEY,
    SOURCE_OBJECT_ID,
)
from service_core.contract.model import Contract
from service_core.layout import batch_prefix
from service_core.publication import replaced_by
from service_core.validation.record import StagedFile
from service_core.verdict import Verdict

# PyIceberg compares a file's bounds with up to 200 values and then gives up; a range it always
# compares.
_LISTED_VALUES = 200
_READERS = 8


@dataclass(frozen=True, slots=True)
class Removal:
    """Which published rows a batch takes out: rows of these keys, and of these very objects."""

    keys: frozenset[str]
    objects: frozenset[str]

    def hits(self, rows: pa.Table | pa.RecordBatch) -> pa.BooleanArray:
        """One truth value for each row."""
        hit = _among(rows, SOURCE_OBJECT_ID, self.objects)
        return pc.or_(hit, _among(rows, SOURCE_KEY, self.keys)) if self.keys else hit

    def filter(self, partition: str) -> BooleanExpression:
        """What a file's bounds must allow for it to hold such a row."""
        any_of = [
            _bounded(name, values)
            for name, values in ((SOURCE_KEY, self.keys), (SOURCE_OBJECT_ID, self.objects))
            if values
        ]
        here = EqualTo(PARTITION, partition)
        return And(here, any_of[0] if len(any_of) == 1 else Or(*any_of))


def _among(rows: pa.Table | pa.RecordBatch, name: str, values: frozenset[str]) -> pa.BooleanArray:
    column = rows.column(name)
    return pc.is_in(column, value_set=pa.array(sorted(values), column.type))


def _bounded(name: str, values: frozenset[str]) -> BooleanExpression:
    if len(values) <= _LISTED_VALUES:
        return In(name, values)
    return And(GreaterThanOrEqual(name, min(values)), LessThanOrEqual(name, max(values)))


def removal(contract: Contract, verdict: Verdict, withheld: frozenset[str]) -> Removal:
    """What a batch replaces; see `service_core.publication.replaced_by`."""
    return Removal(*replaced_by(contract, verdict, withheld))


@dataclass(frozen=True, slots=True)
class Hit:
    """A data file of the table that holds rows to be taken out."""

    task: FileScanTask
    rows: int
    objects: frozenset[str]

    @property
    def entirely(self) -> bool:
        return self.rows == self.task.file.record_count


def find_hits(
    table: Table, removal: Removal, partition: str, staged: frozenset[str]
) -> tuple[list[Hit], frozenset[str]]:
    """The files of the table's current snapshot that hold rows to be taken out.

    Returns:
        Those files; and those of the `staged` URIs that are in the table already (their commit's
        snapshot has been expired since), which stay and must not come in twice.
    """
    if not removal.objects:
        return [], frozenset()
    tasks = list(table.scan(row_filter=removal.filter(partition)).plan_files())
    columns = [SOURCE_OBJECT_ID, SOURCE_KEY]

    def look(task: FileScanTask) -> Hit | None:
        file = task.file
        rows = read_columns(table_io(table), file.file_path, file.file_size_in_bytes, columns)
        hits = removal.hits(rows)
        count = pc.sum(hits).as_py() or 0
        if not count:
            return None
        objects = pc.unique(rows.column(SOURCE_OBJECT_ID).filter(hits)).to_pylist()
        return Hit(task, count, frozenset(objects))

    others = [task for task in tasks if task.file.file_path not in staged]
    present = frozenset(task.file.file_path for task in tasks) & staged
    with ThreadPoolExecutor(_READERS) as readers:
        return [hit for hit in readers.map(look, others) if hit is not None], present


def table_io(table: Table) -> TableFileIO:
    """The file access that the catalog gave the table."""
    assert isinstance(table.io, TableFileIO)
    return table.io


@dataclass(slots=True)
class Workshop:
    """The new files of one publication, kept from attempt to attempt.

    A conflict changes what has to be removed only now and then, so a file that one attempt wrote
    is taken by the next that needs the same.

    Attributes:
        bucket: Where new files go.
        folder: The table's own folder in it, for what is left of files that it already had.
    """

    io: TableFileIO
    contract: Contract
    verdict: Verdict
    bucket: str
    folder: str
    _columns: tuple[TableColumn, ...] = ()
    _written: dict[tuple[str, object], Written | None] = field(default_factory=dict)
    _staged: dict[str, Written] = field(default_factory=dict)
    _token: str = field(default_factory=lambda: uuid4().hex)

    def __post_init__(self) -> None:
        self._columns = table_columns(self.contract)

    def stage(self, withheld: frozenset[str]) -> list[Written]:
        """The batch's files as they go into the table: as they were staged, or written anew
        without the rows of withheld objects.

        Raises:
            ObjectMissingError: a staged file is not there.
            StagedFileError: a staged file is not what it should be.
        """
        files = []
        for number, staged in enumerate(self.verdict.staged):
            if not staged.rows:
                continue
            file = self._as_staged(staged)
            dropped = self._withheld_in(staged, withheld)
            incomplete = SOURCE_KEY not in file.footer.schema.to_arrow_schema().names
            if dropped or incomplete:
                target = (
                    f"s3://{self.bucket}/"
                    + batch_prefix(
                        self.contract.dataset, self.verdict.partition, self.verdict.batch_id
                    )
                    + f"{self._token}/part-{number:05d}-{len(self._written)}.parquet"
                )
                rewritten = self._restaged(staged.uri, Removal(frozenset(), dropped), target)
                if rewritten is not None:
                    files.append(rewritten)
            else:
                files.append(file)
        return files

    def survivors(self, table: Table, hit: Hit, removal: Removal) -> Written | None:
        """What is left of a file, written anew."""
        uri = hit.task.file.file_path

        def batches() -> Iterator[pa.RecordBatch]:
            if not hit.task.delete_files:
                return read_batches(self.io, uri)
            # Another engine has deleted rows of the file without writing it anew.
            scan = ArrowScan(table.metadata, table.io, table.schema(), AlwaysTrue())
            return iter(scan.to_record_batches([hit.task]))

        target = f"{self.folder}/data/{self.verdict.partition}/{uuid4().hex}.parquet"
        return self._without(
            uri, batches, removal, target, lambda b: b.filter(pc.invert(removal.hits(b)))
        )

    def discard(self, used: frozenset[str]) -> None:
        """Delete the new files that no snapshot came to refer to."""
        for file in self._written.values():
            if file is not None and file.uri not in used:
                self.io.delete(file.uri)

    def _restaged(self, uri: str, removal: Removal, target: str) -> Written | None:
        def complete(batch: pa.RecordBatch) -> pa.RecordBatch:
            return self._complete(batch.filter(pc.invert(removal.hits(batch))))

        return self._without(uri, lambda: read_batches(self.io, uri), removal, target, complete)

    def _as_staged(self, staged: StagedFile) -> Written:
        if staged.uri not in self._staged:
            footer = read_footer(self.io, staged.uri, staged.bytes)
            require_shape(staged.uri, footer.schema.to_arrow_schema(), self._columns)
            require_partition(self.io, staged.uri, footer, self.verdict.partition)
            require_rows(staged, footer.num_rows)
            self._staged[staged.uri] = Written(staged.uri, staged.rows, staged.bytes, footer)
        return self._staged[staged.uri]

    def _withheld_in(self, staged: StagedFile, withheld: frozenset[str]) -> frozenset[str]:
        accepted = {f.source_object.id for f in self.verdict.files if f.rows_accepted}
        if not withheld & accepted:
            return frozenset()
        ids = read_columns(self.io, staged.uri, staged.bytes, [SOURCE_OBJECT_ID])
        return withheld & frozenset(pc.unique(ids.column(0)).to_pylist())

    def _without(
        self,
        uri: str,
        batches: Callable[[], Iterator[pa.RecordBatch]],
        removal: Removal,
        target: str,
        transform: Callable[[pa.RecordBatch], pa.RecordBatch],
    ) -> Written | None:
        if (uri, removal) not in self._written:
            self._written[uri, removal] = rewrite(self.io, batches(), target, transform)
        return self._written[uri, removal]

    def _complete(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Canonical text does not carry the whole origin; the table does."""
        keys = {f.source_object.id: f.source_object.key for f in self.verdict.files}
        ids = batch.column(SOURCE_OBJECT_ID).to_pylist()
        origin = {
            SOURCE_KEY: pa.array([keys[i] for i in ids], pa.string()),
            BATCH_ID: _constant(self.verdict.batch_id, batch.num_rows),
            CONTRACT_VERSION: _constant(self.verdict.contract_version, batch.num_rows),
            INGESTED_AT: pa.repeat(
                pa.scalar(self.verdict.judged_at, pa.timestamp("us", tz="UTC")), batch.num_rows
            ),
            PARTITION: _constant(self.verdict.partition, batch.num_rows),
        }
        missing = {name: v for name, v in origin.items() if name not in batch.schema.names}
        return pa.RecordBatch.from_arrays(
            [*batch.columns, *missing.values()], [*batch.schema.names, *missing]
        )


def _constant(value: str, rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), rows)


def require_rows(staged: StagedFile, found: int) -> None:
    """Refuse a staged file that does not hold the rows that the verdict counted.

    Raises:
        StagedFileError: it does not.
    """
    if found != staged.rows:
        raise StagedFileError(
            f"The staged file {staged.uri} holds {found} rows, and its verdict counted "
            f"{staged.rows}."
        )


def superseded_by(table: Table, snapshot: Snapshot, verdict: Verdict) -> tuple[str, ...]:
    """Ids of the older source objects whose rows a batch's snapshot took out.

    Worked out from the snapshot itself, for a publisher that died between its commit and the
    ledger. Files that maintenance has since removed tell nothing, and need not: by then the
    ledger knows.
    """
    removed: set[str] = set()
    left: set[str] = set()
    staged = {file.uri for file in verdict.staged}
    for manifest in snapshot.manifests(table.io):
        if manifest.added_snapshot_id != snapshot.snapshot_id:
            continue
        for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
            if entry.snapshot_id != snapshot.snapshot_id or entry.data_file.file_path in staged:
                continue
            if entry.status is ManifestEntryStatus.DELETED:
                removed |= _objects_in(table, entry.data_file)
            elif entry.status is ManifestEntryStatus.ADDED:
                left |= _objects_in(table, entry.data_file)
    own = {f.source_object.id for f in verdict.files}
    return tuple(sorted(removed - left - own))


def _objects_in(table: Table, file: DataFile) -> set[str]:
    try:
        rows = read_columns(
            table_io(table), file.file_path, file.file_size_in_bytes, [SOURCE_OBJECT_ID]
        )
    except OSError:
        if is_missing(table_io(table), file.file_path):
            return set()
        raise
    return set(pc.unique(rows.column(0)).to_pylist())
