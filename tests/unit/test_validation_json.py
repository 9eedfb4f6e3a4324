"""JSON: every value spelled as it was sent, nothing silently lost, each fault on its own line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_core.contract.model import Contract, DriftPolicy, FileFormat, LogicalType
from service_core.validation import json_documents
from service_core.validation.content import Content
from service_core.validation.json_rows import read_json_array, read_json_lines
from service_core.validation.json_values import (
    JsonMalformedError,
    decode_json,
    encode_json,
    suspicious,
)
from service_core.validation.record import Finding
from service_core.validation.refusal import FileRefused, Tally
from tests.unit.validation_files import column, contract, values

LINES, ARRAY = FileFormat.JSON_LINES, FileFormat.JSON_ARRAY


class Read:
    """What reading one document gave."""

    def __init__(self, agreed: Contract, body: bytes, scratch: Path) -> None:
        tally = Tally(agreed)
        if agreed.format.type is ARRAY:
            content = Content(len(body), data=body)
            held = read_json_array(agreed, "1", content, tally, scratch)
        else:
            held = read_json_lines(agreed, "1", [body], tally, scratch)
        self.rows: list[dict[str, Any]] = [r for t in held.rows.tables() for r in t.to_pylist()]
        self.malformed = [r for t in held.malformed.tables() for r in t.to_pylist()]
        self.rows_read = held.rows_read
        self.findings: tuple[Finding, ...] = tally.findings
        self.drift = held.drift
        held.discard()


@pytest.fixture
def read(tmp_path: Path) -> Any:
    return lambda agreed, body: Read(agreed, body, tmp_path)


def addresses(**drift: Any) -> Contract:
    return contract(
        "id",
        column("city", source="$.address.city"),
        column("key", source="$['odd key']"),
        column("first", source="$.items[0]"),
        column("meta", type=LogicalType.JSON),
        kind=LINES,
        **drift,
    )


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        ("1.10", "1.10"), ("1e3", "1e3"), ("-0", "-0"), ("-0.0", "-0.0"), ("1E+400", "1E+400"),
        ("12345678901234567890.123456789012345678", "12345678901234567890.123456789012345678"),
        ("9" * 30, "9" * 30), ("9" * 5000, "9" * 5000), ("true", "true"), ("false", "false"),
        ("null", None), ('""', ""), ('"1.10"', "1.10"), ('"\\u00e9\\n\\""', 'é\n"'),
        ('"\\ud83d\\ude00"', "\U0001f600"), ('"a\\":b"', 'a":b'), ('"-0"', "-0"),
        ('"\\u0000"', "\0"),
    ],
)  # fmt: skip
def test_a_value_is_spelled_as_it_was_sent(read: Any, sent: str, text: str | None) -> None:
    found = read(contract("a", kind=LINES), f'{{"a":{sent}}}\n{{"a" : {sent} }}'.encode())
    assert values(found.rows) == [[text], [text]]


@pytest.mark.parametrize(
    "line",
    [
        b"{bad", b'{"a":1', b'{"a":1}}', b'{"a":NaN}', b'{"a":Infinity}', b'{"a":01}', b"{'a':1}",
        b'{"a":"\\ud800"}', b'{"\\udc00":1}', b'{"a":1,"a":2}', b'{"a":1, "a" : 2}',
        b'{"b":{"x":1,"x":1}}', b'{"a":"x\x01"}', b'{"a":"\x00"}', b'{"a":1,}', b"nul",
        b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}", b"[" * 100_000,
        b'{"a":' + b"9" * 5000 + b',"b":"\\ud800"}',
    ],
)  # fmt: skip
def test_a_malformed_line_costs_itself_alone(read: Any, line: bytes) -> None:
    found = read(contract("a", kind=LINES), b'{"a":1}\n' + line + b'\n{"a":3}\n')
    assert [(r["a"], r["_source_row"], r["_source_line"]) for r in found.rows] == [
        ("1", 1, 1),
        ("3", 3, 3),
    ]
    (malformed,) = found.malformed
    assert (malformed["code"], malformed["_source_line"], malformed["_source_row"]) == (
        "JSON_MALFORMED",
        2,
        2,
    )
    assert malformed["_raw"] == line.decode()
    assert found.rows_read == 3


def test_the_place_of_a_fault_is_named_by_line_and_character(read: Any) -> None:
    found = read(contract("a", kind=LINES), '{"a":1}\n\n{"a":"éé", x}\n'.encode())
    (finding,) = found.findings
    assert finding.line == 3
    assert finding.message.startswith("line 3, character 12: ")


@pytest.mark.parametrize("line", [b"[1]", b"1", b'"x"', b"null", b"true"])
def test_a_line_that_is_no_object_is_refused_as_a_row(read: Any, line: bytes) -> None:
    found = read(contract("a", kind=LINES), b'{"a":1}\n' + line)
    assert [m["code"] for m in found.malformed] == ["JSON_NOT_OBJECT"]
    assert len(found.rows) == 1


def test_blank_lines_are_no_rows_and_line_ends_do_not_matter(read: Any) -> None:
    found = read(contract("a", kind=LINES), b'\n  \r\n{"a":1}\r\n\n{"a":2}')
    assert [r["_source_line"] for r in found.rows] == [3, 5]
    assert [r["_source_row"] for r in found.rows] == [1, 2]


@pytest.mark.parametrize(("body", "kind"), [
    (b"\n \n", LINES), (b"\t", LINES), (b"[]", ARRAY), (b" [ \n ] ", ARRAY), (b" ", ARRAY),
])  # fmt: skip
def test_a_file_without_a_row_is_empty(read: Any, body: bytes, kind: FileFormat) -> None:
    with pytest.raises(FileRefused) as caught:
        read(contract("a", kind=kind), body)
    assert [f.code.value for f in caught.value.findings] == ["EMPTY"]


def test_nested_values_are_found_by_their_paths(read: Any) -> None:
    body = (
        b'{"id":1,"address":{"city":"X"},"odd key":2.50,"items":["f"],'
        b'"meta":{"b":[1,2.50,{"c":null}],"a":"\\u00e9"}}'
    )
    found = read(addresses(), body)
    assert values(found.rows) == [["1", "X", "2.50", "f", '{"b":[1,2.50,{"c":null}],"a":"é"}']]
    assert found.rows[0]["_extra"] is None
    assert found.drift == ()


def test_a_null_on_the_way_is_a_null(read: Any) -> None:
    found = read(addresses(), b'{"id":1,"address":null,"items":null,"meta":null}')
    assert values(found.rows) == [["1", None, None, None, None]]
    assert found.malformed == []


NESTED = [
    b'{"id":1,"address":"X, Y"}', b'{"id":1,"address":["X"]}', b'{"id":1,"address":7}',
    b'{"id":1,"address":{"city":{"name":"X"}}}', b'{"id":1,"address":{"city":["X"]}}',
    b'{"id":{"a":1}}', b'{"id":[1]}', b'{"id":1,"items":"f"}', b'{"id":1,"items":[{"a":1}]}',
]  # fmt: skip


@pytest.mark.parametrize("line", NESTED)
def test_another_shape_goes_where_the_contract_says(read: Any, line: bytes) -> None:
    good = b'{"id":"0"}\n'
    rows = read(addresses(nested_shape=DriftPolicy.QUARANTINE_ROWS), good + line)
    assert [(m["code"], m["_source_line"], m["_raw"]) for m in rows.malformed] == [
        ("NESTED_SHAPE", 2, line.decode())
    ]
    assert [r["id"] for r in rows.rows] == ["0"]
    aside = read(addresses(nested_shape=DriftPolicy.KEEP_ASIDE), good + line)
    assert aside.malformed == []
    assert aside.rows[1]["_extra"] is not None
    dropped = read(addresses(nested_shape=DriftPolicy.ALLOW), good + line)
    assert dropped.rows[1]["_extra"] is None
    with pytest.raises(FileRefused) as caught:
        read(addresses(nested_shape=DriftPolicy.QUARANTINE_FILE), good + line)
    assert caught.value.findings[0].code.value == "NESTED_SHAPE"
    for found in (rows, aside, dropped, caught.value):
        assert [d.kind.value for d in found.drift] == ["nested_shape"]


def test_an_unexpected_key_goes_where_the_contract_says_at_any_depth(read: Any) -> None:
    good = b'{"id":"0"}\n'
    line = b'{"id":1,"address":{"city":"X","floor":3.0},"new":{"a":[1.50]}}'
    aside = read(addresses(additive=DriftPolicy.KEEP_ASIDE), good + line)
    assert aside.rows[1]["_extra"] == '{"address":{"floor":3.0},"new":{"a":[1.50]}}'
    assert [(d.column, d.rows) for d in aside.drift] == [("address.floor", 1), ("new", 1)]
    dropped = read(addresses(additive=DriftPolicy.ALLOW), good + line)
    assert dropped.rows[1]["_extra"] is None
    assert values(dropped.rows) == values(aside.rows)
    rows = read(addresses(additive=DriftPolicy.QUARANTINE_ROWS), good + line)
    assert [(m["code"], m["column"]) for m in rows.malformed] == [
        ("COLUMN_UNEXPECTED", "address.floor")
    ]
    assert len(rows.rows) == 1
    with pytest.raises(FileRefused) as caught:
        read(addresses(additive=DriftPolicy.QUARANTINE_FILE), good + line)
    assert {f.code.value for f in caught.value.findings} == {"COLUMN_UNEXPECTED"}


def test_a_key_that_no_row_has_is_missing_where_its_column_is_required(read: Any) -> None:
    agreed = contract("a", column("must", required=True), "may", kind=LINES)
    with pytest.raises(FileRefused) as caught:
        read(agreed, b'{"a":1}\n{"a":2}\n')
    assert [(f.code.value, f.column) for f in caught.value.findings] == [("COLUMN_MISSING", "must")]
    present = read(agreed, b'{"a":1,"must":null}\n{"a":2}\n')
    assert present.drift == ()
    assert len(present.rows) == 2


def test_a_missing_column_whose_rows_are_to_go_is_left_to_the_rules(read: Any) -> None:
    agreed = contract(
        "a", column("must", required=True), kind=LINES, missing=DriftPolicy.QUARANTINE_ROWS
    )
    found = read(agreed, b'{"a":1}\n')
    assert values(found.rows) == [["1", None]]
    assert [d.kind.value for d in found.drift] == ["missing"]


def test_a_new_key_much_like_a_missing_one_is_a_new_name(read: Any) -> None:
    with pytest.raises(FileRefused) as caught:
        read(contract("a", "phone", kind=LINES), b'{"a":1,"phone_no":"2"}\n')
    (finding,) = caught.value.findings
    assert (finding.code.value, finding.column) == ("COLUMN_RENAMED", "phone")
    assert "'phone_no'" in finding.message


def test_raw_text_is_masked_where_any_column_is_personal(read: Any) -> None:
    agreed = contract("a", column("name", classification="personal"), kind=LINES)
    found = read(agreed, b'{"a":1,"name":"Ada"}\n{"a":1,"name":"Ada Ex\n')
    (finding,) = found.findings
    assert finding.sample == "***"
    assert "Ada" not in finding.message
    assert found.malformed[0]["_raw"] == '{"a":1,"name":"Ada Ex'


def test_a_file_with_a_new_key_in_every_row_stays_bounded(read: Any) -> None:
    body = b"".join(b'{"a":1,"k%d":1}\n' % i for i in range(2000))
    found = read(contract("a", kind=LINES), body)
    assert len(found.rows) == 2000
    assert len(found.drift) == 100
    assert all(json.loads(r["_extra"]) for r in found.rows)


# --- Arrays --------------------------------------------------------------------------------------


def test_an_array_gives_its_elements_with_their_lines(read: Any) -> None:
    body = b' [\n {"a": "[,]{}\\"" },\n\n  {"a":2.0}, 7,\n{"a":{"b":[1,2]}}\n]\n'
    found = read(contract("a", kind=ARRAY), body)
    assert [(r["a"], r["_source_row"], r["_source_line"]) for r in found.rows] == [
        ('[,]{}"', 1, 2),
        ("2.0", 2, 4),
    ]
    assert sorted((m["code"], m["_source_line"]) for m in found.malformed) == [
        ("JSON_NOT_OBJECT", 4),
        ("NESTED_SHAPE", 5),
    ]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'[{"a":1},\n{"a":}]', 2), (b'[{"a":1},\n{"a":2}', 2), (b'[{"a":1}\n,]', 2),
        (b'[{"a":1},,{"a":2}]', 1), (b'{"a":1}', 1), (b"x", 1), (b'[{"a":1}]\n\nx', 3),
        (b'[{"a":1]}', 1), (b'[{"a":"unclosed}\n]', 2), (b"[1 2]", 1), (b"[,]", 1),
        (b'x [{"a":1}]', 1), (b'[{"a":1}][', 1), (b'"', 1), (b'\n["', 2),
        (b'[{\n"a":\n\n!}]', 4),
    ],
)  # fmt: skip
def test_a_broken_array_is_refused_whole_with_its_line(read: Any, body: bytes, line: int) -> None:
    with pytest.raises(FileRefused) as caught:
        read(contract("a", kind=ARRAY), body)
    (finding,) = caught.value.findings
    assert (finding.code.value, finding.line) == ("JSON_MALFORMED", line)


@given(st.integers(1, 30), st.binary(max_size=60))
def test_an_array_is_framed_alike_whatever_the_blocks(block: int, noise: bytes) -> None:
    body = b'[{"a":"[\\"],\\\\","b":[1,{"c":"}"}]} ,\n{"a":2},3]'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_documents, "_BLOCK", block)
        elements = list(json_documents.array_elements(Content(len(body), data=body)))
        assert [(line, json.loads(text)) for line, text, _ in elements] == [
            (1, {"a": '["],\\', "b": [1, {"c": "}"}]}),
            (2, {"a": 2}),
            (2, 3),
        ]
        try:
            list(json_documents.array_elements(Content(len(noise), data=noise)))
        except FileRefused as refused:
            assert refused.findings


# --- Values --------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=5), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON, st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
def test_decoding_and_encoding_change_nothing(
    value: Any, ascii_only: bool, separators: tuple[str, str]
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, separators=separators).encode()
    found = decode_json(text, careful=suspicious(text))
    plain = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert encode_json(found) == plain


@given(st.binary(max_size=40) | st.text(st.sampled_from('{}[]":,-0.1eE nulltrue\\ud8'), max_size=40)
       .map(str.encode))  # fmt: skip
@settings(max_examples=400)
def test_what_is_accepted_is_json_and_nothing_raises_but_malformed(text: bytes) -> None:
    try:
        text.decode()
    except UnicodeDecodeError:
        return
    try:
        value = decode_json(text, careful=suspicious(text))
    except JsonMalformedError as error:
        assert error.message
        return
    assert json.loads(encode_json(value)) == json.loads(text)


def test_a_key_that_stands_twice_is_seen_however_it_is_written() -> None:
    for text in (b'{"a":1,"a":1}', b'{"a":1,"\\u0061":1}', b'{"x":"\\":","a":1,"a" :1}',
                 b'[{"b":{"a":{},"a":{}}}]'):  # fmt: skip
        with pytest.raises(JsonMalformedError, match="twice"):
            decode_json(text, careful=suspicious(text))


def test_rows_beyond_memory_go_through_scratch_and_leave_nothing(
    read: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_core.validation.parts._IN_MEMORY", 10_000)
    monkeypatch.setattr("service_core.validation.json_rows._ROWS", 100)
    body = b"".join(b'{"a":"%d"}\n' % i for i in range(5000))
    found = read(contract("a", kind=LINES), body)
    assert [r["a"] for r in found.rows] == [str(i) for i in range(5000)]
    with pytest.raises(FileRefused):
        read(contract("a", kind=LINES, additive=DriftPolicy.QUARANTINE_FILE), body + b'{"z":1}')
    assert list(tmp_path.iterdir()) == []
