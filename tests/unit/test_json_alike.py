"""Cutting lines by position gives what decoding them gives, whatever stands in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_core.contract.model import Contract, DriftPolicy, FileFormat
from service_core.validation import json_alike, json_rows
from service_core.validation.content import Content
from service_core.validation.json_rows import read_json
from service_core.validation.refusal import FileRefused, Tally
from tests.unit.validation_files import column, contract

AGREED = contract(
    "id",
    "name",
    column("city", source="$.address.city"),
    column("street", source="$.address.street"),
    kind=FileFormat.JSON_LINES,
    additive=DriftPolicy.KEEP_ASIDE,
)

_SCALARS = st.sampled_from(
    ["0", "-0", "1.10", "1e3", "1E+400", "01", "+1", ".5", "1.", "- 1", "nul", "null", "true",
     "false", "NaN", "Infinity", "9" * 350, '"', '""', '"a"', '"é"', '"\\n"', '"\\ud800"',
     '"a\x01"', '"null"', '"{"', '":"', '","', "{}", "[]", '["x"]', '{"x":1}', "", "1 2", "1,2"]
)  # fmt: skip
_VALUES = st.one_of(
    st.text(max_size=12).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.integers().map(str),
    _SCALARS,
)


@st.composite
def _documents(draw: st.DrawFn) -> str:
    """An object as one of a few producers writes it, now and then with a fault."""
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), (" ,", " :")]))
    pairs = [("id", draw(_VALUES)), ("name", draw(_VALUES))]
    if draw(st.integers(0, 3)):
        inner = comma.join(f'"{k}"{colon}{draw(_VALUES)}' for k in ("city", "street"))
        pairs.append(("address", f"{{{inner}}}"))
    odd = draw(st.integers(0, 12))
    if odd == 0:
        pairs.append((draw(st.sampled_from(["id", "new", "na\\u006de", ""])), draw(_VALUES)))
    elif odd == 1:
        pairs.reverse()
    text = "{" + comma.join(f'"{key}"{colon}{value}' for key, value in pairs) + "}"
    if odd == 2:
        at = draw(st.integers(0, len(text)))
        text = (
            text[:at] + draw(st.sampled_from(["", " ", "}", '"', ",", "\\", "\t"])) + text[at + 1 :]
        )
    return text + draw(st.sampled_from(["", "", "", "\r", " ", "\r\r"]))


def _told(agreed: Contract, body: bytes, scratch: Path) -> dict[str, Any]:
    tally = Tally(agreed)
    try:
        held = read_json(agreed, "1", Content(len(body), data=body), tally, scratch)
    except FileRefused as refused:
        return {"refused": refused.findings, "tally": tally.findings}
    told = {
        "rows": [r for t in held.rows.tables() for r in t.to_pylist()],
        "malformed": [r for t in held.malformed.tables() for r in t.to_pylist()],
        "read": held.rows_read,
        "drift": held.drift,
        "tally": tally.findings,
    }
    held.discard()
    return told


@settings(max_examples=300, deadline=None)
@given(
    lines=st.lists(
        st.one_of(_documents(), st.sampled_from(["", " ", "[1]", "x", "\ufeff{}"])), min_size=1
    ),
    repeat=st.integers(1, 4),
    ended=st.booleans(),
)
def test_a_file_reads_the_same_by_position_and_by_decoder(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], repeat: int, ended: bool
) -> None:
    body = ("\n".join(lines * repeat) + ("\n" if ended else "")).encode("utf-8", "replace")
    scratch = tmp_path_factory.getbasetemp()
    by_position = _told(AGREED, body, scratch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_alike, "_PATTERNS", 0)
        by_decoder = _told(AGREED, body, scratch)
    assert by_position == by_decoder


def test_lines_written_alike_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two producers, nested keys, numbers, nulls; one line in two hundred is for the decoder."""
    seen: list[bytes] = []
    decode = json_rows.decode_json

    def counted(text: bytes, *, careful: bool = False) -> Any:
        seen.append(text)
        return decode(text, careful=careful)

    monkeypatch.setattr(json_rows, "decode_json", counted)
    lines, expected = [], []
    for i in range(2_000):
        name: Any = ['say "hi"' if i % 200 == 0 else f"N{i}", i, None, True][i % 4]
        document = {"id": str(i), "name": name, "address": {"city": f"C{i}", "street": None}}
        lines.append(json.dumps(document, separators=(",", ":") if i % 3 else None))
        text = [name, str(i), None, "true"][i % 4]
        expected.append((str(i), text, f"C{i}", None, i + 1, i + 1))
    told = _told(AGREED, "\n".join(lines).encode(), tmp_path)
    found = [
        (
            *(row[n] for n in ("id", "name", "city", "street")),
            row["_source_row"],
            row["_source_line"],
        )
        for row in told["rows"]
    ]
    assert found == expected
    assert len(seen) == 10
