"""PyIceberg's Glue catalog, opened on the settings and kept from repeating a commit by itself.

Left to itself, botocore sends UpdateTable again when its answer is lost. Where the first had
worked, the second is refused as a conflict, whereupon PyIceberg deletes the manifests of what is
by now the table's current snapshot. So no call is repeated here; whoever asks looks at the table
and decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import boto3
from botocore.credentials import RefreshableCredentials
from pyiceberg.catalog import METADATA_LOCATION
from pyiceberg.catalog.glue import GlueCatalog
from pyiceberg.io import FileIO
from pyiceberg.table import Table
from pyiceberg.typedef import EMPTY_DICT, Properties

from resources.aws import client as aws_client
from resources.table_io import TableFileIO
from service_core.settings import Settings

_T = TypeVar("_T")


class _Lasting(list[_T]):
    """Values that never change, so that a copy of the list is as good as copies of them.

    PyIceberg copies a table's metadata deeply each time that it looks at a transaction, some ten
    times a commit; of 1,000 snapshots that is 26 ms each time.
    """

    def __deepcopy__(self, memo: object) -> _Lasting[_T]:
        return _Lasting(self)

    def __add__(self, more: Iterable[_T]) -> _Lasting[_T]:  # type: ignore[override]
        return _Lasting([*self, *more])


class GlueTables(GlueCatalog):
    """Tables of a plain Glue database, all read and written through one file access."""

    def __init__(self, name: str, client: Any, io: TableFileIO, **properties: Any) -> None:
        super().__init__(name, client, **properties)
        self.io = io
        self._last: Table | None = None

    def _load_file_io(
        self, properties: Properties = EMPTY_DICT, location: str | None = None
    ) -> FileIO:
        return self.io

    def _convert_glue_to_iceberg(self, glue_table: Any) -> Table:
        last, parameters = self._last, glue_table.get("Parameters", {})
        if (
            last is not None
            and last.name() == (glue_table.get("DatabaseName"), glue_table.get("Name"))
            and last.metadata_location == parameters.get(METADATA_LOCATION)
        ):
            # A commit reads the table once more. Parsing 1,000 snapshots takes 20 ms of CPU.
            return Table(last.name(), last.metadata, last.metadata_location, self.io, self)
        table = super()._convert_glue_to_iceberg(glue_table)
        metadata = table.metadata
        lasting = {
            name: _Lasting(getattr(metadata, name))
            for name in ("snapshots", "snapshot_log", "metadata_log")
        }
        table.metadata = metadata.model_copy(update=lasting)
        # Not the one that is given out, which is brought up to date by whoever commits.
        self._last = Table(table.name(), table.metadata, table.metadata_location, self.io, self)
        return table

    def _is_s3tables_database(self, database_name: str) -> bool:
        # Asked before every commit. Ours is a database of ordinary tables in an ordinary bucket.
        return False


def open_catalog(settings: Settings) -> GlueTables:
    """The catalog that the settings name, with the credentials that boto3 finds."""
    session = boto3.Session(region_name=settings.region)
    # The process's own: making one takes 0.1 s of CPU, most of it for reading Glue's model.
    client = aws_client(settings, "glue", attempts=1)
    properties: dict[str, Any] = {
        "s3.region": settings.region,
        "s3.connect-timeout": str(settings.aws_connect_seconds),
        "s3.request-timeout": str(settings.aws_read_seconds),
        "s3.attempts": str(settings.aws_attempts),
    }
    if (endpoint_url := settings.endpoint_of("s3")) is not None:
        properties["s3.endpoint"] = endpoint_url
    credentials = session.get_credentials()
    # Credentials that expire are left to Arrow, which renews them as boto3 does; a copy of them
    # would be good for an hour.
    if credentials is not None and not isinstance(credentials, RefreshableCredentials):
        properties["s3.access-key-id"] = credentials.access_key
        properties["s3.secret-access-key"] = credentials.secret_key
        if credentials.token:
            properties["s3.session-token"] = credentials.token
    return GlueTables(
        "lakegate", client, TableFileIO(properties, aws_client(settings, "s3")), **properties
    )
