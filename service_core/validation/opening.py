"""Opening: a source object's bytes are read exactly once, hashed as landed, unpacked and decoded.

Everything that takes a whole file for its bytes alone is found here, before any row is looked at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from service_core.contract.model import Compression, Contract, FileFormat
from service_core.ports import ObjectMissingError, ObjectStore
from service_core.reasons import ReasonCode
from service_core.source_object import SourceObject
from service_core.validation.compression import sniff, unpack
from service_core.validation.content import Content, ContentWriter
from service_core.validation.encoding import to_utf8
from service_core.validation.landing import claimed_compression, judge_landing
from service_core.validation.refusal import FileRefused, refuse

_TABULAR_TEXT = (FileFormat.CSV, FileFormat.TSV)
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True, slots=True)
class Opened:
    """A file in hand: its plain content, UTF-8 where it is text, and its landed bytes' SHA-256."""

    source_object: SourceObject
    content: Content
    content_hash: str


def open_file(
    contract: Contract, source_object: SourceObject, store: ObjectStore, scratch: Path
) -> Opened:
    """Judge an object's place, name and size, then read it once.

    Args:
        scratch: A folder; a large file's content goes to a file in it named by its id.

    Raises:
        FileRefused: the file does not go on.
    """
    findings = judge_landing(contract, source_object)
    if findings:
        raise FileRefused(findings)
    digest = hashlib.sha256()

    def landed() -> Iterator[bytes]:
        for chunk in store.open_source(source_object):
            digest.update(chunk)
            yield chunk

    writer = ContentWriter(scratch / f"{source_object.id}.content")
    try:
        for chunk in _plain(contract, source_object.key, landed()):
            writer.write(chunk)
        content = writer.finish()
    except ObjectMissingError as error:
        writer.abandon()
        raise refuse(
            ReasonCode.OBJECT_MISSING,
            "the object was deleted, or another was put in its place, before it could be read",
        ) from error
    except BaseException:
        writer.abandon()
        raise
    try:
        _whole(contract, content)
    except FileRefused:
        content.discard()
        raise
    return Opened(source_object, content, digest.hexdigest())


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


def _whole(contract: Contract, content: Content) -> None:
    if content.size == 0:
        raise refuse(ReasonCode.EMPTY, "the file holds no bytes once unpacked")
    if contract.format.type is FileFormat.PARQUET:
        head = next(content.blocks(4), b"")
        if head == _PARQUET_MAGIC and content.tail(4) != _PARQUET_MAGIC:
            raise refuse(
                ReasonCode.TRUNCATED,
                "the file begins as Parquet but its footer is not at its end; land it again",
            )
        if head != _PARQUET_MAGIC:
            raise refuse(
                ReasonCode.MALFORMED_FILE, "the file does not begin with Parquet's mark PAR1"
            )
