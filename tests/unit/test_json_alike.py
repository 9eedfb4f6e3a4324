"""Cutting lines by position gives what decoding them gives, whatever stands in them."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service_core.contract.model import Contract, DriftPolicy, FileFormat
from service_core.validation import json_alike, json_documents, json_rows
from service_core.validation.json_rows import read_json_lines
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
    return text + draw(st.sampled_from(["", "", "", "", "\r", " ", "\r\r", "}", "x"]))


@st.composite
def _files(draw: st.DrawFn) -> list[str]:
    """Documents, some of them again with one character changed: as long, and not the same."""
    others = st.sampled_from(["", " ", "[1]", "x", "\ufeff{}"])
    lines = draw(st.lists(st.one_of(_documents(), _documents(), others), min_size=1, max_size=8))
    lines *= draw(st.integers(1, 4))
    for line in draw(st.lists(st.sampled_from(lines), max_size=4)):
        if line:
            at = draw(st.integers(0, len(line) - 1))
            changed = draw(st.sampled_from(list('"x0,:}{ \\\t\0é')))
            lines.append(line[:at] + changed + line[at + 1 :])
    return lines


def _told(agreed: Contract, chunks: list[bytes], scratch: Path) -> dict[str, Any]:
    tally = Tally(agreed)
    try:
        held = read_json_lines(agreed, "1", chunks, tally, scratch)
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


@settings(max_examples=400, deadline=None)
@given(lines=_files(), ended=st.booleans(), size=st.sampled_from([9, 60, 250, 1_000, 1 << 20]))
def test_a_file_reads_the_same_by_position_and_by_decoder(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], ended: bool, size: int
) -> None:
    """In blocks of any size, because what one of them teaches is used on the next."""
    body = ("\n".join(lines) + ("\n" if ended else "")).encode("utf-8", "replace")
    chunks = [body[at : at + size] for at in range(0, len(body), size)]
    scratch = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_documents, "_BLOCK", 1)
        by_position = _told(AGREED, chunks, scratch)
        patch.setattr(json_alike, "_PATTERNS", 0)
        assert by_position == _told(AGREED, [body], scratch)


def test_texts_of_one_length_are_believed_only_where_no_line_differs(tmp_path: Path) -> None:
    """The second block is looked at with what the first has taught: ids of two characters. In it
    are a longer one, a null, and a quote where a character was."""
    first = b"".join(b'{"id":"%02d","name":"n"}\n' % n for n in range(50))
    lines = [b'{"id":"%02d","name":"n"}\n' % n for n in range(50, 100)]
    lines[7] = b'{"id":"1234","name":"n"}\n'
    lines[9] = b'{"id":null,"name":"n"}\n'
    lines[11] = b'{"id":"1"","name":"n"}\n'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_documents, "_BLOCK", 1)
        told = _told(AGREED, [first, b"".join(lines), first], tmp_path)
    ids: list[str | None] = [f"{n:02d}" for n in range(100)] + [f"{n:02d}" for n in range(50)]
    ids[57], ids[59] = "1234", None
    del ids[61]
    assert [row["id"] for row in told["rows"]] == ids
    assert [row["_source_line"] for row in told["malformed"]] == [62]


@pytest.mark.parametrize("number", ["0", "-0", "12", "-1.5", "1.10", "1e3", "1E+05", "0.0e-9"])
def test_a_number_is_kept_as_it_was_written(number: str, tmp_path: Path) -> None:
    line = '{"id":"1","name":%s}\n'
    told = _told(AGREED, [(line % number * 3).encode()], tmp_path)
    assert [row["name"] for row in told["rows"]] == [number] * 3


@pytest.mark.parametrize("other", ["01", "+1", "1.", ".5", "1e", "1e+", "--1", "1-", "0x1", "1 2"])
def test_what_is_no_number_is_malformed(other: str, tmp_path: Path) -> None:
    good, bad = '{"id":"1","name":12}\n', f'{{"id":"1","name":{other}}}\n'
    told = _told(AGREED, [(good * 3 + bad).encode()], tmp_path)
    assert (len(told["rows"]), len(told["malformed"])) == (3, 1)


def test_a_short_line_is_not_compared_with_a_long_one(tmp_path: Path) -> None:
    """What lines are compared with is copied for each of them: 30,000 times 4 KB is 120 MB."""
    keys = {f"k{n}": "x" * 60 for n in range(60)}
    agreed = contract(*keys, kind=FileFormat.JSON_LINES)
    long = json.dumps(keys, separators=(",", ":")) + "\n"
    short = '{"k0":1}\n' * 30_000
    tracemalloc.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_documents, "_BLOCK", 1)
            chunks = [(long * 3).encode(), (long + short).encode()]
            held = read_json_lines(agreed, "1", chunks, Tally(agreed), tmp_path)
        assert held.rows_read == 30_004
        assert tracemalloc.get_traced_memory()[1] < 60_000_000
    finally:
        tracemalloc.stop()


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
    told = _told(AGREED, ["\n".join(lines).encode()], tmp_path)
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
