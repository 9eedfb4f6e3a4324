"""Everything that the tables of a database refer to, so that none of it is taken for a left-over.

Of every table there is, ours or somebody's: one that was moved aside refers to the same files as
the one that took its place. What a snapshot no longer holds but its manifests still name counts
too, for a rollback reads it, and so does what a snapshot refers to that the table has let go of
only lately. Whatever cannot be read makes the whole answer fail.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchIcebergTableError, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table

from resources.table_parting import parted

_READERS = 8


def references(catalog: Catalog, database: str) -> dict[str, frozenset[str]]:
    """By table name, the URIs of the files that a table refers to."""
    try:
        identifiers = catalog.list_tables(database)
    except NoSuchNamespaceError:
        return {}
    found = {}
    for identifier in identifiers:
        try:
            table = catalog.load_table(identifier)
        except (NoSuchIcebergTableError, NoSuchTableError):
            # Of another kind, or dropped since.
            continue
        found[identifier[-1]] = frozenset(map(_plain, _references(table)))
    return found


def _references(table: Table) -> Iterator[str]:
    metadata = table.metadata
    yield table.metadata_location
    yield from (entry.metadata_file for entry in metadata.metadata_log)
    yield from (
        one.statistics_path for one in (*metadata.statistics, *metadata.partition_statistics)
    )
    yield from (snapshot.manifest_list for snapshot in metadata.snapshots)
    manifests: dict[str, ManifestFile] = {}
    gone: dict[str, ManifestFile] = {}
    with ThreadPoolExecutor(_READERS) as readers:
        for found in readers.map(lambda one: one.manifests(table.io), metadata.snapshots):
            manifests |= {one.manifest_path: one for one in found}
        for manifest_list, found in parted(table):
            yield manifest_list
            gone |= {one.manifest_path: one for one in found}
        yield from manifests.keys() | gone.keys()
        for uris in readers.map(lambda one: _named(table, one), manifests.values()):
            yield from uris
    for path in gone.keys() - manifests.keys():
        # Another engine may have deleted what nobody but the note refers to.
        with suppress(FileNotFoundError):
            yield from _named(table, gone[path])


def _named(table: Table, manifest: ManifestFile) -> list[str]:
    entries = manifest.fetch_manifest_entry(table.io, discard_deleted=False)
    return [entry.data_file.file_path for entry in entries]


def _plain(uri: str) -> str:
    """Other engines spell the scheme otherwise."""
    scheme, separator, rest = uri.partition("://")
    return f"s3://{rest}" if separator and scheme in {"s3a", "s3n"} else uri
