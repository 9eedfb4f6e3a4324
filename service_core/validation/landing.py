"""What can be said of a source object before a byte of it is read: place, name and size."""

from __future__ import annotations

from service_core.contract.model import Compression, Contract, FileFormat, FilePolicy, Landing
from service_core.contract.quantities import in_words
from service_core.partition import file_name_of
from service_core.reasons import ReasonCode
from service_core.source_object import SourceObject
from service_core.validation.record import Finding
from service_core.validation.refusal import against_file

EXTENSIONS: dict[FileFormat, tuple[str, ...]] = {
    FileFormat.CSV: (".csv", ".txt"),
    FileFormat.TSV: (".tsv", ".tab", ".txt"),
    FileFormat.JSON_LINES: (".jsonl", ".ndjson", ".json"),
    FileFormat.JSON_ARRAY: (".json",),
    FileFormat.PARQUET: (".parquet", ".pq"),
}
_COMPRESSED = {
    ".gz": Compression.GZIP,
    ".gzip": Compression.GZIP,
    ".zst": Compression.ZSTD,
    ".zstd": Compression.ZSTD,
}


def claimed_compression(contract: Contract, key: str) -> Compression:
    """How a file says that it is compressed: by the contract, or where that says `auto`, by its
    extension."""
    declared = contract.format.compression
    return _by_name(key) if declared is Compression.AUTO else declared


def judge_landing(contract: Contract, source_object: SourceObject) -> tuple[Finding, ...]:
    """Every reason to refuse an object that its key, size and time of arrival give."""
    landing = contract.landing
    key, name = source_object.key, file_name_of(source_object.key)
    found: list[Finding] = []

    def against(code: ReasonCode, message: str) -> None:
        found.append(against_file(code, message))

    if not key.startswith(landing.prefix):
        against(
            ReasonCode.UNKNOWN_PREFIX,
            f"the key does not begin with {landing.prefix!r}, where {contract.dataset} lands",
        )
    if not source_object.partition_valid:
        against(
            ReasonCode.PARTITION_INVALID,
            f"the key names no partition: after {landing.prefix!r} a path such as "
            f"{landing.partition_path!r} was expected, from {landing.first_partition} on",
        )
    if not landing.file_name.fullmatch(name):
        against(
            ReasonCode.NAME_PATTERN,
            f"the name {name!r} does not match the pattern {landing.file_name.pattern!r}",
        )
    if (message := _extension_fault(contract, name)) is not None:
        against(ReasonCode.UNSUPPORTED_EXTENSION, message)
    if source_object.late and landing.late is FilePolicy.QUARANTINE_FILE:
        against(
            ReasonCode.LATE,
            f"the file arrived {source_object.last_modified.isoformat()}, after the window of "
            f"partition {source_object.partition}{_window(landing)} had closed",
        )
    size = source_object.size
    if size == 0:
        against(ReasonCode.EMPTY, "the file holds no bytes")
    elif size < landing.min_bytes:
        against(
            ReasonCode.TOO_SMALL,
            f"the file has {size} bytes; the contract asks for {landing.min_bytes} at least",
        )
    elif size > landing.max_bytes:
        against(
            ReasonCode.TOO_LARGE,
            f"the file has {size} bytes; the contract allows {landing.max_bytes} at most",
        )
    return tuple(found)


def _window(landing: Landing) -> str:
    return "" if landing.window is None else f" ({in_words(landing.window)} past its end)"


def _by_name(name: str) -> Compression:
    for extension, kind in _COMPRESSED.items():
        if name.lower().endswith(extension):
            return kind
    return Compression.NONE


def _extension_fault(contract: Contract, name: str) -> str | None:
    """What is wrong with a file's extension, or None. A name without any is not judged."""
    allowed = EXTENSIONS[contract.format.type]
    by_name, inner = _by_name(name), name.lower()
    if by_name is not Compression.NONE:
        inner = inner.rpartition(".")[0]
    stem, dot, extension = inner.rpartition(".")
    if dot and stem and f".{extension}" not in allowed:
        return (
            f"the extension .{extension} is none of {contract.format.type.value}'s: "
            + ", ".join(allowed)
        )
    if by_name not in (Compression.NONE, claimed_compression(contract, name)):
        return (
            f"the name says {by_name.value}, but the contract's compression is "
            f"{contract.format.compression.value}"
        )
    return None
