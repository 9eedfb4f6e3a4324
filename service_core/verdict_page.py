"""The page on verdicts, generated from the models, so that it cannot say anything else.

`python -m service_core.verdict_page > docs/verdict-schema.md` renews it.
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Iterator
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from service_core.drift import Drift
from service_core.source_object import SourceObject
from service_core.validation.record import Finding, StagedFile
from service_core.verdict import SCHEMA_VERSION, CheckOutcome, FileOutcome, Verdict

_MODELS: tuple[type[BaseModel], ...] = (
    Verdict,
    FileOutcome,
    CheckOutcome,
    Finding,
    Drift,
    StagedFile,
    SourceObject,
)

_INTRODUCTION = f"""# Verdict schema

A verdict is the durable outcome of one batch: one JSON document at
`<data set>/<partition>/<batch id>.json` in the `dq-results` bucket. It is written last and in one
put, so that its presence means that everything it names is there; publication re-reads it and goes
by nothing else. A repeated judgement writes it anew.

This page is generated from `service_core/verdict.py`:
`python -m service_core.verdict_page > docs/verdict-schema.md`.
It describes version {SCHEMA_VERSION} of the schema.

What always holds: of each file, and of the batch, `rows_read` is `rows_accepted` and
`rows_quarantined` together; the rows of all `staged` files are `rows_accepted`; a file with a
finding of scope `file` has no row in `staged` or `quarantined_rows`; every check that the contract
declares is in `checks`.
"""

#: Longer enumerations are named, not listed.
_LISTED = 8

#: What the models' own docstrings leave to their names.
_PLAIN = {
    ("Verdict", "schema_version"): "Version of this schema.",
    ("Verdict", "batch_id"): "The batch.",
    ("Verdict", "dataset"): "Its data set.",
    ("Verdict", "partition"): "Its partition.",
    ("Verdict", "contract_version"): "The contract's version, as its author counts.",
    ("Verdict", "contract_hash"): "The contract's content; part of the batch id.",
    ("Verdict", "run_id"): "The run that judged it.",
    ("Verdict", "replay_id"): "The replay that the run is part of.",
    ("Verdict", "engine"): "What curated it; `none` where nothing did (ELT).",
    ("Verdict", "rows_read"): "Rows of all files, malformed ones among them.",
    ("Verdict", "rows_accepted"): "Rows staged for publication.",
    ("Verdict", "rows_quarantined"): "Rows in row quarantine, or in files that went whole.",
    ("Verdict", "files"): "One outcome for each source object of the manifest, in its order.",
    ("Verdict", "checks"): "One outcome for each check of the contract, in its order.",
    ("Verdict", "drift"): "Each kind of drift of each column once, for all files together.",
    ("Verdict", "judged_at"): "When.",
    ("FileOutcome", "source_object"): "Which file.",
    ("FileOutcome", "status"): "What becomes of it once its batch is published.",
    ("FileOutcome", "rows_read"): "Records found in it, malformed ones among them.",
    ("FileOutcome", "rows_accepted"): "Rows of it that are staged.",
    ("FileOutcome", "rows_quarantined"): "The rest.",
    ("FileOutcome", "content_hash"): "SHA-256 of its bytes, where they were read.",
    ("FileOutcome", "findings"): "Why it, or rows of it, were refused; what took the file first.",
    ("FileOutcome", "drift"): "How it differs from its contract.",
    ("CheckOutcome", "severity"): "As the contract declares it.",
    ("StagedFile", "uri"): "Where it lies.",
    ("StagedFile", "rows"): "Its rows.",
    ("StagedFile", "bytes"): "Its size.",
    ("SourceObject", "etag"): "S3's ETag, without quotes.",
}


def verdict_page() -> str:
    """The page, as Markdown."""
    return _INTRODUCTION + "".join(section for model in _MODELS for section in _section(model))


def _section(model: type[BaseModel]) -> Iterator[str]:
    yield f"\n## {model.__name__}\n\n{_summary(model)}\n\n"
    yield "| field | type | meaning |\n|---|---|---|\n"
    said = _attributes(model)
    for name, field in model.model_fields.items():
        meaning = said.get(name) or _PLAIN[model.__name__, name]
        yield f"| `{name}` | {_type(field.annotation)} | {meaning} |\n"


def _summary(model: type[BaseModel]) -> str:
    text = inspect.cleandoc(model.__doc__ or "")
    return " ".join(text.split("\n\nAttributes:")[0].split())


def _attributes(model: type[BaseModel]) -> dict[str, str]:
    """What the docstring's `Attributes` say, by field."""
    text = inspect.cleandoc(model.__doc__ or "")
    if "Attributes:" not in text:
        return {}
    entries = re.split(r"\n    (?=[a-z_, ]+:)", text.split("Attributes:", 1)[1])
    said: dict[str, str] = {}
    for entry in entries:
        names, _, meaning = entry.partition(":")
        for name in names.split(","):
            said[name.strip()] = " ".join(meaning.split()).replace("|", "\\|")
    return said


def _type(annotation: Any) -> str:
    """A field's type as a reader of the JSON sees it."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(_type(part) for part in parts)
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if origin is dict:
        return "object"
    if origin is Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if annotation is type(None):
        return "null"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{annotation.__name__}](#{annotation.__name__.lower()})"
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        if len(annotation) > _LISTED:
            return f"{annotation.__name__} ([list](reason-codes.md))"
        return " or ".join(f"`{value}`" for value in annotation)
    names = {int: "whole number", float: "number", str: "text", bool: "`true` or `false`"}
    return names.get(annotation, "time (ISO 8601, UTC)" if _is_time(annotation) else "any")


def _is_time(annotation: Any) -> bool:
    return "AwareDatetime" in repr(annotation) or annotation is datetime


if __name__ == "__main__":
    sys.stdout.write(verdict_page())
