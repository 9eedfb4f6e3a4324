"""Contract documents for the tests of engines: written as a file and loaded, as any other is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from service_core.contract import load_contract
from service_core.contract.model import Contract

#: Short words for the types that a document can give a column.
TYPES: Mapping[str, Mapping[str, Any]] = {
    "string": {"logicalType": "string"},
    "integer": {"logicalType": "integer"},
    "decimal": {"logicalType": "number", "physicalType": "decimal(12,2)"},
    "decimal_whole": {"logicalType": "number", "physicalType": "decimal(38,0)"},
    "decimal_wide": {"logicalType": "number", "physicalType": "decimal(38,10)"},
    "decimal_fraction": {"logicalType": "number", "physicalType": "decimal(38,38)"},
    "double": {"logicalType": "number", "physicalType": "double"},
    "double_special": {
        "logicalType": "number",
        "physicalType": "double",
        "customProperties": [{"property": "allowSpecial", "value": True}],
    },
    "boolean": {"logicalType": "boolean"},
    "date": {"logicalType": "date"},
    "time": {"logicalType": "time"},
    "timestamp": {"logicalType": "timestamp"},
    "instant": {"logicalType": "timestamp", "logicalTypeOptions": {"timezone": True}},
    "json": {"logicalType": "string", "physicalType": "json"},
    "object": {"logicalType": "object"},
    "array": {"logicalType": "array"},
}


def column(name: str, of_type: str = "string", **changes: Any) -> dict[str, Any]:
    """A column of one of `TYPES`.

    Args:
        changes: Keys of the column; those of its own `customProperties` (`trim`, `case`, `nullIf`,
            `source`, `severity`, ...) and of `logicalTypeOptions` go where they belong.
    """
    made: dict[str, Any] = {"name": name, **TYPES[of_type]}
    for key, value in changes.items():
        if key in ("trim", "case", "nullIf", "source", "severity", "allowSpecial"):
            own = {"property": key, "value": value}
            made["customProperties"] = [*made.get("customProperties", ()), own]
        elif key in (
            "pattern", "minLength", "maxLength", "minimum", "maximum",
            "exclusiveMinimum", "exclusiveMaximum",
        ):  # fmt: skip
            made["logicalTypeOptions"] = {**made.get("logicalTypeOptions", {}), key: value}
        else:
            made[key] = value
    return made


def expression(name: str, sql: str, **more: Any) -> dict[str, Any]:
    """A rule that each row must meet."""
    rule = {"name": name, "type": "custom", "engine": "lakegate"}
    return {**rule, "implementation": {"expression": sql}, **more}


def figure(name: str, metric: str, *columns: str, scope: str | None = None, **more: Any) -> Any:
    """A rule on a figure that only our own engine knows; an operator goes by its name."""
    operators = {key: more.pop(key) for key in list(more) if key.startswith("must")}
    which = {"column": columns[0]} if len(columns) == 1 else {"columns": list(columns)}
    rule = {
        "name": name,
        "type": "custom",
        "engine": "lakegate",
        "implementation": {"metric": metric, **which, **operators},
    }
    return {**rule, **more, **_scoped(scope)}


def library(name: str, metric: str, *, scope: str | None = None, **more: Any) -> dict[str, Any]:
    """A rule of the standard's library."""
    return {"name": name, "metric": metric, **more, **_scoped(scope)}


def _scoped(scope: str | None) -> dict[str, Any]:
    return {"customProperties": [{"property": "scope", "value": scope}]} if scope else {}


def load(
    folder: Path, columns: Sequence[Mapping[str, Any]], *, quality: Sequence[Any] = (), **own: Any
) -> Contract:
    """Write a contract of these columns and rules, and load it.

    Args:
        folder: Where the file is written, as one of many.
        quality: Rules of the whole schema.
        own: The contract's `customProperties`; JSON Lines are landed unless `format` says
            otherwise.

    Raises:
        ContractError: the document is no contract.
    """
    schema: dict[str, Any] = {"name": "things", "properties": list(columns)}
    if quality:
        schema["quality"] = list(quality)
    properties = {
        "landing": {
            "prefix": "things/",
            "partitionPath": "dt=%Y-%m-%d",
            "firstPartition": "2026-01-01",
            "fileNamePattern": ".+",
            "duplicates": "allow",
        },
        "format": {"type": "jsonl", "compression": "none"},
        **own,
    }
    document = {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "things-contract",
        "name": "things",
        "version": "1.0.0",
        "status": "active",
        "schema": [schema],
        "customProperties": [{"property": p, "value": v} for p, v in properties.items()],
    }
    path = folder / f"things-{len(list(folder.glob('things-*.yaml')))}.yaml"
    # JSON is YAML with every text in quotes.
    path.write_text(json.dumps(document, ensure_ascii=False, indent=1), encoding="utf-8")
    return load_contract(path)
