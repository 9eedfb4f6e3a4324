"""The standard's own schema: shipped as it is published, and met by every contract that loads."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft201909Validator
from test_contract_documents import paths
from test_contract_loading import PARCELS

from service_core.contract.conformity import compile_schema
from service_core.contract.standard import SCHEMA_FILE, odcs_schema

CONTRACTS = sorted(Path(__file__).parents[2].joinpath("contracts").glob("*.yaml"))
QUICK = compile_schema(odcs_schema())
OFFICIAL = Draft201909Validator(odcs_schema())


def test_the_schema_is_shipped_with_its_licence_and_origin() -> None:
    folder = files("service_core.contract.odcs")
    schema = json.loads((folder / SCHEMA_FILE).read_text("utf-8"))
    assert schema["title"] == "Open Data Contract Standard (ODCS)"
    assert "v3.1.0" in schema["properties"]["apiVersion"]["enum"]
    Draft201909Validator.check_schema(schema)
    assert "Apache License" in (folder / "LICENSE.md").read_text("utf-8")
    assert SCHEMA_FILE in (folder / "NOTICE.md").read_text("utf-8")


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_every_shipped_contract_is_valid_under_the_standard(path: Path) -> None:
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert [error.message for error in OFFICIAL.iter_errors(document)] == []
    assert QUICK(document)


RICH: dict[str, Any] = {
    **yaml.safe_load(PARCELS),
    "team": {"name": "desk", "members": [{"username": "a", "role": "owner"}]},
    "slaProperties": [{"property": "freshness", "value": 3, "unit": "h"}],
    "servers": [
        {"server": "lake", "type": "s3", "location": "s3://b/p"},
        {
            "server": "db",
            "type": "postgres",
            "host": "h",
            "port": 1,
            "database": "d",
            "schema": "s",
        },
    ],
    "support": [{"channel": "c", "url": "https://example.com"}],
    "roles": [{"role": "r"}],
    "tags": ["a"],
}
RICH["schema"][0]["properties"] += [
    {"name": "t", "logicalType": "timestamp", "logicalTypeOptions": {"timezone": True}},
    {"name": "o", "logicalType": "object", "properties": [{"name": "i", "logicalType": "integer"}]},
    {"name": "a", "logicalType": "array", "items": {"logicalType": "string"}},
    {"name": "r", "logicalType": "string", "relationships": [{"to": "other.column"}]},
]
PLACES = paths(RICH)[1:]
SMALL = st.sampled_from([None, True, 0, 1.0, 1.5, -1, "x", "string", "s3", [], ["a"], {}, {"a": 1}])
KEYS = st.sampled_from(
    ["name", "type", "metric", "query", "mustBe", "minimum", "pattern", "location", "from", "zzz"]
)


def test_the_rich_document_is_valid() -> None:
    assert OFFICIAL.is_valid(RICH)
    assert QUICK(RICH)


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(PLACES), st.sampled_from(["drop", "replace", "add"]), SMALL, KEYS)
def test_the_quick_check_judges_as_the_library_does(
    place: tuple[Any, ...], what: str, value: object, key: str
) -> None:
    document = copy.deepcopy(RICH)
    parent: Any = document
    for step in place[:-1]:
        parent = parent[step]
    if what == "drop":
        del parent[place[-1]]
    elif what == "replace":
        parent[place[-1]] = value
    elif isinstance(parent, dict):
        parent[key] = value
    assert QUICK(document) == OFFICIAL.is_valid(document)


def test_a_keyword_that_is_not_compiled_is_refused_and_not_skipped() -> None:
    with pytest.raises(ValueError, match="patternProperties"):
        compile_schema({"patternProperties": {"a": {}}})
