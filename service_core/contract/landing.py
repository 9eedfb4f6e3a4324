"""Where files land and how they are written: `landing`, `format`, `dialect` and `drift`."""

from __future__ import annotations

import codecs
import re
from datetime import date, timedelta

from service_core.contract.fields import Fields
from service_core.contract.keys import CONTRACT_PROPERTIES
from service_core.contract.model import (
    Compression,
    Dialect,
    DriftPolicies,
    DriftPolicy,
    FileFormat,
    FilePolicy,
    Format,
    Grain,
    Landing,
    Pace,
)
from service_core.contract.problem import one_of, shown

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_DIRECTIVE = re.compile(r"%(.?)")
_MIN_YEAR = 1970
_LONGEST_WAIT = timedelta(hours=12)


def read_landing(custom: Fields) -> Landing | None:
    """The landing block; None where it cannot be had, with the reasons recorded."""
    fields = custom.fields("landing", CONTRACT_PROPERTIES["landing"])
    if "landing" not in custom:
        custom.problems.add(
            custom.line,
            "customProperties lacks `landing`: say with prefix, partitionPath, firstPartition and "
            "fileNamePattern where the data set's files land.",
        )
        return None
    prefix = _prefix(fields)
    path, grain = _partition_path(fields)
    first = _first_partition(fields)
    pattern = _file_name(fields)
    min_bytes = fields.size("minBytes", 1)
    max_bytes = fields.size("maxBytes", 5 * 1024**3, minimum=1)
    if min_bytes > max_bytes:
        fields.problems.add(
            fields.line_of("minBytes"),
            f"landing.minBytes ({min_bytes}) is above landing.maxBytes ({max_bytes}), so that no "
            "file could pass; swap or correct them.",
        )
    if prefix is None or path is None or grain is None or first is None or pattern is None:
        return None
    return Landing(
        prefix=prefix,
        partition_path=path,
        grain=grain,
        first_partition=first,
        file_name=pattern,
        min_bytes=min_bytes,
        max_bytes=max_bytes,
        max_unpacked_bytes=fields.size("maxUnpackedBytes", 50 * 1024**3, minimum=1),
        window=fields.duration("window", timedelta(days=3)),
        late=fields.word("late", FilePolicy.ALLOW),
        duplicates=fields.word("duplicates", FilePolicy.QUARANTINE_FILE),
        max_batch_files=fields.whole("maxBatchFiles", 5000, minimum=1),
        max_batch_bytes=fields.size("maxBatchBytes", 1024**3, minimum=1),
    )


def read_pace(custom: Fields, freshness: timedelta | None) -> Pace:
    """The pace block.

    Args:
        freshness: What the contract promises: files that wait longer than that would break it.
    """
    fields = custom.fields("pace", CONTRACT_PROPERTIES["pace"])
    default = Pace()
    pace = Pace(
        max_runs=fields.whole("maxRuns", default.max_runs, minimum=1),
        max_queued_bytes=fields.size("maxQueuedBytes", default.max_queued_bytes, minimum=1),
        max_files_per_second=fields.whole(
            "maxFilesPerSecond", default.max_files_per_second, minimum=1
        ),
        max_wait=fields.duration("maxWait", default.max_wait) or default.max_wait,
    )
    longest = min(freshness / 2, _LONGEST_WAIT) if freshness is not None else _LONGEST_WAIT
    if pace.max_wait > longest:
        fields.problems.add(
            fields.line_of("maxWait"),
            f"pace.maxWait ({pace.max_wait}) is longer than {longest}, which is the longest that "
            "files may wait for one another: twelve hours, and half of what slaProperties "
            "promises. Shorten it.",
        )
    return pace


def _prefix(fields: Fields) -> str | None:
    fields.required("prefix", "the start of every key of the data set, such as `orders/`")
    prefix = fields.text("prefix")
    if not prefix:
        return None
    wrong = _path_problem(prefix.removesuffix("/"))
    if prefix.startswith("/"):
        wrong = "starts with `/`, which no key does"
    elif not prefix.endswith("/"):
        wrong = f"must end with `/`, as in {shown(prefix + '/')}"
    if wrong is None:
        return prefix
    fields.problems.add(
        fields.line_of("prefix"), f"landing.prefix {shown(prefix)} {wrong}; correct it."
    )
    return None


def _path_problem(path: str) -> str | None:
    segments = path.split("/")
    if any(segment in ("", ".", "..") for segment in segments):
        return "has an empty segment, `.` or `..`"
    if any(not c.isprintable() or c == "\\" for c in path):
        return "holds a backslash or a character that cannot be seen"
    if len(path) > 500:
        return "is longer than 500 characters"
    return None


def _partition_path(fields: Fields) -> tuple[str | None, Grain | None]:
    fields.required("partitionPath", "the path of a partition, such as `dt=%Y-%m-%d`")
    path = fields.text("partitionPath")
    if not path:
        return None, None
    directives = _DIRECTIVE.findall(path)
    unknown = [d for d in directives if d not in {"Y", "m", "d", "H"}]
    wrong = _path_problem(path)
    if unknown:
        wrong = f"has {shown('%' + unknown[0])}, and only %Y, %m, %d and %H are known"
    elif sorted(d for d in directives if d != "H") != ["Y", "d", "m"] or directives.count("H") > 1:
        wrong = "must name the date, with %Y, %m and %d once each (and %H once for hours)"
    elif path.startswith("/") or path.endswith("/"):
        wrong = "starts or ends with `/`; the prefix ends in one, and one follows the path anyway"
    if wrong is None:
        return path, Grain.HOUR if "H" in directives else Grain.DAY
    fields.problems.add(
        fields.line_of("partitionPath"),
        f"landing.partitionPath {shown(path)} {wrong}; write it such as `dt=%Y-%m-%d` or "
        "`%Y/%m/%d/%H`.",
    )
    return None, None


def _first_partition(fields: Fields) -> date | None:
    fields.required("firstPartition", 'the first day that can be landed, such as "2026-01-01"')
    text = fields.text("firstPartition")
    if not text:
        return None
    try:
        day = date.fromisoformat(text) if _DATE.match(text) else None
    except ValueError:
        day = None
    if day is not None and day.year >= _MIN_YEAR:
        return day
    fields.problems.add(
        fields.line_of("firstPartition"),
        f"landing.firstPartition {shown(text)} is no day from {_MIN_YEAR} on; write it such as "
        '"2026-01-01".',
    )
    return None


def _file_name(fields: Fields) -> re.Pattern[str] | None:
    fields.required(
        "fileNamePattern", "a regular expression for whole file names, such as `orders_.*\\.csv`"
    )
    text = fields.text("fileNamePattern")
    if not text:
        return None
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        fields.problems.add(
            fields.line_of("fileNamePattern"),
            f"landing.fileNamePattern {shown(text)} does not compile: {error}; mend the regular "
            "expression (Python's syntax).",
        )
        return None


def read_format(custom: Fields) -> Format:
    """The format and dialect blocks."""
    fields = custom.fields("format", CONTRACT_PROPERTIES["format"])
    if "format" not in custom:
        custom.problems.add(
            custom.line,
            f"customProperties lacks `format`: say with type how files are written, "
            f"{one_of(FileFormat)}.",
        )
    else:
        fields.required("type", one_of(FileFormat))
    kind = fields.word("type", FileFormat.CSV)
    compression = fields.word("compression", Compression.AUTO)
    if kind is FileFormat.PARQUET and compression not in (Compression.AUTO, Compression.NONE):
        fields.problems.add(
            fields.line_of("compression"),
            "format.compression of Parquet is inside the file; take the key out, or write `none`.",
        )
    return Format(kind, compression, _dialect(custom, kind))


def _dialect(custom: Fields, kind: FileFormat) -> Dialect:
    fields = custom.fields("dialect", CONTRACT_PROPERTIES["dialect"])
    delimited = kind in (FileFormat.CSV, FileFormat.TSV)
    for key in CONTRACT_PROPERTIES["dialect"]:
        if key in fields and (
            (not delimited and key not in ("encoding", "nullValues"))
            or (kind is FileFormat.PARQUET and key == "encoding")
        ):
            fields.problems.add(
                fields.line_of(key),
                f"dialect.{key} means nothing for {kind.value} files; take it out.",
            )
    default = "\t" if kind is FileFormat.TSV else ","
    delimiter = _character(fields, "delimiter", default)
    quote = _character(fields, "quote", '"')
    escape = _character(fields, "escape", quote)
    if delimiter in (quote, escape):
        fields.problems.add(
            fields.line_of("delimiter"),
            f"dialect.delimiter {shown(delimiter)} is also the quote or the escape; "
            "give them different characters.",
        )
    return Dialect(
        delimiter=delimiter,
        quote=quote,
        escape=escape,
        encoding=_encoding(fields),
        null_values=fields.texts("nullValues", ("",)),
        header=fields.flag("header", True),
    )


def _character(fields: Fields, key: str, default: str) -> str:
    character = fields.text(key, default)
    if len(character) == 1 and character not in "\r\n\0" and not character.isalnum():
        return character
    fields.problems.add(
        fields.line_of(key),
        f"dialect.{key} {shown(character)} must be exactly one character, and no letter, digit or "
        'line break; write it such as ";" or "\\t".',
    )
    return default


def _encoding(fields: Fields) -> str:
    name = fields.text("encoding", "utf-8")
    try:
        codec = codecs.lookup(name)
        # Codecs such as `base64` and `rot13` are registered but turn no bytes into text.
        if getattr(codec, "_is_text_encoding", True) and codec.name not in _NOT_FOR_FILES:
            return codec.name
    except (LookupError, ValueError, UnicodeError):
        pass
    fields.problems.add(
        fields.line_of("encoding"),
        f"dialect.encoding {shown(name)} is no character encoding that is known here; use one such "
        "as `utf-8`, `utf-16` or `cp1252`.",
    )
    return "utf-8"


_NOT_FOR_FILES = frozenset(
    {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
)


def read_drift(custom: Fields) -> DriftPolicies:
    """The drift block."""
    fields = custom.fields("drift", CONTRACT_PROPERTIES["drift"])
    default = DriftPolicies()
    policies = DriftPolicies(
        additive=fields.word("additive", default.additive),
        type=fields.word("type", default.type),
        missing=fields.word("missing", default.missing),
        renamed=fields.word("renamed", default.renamed),
        order=fields.word("order", default.order),
        nested_shape=fields.word("nestedShape", default.nested_shape),
    )
    file_only = (DriftPolicy.ALLOW, DriftPolicy.QUARANTINE_FILE)
    if policies.order not in file_only:
        fields.problems.add(
            fields.line_of("order"),
            f"drift.order cannot be {shown(policies.order)}: the order of columns belongs to the "
            "whole file; write `allow` or `quarantine_file`.",
        )
    for key, policy in (("missing", policies.missing), ("renamed", policies.renamed)):
        if policy is DriftPolicy.KEEP_ASIDE:
            fields.problems.add(
                fields.line_of(key),
                f"drift.{key} cannot be `keep_aside`: of a column that is missing there is nothing "
                "to keep; write `allow`, `quarantine_rows` or `quarantine_file`.",
            )
    return policies
