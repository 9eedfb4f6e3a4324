"""A rehearsal's zones and tables: the real ones beneath, and what it does itself on top.

Whoever works with these reads what is really there and what he has written himself, and nothing he
does reaches a bucket or a table. So the very functions that validate, judge and decide run in a
rehearsal as they are. What is on top lies in a folder of scratch and goes with it.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from service_core.contract.model import Contract
from service_core.layout import Zone
from service_core.platform_columns import SOURCE_KEY, SOURCE_OBJECT_ID, SOURCE_ROW
from service_core.ports import (
    Catalog,
    ListingPage,
    ObjectMissingError,
    ObjectStore,
    Publication,
    PublishedFiles,
    Stored,
    Withheld,
)
from service_core.publication import replaced_by
from service_core.s3_store import split_uri
from service_core.source_object import SourceObject
from service_core.verdict import Verdict

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_PER_READ = 64 * 1024


@dataclass(frozen=True, slots=True)
class _Written:
    """What was put under a key: a file in scratch, or a copy of a source object, which is never
    fetched unless somebody reads it."""

    path: Path | None = None
    source: SourceObject | None = None


class OverlayStore:
    """Implements `ports.ObjectStore`; see the module's docstring.

    Args:
        beneath: The real zones; only read.
        folder: An existing folder of scratch, for all that is written.
    """

    def __init__(self, beneath: ObjectStore, folder: Path) -> None:
        self._beneath = beneath
        self._folder = folder
        self._numbers = itertools.count()
        #: By zone and key; None where a key was removed.
        self._top: dict[tuple[Zone, str], _Written | None] = {}
        self._zones = {beneath.bucket(zone): zone for zone in Zone}

    def bucket(self, zone: Zone) -> str:
        """The zone's bucket name."""
        return self._beneath.bucket(zone)

    def uri(self, zone: Zone, key: str) -> str:
        """`s3://bucket/key`, as it would be."""
        return self._beneath.uri(zone, key)

    def read(self, zone: Zone, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: it is not there.
        """
        if (zone, key) not in self._top:
            return self._beneath.read(zone, key)
        return b"".join(self._chunks(zone, key))

    def write(self, zone: Zone, key: str, body: bytes, *, content_type: str = "") -> str:
        """Keep a body; returns the URI that it would have."""
        path = self._fresh()
        path.write_bytes(body)
        self._top[zone, key] = _Written(path=path)
        return self.uri(zone, key)

    def write_once(self, zone: Zone, key: str, body: bytes, *, content_type: str = "") -> bool:
        """Keep a body unless one is there."""
        if any(there == key for there in self.keys(zone, key)):
            return False
        self.write(zone, key, body, content_type=content_type)
        return True

    def open_source(self, source_object: SourceObject) -> Iterator[bytes]:
        """The bytes of exactly that version, in chunks of about a megabyte.

        Raises:
            ObjectMissingError: it is not there; raised before the first chunk.
        """
        return self._beneath.open_source(source_object)

    def upload(self, path: Path, zone: Zone, key: str) -> str:
        """Keep a copy of a local file, which its owner may write again; returns the URI."""
        kept = self._fresh()
        shutil.copyfile(path, kept)
        self._top[zone, key] = _Written(path=kept)
        return self.uri(zone, key)

    def download(self, uri: str, path: Path) -> None:
        """Bring an object to a local file.

        Raises:
            ObjectMissingError: it is not there.
        """
        bucket, key = split_uri(uri)
        zone = self._zones.get(bucket)
        if zone is None or (zone, key) not in self._top:
            self._beneath.download(uri, path)
            return
        with path.open("wb") as file:
            for chunk in self._chunks(zone, key):
                file.write(chunk)

    def copy_source(self, source_object: SourceObject, zone: Zone, key: str) -> str:
        """Note a copy of exactly that version; returns the URI it would have.

        Raises:
            ObjectMissingError: it is not there.
        """
        chunks = self.open_source(source_object)
        # Once begun, it can be ended, and its connection with it.
        next(chunks, b"")
        if (close := getattr(chunks, "close", None)) is not None:
            close()
        self._top[zone, key] = _Written(source=source_object)
        return self.uri(zone, key)

    def list_versions(
        self, prefix: str, *, resume: tuple[str, str] | None = None, limit: int | None = None
    ) -> ListingPage:
        """One page of the raw bucket's versions, in which nothing is ever written."""
        return self._beneath.list_versions(prefix, resume=resume, limit=limit)

    def keys(self, zone: Zone, prefix: str) -> Iterator[str]:
        """Every key of a zone under a prefix, in order."""
        mine = self._under(zone, prefix)
        theirs = (k for k in self._beneath.keys(zone, prefix) if (zone, k) not in self._top)
        return iter(sorted([*theirs, *mine]))

    def stored(self, zone: Zone, prefix: str) -> Iterator[Stored]:
        """Every object of a zone under a prefix, in key order."""
        theirs = [o for o in self._beneath.stored(zone, prefix) if (zone, o.key) not in self._top]
        mine = [self._stored(zone, key) for key in self._under(zone, prefix)]
        return iter(sorted([*theirs, *mine], key=lambda o: o.key))

    def remove(self, zone: Zone, keys: Iterable[str]) -> None:
        """Have objects seem gone.

        Raises:
            ValueError: the zone is raw, from which nothing is ever removed.
        """
        if zone is Zone.RAW:
            raise ValueError("Nothing is ever removed from the raw bucket.")
        for key in keys:
            self._top[zone, key] = None

    def _fresh(self) -> Path:
        return self._folder / f"{next(self._numbers):08d}"

    def _under(self, zone: Zone, prefix: str) -> list[str]:
        return [
            key
            for (its, key), written in list(self._top.items())
            if its is zone and written is not None and key.startswith(prefix)
        ]

    def _chunks(self, zone: Zone, key: str) -> Iterator[bytes]:
        written = self._top[zone, key]
        if written is None:
            raise ObjectMissingError(f"{self.uri(zone, key)} is not there any more.")
        if written.source is not None:
            yield from self.open_source(written.source)
        elif written.path is not None:
            with written.path.open("rb") as file:
                while chunk := file.read(1 << 20):
                    yield chunk

    def _stored(self, zone: Zone, key: str) -> Stored:
        written = self._top[zone, key]
        assert written is not None
        if written.source is not None:
            source = written.source
            return Stored(key, source.size, source.etag, source.last_modified)
        assert written.path is not None
        about = written.path.stat()
        etag = hashlib.sha256(f"{written.path}{about.st_mtime_ns}".encode()).hexdigest()
        return Stored(key, about.st_size, etag, datetime.fromtimestamp(about.st_mtime, UTC))


@dataclass(slots=True)
class OverlayCatalog:
    """Implements `ports.Catalog`: the published tables, with batches as if they were published.

    Of those, only keys are ever asked for: so that what a rehearsal judges next is judged as it
    would be after them.

    Attributes:
        beneath: The real tables; only read.
        store: Where the staged files of such batches are.
        folder: An existing folder of scratch.
        closed: Whether the table cannot take the contract's rows, so that its keys, which may be
            of other types, are left out.
    """

    beneath: Catalog
    store: ObjectStore
    folder: Path
    closed: bool = False
    _given: list[_Given] = field(default_factory=list)

    def give(self, contract: Contract, verdict: Verdict, withheld: frozenset[str]) -> None:
        """Have a batch seem published, but for the rows of the objects `withheld`."""
        keys, objects = replaced_by(contract, verdict, withheld)
        paths: list[Path] = []
        for staged in verdict.staged:
            path = self.folder / f"given-{len(self._given)}-{len(paths)}.parquet"
            self.store.download(staged.uri, path)
            paths.append(path)
        names = {f.source_object.id: f.source_object.key for f in verdict.files}
        self._given.append(_Given(verdict.partition, keys, objects, tuple(paths), names, withheld))

    def current_snapshot(self, contract: Contract) -> int | None:
        """Id of the table's current snapshot; 0 where there is none but batches seem published."""
        snapshot = None if self.closed else self.beneath.current_snapshot(contract)
        return 0 if snapshot is None and self._given else snapshot

    def published_keys(
        self,
        contract: Contract,
        partition: str,
        columns: Sequence[str],
        *,
        except_source_keys: Iterable[str] = (),
        except_source_objects: Iterable[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """See `ports.Catalog`."""
        keys, objects = frozenset(except_source_keys), frozenset(except_source_objects)
        given = [one for one in self._given if one.partition == partition]
        if not self.closed:
            yield from self.beneath.published_keys(
                contract,
                partition,
                columns,
                except_source_keys=keys.union(*(one.keys for one in given)),
                except_source_objects=objects.union(*(one.objects for one in given)),
            )
        for number, one in enumerate(given):
            # What a later one takes the place of is not there any more.
            later = given[number + 1 :]
            yield from one.rows(
                columns,
                keys.union(*(other.keys for other in later)),
                objects.union(*(other.objects for other in later)),
            )

    def published_files(self, contract: Contract, partition: str) -> PublishedFiles | None:
        """See `ports.Catalog`; without the batches that only seem published, for a rehearsal's
        engine is always the one of its own process."""
        return self.beneath.published_files(contract, partition)

    def published_rows(
        self,
        contract: Contract,
        partition: str,
        *,
        source_keys: Iterable[str],
        source_objects: Iterable[str],
    ) -> Iterator[pa.RecordBatch]:
        """See `ports.Catalog`; what is really there."""
        return self.beneath.published_rows(
            contract, partition, source_keys=source_keys, source_objects=source_objects
        )

    def refusal(self, contract: Contract) -> str | None:
        """See `ports.Catalog`."""
        return self.beneath.refusal(contract)

    def publish(self, contract: Contract, verdict: Verdict, withheld: Withheld) -> Publication:
        """Never done in a rehearsal.

        Raises:
            RuntimeError: always.
        """
        raise RuntimeError("A rehearsal publishes nothing: whoever asked for it has a defect.")


@dataclass(frozen=True, slots=True)
class _Given:
    """A batch that seems published: what it takes out, its rows, its objects' keys by id, and
    those of them whose rows are kept out."""

    partition: str
    keys: frozenset[str]
    objects: frozenset[str]
    paths: tuple[Path, ...]
    names: dict[str, str]
    withheld: frozenset[str]

    def rows(
        self, columns: Sequence[str], keys: frozenset[str], objects: frozenset[str]
    ) -> Iterator[pa.RecordBatch]:
        """Their key columns and origin, without rows of those keys and objects."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.parquet as pq

        out = pa.array(
            [i for i, k in self.names.items() if k in keys or i in objects or i in self.withheld],
            pa.string(),
        )
        for path in self.paths:
            with pq.ParquetFile(path) as file:
                if set(columns) - set(file.schema_arrow.names):
                    continue
                wanted = list(dict.fromkeys((*columns, SOURCE_OBJECT_ID, SOURCE_ROW)))
                for batch in file.iter_batches(batch_size=_ROWS_PER_READ, columns=wanted):
                    ids = batch.column(SOURCE_OBJECT_ID).cast(pa.string())
                    names = pa.array([self.names.get(i) for i in ids.to_pylist()], pa.string())
                    rows = pa.RecordBatch.from_arrays(
                        [*(batch.column(name) for name in columns), names,
                         batch.column(SOURCE_ROW)],
                        [*columns, SOURCE_KEY, SOURCE_ROW],
                    )  # fmt: skip
                    kept = rows.filter(pc.invert(pc.is_in(ids, value_set=out)))
                    if kept.num_rows:
                        yield kept
