"""The published tables: Iceberg, in the Glue catalog, one snapshot for one batch.

A batch is in its table once, however often and by however many publishers it is tried, and not at
all once it has been rolled back. The batch id stands in the snapshot's summary, and is looked for
in the table's history after every reading of it and so after every conflict; a commit counts only
against the very state that was looked at.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import PrivateAttr

from resources.settings import SettingsResource
from resources.table_name import TableSchemaError, table_name
from resources.table_snapshots import (
    SUMMARY_ROWS_ADDED,
    SUMMARY_ROWS_REMOVED,
    committed,
    history,
    is_rolled_back,
    rollback_summary,
    summary,
)
from service_core.contract.model import Contract
from service_core.layout import Zone
from service_core.platform_columns import PARTITION, SOURCE_KEY, SOURCE_OBJECT_ID
from service_core.ports import Publication, PublishedFiles, Withheld
from service_core.settings import Settings
from service_core.undo import BatchRolledBackError, History, Memory, Share, Undone
from service_core.upkeep import Retention, Tended
from service_core.verdict import Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from resources.glue_tables import GlueTables
    from resources.table_change import Hit, Workshop
    from resources.table_io import TableFileIO

_T = TypeVar("_T")

_FIRST_WAIT_SECONDS = 0.05
_LONGEST_WAIT_SECONDS = 5.0
#: The patience of a sensor's tick, beside the clients' own.
_HURRIED_SECONDS = 5.0

_TABLE_PROPERTIES: Mapping[str, str] = {
    "format-version": "2",
    # PyIceberg's own retry does not look whether the batch has been committed meanwhile: two
    # stale writers of one batch would both succeed.
    "commit.retry.num-retries": "0",
    # Each commit adds a manifest, and nothing but another commit can put them together.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.min-count-to-merge": "20",
    "write.parquet.compression-codec": "zstd",
    "write.delete.mode": "copy-on-write",
    "write.update.mode": "copy-on-write",
    "write.merge.mode": "copy-on-write",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
    # Whole bounds, so that a file is passed over by its keys without being read.
    f"write.metadata.metrics.column.{SOURCE_KEY}": "full",
    f"write.metadata.metrics.column.{SOURCE_OBJECT_ID}": "full",
    f"write.metadata.metrics.column.{PARTITION}": "full",
    # A batch is found committed as long as its snapshot is kept.
    "history.expire.max-snapshot-age-ms": str(30 * 24 * 60 * 60 * 1000),
    "history.expire.min-snapshots-to-keep": "100",
}


class PublicationConflictError(Exception):
    """Others kept committing to the table, or the catalog did not answer, until time was up.
    Nothing is lost: publishing again takes up where this left off."""


class _NotSettledError(Exception):
    """This attempt came to nothing, or may have: look at the table again."""


class IcebergCatalog:
    """`service_core.ports.Catalog` over PyIceberg's Glue catalog.

    PyIceberg and the clients are loaded on first use: a code location that only describes its
    assets needs neither.

    Args:
        settings: Where everything is.
        patience: Seconds for which a publication is tried against conflicts and a catalog that
            does not answer.
    """

    def __init__(self, settings: Settings, *, patience: float = 300.0) -> None:
        self._settings = settings
        self._patience = patience
        self._glue: GlueTables | None = None

    # --- Reading ---------------------------------------------------------------------------------

    def table_name(self, contract: Contract) -> str:
        """`database.table` of a data set."""
        return ".".join(self._identifier(contract))

    def table(self, contract: Contract) -> Table | None:
        """The data set's table as it stands now, or None where nothing has been published."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        def load() -> Table | None:
            try:
                return self._catalog().load_table(self._identifier(contract))
            except (NoSuchTableError, NoSuchNamespaceError):
                return None

        return self._patiently(load)

    def current_snapshot(self, contract: Contract) -> int | None:
        """Id of the table's current snapshot, or None."""
        table = self.table(contract)
        return None if table is None else table.metadata.current_snapshot_id

    def published_keys(
        self,
        contract: Contract,
        partition: str,
        columns: Sequence[str],
        *,
        except_source_keys: Iterable[str] = (),
        except_source_objects: Iterable[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """See `service_core.ports.Catalog`. Only those columns of the partition's files are read.

        A key column that the table does not have yet is null in every published row, and a null
        is no key: nothing is given then.
        """
        from resources.table_rows import key_batches

        table = self.table(contract)
        if table is None or set(columns) - set(table.schema().column_names):
            return iter(())
        return key_batches(
            table,
            partition,
            columns,
            except_source_keys=frozenset(except_source_keys),
            except_source_objects=frozenset(except_source_objects),
        )

    def published_files(self, contract: Contract, partition: str) -> PublishedFiles | None:
        """See `service_core.ports.Catalog`.

        Raises:
            PublishedDeletesError: rows are deleted apart from the files that hold them.
        """
        from resources.table_rows import data_files

        table = self.table(contract)
        snapshot = None if table is None else table.metadata.current_snapshot_id
        if table is None or snapshot is None:
            return None
        return PublishedFiles(snapshot, data_files(table, partition))

    def published_rows(
        self,
        contract: Contract,
        partition: str,
        *,
        source_keys: Iterable[str],
        source_objects: Iterable[str],
    ) -> Iterator[pa.RecordBatch]:
        """See `service_core.ports.Catalog`."""
        from resources.table_change import Removal
        from resources.table_rows import rows_of

        table = self.table(contract)
        if table is None:
            return iter(())
        return rows_of(table, partition, Removal(frozenset(source_keys), frozenset(source_objects)))

    def refusal(self, contract: Contract) -> str | None:
        """See `service_core.ports.Catalog`."""
        from resources.table_schema import evolution, require_partitioned

        table = self.table(contract)
        if table is None:
            return None
        name = self.table_name(contract)
        try:
            require_partitioned(name, table.schema(), table.spec())
            evolution(name, table.schema(), contract)
        except TableSchemaError as refused:
            return str(refused)
        return None

    def scan(
        self,
        contract: Contract,
        *,
        partition: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> pa.RecordBatchReader:
        """The published rows, as of now, in no particular order.

        Args:
            partition: Only this one's.
            columns: Only these; None for all of the table's.
        """
        import pyarrow as pa

        from resources.table_rows import row_batches, shape_of
        from resources.table_schema import table_columns

        table = self.table(contract)
        if table is None:
            known = {c.name: c.type for c in table_columns(contract)}
            shape = pa.schema([(name, known[name]) for name in columns or known])
            return pa.RecordBatchReader.from_batches(shape, iter(()))
        shape = shape_of(table, columns or table.schema().column_names)
        return pa.RecordBatchReader.from_batches(shape, row_batches(table, shape, partition))

    def history(self, contract: Contract) -> History:
        """See `service_core.ports.Upkeep`."""
        table = self.table(contract)
        return History() if table is None else history(table.metadata)

    def holders(
        self,
        contract: Contract,
        partition: str,
        *,
        source_keys: Iterable[str],
        source_objects: Iterable[str],
    ) -> tuple[Share, ...]:
        """See `service_core.ports.Upkeep`."""
        from resources.table_change import Removal
        from resources.table_shares import holders

        table = self.table(contract)
        if table is None:
            return ()
        return holders(table, partition, Removal(frozenset(source_keys), frozenset(source_objects)))

    def referenced(self) -> Mapping[str, frozenset[str]]:
        """See `service_core.ports.Upkeep`."""
        from resources.table_references import references

        return self._patiently(lambda: references(self._catalog(), self._settings.database))

    # --- Publishing ------------------------------------------------------------------------------

    def publish(self, contract: Contract, verdict: Verdict, withheld: Withheld) -> Publication:
        """Commit a batch in one snapshot, unless it has been before.

        Raises:
            ObjectMissingError: a staged file is not there.
            StagedFileError: a staged file is not what the verdict and the contract say.
            TableSchemaError: the table cannot take the contract's columns.
            BatchRolledBackError: the batch has been rolled back.
            PublicationConflictError: time was up.
        """
        from resources.table_change import Workshop

        workshop: Workshop | None = None
        deadline = time.monotonic() + self._patience
        wait = _FIRST_WAIT_SECONDS
        while True:
            table = self.table(contract)
            if table is not None and is_rolled_back(table.metadata, verdict.batch_id):
                raise BatchRolledBackError(
                    f"Batch {verdict.batch_id} has been rolled back in {self.table_name(contract)}."
                )
            if table is not None and (snapshot := committed(table.metadata, verdict.batch_id)):
                return self._before(contract, table, snapshot, verdict)
            decided = (
                withheld
                if isinstance(withheld, frozenset)
                else withheld(None if table is None else table.metadata.current_snapshot_id)
            )
            if workshop is None:
                workshop = Workshop(
                    self._file_io(),
                    contract,
                    verdict,
                    self._settings.bucket(Zone.CURATED),
                    self._location(contract),
                )
            try:
                return self._attempt(contract, table, verdict, decided, workshop)
            except _NotSettledError as unsettled:
                if time.monotonic() + wait > deadline:
                    raise PublicationConflictError(
                        f"Batch {verdict.batch_id} could not be committed to "
                        f"{self.table_name(contract)} within {self._patience:g} s: "
                        f"{unsettled.__cause__ or unsettled}. Publish it again."
                    ) from unsettled
                # Full jitter: publishers that met once must not meet again and again.
                time.sleep(random.uniform(0, wait))
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)

    def _attempt(
        self,
        contract: Contract,
        table: Table | None,
        verdict: Verdict,
        withheld: frozenset[str],
        workshop: Workshop,
    ) -> Publication:
        """Commit against this reading of the table.

        Raises:
            _NotSettledError: somebody else came first, or there was no answer.
        """
        from resources.table_change import find_hits, removal
        from resources.table_files import describe
        from resources.table_schema import evolution, require_partitioned

        out = removal(contract, verdict, withheld)
        files = workshop.stage(withheld)
        hits: list[Hit] = []
        if table is not None:
            staged = frozenset(file.uri for file in files)
            hits, present = find_hits(table, out, verdict.partition, staged)
            files = [file for file in files if file.uri not in present]
        if not files and not hits:
            workshop.discard(frozenset())
            return self._nothing(contract, table, withheld)
        if table is None:
            table = self._create(contract)
            if table.metadata.current_snapshot_id is not None:
                # Another publisher created it too and has committed since: what was decided for a
                # table without rows does not hold for one with them.
                raise _NotSettledError("another batch was the first to publish into the table")
        name = self.table_name(contract)
        require_partitioned(name, table.schema(), table.spec())
        left = [
            w for hit in hits if not hit.entirely and (w := workshop.survivors(table, hit, out))
        ]
        rows_added = sum(file.rows for file in files)
        rows_removed = sum(hit.rows for hit in hits)

        transaction = table.transaction()
        if change := evolution(name, table.schema(), contract):
            with transaction.update_schema() as update:
                change.apply(update)
        snapshot = transaction.update_snapshot(
            snapshot_properties=summary(verdict, withheld, rows_added, rows_removed)
        )
        producer = snapshot.overwrite() if hits else snapshot.merge_append()
        for file in (*files, *left):
            producer.append_data_file(describe(transaction.table_metadata, file, verdict.partition))
        for hit in hits:
            producer.delete_data_file(hit.task.file)
        self._settle(lambda: (producer.commit(), transaction.commit_transaction()))
        workshop.discard(frozenset(file.uri for file in (*files, *left)))
        ids = {f.source_object.id for f in verdict.files}
        return Publication(
            snapshot_id=producer.snapshot_id,
            committed=True,
            rows_added=rows_added,
            rows_removed=rows_removed,
            superseded=tuple(sorted({i for hit in hits for i in hit.objects} - ids)),
            table=name,
            metadata_location=table.metadata_location,
            withheld=tuple(sorted(withheld)),
        )

    # --- Undoing ---------------------------------------------------------------------------------

    def roll_back(
        self,
        contract: Contract,
        batches: Iterable[str],
        memory: Memory,
        *,
        run_id: str,
        replay_id: str | None = None,
        dry_run: bool = False,
    ) -> Undone:
        """See `service_core.ports.Upkeep`.

        Raises:
            RollbackRefusedError: it cannot be done; nothing has been changed.
            PublicationConflictError: time was up.
        """
        from resources.table_rollback import plan_rollback
        from resources.table_shares import RollbackWorkshop
        from resources.table_undoing import undo, undone_before, undone_by

        workshop = RollbackWorkshop(self._location(contract))
        wanted, name = frozenset(batches), self.table_name(contract)
        deadline = time.monotonic() + self._patience
        wait = _FIRST_WAIT_SECONDS
        while True:
            table = self.table(contract)
            past = History() if table is None else history(table.metadata)
            # Of those that are not there any more, the ledger has to know.
            now = wanted & {commit.batch_id for commit in past.commits} - past.undone
            if table is None or not now:
                return undone_before(name, table, past, wanted)
            plan = plan_rollback(table, contract, now, memory)
            undone = undone_by(name, table, plan, now, wanted - now)
            if dry_run:
                return undone
            try:
                said = rollback_summary(undone, run_id, replay_id)
                return undo(table, plan, undone, workshop, said, self._settle)
            except _NotSettledError as unsettled:
                if time.monotonic() + wait > deadline:
                    raise PublicationConflictError(
                        f"The rollback could not be committed to {undone.table} within "
                        f"{self._patience:g} s: {unsettled.__cause__ or unsettled}. Run it again."
                    ) from unsettled
                time.sleep(random.uniform(0, wait))
                wait = min(wait * 2, _LONGEST_WAIT_SECONDS)

    # --- Upkeep ----------------------------------------------------------------------------------

    def tend(
        self,
        contract: Contract,
        retention: Retention,
        *,
        settled: Callable[[Collection[str]], Collection[str]],
        now: datetime,
        dry_run: bool = False,
    ) -> Tended | None:
        """Put small files and manifests of a data set's table together, and let go of old
        snapshots; None where nothing has been published. Safe beside publishers, who win.

        Args:
            settled: Of batches that are rolled back, those of which the ledger knows.
            dry_run: Only say what would be done.
        """
        from resources.table_upkeep import TableUpkeep

        def wins(commit: Callable[[], object]) -> bool:
            try:
                self._settle(commit)
            except _NotSettledError:
                return False
            return True

        return TableUpkeep(
            contract.dataset, lambda: self.table(contract), wins, retention, settled, now
        ).tend(dry_run=dry_run)

    def _settle(self, commit: Callable[[], object]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError
        from pyiceberg.exceptions import CommitFailedException, ValidationException

        try:
            commit()
        except (CommitFailedException, ValidationException) as conflict:
            raise _NotSettledError from conflict
        except (BotoCoreError, ClientError) as error:
            if not _passing(error):
                raise
            # The answer is lost, and the commit may stand: only the table knows.
            raise _NotSettledError from error

    def _before(
        self,
        contract: Contract,
        table: Table,
        snapshot: Snapshot,
        verdict: Verdict,
    ) -> Publication:
        from resources.table_change import superseded_by

        before: Mapping[str, str] = snapshot.summary or {}
        return Publication(
            snapshot_id=snapshot.snapshot_id,
            committed=False,
            rows_added=int(before.get(SUMMARY_ROWS_ADDED) or 0),
            rows_removed=int(before.get(SUMMARY_ROWS_REMOVED) or 0),
            superseded=superseded_by(table, snapshot, verdict),
            table=self.table_name(contract),
            metadata_location=table.metadata_location,
        )

    def _nothing(
        self, contract: Contract, table: Table | None, withheld: frozenset[str]
    ) -> Publication:
        return Publication(
            snapshot_id=None,
            committed=False,
            rows_added=0,
            rows_removed=0,
            superseded=(),
            table=self.table_name(contract),
            metadata_location=None if table is None else table.metadata_location,
            withheld=tuple(sorted(withheld)),
        )

    # --- The catalog itself ----------------------------------------------------------------------

    def _create(self, contract: Contract) -> Table:
        from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError

        from resources.table_schema import new_schema, new_spec

        catalog, identifier = self._catalog(), self._identifier(contract)
        schema = new_schema(contract)
        properties = {
            **_TABLE_PROPERTIES,
            "schema.name-mapping.default": schema.name_mapping.model_dump_json(),
            "lakegate.dataset": contract.dataset,
        }
        if contract.description:
            properties["Description"] = contract.description

        def create() -> None:
            # Whoever else creates either at the same time creates the same.
            with suppress(NamespaceAlreadyExistsError):
                catalog.create_namespace(identifier[0])
            with suppress(TableAlreadyExistsError):
                catalog.create_table(
                    identifier,
                    schema,
                    location=self._location(contract),
                    partition_spec=new_spec(schema),
                    properties=properties,
                )

        self._patiently(create)
        return self._patiently(lambda: catalog.load_table(identifier))

    def _identifier(self, contract: Contract) -> tuple[str, str]:
        return (self._settings.database, table_name(contract))

    def _location(self, contract: Contract) -> str:
        bucket = self._settings.bucket(Zone.CURATED)
        return f"s3://{bucket}/_tables/{self._identifier(contract)[1]}"

    def _file_io(self) -> TableFileIO:
        return self._catalog().io

    def _catalog(self) -> GlueTables:
        if self._glue is None:
            from resources.glue_tables import open_catalog

            self._glue = open_catalog(self._settings)
        return self._glue

    def _patiently(self, call: Callable[[], _T]) -> _T:
        """Call until it is answered. For calls that do no harm when they are repeated."""
        from botocore.exceptions import BotoCoreError, ClientError

        deadline = time.monotonic() + self._patience
        wait = _FIRST_WAIT_SECONDS
        while True:
            try:
                return call()
            except (BotoCoreError, ClientError, FileNotFoundError) as error:
                # A metadata file can go between its being named and its being read, when a
                # hundred commits come between.
                if not (isinstance(error, FileNotFoundError) or _passing(error)):
                    raise
                if time.monotonic() + wait > deadline:
                    raise
            time.sleep(random.uniform(0, wait))
            wait = min(wait * 2, _LONGEST_WAIT_SECONDS)


def _passing(error: Exception) -> bool:
    """Whether an error is the service's or the network's and may be gone in a moment."""
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError

    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        code = error.response.get("Error", {}).get("Code", "")
        return status >= 500 or "Throttl" in code or code == "ConcurrentModificationException"
    return isinstance(error, ConnectionError | HTTPClientError)


class CatalogResource(SettingsResource):
    """The published tables: `CatalogResource.of(settings)`."""

    _catalog: IcebergCatalog | None = PrivateAttr(default=None)

    def in_a_hurry(self) -> Self:
        """The resource for a sensor's tick; see `Settings.in_a_hurry`."""
        hurried = super().in_a_hurry()
        hurried._catalog = IcebergCatalog(hurried.settings(), patience=_HURRIED_SECONDS)
        return hurried

    def catalog(self) -> IcebergCatalog:
        """The catalog, the same one for as long as the resource lives."""
        if self._catalog is None:
            self._catalog = IcebergCatalog(self.settings())
        return self._catalog
