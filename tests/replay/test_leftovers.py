"""The clean-up of left-overs: it removes what nothing refers to, and never anything else."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dagster_project.definitions import build_definitions
from resources.catalog import IcebergCatalog
from service_core.contract.model import Contract
from service_core.layout import (
    Zone,
    accepted_part_key,
    pipes_prefix,
    quarantined_rows_key,
    request_key,
    verdict_key,
)
from service_core.leftovers import (
    AtWork,
    DatasetFiles,
    Kept,
    ZoneTally,
    clear_leftovers,
    clear_scratch,
)
from service_core.naming import DATASET_TAG, PARTITION_TAG
from service_core.ports import PendingBatch
from service_core.publication import publish_batch
from service_core.run import Run
from service_core.settings import Settings
from service_core.verdict import Verdict
from tests.pipeline.conftest import Lake, orders

SAFETY = timedelta(days=3)
BATCH = "b" * 32


@dataclass
class Cleaning:
    """A lake some days from now."""

    lake: Lake
    scratch: Path

    @property
    def partition(self) -> str:
        return self.lake.today()

    @property
    def catalog(self) -> IcebergCatalog:
        return self.lake.session.definitions.resources["catalog"].catalog()

    def clear(
        self, *, days: float = 4, at_work: Sequence[AtWork] = (), **instead: Any
    ) -> dict[Zone, ZoneTally]:
        fields: dict[str, Any] = {
            "clock": lambda: datetime.now(UTC) + timedelta(days=days),
            "safety_age": SAFETY,
            **instead,
        }
        catalog = fields.pop("catalog", self.catalog)
        return clear_leftovers(
            [DatasetFiles("orders", "orders")],
            self.lake.store(),
            self.lake.ledger(),
            catalog,
            lambda: at_work,
            **fields,
        )

    def put(self, zone: Zone, key: str, body: bytes = b"rest") -> str:
        self.lake.store().write(zone, key, body)
        return key

    def all(self) -> dict[Zone, set[str]]:
        return {
            zone: set(self.lake.store().keys(zone, "")) for zone in Zone if zone is not Zone.RAW
        }

    def rests(self) -> dict[Zone, list[str]]:
        """One left-over of every kind; the keys by zone."""
        place = ("orders", self.partition, BATCH)
        return {
            Zone.CURATED: [
                self.put(Zone.CURATED, accepted_part_key(*place, "dead", 0)),
                self.put(Zone.CURATED, request_key(*place, "dead")),
                self.put(Zone.CURATED, f"_tables/orders/data/{self.partition}/dead.parquet"),
                self.put(Zone.CURATED, "_tables/orders/metadata/dead-m0.avro"),
            ],
            Zone.QUARANTINE: [self.put(Zone.QUARANTINE, quarantined_rows_key(*place, "dead", 0))],
            Zone.DQ_RESULTS: [self.put(Zone.DQ_RESULTS, pipes_prefix(*place, "first") + "1.json")],
        }


@pytest.fixture
def lake(make_lake: Callable[..., Lake], orders_contract: Contract) -> Lake:
    """The orders data set, empty."""
    return make_lake(orders_contract)


@pytest.fixture
def cleaning(lake: Lake, tmp_path: Path) -> Cleaning:
    return Cleaning(lake, tmp_path)


def publish(lake: Lake, name: str, body: bytes) -> Verdict:
    lake.land(name, body)
    (result,) = lake.run_all()
    return lake.verdict_of(result)


def judge(lake: Lake, name: str, body: bytes) -> Verdict:
    """Take a file as far as its verdict."""
    lake.land(name, body)
    (request,) = lake.session.tick("orders").requests
    result = lake.session.definitions.resolve_job_def("orders_ingest").execute_in_process(
        instance=lake.session.instance,
        partition_key=request.partition_key,
        tags=dict(request.tags),
        asset_selection=[dg.AssetKey([zone, "orders"]) for zone in ("raw", "validated", "curated")],
    )
    return lake.verdict_of(result)


def test_what_nothing_refers_to_goes_and_everything_else_stays(cleaning: Cleaning) -> None:
    tainted = orders(range(1, 10)) + orders([10], amount="ten").split(b"\n", 1)[1]
    publish(cleaning.lake, "orders_1.csv", tainted)
    publish(cleaning.lake, "orders_1.csv", orders([1, 2]))
    publish(cleaning.lake, "orders_2.csv", orders(range(20, 23)))
    before = cleaning.all()
    rests = cleaning.rests()
    tallies = cleaning.clear(dry_run=True)
    assert {zone: tally.found for zone, tally in tallies.items()} == {
        zone: len(keys) for zone, keys in rests.items()
    }
    assert all(tally.removed == 0 for tally in tallies.values())
    tallies = cleaning.clear()
    assert cleaning.all() == before
    curated = tallies[Zone.CURATED]
    assert (curated.found, curated.removed, curated.removed_bytes) == (4, 4, 16)
    assert curated.kept[Kept.REFERENCED] > 0 and tallies[Zone.QUARANTINE].kept[Kept.VERDICT] == 1
    # A month later the same files are still there for whoever reads older snapshots.
    cleaning.clear(days=60)
    assert cleaning.all() == before
    assert cleaning.lake.published_ids() == [f"O{n:09d}" for n in (1, 2, 20, 21, 22)]


def test_a_file_younger_than_the_safety_age_stays(cleaning: Cleaning) -> None:
    cleaning.rests()
    before = cleaning.all()
    tallies = cleaning.clear(days=2.9)
    assert cleaning.all() == before
    assert tallies[Zone.CURATED].kept == {Kept.YOUNG: 4}


def test_what_a_run_is_at_work_on_stays(cleaning: Cleaning) -> None:
    publish(cleaning.lake, "orders_1.csv", orders([1]))
    cleaning.rests()
    before = cleaning.all()
    long_ago = datetime.now(UTC) - timedelta(days=1)
    for run in (
        AtWork("orders", cleaning.partition, long_ago),
        AtWork("orders", None, long_ago),
        AtWork(None, None, long_ago),
    ):
        cleaning.clear(at_work=[run])
        assert cleaning.all() == before
    # A run that began later has not written what lies in the table's own folder.
    later = AtWork("orders", cleaning.partition, datetime.now(UTC) + timedelta(hours=1))
    tallies = cleaning.clear(at_work=[later, AtWork("payments", None, long_ago)])
    assert tallies[Zone.CURATED].removed == 2 and tallies[Zone.CURATED].kept[Kept.IN_FLIGHT] == 2


def test_what_is_asked_for_stays(cleaning: Cleaning) -> None:
    rests = cleaning.rests()
    cleaning.lake.ledger().open_batch(
        PendingBatch("orders", cleaning.partition, BATCH, "s3://m/m.json", datetime.now(UTC))
    )
    tallies = cleaning.clear()
    assert tallies[Zone.DQ_RESULTS].kept == {Kept.PENDING: 1}
    left = cleaning.all()[Zone.CURATED]
    assert set(rests[Zone.CURATED][:2]) <= left


def test_files_of_a_table_that_is_not_in_the_catalog_stay(cleaning: Cleaning) -> None:
    publish(cleaning.lake, "orders_1.csv", orders([1]))
    cleaning.catalog.table(cleaning.lake.contract).catalog.drop_table(
        (cleaning.lake.settings.database, "orders")
    )
    cleaning.rests()
    before = cleaning.all()[Zone.CURATED]
    tallies = cleaning.clear(days=60)
    assert cleaning.all()[Zone.CURATED] == before
    assert tallies[Zone.CURATED].kept[Kept.NO_TABLE] == len(before)


def test_a_batch_that_waits_to_be_published_keeps_its_files_for_ever(
    cleaning: Cleaning, tmp_path: Path
) -> None:
    lake = cleaning.lake
    verdict = judge(lake, "orders_1.csv", orders([1, 2]))
    before = cleaning.all()
    tallies = cleaning.clear(days=400)
    assert cleaning.all() == before and tallies[Zone.CURATED].kept == {Kept.VERDICT: 1}
    publish_batch(
        lake.contract,
        partition=cleaning.partition,
        batch_id=verdict.batch_id,
        store=lake.store(),
        ledger=lake.ledger(),
        catalog=cleaning.catalog,
        run=Run("r", "r", lambda: datetime.now(UTC), tmp_path),
    )
    assert lake.published_ids() == ["O000000001", "O000000002"]


class CommitsInBetween(IcebergCatalog):
    """A catalog that another publisher uses right after the first look."""

    def __init__(self, settings: Settings, publish: Callable[[], None]) -> None:
        super().__init__(settings)
        self._publish = publish
        self._looks = 0

    def referenced(self) -> Mapping[str, frozenset[str]]:
        self._looks += 1
        if self._looks == 2:
            self._publish()
        return super().referenced()


def test_what_is_committed_between_listing_and_removal_stays(cleaning: Cleaning) -> None:
    lake, store = cleaning.lake, cleaning.lake.store()
    verdict = judge(lake, "orders_1.csv", orders([1, 2]))
    key = verdict_key("orders", verdict.partition, verdict.batch_id)
    # As before the judgement's last write: rows are staged, and nothing names them.
    store.remove(Zone.DQ_RESULTS, [key])
    cleaning.put(Zone.CURATED, accepted_part_key("orders", cleaning.partition, BATCH, "dead", 0))

    def publisher() -> None:
        """Ends its judgement and commits, of all times, now."""
        store.write(Zone.DQ_RESULTS, key, verdict.model_dump_json().encode())
        cleaning.catalog.publish(lake.contract, verdict, frozenset())

    tallies = cleaning.clear(catalog=CommitsInBetween(lake.settings, publisher))
    curated = tallies[Zone.CURATED]
    assert (curated.found, curated.removed, curated.kept[Kept.SEEN_ONCE]) == (2, 1, 1)
    assert len(lake.published()) == 2


def test_a_file_of_a_superseded_attempt_that_a_snapshot_refers_to_stays(
    cleaning: Cleaning,
) -> None:
    lake = cleaning.lake
    verdict = publish(lake, "orders_1.csv", orders([1, 2]))
    # The batch has been judged once more since: its verdict names another attempt's files.
    other = [
        staged.model_copy(update={"uri": staged.uri.replace(".parquet", "-again.parquet")})
        for staged in verdict.staged
    ]
    store = lake.store()
    again = verdict.model_copy(update={"staged": tuple(other)})
    key = verdict_key("orders", verdict.partition, verdict.batch_id)
    store.write(Zone.DQ_RESULTS, key, again.model_dump_json().encode())
    before = cleaning.all()
    cleaning.clear(days=60)
    assert cleaning.all() == before
    assert lake.published_ids() == ["O000000001", "O000000002"]


def test_the_asset_shows_what_it_did_and_leaves_runs_alone(lake: Lake, tmp_path: Path) -> None:
    publish(lake, "orders_1.csv", orders([1]))
    settings = lake.settings.model_copy(update={"leftover_days": 0.0})
    definitions = build_definitions([lake.contract], settings)
    cleaning = Cleaning(lake, tmp_path)
    rests = cleaning.rests()
    scratch = Path(str(settings.scratch))
    (scratch / "lakegate-dead").mkdir(parents=True)
    os.utime(scratch / "lakegate-dead", (0, 0))
    job = definitions.resolve_job_def("leftovers")
    busy = lake.session.instance.create_run_for_job(
        lake.session.definitions.resolve_job_def("orders_ingest"),
        tags={DATASET_TAG: "orders", PARTITION_TAG: f"orders/{cleaning.partition}"},
        status=dg.DagsterRunStatus.STARTED,
    )
    before = cleaning.all()

    def run(**config: Any) -> dict[str, Any]:
        result = job.execute_in_process(
            instance=lake.session.instance,
            run_config={"ops": {"maintenance__leftovers": {"config": config}}},
        )
        assert result.success
        (event,) = result.get_asset_materialization_events()
        return {k: v.value for k, v in event.materialization.metadata.items()}

    # Only what lies in the table's own folder is older than the run.
    assert run(dry_run=True)["found"] == 2
    lake.session.instance.report_run_canceled(busy)
    shown = run(dry_run=True)
    assert (shown["found"], shown["removed"]) == (6, 0) and cleaning.all() == before
    shown = run(dry_run=False)
    assert (shown["found"], shown["removed"], shown["scratch_folders"]) == (6, 6, 1)
    left = cleaning.all()
    assert not any(key in left[zone] for zone, keys in rests.items() for key in keys)
    assert lake.published_ids() == ["O000000001"]


def test_scratch_folders_that_are_still_touched_stay(tmp_path: Path) -> None:
    for name in ("lakegate-old", "lakegate-live", "others"):
        (tmp_path / name).mkdir()
    (tmp_path / "lakegate-live" / "part").write_bytes(b"x")
    for name in ("lakegate-old", "lakegate-live", "others"):
        os.utime(tmp_path / name, (0, 0))
    tally = clear_scratch(tmp_path, before=datetime.now(UTC) - timedelta(days=3))
    assert (tally.found, tally.removed) == (1, 1)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["lakegate-live", "others"]
