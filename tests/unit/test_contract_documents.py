"""Whatever bytes stand in a contract file, the answer is a contract or problems."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_contract_loading import PARCELS

from service_core.contract import ContractError, check_contracts, load_contract, load_contracts

LENIENT = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def answer(path: Path, body: bytes) -> list[str]:
    """The sentences that a file is answered with; empty where it is a contract."""
    path.write_bytes(body)
    problems = check_contracts([path])
    lines = body.count(b"\n") + 1
    assert all(1 <= p.line <= lines + 1 for p in problems)
    try:
        load_contract(path)
    except ContractError as error:
        assert error.problems == problems
    else:
        assert not problems
    return [p.sentence for p in problems]


@pytest.mark.parametrize(
    ("body", "line", "part"),
    [
        (b"", 1, "The file is empty"),
        (b"# nothing\n", 1, "The file is empty"),
        (b"- a\n", 1, "something else"),
        (b"word", 1, "something else"),
        (b"a: 1\nb: \xff\n", 2, "Byte 8 of the file is not UTF-8"),
        (b"a: 1\nb: \x07\n", 2, "the character U+0007 may not stand in it"),
        (b"a: 1\nb: \x00\n", 2, "may not stand in it"),
        (b"a: 'x\n", 2, "The file is not YAML"),
        (b"a:\n\t- b\n", 2, "The file is not YAML"),
        (b"[" * 100_000, 1, "nested deeper"),
        (b"{a: " * 5_000, 1, "nested deeper"),
        (b"x" * (5 * 1024**2), 1, "larger than"),
        (PARCELS.encode("utf-16"), 1, "is not UTF-8"),
    ],
)
def test_a_file_that_is_no_document_is_answered_with_its_line(
    tmp_path: Path, body: bytes, line: int, part: str
) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(body)
    problems = check_contracts([path])
    assert any(p.line == line and part in p.sentence for p in problems), problems


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    assert answer(tmp_path / "x.yaml", b"\xef\xbb\xbf" + PARCELS.encode()) == []


def test_windows_line_ends_are_no_problem(tmp_path: Path) -> None:
    assert answer(tmp_path / "x.yaml", PARCELS.replace("\n", "\r\n").encode()) == []


def test_a_missing_file_and_a_folder_are_problems(tmp_path: Path) -> None:
    [missing] = check_contracts([tmp_path / "none.yaml"])
    assert "There is no such file" in missing.sentence
    with pytest.raises(ContractError, match="This is a folder"):
        load_contract(tmp_path)
    with pytest.raises(ContractError, match="no such folder"):
        load_contracts(tmp_path / "none")


def test_an_unreadable_path_is_a_problem() -> None:
    [problem] = check_contracts([Path("a" * 5000)])
    assert "cannot be read" in problem.sentence
    [problem] = check_contracts([Path("a\0b")])
    assert "cannot be read" in problem.sentence or "no such file" in problem.sentence


@LENIENT
@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_answered_with_problems(tmp_path: Path, body: bytes) -> None:
    assert answer(tmp_path / "x.yaml", body)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@LENIENT
@given(JSON)
def test_arbitrary_yaml_is_answered_with_problems(tmp_path: Path, value: object) -> None:
    assert answer(tmp_path / "x.yaml", yaml.safe_dump(value, allow_unicode=True).encode())


def paths(value: object, here: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Every path of a document."""
    found = [here]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += paths(inner, (*here, key))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            found += paths(inner, (*here, place))
    return found


#: PyYAML turns the quoted day into a date when it dumps, so it is text that needs no quotes.
DOCUMENT = yaml.safe_load(PARCELS)
PLACES = paths(DOCUMENT)[1:]
HOSTILE = JSON | st.sampled_from(
    ["", "no", "2026-01-01", "(", "../", "%Y", "P3D", "$.a", "DROP", "\x85", -1, 10**400, 1e308]
)


@LENIENT
@given(st.sampled_from(PLACES), HOSTILE)
def test_a_contract_with_anything_in_one_place_is_a_contract_or_problems(
    tmp_path: Path, place: tuple[object, ...], value: object
) -> None:
    document = yaml.safe_load(PARCELS)
    parent = document
    for step in place[:-1]:
        parent = parent[step]
    parent[place[-1]] = value
    answer(tmp_path / "x.yaml", yaml.safe_dump(document, allow_unicode=True).encode())


@LENIENT
@given(st.integers(0, 2**32))
def test_a_contract_with_lines_lost_or_swapped_is_a_contract_or_problems(
    tmp_path: Path, seed: int
) -> None:
    chance = random.Random(seed)
    lines = PARCELS.splitlines(keepends=True)
    for _ in range(chance.randint(1, 3)):
        one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
        if chance.random() < 0.5:
            lines[one], lines[two] = lines[two], lines[one]
        else:
            del lines[one]
    answer(tmp_path / "x.yaml", "".join(lines).encode())


@LENIENT
@given(st.text(max_size=60))
def test_any_text_as_an_expression_is_run_or_refused(tmp_path: Path, text: str) -> None:
    document = yaml.safe_load(PARCELS)
    document["schema"][0]["quality"][1]["implementation"]["expression"] = text
    document["schema"][0]["properties"][5]["transformLogic"] = text
    answer(tmp_path / "x.yaml", yaml.safe_dump(document, allow_unicode=True).encode())


SQL = (
    "weight pieces service sent_on ( ) , + - * / % < = AND OR NOT IN LIKE BETWEEN CASE WHEN THEN "
    "ELSE END NULL IS 1 0 1.5 'a' '' CAST AS INT DATE SUM MAX COUNT LOWER COALESCE NULLIF "
    "EXTRACT YEAR FROM :: [ ] || ~ SPLIT_PART ROUND OVER SELECT"
)
WORDS = st.sampled_from(SQL.split())


@LENIENT
@given(st.lists(WORDS, max_size=9).map(" ".join))
def test_any_row_of_sql_words_is_run_or_refused(tmp_path: Path, text: str) -> None:
    test_any_text_as_an_expression_is_run_or_refused.hypothesis.inner_test(tmp_path, text)  # type: ignore[attr-defined]


@LENIENT
@given(st.text(alphabet="()[]{}?+*|^$.\\dwPp<>!=:-,0123ax", max_size=20))
def test_any_pattern_compiles_or_is_refused(tmp_path: Path, text: str) -> None:
    document = yaml.safe_load(PARCELS)
    document["schema"][0]["properties"][0]["logicalTypeOptions"]["pattern"] = text
    document["customProperties"][0]["value"]["fileNamePattern"] = text or "x"
    answer(tmp_path / "x.yaml", yaml.safe_dump(document, allow_unicode=True).encode())
