"""Where each data set's published table is: its name, its folder, and how it is found or made.

Looking for a table never makes one: the first batch with rows to commit does. However many make it
at once, they make the same one, with the properties without which a batch could come into it twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from resources.table_name import table_name
from resources.table_patience import Patience
from service_core.contract.model import Contract
from service_core.layout import Zone
from service_core.platform_columns import PARTITION, SOURCE_KEY, SOURCE_OBJECT_ID
from service_core.settings import Settings

if TYPE_CHECKING:
    from pyiceberg.table import Table

    from resources.glue_tables import GlueTables

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


class PublishedTables:
    """The tables of the settings' Glue database, one for each data set.

    Args:
        settings: Where everything is.
        patience: For a catalog that does not answer.
    """

    def __init__(self, settings: Settings, patience: Patience) -> None:
        self._settings = settings
        self._patience = patience
        self._opened: GlueTables | None = None

    def name(self, contract: Contract) -> str:
        """`database.table` of a data set."""
        return ".".join(self._identifier(contract))

    def folder(self, contract: Contract) -> str:
        """URI of the folder where a data set's table keeps its own files."""
        bucket = self._settings.bucket(Zone.CURATED)
        return f"s3://{bucket}/_tables/{self._identifier(contract)[1]}"

    def opened(self) -> GlueTables:
        """PyIceberg's catalog, opened on first use and the same one ever after."""
        if self._opened is None:
            from resources.glue_tables import open_catalog

            self._opened = open_catalog(self._settings)
        return self._opened

    def find(self, contract: Contract) -> Table | None:
        """The data set's table as it stands now, or None where nothing has been published."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError

        def load() -> Table | None:
            try:
                return self.opened().load_table(self._identifier(contract))
            except (NoSuchTableError, NoSuchNamespaceError):
                return None

        return self._patience.until_answered(load)

    def make(self, contract: Contract) -> Table:
        """The data set's table, made where there is none; what stands is left as it is."""
        from pyiceberg.exceptions import NamespaceAlreadyExistsError, TableAlreadyExistsError

        from resources.table_schema import new_schema, new_spec

        catalog, identifier = self.opened(), self._identifier(contract)
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
                    location=self.folder(contract),
                    partition_spec=new_spec(schema),
                    properties=properties,
                )

        self._patience.until_answered(create)
        return self._patience.until_answered(lambda: catalog.load_table(identifier))

    def _identifier(self, contract: Contract) -> tuple[str, str]:
        return (self._settings.database, table_name(contract))
