"""The collaborators that the steps are handed: what each must do, and nothing of how.

Implementations live in `resources` (S3, DynamoDB, Iceberg, EventBridge); a step takes them as
arguments and can therefore run in a Dagster process, a Glue job or a test.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from service_core.contract.model import Contract
from service_core.events import Event
from service_core.layout import Zone
from service_core.ledger import Entry, HistoryLine, KeyHead, Move, Return, State, Step
from service_core.manifest import Manifest
from service_core.rolled_back import RollbackMark, TakenBack
from service_core.source_object import SourceObject, source_object_id
from service_core.undo import History, Memory, Share, Undone
from service_core.verdict import Verdict

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Listed:
    """One version of one object in a listing."""

    key: str
    version_id: str | None
    etag: str
    size: int
    last_modified: datetime
    is_latest: bool
    sequence: int

    def id_in(self, bucket: str) -> str:
        """The id that this version has as a source object."""
        return source_object_id(bucket, self.key, self.version_id, self.etag, self.size)

    def filed_under(
        self, bucket: str, partition: str, *, valid: bool, late: bool = False
    ) -> SourceObject:
        """This version as a source object; `valid`, whether its key names that partition."""
        return SourceObject(
            bucket=bucket,
            key=self.key,
            version_id=self.version_id,
            etag=self.etag,
            size=self.size,
            last_modified=self.last_modified,
            sequence=self.sequence,
            partition=partition,
            partition_valid=valid,
            late=late,
        )


@dataclass(frozen=True, slots=True)
class ListingPage:
    """A page of a listing; `resume` continues it, and is None at its end."""

    objects: tuple[Listed, ...]
    resume: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Stored:
    """One object of a zone other than raw, as a listing has it; `size` in bytes."""

    key: str
    size: int
    etag: str
    last_modified: datetime


class ObjectMissingError(Exception):
    """The object, or that version of it, is not there."""


class ObjectStore(Protocol):
    """The zones' buckets."""

    def bucket(self, zone: Zone) -> str:
        """The zone's bucket name."""

    def uri(self, zone: Zone, key: str) -> str:
        """`s3://bucket/key`."""

    def read(self, zone: Zone, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectMissingError: it is not there.
        """

    def write(self, zone: Zone, key: str, body: bytes, *, content_type: str = "") -> str:
        """Put an object in one atomic request; returns its URI."""

    def write_once(self, zone: Zone, key: str, body: bytes, *, content_type: str = "") -> bool:
        """Put an object unless one is there; of several at once, exactly one is told True."""

    def open_source(self, source_object: SourceObject) -> Iterator[bytes]:
        """The bytes of exactly that version, in chunks of a megabyte at most.

        Raises:
            ObjectMissingError: it is not there; raised before the first chunk.
        """

    def upload(self, path: Path, zone: Zone, key: str) -> str:
        """Upload a local file; returns its URI."""

    def download(self, uri: str, path: Path) -> None:
        """Download an object of any zone to a local file.

        Raises:
            ObjectMissingError: it is not there.
        """

    def copy_source(self, source_object: SourceObject, zone: Zone, key: str) -> str:
        """Copy exactly that version of a source object, untouched; returns the copy's URI."""

    def list_versions(
        self, prefix: str, *, resume: tuple[str, str] | None = None, limit: int | None = None
    ) -> ListingPage:
        """One page (of at most `limit` and 1,000) of the raw bucket's versions under a prefix, in
        key order; `resume` is what the page before gave, or any key and an empty text to start
        after it."""

    def keys(self, zone: Zone, prefix: str) -> Iterator[str]:
        """Every key of a zone under a prefix."""

    def stored(self, zone: Zone, prefix: str) -> Iterator[Stored]:
        """Every object of a zone under a prefix, in key order."""

    def remove(self, zone: Zone, keys: Iterable[str]) -> None:
        """Remove objects that nothing names. Those that are not there are no error.

        Raises:
            ValueError: the zone is raw, from which nothing is ever removed.
        """


@dataclass(frozen=True, slots=True)
class PendingBatch:
    """A batch whose manifest is durable and whose run has not yet begun.

    Attributes:
        replay_id: Where it is a replay's.
        size: Bytes of its objects.
        way: By which of the ways in it was noticed, `listing` or `notifications`; empty where it
            was not noticed but asked for.
    """

    dataset: str
    partition: str
    batch_id: str
    manifest_uri: str
    requested_at: datetime
    replay_id: str | None = None
    size: int = 0
    way: str = ""


@dataclass(frozen=True, slots=True)
class Desk:
    """The right to cut a data set's new objects into batches, which one way in has at a time.

    Attributes:
        way: Who has it.
        until: When it is free again, whatever has become of its holder.
        paid_until: Until when the data set's ledger writes so far keep its pace: what has been
            taken is at most what the pace allows by then. None where nothing has been taken.
    """

    dataset: str
    way: str
    until: datetime
    paid_until: datetime | None = None


class Ledger(Protocol):
    """The table that knows every source object's state and history."""

    def entries(self, object_ids: Iterable[str]) -> dict[str, Entry]:
        """The entries of those ids that the ledger knows, read consistently."""

    def known(self, object_ids: Iterable[str]) -> frozenset[str]:
        """Those of the ids that the ledger knows, read consistently: cheaper than their entries."""

    def in_partition(
        self, dataset: str, partition: str, state: State | None = None
    ) -> Iterator[Entry]:
        """A partition's entries, of one state or of all, by way of an index that lags behind by
        moments: for people and replays, not for decisions."""

    def rehearsal(self) -> Ledger:
        """This ledger as it stands, for somebody whose own writes only he is to see: they stay in
        memory, and are gone with him."""

    def receive(self, manifest: Manifest, *, run_id: str | None, at: datetime) -> dict[str, str]:
        """Record every object of a manifest as received by its batch; objects that the batch
        already owns stay as they are. Returns, by object id, the batch whose rows of the object
        are in the table, where that is another one."""

    def move(
        self, batch_id: str, moves: Sequence[Move], *, run_id: str, at: datetime
    ) -> dict[str, Step]:
        """Move objects by conditional writes; returns what each move amounted to.

        Raises:
            MoveRefusedError: an edge is not allowed, which means a defect, not data.
        """

    def give_back(
        self, batch_id: str, returns: Sequence[Return], *, run_id: str, at: datetime
    ) -> None:
        """Leave objects to the batches that have published them, because `batch_id`, which took
        them over, will not. Objects that it does not own any more stay as they are."""

    def supersede(
        self, object_ids: Sequence[str], *, by_batch: str, run_id: str, at: datetime
    ) -> None:
        """Mark published objects as superseded by a batch with newer versions of their keys."""

    def history(self, object_id: str) -> tuple[HistoryLine, ...]:
        """The object's history, oldest first."""

    def note(self, object_id: str, batch_id: str, note: str, *, run_id: str, at: datetime) -> None:
        """Append a line to an object's history without moving it."""

    def open_batch(self, batch: PendingBatch) -> None:
        """Record that a run is wanted for a durable manifest."""

    def pending_batches(self, dataset: str) -> tuple[PendingBatch, ...]:
        """The data set's batches whose runs have not begun, oldest first."""

    def close_batch(self, dataset: str, batch_id: str) -> None:
        """Record that a batch's run has begun; does nothing where it already has."""

    def take_desk(self, dataset: str, way: str, *, at: datetime, seconds: float) -> Desk | None:
        """Take a data set's desk for so many seconds; None where another way in has it. Who has
        it already, or died with it, may take it again."""

    def leave_desk(self, desk: Desk, *, paid_until: datetime | None) -> None:
        """Leave a desk, unless another way in has it by now."""

    def claim_content(
        self, dataset: str, claims: Mapping[str, SourceObject]
    ) -> dict[str, tuple[str, str]]:
        """Claim content hashes for objects; returns the (object id, key) that holds each hash.

        The first claim wins. Another version of the same key takes it over; another key only
        once no row of the holder is published, nor may be by the batch that has it.
        """

    def key_heads(self, dataset: str, keys: Iterable[str]) -> dict[str, KeyHead]:
        """The newest published (or being published) version of each key that has one."""

    def raise_key_heads(self, dataset: str, heads: Sequence[KeyHead]) -> dict[str, KeyHead]:
        """Make each head its key's newest unless a newer stands; returns those that stood."""

    def rolled_back(self, batch_ids: Iterable[str]) -> dict[str, RollbackMark]:
        """Those of the batches that have been rolled back, read consistently."""

    def mark_rolled_back(self, marks: Sequence[RollbackMark]) -> None:
        """Record that batches have been rolled back; the first mark of a batch stays."""

    def take_back(
        self, returns: Sequence[TakenBack], undone: frozenset[str], *, run_id: str, at: datetime
    ) -> None:
        """Bring objects of undone batches to where the table has them. May be repeated."""

    def lower_key_heads(
        self, dataset: str, heads: Mapping[str, KeyHead | None], undone: frozenset[str]
    ) -> None:
        """Give keys whose heads an undone batch has raised the heads named, or none."""


@dataclass(frozen=True, slots=True)
class Publication:
    """What one commit did.

    Attributes:
        snapshot_id: The table's snapshot that holds the batch; None where there was nothing to
            commit.
        committed: Whether this call committed it; False where the batch had been committed
            before, or there was nothing to commit.
        rows_added, rows_removed: Rows of the batch's commit, whichever call made it.
        superseded: Ids of older source objects whose rows it took out.
        table: `database.table`.
        metadata_location: The table's metadata file.
        withheld: Ids of the batch's own source objects that this call kept out.
    """

    snapshot_id: int | None
    committed: bool
    rows_added: int
    rows_removed: int
    superseded: tuple[str, ...]
    table: str
    metadata_location: str | None
    withheld: tuple[str, ...] = ()


#: Ids of source objects whose rows must not appear in the table; or, so that nothing can change
#: between the decision and the commit, a function that is asked for them after every reading of
#: the table, with the id of the snapshot that was read.
Withheld = frozenset[str] | Callable[[int | None], frozenset[str]]


@dataclass(frozen=True, slots=True)
class PublishedFiles:
    """What a partition of a table holds.

    Attributes:
        snapshot_id: The table's snapshot of which that is so.
        uris: Its Parquet files. None of their rows is deleted apart from them, and a column that
            a file lacks is null in its rows.
    """

    snapshot_id: int
    uris: tuple[str, ...]


class Catalog(Protocol):
    """The published tables."""

    def current_snapshot(self, contract: Contract) -> int | None:
        """Id of the table's current snapshot, or None."""

    def published_keys(
        self,
        contract: Contract,
        partition: str,
        columns: Sequence[str],
        *,
        except_source_keys: Iterable[str] = (),
        except_source_objects: Iterable[str] = (),
    ) -> Iterator[pa.RecordBatch]:
        """Key columns of a partition's published rows, with `_source_key` and `_source_row`,
        without the rows that a batch is about to replace: in `replace` mode those of its objects'
        keys, in either mode those of its very objects."""

    def published_files(self, contract: Contract, partition: str) -> PublishedFiles | None:
        """The files of a partition's published rows, for an engine that reads them by itself;
        None where the table holds nothing at all."""

    def published_rows(
        self,
        contract: Contract,
        partition: str,
        *,
        source_keys: Iterable[str],
        source_objects: Iterable[str],
    ) -> Iterator[pa.RecordBatch]:
        """A partition's published rows that came from one of those keys or of those very objects,
        with all their columns, in no particular order."""

    def refusal(self, contract: Contract) -> str | None:
        """Why the table as it is cannot take rows under a contract, in a sentence; None where it
        can."""

    def publish(self, contract: Contract, verdict: Verdict, withheld: Withheld) -> Publication:
        """Commit a batch's staged files in one snapshot, unless it has been committed before.

        `withheld` are ids of the verdict's source objects whose rows must not appear: a newer
        version of their key is published, or another batch has taken them over.

        Raises:
            ObjectMissingError: a staged file is not there.
            BatchRolledBackError: the batch has been rolled back.
        """


class Upkeep(Protocol):
    """The published tables, for those who undo commits or clear what nothing refers to."""

    def history(self, contract: Contract) -> History:
        """What the table still knows of its commits and rollbacks."""

    def holders(
        self,
        contract: Contract,
        partition: str,
        *,
        source_keys: Iterable[str],
        source_objects: Iterable[str],
    ) -> tuple[Share, ...]:
        """Who brought a partition's published rows of those keys or of those very objects."""

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
        """Undo batches in one new snapshot; those that have been undone before stay so.

        Args:
            replay_id: The replay that is undone, for the snapshot's summary.
            dry_run: Only say what would change.

        Raises:
            RollbackRefusedError: it cannot be done; nothing has been changed.
        """

    def referenced(self) -> Mapping[str, frozenset[str]]:
        """By the name of each table there is, the URI of every file that it, or any snapshot that
        it keeps, refers to: data, manifests and metadata."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One message of the queue of notifications, in hand.

    Attributes:
        handle: What the queue knows it by while it is in hand.
        body: What it says.
    """

    handle: str
    body: str


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many messages a queue holds, by its own estimate.

    Attributes:
        ready: Those that could be received now.
        in_hand: Those that somebody has received and not yet deleted.
        postponed: Those that become ready by and by.
    """

    ready: int
    in_hand: int
    postponed: int


class Notifications(Protocol):
    """The queue of notifications that objects were created. A message that is in hand comes back
    by itself where nobody deletes it."""

    def receive(self, *, most: int, wait_seconds: float) -> list[Notice]:
        """Messages, as many as are there and no more than `most`; waits for the first of them."""

    def in_hand(self, notices: Sequence[Notice]) -> AbstractContextManager[None]:
        """Keeps messages from coming back for the length of a block, however long that is."""

    def delete(self, notices: Sequence[Notice]) -> None:
        """Delete messages that are done with."""

    def postpone(self, notices: Sequence[Notice], seconds: float) -> None:
        """Have messages come back after about so many seconds, as if they had never been received.
        None is lost, and some may come twice, if this is interrupted."""

    def give_up(self, notices: Sequence[tuple[Notice, str]]) -> None:
        """Move messages to the dead-letter queue, each with the reason."""

    def depth(self) -> QueueDepth:
        """How many messages there are."""


class Events(Protocol):
    """The event bus."""

    def send(self, events: Sequence[Event]) -> None:
        """Put events on the bus, in batches of its own limit."""
