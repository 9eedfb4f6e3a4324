"""Snapshots that a table has let go of, remembered until nobody can be reading by them any more.

A note of them lies in the table's own folder before they go. While it lies there, everything that
they refer to counts as referred to. Nothing refers to the note itself, so the clean-up of
left-overs takes it away once it is old enough, and what it held on to the next time: in between,
whoever had begun to read an old snapshot can finish.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from uuid import uuid4

from pyiceberg.manifest import ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from resources.table_change import table_io
from resources.table_io import PARTED


def remember(table: Table, going: Iterable[Snapshot]) -> None:
    """Leave a note of snapshots that are about to go. If they stay, it does no harm."""
    lists = [snapshot.manifest_list for snapshot in going]
    with table.io.new_output(f"{_folder(table)}{uuid4().hex}{PARTED}").create() as note:
        note.write(json.dumps({"manifest-lists": lists}).encode())


def parted(table: Table) -> Iterator[tuple[str, list[ManifestFile]]]:
    """The manifest lists of snapshots that the table has let go of, as far as there are notes of
    them, and their manifests."""
    io = table_io(table)
    for uri in io.listed(_folder(table)):
        try:
            with io.new_input(uri).open() as note:
                lists = json.loads(note.read())["manifest-lists"]
        except FileNotFoundError:
            # Cleared away since it was listed.
            continue
        for manifest_list in lists:
            snapshot = Snapshot(snapshot_id=0, manifest_list=manifest_list)
            try:
                manifests = snapshot.manifests(table.io)
            except FileNotFoundError:
                # Another engine, which expires snapshots too, has deleted it with its files.
                continue
            yield manifest_list, manifests


def _folder(table: Table) -> str:
    return f"{table.metadata.location.rstrip('/')}/parted/"
