"""Delimited text: every cell exactly as sent, every record counted, each fault on its own line."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service_core.contract.model import Dialect, DriftPolicy, FileFormat
from service_core.validation import csv_rows, encoding, header
from service_core.validation.content import Content
from service_core.validation.header import Head, Heads, read_head
from service_core.validation.records import Grammar
from service_core.validation.refusal import FileRefused
from tests.unit.validation_files import column, contract, read_delimited, values

HEADER = b"a,b,c\n"


def faults(malformed: list[dict[str, Any]]) -> list[tuple[str, int, int, str]]:
    found = [(m["code"], m["_source_line"], m["_source_row"], m["_raw"]) for m in malformed]
    return sorted(found, key=lambda fault: fault[1])


def refusal(body: bytes, **what: Any) -> FileRefused:
    with pytest.raises(FileRefused) as caught:
        read_delimited(what.pop("agreed", None) or contract(**what), body)
    return caught.value


# --- Cells and records ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "cells"),
    [
        (b"1,2,3\n", [["1", "2", "3"]]),
        (b"1,2,3", [["1", "2", "3"]]),
        (b"1,2,3\r\n4,5,6\n7,8,9\r\n", [["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"]]),
        (b"1,2,3\r4,5,6\r", [["1", "2", "3"], ["4", "5", "6"]]),
        (b'"",,"x"\n', [["", "", "x"]]),
        (b'"a""b","c,d","e\nf\r\ng"\n', [['a"b', "c,d", "e\nf\r\ng"]]),
        (b'"""","""""","a"""\n', [['"', '""', 'a"']]),
        (b" 1 ,\t2,NULL\n", [[" 1 ", "\t2", "NULL"]]),
        (b"\n\n1,2,3\n\n\r\n4,5,6\n\n", [["1", "2", "3"], ["4", "5", "6"]]),
        ("é,日本,\U0001f600\n".encode(), [["é", "日本", "\U0001f600"]]),
        ("\ufeffx,2,3\n".encode(), [["\ufeffx", "2", "3"]]),
        (b'"1","2","3\n4,5,6"\n', [["1", "2", "3\n4,5,6"]]),
    ],
)
def test_cells_are_exactly_what_was_sent(body: bytes, cells: list[list[str]]) -> None:
    rows, malformed, counts = read_delimited(contract(), HEADER + body)
    assert values(rows) == cells
    assert malformed == []
    assert counts == [len(cells)]


def test_rows_know_their_ordinal_and_the_line_they_begin_on() -> None:
    body = b'1,2,3\n\n"x\ny","z\r\n\r\n",3\nshort\n4,5,6\n'
    rows, malformed, _ = read_delimited(contract(), HEADER + body)
    assert [(r["_source_row"], r["_source_line"]) for r in rows] == [(1, 2), (2, 4), (4, 9)]
    assert faults(malformed) == [("ROW_TOO_SHORT", 8, 3, "short")]


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
def test_lines_are_counted_alike_whatever_ends_them(line_end: bytes) -> None:
    body = HEADER + b'1,2,3\n"x\ny",2,3\nshort\n4,5,"6\n"\n\n7,8,9\n'
    rows, malformed, _ = read_delimited(contract(), body.replace(b"\n", line_end))
    assert [r["_source_line"] for r in rows] == [2, 3, 6, 9]
    assert faults(malformed)[0][1] == 5


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"1,2", "ROW_TOO_SHORT"),
        (b"1", "ROW_TOO_SHORT"),
        (b"   ", "ROW_TOO_SHORT"),
        (b"1,2,3,4", "ROW_TOO_LONG"),
        (b"1,2,3,", "ROW_TOO_LONG"),
        (b'"1"x,2,3', "QUOTE_MISPLACED"),
        (b'1,x"y,3', "QUOTE_MISPLACED"),
        (b'1,2,3"', "QUOTE_MISPLACED"),
        (b'1, "2",3', "QUOTE_MISPLACED"),
        (b'1,2,"3', "QUOTE_UNCLOSED"),
        (b'"1,2,3', "QUOTE_UNCLOSED"),
    ],
)
def test_a_malformed_row_costs_itself_alone(line: bytes, code: str) -> None:
    rows, malformed, counts = read_delimited(
        contract(), HEADER + b"1,2,3\n" + line + b"\n4,5,6\n" + b'"7","8","9"\n'
    )
    assert values(rows) == [["1", "2", "3"], ["4", "5", "6"], ["7", "8", "9"]]
    assert faults(malformed) == [(code, 3, 2, line.decode())]
    assert counts == [4]


def test_many_malformed_rows_of_all_kinds_are_each_named_once() -> None:
    bad = [b"1", b"1,2,3,4", b'x"y,2,3', b'1,"2,3']
    lines = [bad[i // 3 % 4] if i % 3 == 0 else b"%d,b,c" % i for i in range(600)]
    rows, malformed, counts = read_delimited(contract(), HEADER + b"\n".join(lines))
    assert counts == [600]
    assert len(malformed) == 200
    assert len(rows) == 400
    assert sorted([r["_source_row"] for r in rows] + [m["_source_row"] for m in malformed]) == list(
        range(1, 601)
    )
    assert all(int(r["a"]) == r["_source_row"] - 1 == r["_source_line"] - 2 for r in rows)


def test_a_file_of_malformed_rows_alone_is_read_to_its_end() -> None:
    rows, malformed, counts = read_delimited(contract(), HEADER + b"1\n2\n3,4,5,6\n")
    assert rows == []
    assert len(malformed) == counts[0] == 3


def test_files_read_together_keep_their_rows_apart() -> None:
    bodies = [HEADER + b"%d,x,y\n" % i * (i + 1) for i in range(40)]
    bodies[7] = HEADER + b'1,"x\n2,3,4\n'
    bodies[11] = b"c,b,a\n3,2,1\n"
    rows, malformed, counts = read_delimited(contract(), *bodies)
    assert [m["_source_object_id"] for m in malformed] == ["7"]
    assert [r["_source_object_id"] for r in rows] == [
        str(i) for i in range(40) for _ in range(1 if i in (7, 11) else i + 1)
    ]
    assert values([r for r in rows if r["_source_object_id"] == "11"]) == [["1", "2", "3"]]
    assert counts[5] == 6


@pytest.mark.parametrize("between", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
@pytest.mark.parametrize("end", ["", "\n"])
def test_a_cell_may_run_over_lines_wherever_its_record_stands(
    between: str, place: str, end: str
) -> None:
    """The parser is told of it only where that is so, because looking for it is dear."""
    lines = {name: f"{name},b,c" for name in ("first", "middle", "last")}
    lines[place] = f'"{place}{between}",b,c'
    rows, malformed, _ = read_delimited(
        contract(), HEADER + ("\n".join(lines.values()) + end).encode()
    )
    assert not malformed
    wanted = [name + between if name == place else name for name in lines]
    assert [row["a"] for row in rows] == wanted


def test_a_record_may_be_longer_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_rows, "_BLOCK", 64)
    long = "x\n," * 500
    out = io.StringIO()
    csv.writer(out).writerows([["a", "b", "c"], ["1", long, "3"], ["4", "5", "6"]])
    rows, malformed, _ = read_delimited(contract(), out.getvalue().encode())
    assert values(rows) == [["1", long, "3"], ["4", "5", "6"]]
    assert malformed == []


def test_an_unclosed_quote_does_not_keep_the_whole_file_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(csv_rows, "_BLOCK", 64)
    monkeypatch.setattr("service_core.validation.records.RECORD_LIMIT", 256)
    body = HEADER + b'1,"2,3\n' + b"4,5,6\n" * 500
    rows, malformed, counts = read_delimited(contract(), body)
    assert counts == [501]
    assert len(rows) == 500
    assert faults(malformed) == [("QUOTE_UNCLOSED", 2, 1, '1,"2,3')]


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=9),
                 min_size=3, max_size=3),
        min_size=1, max_size=20,
    ),
    # Python 3.11 quotes only those line ends that its own rows end in.
    st.sampled_from([
        ("\r\n", csv.QUOTE_MINIMAL), ("\n", csv.QUOTE_ALL), ("\r\n", csv.QUOTE_ALL),
        ("\r", csv.QUOTE_ALL),
    ]),
    st.sampled_from([",", ";", "\t"]),
)  # fmt: skip
@example([["\ufeff", "", ""]], ("\r\n", csv.QUOTE_MINIMAL), ",")
@settings(deadline=None)
def test_what_a_csv_writer_wrote_is_read_back_exactly(
    table: list[list[str]], style: tuple[str, Any], delimiter: str
) -> None:
    out = io.StringIO(newline="")
    line_end, quoting = style
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_end, quoting=quoting)
    writer.writerow(["a", "b", "c"])
    writer.writerows(table)
    agreed = contract(dialect=Dialect(delimiter=delimiter))
    rows, malformed, counts = read_delimited(agreed, out.getvalue().encode())
    assert values(rows) == table
    assert malformed == []
    assert counts == [len(table)]


TEXT = st.text(st.sampled_from('ab",;\n\r \\é'), max_size=60)


@given(TEXT, st.integers(1, 40))
@settings(deadline=None, max_examples=300)
def test_any_text_is_read_and_its_records_are_conserved(body: str, block: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_rows, "_BLOCK", block)
        outcomes = []
        for agreed in (contract(), contract(dialect=Dialect(escape="\\"))):
            try:
                rows, malformed, counts = read_delimited(agreed, HEADER + body.encode())
            except FileRefused as refused:
                assert refused.findings
                continue
            ordinals = [r["_source_row"] for r in rows] + [m["_source_row"] for m in malformed]
            assert sorted(ordinals) == list(range(1, counts[0] + 1))
            outcomes.append(counts)
        patch.setattr(csv_rows, "_BLOCK", 1 << 20)
        if outcomes and '"' not in body:
            assert read_delimited(contract(), HEADER + body.encode())[2] == outcomes[0]


@given(TEXT)
@settings(deadline=None, max_examples=300)
def test_reading_all_at_once_and_record_by_record_agree(body: str) -> None:
    grammar = Grammar(Dialect())
    text = body.encode()
    fast = grammar._vectorised(text, final=True)
    slow = grammar._one_by_one(text, final=True)
    assert (fast is None) == bool(slow.faults)
    if fast is not None:
        for name in ("starts", "ends", "lines"):
            assert getattr(fast, name).tolist() == getattr(slow, name).tolist()
        assert fast.lines_consumed == slow.lines_consumed
        assert grammar.widths(text, fast).tolist() == [
            len(grammar.cells(text[s:e]))
            for s, e in zip(fast.starts.tolist(), fast.ends.tolist(), strict=True)
        ]


def test_an_escape_other_than_the_quote_is_honoured() -> None:
    agreed = contract(dialect=Dialect(escape="\\"))
    rows, malformed, _ = read_delimited(agreed, HEADER + b'"a\\"b","c\\\\","d\n"\n1,2\n')
    assert values(rows) == [['a"b', "c\\", "d\n"]]
    assert faults(malformed) == [("ROW_TOO_SHORT", 4, 2, "1,2")]


def test_tab_separated_files_need_no_dialect() -> None:
    rows, _, _ = read_delimited(contract(kind=FileFormat.TSV), b"a\tb\tc\n1\t2,3\t4\n")
    assert values(rows) == [["1", "2,3", "4"]]


# --- The header ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "code", "column"),
    [
        (b"a,c", "COLUMN_MISSING", "b"),
        (b"a;b;c", "DELIMITER", None),
        (b"a\tb\tc", "DELIMITER", None),
        (b"a,b,c,a", "HEADER_DUPLICATE", "a"),
        (b"7,8,9", "HEADER_MISSING", None),
        (b'a,b,"c', "QUOTE_UNCLOSED", None),
        (b'a,b"b,c', "QUOTE_MISPLACED", None),
        (b"A,b,c", "COLUMN_RENAMED", "a"),
        (b" a,b,c", "COLUMN_RENAMED", "a"),
    ],
)
def test_a_header_at_fault_refuses_the_file(head: bytes, code: str, column: str | None) -> None:
    refused = refusal(head + b"\n1,2,3\n")
    finding = refused.findings[0]
    assert (finding.code.value, finding.line, finding.column) == (code, 1, column)


@pytest.mark.parametrize("body", [b"a,b,c\n", b"a,b,c", b"a,b,c\n\n\r\n\n", b"\n\n", b"\r\n"])
def test_a_file_without_a_row_is_empty(body: bytes) -> None:
    assert [f.code.value for f in refusal(body).findings] == ["EMPTY"]


def test_columns_in_another_order_go_where_they_belong() -> None:
    rows, _, _ = read_delimited(contract(), b"c,a,b\n3,1,2\n")
    assert values(rows) == [["1", "2", "3"]]
    refused = refusal(b"c,a,b\n3,1,2\n", order=DriftPolicy.QUARANTINE_FILE)
    assert refused.findings[0].code.value == "COLUMN_ORDER"


def test_an_unexpected_column_is_kept_aside_dropped_or_refused_as_the_contract_says() -> None:
    body = b'a,x y,b,c\n1,"9""",2,3\n'
    kept, _, _ = read_delimited(contract(additive=DriftPolicy.KEEP_ASIDE), body)
    dropped, _, _ = read_delimited(contract(additive=DriftPolicy.ALLOW), body)
    assert values(kept) == values(dropped) == [["1", "2", "3"]]
    assert kept[0]["_extra"] == '{"x y":"9\\""}'
    assert dropped[0]["_extra"] is None
    for policy in (DriftPolicy.QUARANTINE_ROWS, DriftPolicy.QUARANTINE_FILE):
        refused = refusal(body, additive=policy)
        assert [(f.code.value, f.column) for f in refused.findings] == [
            ("COLUMN_UNEXPECTED", "x y")
        ]


def test_a_missing_column_that_is_allowed_is_null() -> None:
    rows, _, _ = read_delimited(contract(missing=DriftPolicy.ALLOW), b"a,c\n1,3\n")
    assert values(rows) == [["1", None, "3"]]


def test_a_renamed_column_that_is_allowed_is_null_and_its_values_are_kept_aside() -> None:
    agreed = contract("amount", "b", renamed=DriftPolicy.ALLOW)
    rows, _, _ = read_delimited(agreed, b"amounts,b\n1,2\n")
    assert values(rows) == [[None, "2"]]
    assert rows[0]["_extra"] == '{"amounts":"1"}'


def test_all_that_is_wrong_with_a_header_is_told_at_once() -> None:
    agreed = contract("amount", "b", "note", additive=DriftPolicy.QUARANTINE_FILE)
    refused = refusal(b"amounts,b,zzz\n1,2,3\n", agreed=agreed)
    assert [f.code.value for f in refused.findings] == [
        "COLUMN_MISSING",
        "COLUMN_RENAMED",
        "COLUMN_UNEXPECTED",
    ]
    assert "'amounts'" in refused.findings[1].message


def test_a_column_comes_from_its_source_name() -> None:
    agreed = contract(column("a", source="Artikel Nr."), "b")
    rows, _, _ = read_delimited(agreed, b"b,Artikel Nr.\n2,1\n")
    assert values(rows) == [["1", "2"]]


def test_without_a_header_the_contracts_order_rules() -> None:
    agreed = contract(dialect=Dialect(header=False))
    rows, malformed, _ = read_delimited(agreed, b"1,2,3\n4,5\n")
    assert values(rows) == [["1", "2", "3"]]
    assert faults(malformed) == [("ROW_TOO_SHORT", 2, 2, "4,5")]
    assert refusal(b"1;2;3\n", agreed=agreed).findings[0].code.value == "DELIMITER"


def test_a_first_line_of_personal_data_is_not_shown() -> None:
    agreed = contract(column("name", classification="personal"), "b", "c")
    refused = refusal(b"Ada Example,7,8\nBo,1,2\n", agreed=agreed)
    assert refused.findings[0].code.value == "HEADER_MISSING"
    assert "Ada" not in str(refused.findings)


def test_a_header_longer_than_the_first_look_is_read() -> None:
    names = [f"column_{i:05d}" for i in range(8000)]
    body = (",".join(names) + "\n" + ",".join("x" for _ in names) + "\n").encode()
    assert len(body) > 64 * 1024
    rows, _, _ = read_delimited(contract(*names), body)
    assert len(rows) == 1


def test_a_file_without_line_ends_is_refused_before_it_fills_memory() -> None:
    agreed = contract()
    chunks = (b"x" * (1 << 20) for _ in range(40))
    with pytest.raises(FileRefused) as caught:
        for _ in encoding.to_utf8(chunks, "utf-8", lines=True, nul=False):
            pass
    assert caught.value.findings[0].code.value == "MALFORMED_FILE"
    quoted = Content(3 << 20, data=b'"' + b"x\n" * (3 << 19))
    with pytest.raises(FileRefused):
        read_head(agreed, Grammar(Dialect()), quoted)


# --- Heads of many files -------------------------------------------------------------------------

BEGINNINGS = (
    b"a,b,c\n1,2,3\n", b"a,b,c\n", b"a,b,c\n\r\n", b"a,b,c\r\n1,2,3", b"a,b,c\r1,2,3", b"a,b,c",
    b"\na,b,c\n1,2,3\n", b"a,b,c\n\n4,5,6", b'a,b,"c"\n1,2,3', b'a,b,c,"d\n"\n1,2,3,4', b"1,2,3\n",
    b'a,b,c\n"', b"a,b\n1,2", b"c,b,a\n1,2,3", b"a,b,c,d\n1,2,3,4\n", b"a;b;c\n1;2;3", b"",
)  # fmt: skip


def head_or_refusal(of: Callable[[Content], Head], body: bytes) -> object:
    try:
        return of(Content(len(body), data=body))
    except FileRefused as refused:
        return refused.findings


@given(st.lists(st.sampled_from(BEGINNINGS), max_size=12))
def test_a_head_is_judged_as_if_no_other_file_had_been_read_before(bodies: list[bytes]) -> None:
    agreed = contract(missing=DriftPolicy.ALLOW)
    grammar = Grammar(Dialect())
    heads = Heads(agreed, grammar)
    for body in bodies:
        alone = head_or_refusal(lambda content: read_head(agreed, grammar, content), body)
        assert head_or_refusal(heads.of, body) == alone


def test_the_same_head_is_judged_once(monkeypatch: pytest.MonkeyPatch) -> None:
    agreed = contract()
    heads = Heads(agreed, Grammar(Dialect()))
    judged = []
    monkeypatch.setattr(header, "read_head", lambda *of: judged.append(1) or read_head(*of))
    for row in (b"1,2,3", b"4,5,6", b'7,"8",9\n'):
        heads.of(Content(6 + len(row), data=HEADER + row))
    assert len(judged) == 1
