"""Replay manifests are read strictly, and everything that is wrong with one is told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_core.replay.request import (
    MAX_BYTES,
    MAX_FILES,
    ReplayRequest,
    RequestRejected,
    parse_request,
)

GOOD: dict[str, Any] = {
    "replayId": "good",
    "reason": "a test wants it",
    "dataset": "orders",
    "selector": {"state": "quarantined"},
}


def problems(body: bytes | dict[str, Any]) -> str:
    with pytest.raises(RequestRejected) as rejected:
        parse_request(body if isinstance(body, bytes) else json.dumps(body).encode())
    assert all(sentence.endswith(".") for sentence in rejected.value.problems)
    return " ".join(rejected.value.problems)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "The manifest"),
        (b"\x80", "not UTF-8"),
        (b"[1, 2]", "object"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "JSON"),
        (b'{"replayId": "a", "replayId": "b"}', "stands twice"),
        (b" " * (MAX_BYTES + 1), "bytes"),
        ({**GOOD, "surplus": 1}, "`surplus` is no key"),
        ({**GOOD, "replay_id": "a"}, "`replay_id` is no key"),
        ({**GOOD, "selector": {"states": "published"}}, "in `selector`"),
        ({**GOOD, "replayId": "../other"}, "replayId"),
        ({**GOOD, "replayId": "a/b"}, "replayId"),
        ({**GOOD, "replayId": "good\n"}, "replayId"),
        ({**GOOD, "replayId": "a" * 65}, "replayId"),
        ({**GOOD, "replayId": "open"}, "reserved"),
        ({**GOOD, "reason": "  "}, "blank"),
        ({**GOOD, "reason": "x" * 2_001}, "reason"),
        ({**GOOD, "dataset": "Orders"}, "dataset"),
        ({**GOOD, "selector": {}}, "selects by nothing"),
        ({**GOOD, "selector": {"state": None}}, "selects by nothing"),
        ({**GOOD, "selector": None}, "neither"),
        ({**GOOD, "files": [{"bucket": "b", "key": "k"}]}, "are both"),
        ({**GOOD, "files": []}, "files"),
        ({**GOOD, "selector": {"state": "lost"}}, "selector.state"),
        ({**GOOD, "selector": {"reasonCodes": ["WHY"]}}, "reasonCodes[0]"),
        ({**GOOD, "selector": {"partitions": {"from": "2026-11-21"}}}, "`selector.partitions.to`"),
        ({**GOOD, "options": {"force": "yes"}}, "options.force"),
        ({**GOOD, "options": {"force": 1}}, "options.force"),
        ({**GOOD, "options": {"force": True, "skipIfPublished": True}}, "choose one"),
    ],
)  # fmt: skip
def test_a_manifest_that_is_not_one_is_refused_in_sentences(
    body: bytes | dict[str, Any], said: str
) -> None:
    assert said in problems(body)


def test_as_many_files_as_are_allowed_fit_into_a_request_and_one_more_does_not() -> None:
    files = [{"bucket": "raw", "key": f"orders/{n}"} for n in range(MAX_FILES)]
    body = {name: value for name, value in GOOD.items() if name != "selector"}
    request = parse_request(json.dumps({**body, "files": files}).encode())
    assert request.files is not None and len(request.files) == MAX_FILES
    assert "10000" in problems({**body, "files": [*files, files[0]]}).replace(",", "")


def test_what_is_written_is_read_back_the_same() -> None:
    body = {
        **GOOD,
        "requestedBy": "somebody",
        "selector": {
            "partitions": {"from": "2026-11-01", "to": "2026-11-21"},
            "keyPrefix": "orders/",
            "reasonCodes": ["TYPE", "RANGE"],
            "contractVersion": "1.0.0",
            "state": "published",
            "batchId": "0" * 32,
        },
        "options": {"force": True, "contractVersion": "1.0.0"},
    }
    request = parse_request(json.dumps(body).encode())
    assert parse_request(request.to_json().encode()) == request
    assert parse_request(b"\xef\xbb\xbf" + request.to_json().encode()) == request
    assert json.loads(request.to_json())["selector"] == body["selector"]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([*ReplayRequest.model_json_schema()["properties"], "x"]), inner
        )
    ),
    max_leaves=8,
)


@given(_JSON | st.binary(max_size=60).map(lambda raw: raw))
def test_nothing_that_can_be_dropped_raises_anything_else(dropped: Any) -> None:
    body = dropped if isinstance(dropped, bytes) else json.dumps(dropped).encode()
    try:
        parse_request(body)
    except RequestRejected as rejected:
        assert rejected.problems
