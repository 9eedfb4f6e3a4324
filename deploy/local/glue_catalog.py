"""Glue's UpdateTable compares the version it is given before it writes.

Stock moto ignores `VersionId`: 4 threads that committed 20 times each to an Iceberg table lost 28
of 40 rows, in silence. Glue raises ConcurrentModificationException, which Iceberg turns into a
commit to be tried again. It also keeps the version before only where `SkipArchive` is not set.
"""

from __future__ import annotations

import threading
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import EmptyResult
from moto.glue.models import GlueBackend
from moto.glue.responses import GlueResponse

_LOCK = threading.RLock()


def apply() -> None:
    """Replace moto's CreateTable and UpdateTable."""
    stock_create = GlueBackend.create_table

    def create_table(self: GlueBackend, *args: Any, **kwargs: Any) -> Any:
        # Looks for the name and then takes it.
        with _LOCK:
            return stock_create(self, *args, **kwargs)

    def update_table(self: GlueResponse) -> EmptyResult:
        database = str(self.parameters.get("DatabaseName"))
        table_input = self.parameters.get("TableInput")
        name = str(table_input["Name"])
        expected = self.parameters.get("VersionId")
        with _LOCK:
            table = self.glue_backend.get_table(database, name)
            before = str(table._current_version)
            if expected is not None and str(expected) != before:
                raise JsonRESTError(
                    "ConcurrentModificationException",
                    f"Update table failed due to concurrent modifications: table "
                    f"{database}.{name} is at version {before}, not {expected}.",
                )
            table.update(table_input)
            if self.parameters.get("SkipArchive"):
                table.versions.pop(before, None)
        return EmptyResult()

    GlueBackend.create_table = create_table
    GlueResponse.update_table = update_table
