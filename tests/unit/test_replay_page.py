"""The page on replay manifests says what the models say, and its schema judges as they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from service_core.replay.request import ReplayRequest, RequestRejected, parse_request
from service_core.replay.request_page import request_page, request_schema

PAGE = Path(__file__).parents[2] / "docs" / "replay-manifest.md"


def test_the_page_on_replay_manifests_is_current() -> None:
    assert PAGE.read_text() == request_page(), (
        "run: python -m service_core.replay.request_page > docs/replay-manifest.md"
    )


def test_the_page_explains_every_key() -> None:
    for field in ReplayRequest.model_fields.values():
        assert f"| `{field.alias}` |" in request_page()


GOOD: dict[str, Any] = {"replayId": "a", "reason": "b", "dataset": "orders"}


@pytest.mark.parametrize(
    "body",
    [
        {**GOOD, "selector": {"state": "published"}},
        {**GOOD, "files": [{"bucket": "raw", "key": "orders/x", "versionId": "v"}]},
        {**GOOD, "selector": {"state": "lost"}},
        {**GOOD, "files": []},
        {**GOOD, "surplus": 1},
        {**GOOD, "selector": {"state": "published"}, "options": {"force": "yes"}},
        {"reason": "b", "dataset": "orders"},
    ],
)
def test_the_schema_on_the_page_accepts_what_is_accepted(body: dict[str, Any]) -> None:
    try:
        parse_request(json.dumps(body).encode())
        accepted = True
    except RequestRejected:
        accepted = False
    assert Draft202012Validator(request_schema()).is_valid(body) == accepted


def test_the_example_on_the_page_is_a_manifest() -> None:
    example = PAGE.read_text().split("```json\n", 1)[1].split("```", 1)[0]
    assert parse_request(example.encode()).replay_id == "tax-fix-2026-11"
