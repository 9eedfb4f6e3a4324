"""Everything that the tables of a database refer to, so that none of it is taken for a left-over.

Of every table there is, ours or somebody's: one that was moved aside refers to the same files as
the one that took its place. What a snapshot no longer holds but its manifests still name counts
too, for a rollback reads it, and so does what a snapshot refers to that the table has let go of
only lately. Whatever cannot be read makes the whole answer fail.
"""

from __future__ import annotations

from collections.abc import Iterator

from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import NoSuchIcebergTableError, NoSuchNamespaceError, NoSuchTableError
from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table

from resources.table_parting import parted


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
    read: set[str] = set()
    for snapshot in metadata.snapshots:
        yield snapshot.manifest_list
        for manifest in snapshot.manifests(table.io):
            yield from _named(table, manifest, read)
    for manifest_list, manifests in parted(table):
        yield manifest_list
        for manifest in manifests:
            try:
                yield from _named(table, manifest, read)
            except FileNotFoundError:
                # Another engine has deleted what nobody but the note refers to.
                continue


def _named(table: Table, manifest: ManifestFile, read: set[str]) -> Iterator[str]:
    if manifest.manifest_path in read:
        return
    read.add(manifest.manifest_path)
    yield manifest.manifest_path
    for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=False):
        yield entry.data_file.file_path


def _plain(uri: str) -> str:
    """Other engines spell the scheme otherwise."""
    scheme, separator, rest = uri.partition("://")
    return f"s3://{rest}" if separator and scheme in {"s3a", "s3n"} else uri
