"""ELT: the way ends at validated, whose text is a table for SQL downstream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from service_core.contract import load_contract
from tests.pipeline.conftest import Lake

CONTRACT = r"""
apiVersion: v3.1.0
kind: DataContract
id: 5b1c9c5e-7f0a-4b55-9f3b-0d3a6a1f0c98
name: readings
version: 1.0.0
status: active
schema:
  - name: readings
    properties:
      - {name: sensor, logicalType: string, required: true}
      - {name: celsius, logicalType: number, physicalType: "decimal(5,1)"}
customProperties:
  - property: landing
    value:
      prefix: readings/
      partitionPath: dt=%Y-%m-%d
      firstPartition: "2026-01-01"
      fileNamePattern: readings_[0-9]+\.csv
  - property: format
    value: {type: csv}
  - property: processing
    value: elt
"""


def test_text_becomes_a_table_as_it_arrived_and_shapeless_rows_go_to_quarantine(
    make_lake: Callable[..., Lake], tmp_path: Path
) -> None:
    path = tmp_path / "readings.yaml"
    path.write_text(CONTRACT)
    lake = make_lake(load_contract(path))
    lake.land("readings_1.csv", b"sensor,celsius\nS1, 4.50 \nS2,warm\nS3\n")
    lake.land("readings_2.csv", b"nothing of the kind\n")
    (result,) = lake.run_all()
    assert result.success
    rows = sorted((r["sensor"], r["celsius"], r["_source_row"]) for r in lake.published())
    assert rows == [("S1", " 4.50 ", 1), ("S2", "warm", 2)]
    verdict = lake.verdict_of(result)
    assert (verdict.rows_read, verdict.rows_accepted, verdict.rows_quarantined) == (3, 2, 1)
    assert {e.check_name for e in result.get_asset_check_evaluations()} == {
        "rows_conserved",
        "source_objects_accepted",
    }
    events = result.get_asset_materialization_events()
    assert {event.materialization.asset_key.to_user_string() for event in events} == {
        "raw/readings",
        "validated/readings",
        "quarantine/readings/files",
        "quarantine/readings/rows",
    }


def test_a_repeated_run_and_a_newer_version_double_nothing(
    make_lake: Callable[..., Lake], tmp_path: Path
) -> None:
    path = tmp_path / "readings.yaml"
    path.write_text(CONTRACT)
    lake = make_lake(load_contract(path))
    lake.land("readings_1.csv", b"sensor,celsius\nS1,1\n")
    lake.run_all()
    lake.land("readings_1.csv", b"sensor,celsius\nS1,2\n")
    lake.run_all()
    job = lake.session.definitions.resolve_job_def("readings_ingest")
    for _ in range(2):
        assert job.execute_in_process(
            instance=lake.session.instance, partition_key=lake.today()
        ).success
    assert [(r["sensor"], r["celsius"]) for r in lake.published()] == [("S1", "2")]
