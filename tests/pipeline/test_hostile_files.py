"""Whatever lands: no exception, a verdict, and every row accounted for."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service_core.contract import load_contract
from service_core.verdict import Verdict
from tests.pipeline.conftest import HEADER, ROOT, Lake

pytestmark = pytest.mark.slow

#: Each example is a whole run; the readers themselves meet thousands in the unit tests.
FEW = settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def judged(lake: Lake, files: dict[str, bytes]) -> list[Verdict]:
    for name, body in files.items():
        lake.land(name, body)
    verdicts = [lake.verdict_of(result) for result in lake.run_all()]
    for verdict in verdicts:
        assert verdict.rows_read == verdict.rows_accepted + verdict.rows_quarantined
        for file in verdict.files:
            assert file.rows_read == file.rows_accepted + file.rows_quarantined
            assert file.status.value == "published" or file.findings
    return verdicts


@FEW
@given(bodies=st.lists(st.binary(max_size=200), min_size=1, max_size=6, unique=True))
@pytest.mark.soak
def test_arbitrary_bytes_get_a_verdict(make_lake: Callable[..., Lake], bodies: list[bytes]) -> None:
    for dataset, suffix in (("orders", "csv"), ("customers", "jsonl")):
        lake = make_lake(load_contract(ROOT / "contracts" / f"{dataset}.yaml"))
        names = [f"{dataset}_{number}.{suffix}" for number in range(len(bodies))]
        # The bucket is the test's and outlives an example: only new versions are seen.
        verdicts = judged(lake, dict(zip(names, bodies, strict=True)))
        assert sum(len(v.files) for v in verdicts) >= len(bodies)


CELL = st.one_of(
    st.sampled_from(["", "EUR", "paid", "DE", "2", "10.50", "2026-11-01T10:00:00Z", "NaN", " "]),
    st.text(max_size=8).filter(lambda text: "\x00" not in text),
)


@FEW
@given(
    rows=st.lists(st.lists(CELL, min_size=9, max_size=9), min_size=1, max_size=8),
    keyed=st.booleans(),
)
def test_an_arbitrary_table_is_conserved_row_by_row(
    make_lake: Callable[..., Lake], rows: list[list[str]], keyed: bool, tmp_path: Path
) -> None:
    lake = make_lake(load_contract(ROOT / "contracts" / "orders.yaml"), tolerated_share=1.0)
    text = io.StringIO()
    writer: Any = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER.split(","))
    for number, row in enumerate(rows):
        writer.writerow([f"O{number:09d}", *row[1:]] if keyed else row)
    body = text.getvalue().encode("utf-8", "replace")
    (verdict,) = judged(lake, {f"orders_{abs(hash(body))}.csv": body})
    # A cell that begins with CR stands unquoted, behind an empty line: no row.
    read = len([row for row in csv.reader(io.StringIO(body.decode(), newline="")) if row]) - 1
    if verdict.files[0].rows_read:
        assert verdict.rows_read == read
