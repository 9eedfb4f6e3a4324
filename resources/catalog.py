"""The published tables: Iceberg, in the Glue catalog, one snapshot for one batch.

A batch is in its table once, however often and by however many publishers it is tried, and not at
all once it has been rolled back. The batch id stands in the snapshot's summary, and is looked for
in the table's history after every reading of it and so after every conflict; a commit counts only
against the very state that was looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Self

from pydantic import PrivateAttr

from resources.published_tables import PublishedTables
from resources.settings import SettingsResource
from resources.table_name import TableSchemaError
from resources.table_patience import NotSettledError, Patience, settle
from resources.table_snapshots import committed, history, is_rolled_back, rollback_summary
from service_core.contract.model import Contract
from service_core.layout import Zone
from service_core.ports import Publication, PublishedFiles, Withheld
from service_core.settings import Settings
from service_core.undo import BatchRolledBackError, History, Memory, Share, Undone
from service_core.upkeep import Retention, Tended
from service_core.verdict import Verdict

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.table import Table

    from resources.table_change import Workshop

#: The patience of a sensor's tick, beside the clients' own.
_HURRIED_SECONDS = 5.0


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
        self._patience = Patience(patience)
        self._tables = PublishedTables(settings, self._patience)

    # --- Reading ---------------------------------------------------------------------------------

    def table_name(self, contract: Contract) -> str:
        """`database.table` of a data set."""
        return self._tables.name(contract)

    def table(self, contract: Contract) -> Table | None:
        """The data set's table as it stands now, or None where nothing has been published."""
        return self._tables.find(contract)

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

        return self._patience.until_answered(
            lambda: references(self._tables.opened(), self._settings.database)
        )

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
        from resources.table_publishing import publish, published_before

        name = self.table_name(contract)
        workshop: Workshop | None = None

        def attempt() -> Publication:
            nonlocal workshop
            table = self.table(contract)
            if table is not None and is_rolled_back(table.metadata, verdict.batch_id):
                raise BatchRolledBackError(
                    f"Batch {verdict.batch_id} has been rolled back in {name}."
                )
            if table is not None and (snapshot := committed(table.metadata, verdict.batch_id)):
                return published_before(name, table, snapshot, verdict)
            decided = (
                withheld
                if isinstance(withheld, frozenset)
                else withheld(None if table is None else table.metadata.current_snapshot_id)
            )
            if workshop is None:
                workshop = Workshop(
                    self._tables.opened().io,
                    contract,
                    verdict,
                    self._settings.bucket(Zone.CURATED),
                    self._tables.folder(contract),
                )
            return publish(self._tables, table, contract, verdict, decided, workshop)

        return self._patience.until_settled(
            attempt,
            f"Batch {verdict.batch_id} could not be committed to {name}",
            "Publish it again.",
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

        workshop = RollbackWorkshop(self._tables.folder(contract))
        wanted, name = frozenset(batches), self.table_name(contract)

        def attempt() -> Undone:
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
            said = rollback_summary(undone, run_id, replay_id)
            return undo(table, plan, undone, workshop, said, settle)

        return self._patience.until_settled(
            attempt, f"The rollback could not be committed to {name}", "Run it again."
        )

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
                settle(commit)
            except NotSettledError:
                return False
            return True

        return TableUpkeep(
            contract.dataset, lambda: self.table(contract), wins, retention, settled, now
        ).tend(dry_run=dry_run)


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
