"""Preparing: each file taken as far as it goes without leaving a trace, or refused.

What is prepared can still be refused for one reason only, that its content has been taken from
another key; so nothing of it is handed on before that is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from service_core.contract.model import Contract, FileFormat
from service_core.drift import Drift
from service_core.ports import ObjectStore
from service_core.reasons import ReasonCode
from service_core.source_object import SourceObject
from service_core.validation.content import Content
from service_core.validation.csv_rows import DelimitedReader, MalformedRow
from service_core.validation.header import Head, Heads
from service_core.validation.held_rows import HeldRows, Room, holding
from service_core.validation.json_rows import read_json_array, read_json_lines
from service_core.validation.landing import judge_landing
from service_core.validation.opening import Opened, OpenSource, keep
from service_core.validation.parquet_rows import read_parquet
from service_core.validation.record import FileValidation
from service_core.validation.records import Grammar
from service_core.validation.refusal import FileRefused, Tally, refuse
from service_core.validation.writing import Writing, tallied

_DELIMITED = (FileFormat.CSV, FileFormat.TSV)
#: Up to here the way to a file and back is what it costs, and all of it is fetched at once.
_SMALL_BYTES = 64 * 1024
#: Text beyond which a delimited file's rows are held back instead of the text. That writes a third
#: as much to scratch, and of 2M orders it spares a tenth of the whole path's CPU.
_LARGE_BYTES = 4 * 1024 * 1024
#: Of rows that are held in memory until the last file of their window has been read.
_HELD_BYTES = 256 * 1024 * 1024


class Ready(Protocol):
    """A file that nothing but its being a duplicate can still refuse."""

    @property
    def opened(self) -> Opened: ...

    @property
    def tally(self) -> Tally: ...

    @property
    def drift(self) -> tuple[Drift, ...]: ...

    def hand_on(self, writing: Writing) -> int:
        """Hand its rows on; returns how many records it has."""

    def discard(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _ReadyDelimited:
    """Its header has been judged; its rows are read as they are handed on."""

    opened: Opened
    content: Content
    tally: Tally
    head: Head

    @property
    def drift(self) -> tuple[Drift, ...]:
        return self.head.drift

    def hand_on(self, writing: Writing) -> int:
        object_id = self.opened.source_object.id
        writing.tallies[object_id] = self.tally
        rows = self.content.blocks(_LARGE_BYTES, offset=self.head.offset)
        return writing.delimited.read(object_id, rows, self.head)

    def discard(self) -> None:
        self.content.discard()


@dataclass(frozen=True, slots=True)
class _ReadyHeld:
    """Its rows have been read and are held back."""

    opened: Opened
    tally: Tally
    held: HeldRows

    @property
    def drift(self) -> tuple[Drift, ...]:
        return self.held.drift

    def hand_on(self, writing: Writing) -> int:
        # Those of the files before it come first.
        writing.delimited.flush()
        self.held.rows.hand_to(writing.rows)
        self.held.malformed.hand_to(writing.malformed)
        return self.held.rows_read

    def discard(self) -> None:
        self.held.discard()


def prepare_window(
    contract: Contract,
    window: list[SourceObject],
    store: ObjectStore,
    scratch: Path,
    heads: Heads,
    pool: ThreadPoolExecutor,
) -> list[Ready | FileValidation]:
    """Prepare files side by side; of small ones only fetch them so, and go on when all are here:
    threads that take turns at so little work spend three times as much on it."""
    room = Room(_HELD_BYTES)

    def prepared(o: SourceObject, open_source: OpenSource) -> Ready | FileValidation:
        return _prepare(contract, o, open_source, scratch, heads, room)

    if any(o.size > _SMALL_BYTES for o in window):
        # What this thread allocates it can use again later; another one's memory is its own.
        side_by_side = map if len(window) == 1 else pool.map
        return list(side_by_side(lambda o: prepared(o, store.open_source), window))
    fetched = {
        o.id: pool.submit(lambda o: [b"".join(store.open_source(o))], o)
        for o in window
        if not judge_landing(contract, o)
    }
    wait(fetched.values())
    return [prepared(o, lambda one: fetched[one.id].result()) for o in window]


def _prepare(
    contract: Contract,
    source_object: SourceObject,
    open_source: OpenSource,
    scratch: Path,
    heads: Heads,
    room: Room,
) -> Ready | FileValidation:
    """Take a file as far as it goes without leaving a trace, or say why it is refused."""
    opened: Opened | None = None
    try:
        opened = Opened(contract, source_object, open_source)
        ready = _read(contract, opened, scratch, heads)
    except FileRefused as refused:
        return FileValidation(
            source_object=source_object,
            accepted=False,
            content_hash=opened.content_hash if opened is not None and opened.whole else None,
            findings=refused.findings,
            drift=refused.drift,
        )
    if isinstance(ready, _ReadyHeld):
        room.seat(ready.held)
    return ready


def _read(contract: Contract, opened: Opened, scratch: Path, heads: Heads) -> Ready:
    try:
        if contract.format.type in _DELIMITED:
            return _read_delimited(contract, opened, scratch, heads)
        tally = Tally(contract)
        object_id = opened.source_object.id
        if contract.format.type is FileFormat.JSON_LINES:
            held = read_json_lines(contract, object_id, opened, tally, scratch)
        else:
            read = read_parquet if contract.format.type is FileFormat.PARQUET else read_json_array
            content = keep(contract, opened, scratch)
            try:
                held = read(contract, object_id, content, tally, scratch)
            finally:
                content.discard()
        return _ReadyHeld(opened, tally, held)
    except (FileRefused, OSError, MemoryError):
        raise
    except Exception as error:
        if opened.failure is error:
            raise
        for _ in opened:
            # What can be said of the file's bytes is said all the same.
            continue
        # One poisonous file must not keep the others of its batch from ever being published.
        raise refuse(
            ReasonCode.PROCESSING_FAILURE, f"reading the file failed: {_place_of(error)}"
        ) from error


def _read_delimited(contract: Contract, opened: Opened, scratch: Path, heads: Heads) -> Ready:
    """Judge a delimited file's head. A large one's rows are read at once, and held back; a small
    one's text is, to be read with the rows of its neighbours."""
    begin = opened.begin(_LARGE_BYTES)
    if not opened.whole and (head := _head_in(begin, heads)) is not None:
        rows = chain((begin[head.offset :],), opened)
        return _held(contract, opened, rows, head, scratch, heads.grammar)
    content = keep(contract, opened, scratch, begin=begin)
    try:
        return _ReadyDelimited(opened, content, Tally(contract), heads.of(content))
    except BaseException:
        content.discard()
        raise


def _head_in(begin: bytes, heads: Heads) -> Head | None:
    """The head of a file, by its first bytes; None where there may be more to say of it."""
    try:
        head = heads.of(Content(len(begin), data=begin))
    except FileRefused:
        return None
    return head if head.offset < len(begin) else None


def _held(
    contract: Contract,
    opened: Opened,
    rows: Iterable[bytes],
    head: Head,
    scratch: Path,
    grammar: Grammar,
) -> _ReadyHeld:
    tally, object_id = Tally(contract), opened.source_object.id
    with holding(scratch, object_id) as held:

        def take_malformed(owner: str, malformed: list[MalformedRow]) -> None:
            held.malformed.add(tallied(tally, owner, malformed))

        reader = DelimitedReader(contract, grammar, held.rows.add, take_malformed)
        held.rows_read = reader.read(object_id, rows, head)
        reader.flush()
        held.drift = head.drift
    return _ReadyHeld(opened, tally, held)


def _place_of(error: Exception) -> str:
    """What failed and where in the code. Not the error's text, which may quote the data."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    where = "" if last is None else f" in {last.tb_frame.f_code.co_name}, line {last.tb_lineno}"
    return f"{type(error).__name__}{where}"
