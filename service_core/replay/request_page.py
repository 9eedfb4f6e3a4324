"""The page on replay manifests, generated from the models, so that it cannot say anything else.

`python -m service_core.replay.request_page > docs/replay-manifest.md` renews it.
"""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from service_core.replay.request import (
    MAX_BYTES,
    MAX_FILES,
    Options,
    PartitionRange,
    ReplayFile,
    ReplayRequest,
    Selector,
)

_TITLES: dict[type[BaseModel], str] = {
    ReplayRequest: "The manifest",
    ReplayFile: "A file",
    Selector: "The selector",
    PartitionRange: "Partitions",
    Options: "The options",
}
#: Longer enumerations are named, not listed.
_LISTED = 8

_INTRODUCTION = f"""# Replay manifests

A replay manifest is one JSON object at `_replays/requests/<name>.json` in the manifests bucket,
where `<name>` is anything. It asks for landed files to be processed once more;
[replays](replay.md) says what happens then. It is UTF-8, of at most {MAX_BYTES // 1024**2} MiB, and
names at most {MAX_FILES:,} files. A key that is not described here is refused. Beside the manifest,
`<name>.accepted.json` or `<name>.rejected.json` answers it.

This page is generated from `service_core/replay/request.py`:
`python -m service_core.replay.request_page > docs/replay-manifest.md`.

```json
{{
  "replayId": "tax-fix-2026-11",
  "reason": "Tax was computed wrongly in November.",
  "dataset": "orders",
  "selector": {{"partitions": {{"from": "2026-11-01", "to": "2026-11-30"}}}},
  "options": {{"force": true}}
}}
```
"""


def request_page() -> str:
    """The page, as Markdown."""
    sections = (part for model, title in _TITLES.items() for part in _section(model, title))
    schema = json.dumps(request_schema(), indent=2)
    return f"{_INTRODUCTION}{''.join(sections)}\n## JSON Schema\n\n```json\n{schema}\n```\n"


def request_schema() -> dict[str, Any]:
    """The manifest's JSON Schema (draft 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **ReplayRequest.model_json_schema(by_alias=True),
    }


def _section(model: type[BaseModel], title: str) -> Iterator[str]:
    said = " ".join((model.__doc__ or "").split())
    yield f"\n## {title}\n\n{said}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
    for name, field in model.model_fields.items():
        default = "required" if field.is_required() else _default(field.default)
        yield (
            f"| `{field.alias or name}` | {_type(field.annotation)} | {default} "
            f"| {field.description} |\n"
        )


def _default(value: Any) -> str:
    if value is None or isinstance(value, BaseModel):
        return "none"
    return f"`{json.dumps(value)}`"


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin in (Union, types.UnionType):
        return _type(next(part for part in parts if part is not type(None)))
    if origin is tuple:
        return f"list of {_type(parts[0])}"
    if hasattr(annotation, "__metadata__"):
        return _type(parts[0])
    if issubclass(annotation, BaseModel):
        title = _TITLES[annotation]
        return f"[object](#{title.lower().replace(' ', '-')})"
    if issubclass(annotation, StrEnum):
        if len(annotation) > _LISTED:
            return "[reason code](reason-codes.md)"
        return ", ".join(f"`{value}`" for value in annotation)
    return {bool: "`true` or `false`", str: "text"}[annotation]


if __name__ == "__main__":
    sys.stdout.write(request_page())
