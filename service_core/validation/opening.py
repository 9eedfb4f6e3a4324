"""Opening: a source object's bytes are read exactly once, hashed as landed, unpacked and decoded.

Everything that takes a whole file for its bytes alone is found here, before any row is looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from service_core.contract.model import Compression, Contract, FileFormat
from service_core.ports import ObjectMissingError
from service_core.reasons import ReasonCode
from service_core.source_object import SourceObject
from service_core.validation.compression import sniff, unpack
from service_core.validation.content import Content, ContentWriter
from service_core.validation.encoding import to_utf8
from service_core.validation.landing import claimed_compression, judge_landing
from service_core.validation.refusal import FileRefused, refuse

_TABULAR_TEXT = (FileFormat.CSV, FileFormat.TSV)
_PARQUET_MAGIC = b"PAR1"
#: As `ports.ObjectStore.open_source`.
OpenSource = Callable[[SourceObject], Iterable[bytes]]


class Opened:
    """A source object's plain bytes, UTF-8 where the file is text, as they arrive: to be gone
    through once.

    Going through them raises what the store raises, and FileRefused where the file does not go on.

    Args:
        open_source: Called once the bytes are gone through.

    Attributes:
        source_object: Which.
        failure: What ended the reading before the end, if anything did.

    Raises:
        FileRefused: by its place, name or size.
    """

    def __init__(
        self,
        contract: Contract,
        source_object: SourceObject,
        open_source: OpenSource,
    ) -> None:
        findings = judge_landing(contract, source_object)
        if findings:
            raise FileRefused(findings)
        self.source_object = source_object
        self.failure: BaseException | None = None
        self._content_hash: str | None = None
        self._chunks = self._read(contract, open_source)

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def begin(self, size: int) -> bytes:
        """Its first bytes: so many at least, where there are."""
        chunks, held = [], 0
        for chunk in self:
            chunks.append(chunk)
            held += len(chunk)
            if held >= size:
                break
        return b"".join(chunks)

    @property
    def whole(self) -> bool:
        """Whether all of it has been read."""
        return self._content_hash is not None

    @property
    def content_hash(self) -> str:
        """SHA-256 of the landed bytes, in hexadecimal, once all have been read."""
        assert self._content_hash is not None
        return self._content_hash

    def _read(self, contract: Contract, open_source: OpenSource) -> Iterator[bytes]:
        digest = hashlib.sha256()

        def landed() -> Iterator[bytes]:
            for chunk in open_source(self.source_object):
                digest.update(chunk)
                yield chunk

        empty = True
        try:
            for chunk in _plain(contract, self.source_object.key, landed()):
                empty = False
                yield chunk
            if empty:
                raise refuse(ReasonCode.EMPTY, "the file holds no bytes once unpacked")
        except ObjectMissingError as error:
            self.failure = refuse(
                ReasonCode.OBJECT_MISSING,
                "the object was deleted, or another was put in its place, before it could be read",
            )
            raise self.failure from error
        except BaseException as error:
            self.failure = error
            raise
        self._content_hash = digest.hexdigest()


def keep(contract: Contract, opened: Opened, scratch: Path, *, begin: bytes = b"") -> Content:
    """Read a file whole, so that it can be gone through again.

    Args:
        scratch: A folder; a large file's content goes to a file in it named by its id.
        begin: What has been read of it already.

    Raises:
        FileRefused: the file does not go on.
    """
    writer = ContentWriter(scratch / f"{opened.source_object.id}.content")
    try:
        for chunk in chain((begin,), opened):
            writer.write(chunk)
        content = writer.finish()
    except BaseException:
        writer.abandon()
        raise
    if contract.format.type is FileFormat.PARQUET:
        try:
            _marked(content)
        except FileRefused:
            content.discard()
            raise
    return content


def _plain(contract: Contract, key: str, landed: Iterator[bytes]) -> Iterator[bytes]:
    """Unpacked bytes, as UTF-8 where the format is text."""
    head = next(landed, b"")
    while len(head) < 4 and (more := next(landed, b"")):
        head += more
    claimed, found = claimed_compression(contract, key), sniff(head)
    if claimed is not found:
        said = "plain" if claimed is Compression.NONE else claimed.value
        seen = "plain" if found is Compression.NONE else found.value
        raise refuse(
            ReasonCode.COMPRESSION, f"the file claims to be {said} but its first bytes are {seen}"
        )
    plain = unpack(chain([head], landed), claimed, max_bytes=contract.landing.max_unpacked_bytes)
    if contract.format.type is FileFormat.PARQUET:
        return plain
    return to_utf8(
        plain,
        contract.format.dialect.encoding,
        lines=contract.format.type is not FileFormat.JSON_ARRAY,
        nul=contract.format.type not in _TABULAR_TEXT,
    )


def _marked(content: Content) -> None:
    head = next(content.blocks(4), b"")
    if head == _PARQUET_MAGIC and content.tail(4) != _PARQUET_MAGIC:
        raise refuse(
            ReasonCode.TRUNCATED,
            "the file begins as Parquet but its footer is not at its end; land it again",
        )
    if head != _PARQUET_MAGIC:
        raise refuse(ReasonCode.MALFORMED_FILE, "the file does not begin with Parquet's mark PAR1")
