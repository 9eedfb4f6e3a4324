"""Every spelling of the corpus, in every type: engines agree, and with the page on types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import pytest

from service_core.contract.model import Contract
from tests.engines.bench import Bench
from tests.engines.documents import TYPES, column, load
from tests.engines.plain_reading import NoSpellingError, read_row, read_value
from tests.engines.spellings import corpus, oracle

pytestmark = pytest.mark.slow

#: Where the page says more than the oracle: integers have up to 19 digits, and a number that no
#: double holds is none.
_BEYOND_THE_ORACLE = {
    ("bigint", "-9223372036854775808"): "-9223372036854775808",
    ("double", "1e400"): None,
    ("double", "1.8e308"): None,
}
_ORACLE_TYPES = {
    "dec": "decimal",
    "bigint": "integer",
    "double": "double",
    "date": "date",
    "ts": "timestamp",
    "tsz": "instant",
}


def every_type(bench: Bench, **own: Any) -> Contract:
    """A column of each type, and nothing else."""
    columns = [column(name, name) for name in TYPES]
    return load(bench.folder(), columns, format={"type": "parquet"}, **own)


def test_each_spelling_in_each_type_is_the_value_that_the_page_says_or_none(bench: Bench) -> None:
    contract = every_type(bench)
    rows: list[Mapping[str, Any]] = [{name: text} for text in corpus() for name in TYPES]
    assert len(rows) > 6_000

    batch = bench.land(contract, {"a.parquet": rows}, group_rows=2_000)
    outcome = bench.agreed(batch)

    assert outcome.verdict.rows_read == len(rows)
    bench.as_written(batch, outcome)


def test_a_spelling_kept_aside_leaves_null_and_its_text(bench: Bench) -> None:
    """All types of a spelling in one row, so that many columns of a row are at fault at once."""
    contract = every_type(
        bench, drift={"type": "keep_aside"}, dialect={"nullValues": ["", "NULL", "-"]}
    )
    rows: list[Mapping[str, Any]] = [dict.fromkeys(TYPES, text) for text in corpus()]

    batch = bench.land(contract, {"a.parquet": rows}, part_rows=300)
    outcome = bench.agreed(batch)

    bench.as_written(batch, outcome)
    assert not outcome.quarantined
    for row, found in zip(rows, outcome.accepted, strict=True):
        values, _ = read_row(contract, row)
        aside = {} if found["_extra"] is None else json.loads(found["_extra"])
        lost = {
            name: text
            for name, text in row.items()
            if values[name] is None and text not in ("", "NULL", "-")
        }
        assert aside == lost, f"{row!r:.200}"


def test_spellings_are_trimmed_folded_and_made_null_before_they_are_read(bench: Bench) -> None:
    shapes: Mapping[str, Mapping[str, Any]] = {
        "trimmed": {"trim": True},
        "upper": {"case": "upper"},
        "lower": {"case": "lower"},
        "all": {"trim": True, "case": "lower", "nullIf": ["n/a", "-", "nan", "ß"]},
    }
    contract = load(
        bench.folder(),
        [
            column(f"{of_type}_{shape}", of_type, **changes)
            for of_type in ("string", "decimal", "boolean", "instant")
            for shape, changes in shapes.items()
        ],
        format={"type": "parquet"},
        dialect={"nullValues": []},
        drift={"type": "keep_aside"},
    )
    texts = [*corpus(), *(f" {text}\t" for text in corpus() if len(text) < 100)]
    rows: list[Mapping[str, Any]] = [{c.name: text for c in contract.columns} for text in texts]

    batch = bench.land(contract, {"a.parquet": rows})

    bench.as_written(batch, bench.agreed(batch))


@pytest.mark.parametrize("name", _ORACLE_TYPES)
def test_the_plain_reading_is_that_of_the_oracle(name: str, bench: Bench) -> None:
    """What engines are compared with is itself compared with what four others agreed on."""
    kind = every_type(bench).column(_ORACLE_TYPES[name]).type
    for row in oracle():
        text = row["value"] or ""
        try:
            found = None if not text else _as_oracle(read_value(text, kind))
        except NoSpellingError:
            found = None
        assert found == _BEYOND_THE_ORACLE.get((name, text), row[name]), text


def _as_oracle(value: Any) -> str:
    match value:
        case datetime():
            moment = value if value.tzinfo else value.replace(tzinfo=UTC)
            return str(round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1e6))
        case date():
            return str((value - date(1970, 1, 1)).days)
        case float():
            return repr(value)
        case _:
            return str(value)
