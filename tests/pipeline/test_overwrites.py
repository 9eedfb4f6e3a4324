"""What a reader of the table sees when files change: before, while and after they are processed.

Each test has a landing day of its own in one shared lake. `seen` is what a query of that day
returns, with doubles, so that every assertion also says that nothing is there twice.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
import pytest

from assets import keys
from dagster_project.session import Session, private_instance
from deploy.bootstrap import bootstrap
from deploy.local import EmbeddedAws
from resources.aws import clients
from resources.catalog import CatalogResource
from service_core.contract import load_contract
from service_core.contract.model import Column, Contract, FilePolicy, PublicationMode
from service_core.layout import Zone
from service_core.ledger import Entry, State
from service_core.reasons import ReasonCode
from service_core.settings import Settings
from service_core.source_object import source_object_id
from tests.pipeline.conftest import ROOT, Lake, orders
from tests.replay.conftest import ReplayLake

_DAYS = itertools.count(10)
STEPS = ("raw", "validated", "curated", "published")


@dataclass
class Day:
    """One landing day of a lake, and what its producer and its reader do."""

    lake: Lake
    partition: str
    _versions: dict[str, list[str]] = field(default_factory=dict)

    @property
    def _raw(self) -> str:
        return self.lake.settings.bucket(Zone.RAW)

    def put(self, name: str, *numbers: int, **changes: Any) -> str:
        """Land a file of those orders; returns its source object's id.

        The day stands in it, or the same content would be a duplicate of another test's.
        """
        return self.put_body(name, orders(numbers, note=self.partition, **changes))

    def put_body(self, name: str, body: bytes) -> str:
        key = self.lake.key(name, self.partition)
        answer = self.lake.s3.put_object(Bucket=self._raw, Key=key, Body=body)
        return self._put_as(key, answer["VersionId"])

    def copy_back(self, name: str, version: int) -> str:
        """Make an older version the newest one, as restoring by a copy does."""
        key = self.lake.key(name, self.partition)
        source = {"Bucket": self._raw, "Key": key, "VersionId": self._versions[name][version]}
        answer = self.lake.s3.copy_object(Bucket=self._raw, Key=key, CopySource=source)
        return self._put_as(key, answer["VersionId"])

    def _put_as(self, key: str, version_id: str) -> str:
        self._versions.setdefault(key.rpartition("/")[2], []).append(version_id)
        return source_object_id(self._raw, key, version_id, "", 0)

    def delete(self, name: str, version: int | None = None) -> str:
        """Delete a key, or for ever one version of it; returns the delete marker's id."""
        which = {} if version is None else {"VersionId": self._versions[name][version]}
        key = self.lake.key(name, self.partition)
        return str(self.lake.s3.delete_object(Bucket=self._raw, Key=key, **which)["VersionId"])

    def take_away(self, name: str, marker: str) -> None:
        """Remove a delete marker, as restoring in the console does."""
        key = self.lake.key(name, self.partition)
        self.lake.s3.delete_object(Bucket=self._raw, Key=key, VersionId=marker)

    def named(self, name: str, version: int) -> dict[str, str]:
        """A version as a replay manifest names it."""
        key = self.lake.key(name, self.partition)
        return {"bucket": self._raw, "key": key, "versionId": self._versions[name][version]}

    def asked(self) -> list[dg.RunRequest]:
        """What the sensor requests now."""
        return list(self.lake.session.tick("orders").requests)

    def run(self, request: dg.RunRequest | None, *steps: str) -> bool:
        """A run, or a re-execution of only some of its steps; without a request, a backfill."""
        return (
            self.lake.session.definitions.resolve_job_def("orders_ingest")
            .execute_in_process(
                instance=self.lake.session.instance,
                partition_key=self.partition,
                tags=dict(request.tags) if request else {},
                asset_selection=[getattr(keys, s)("orders") for s in steps] if steps else None,
                raise_on_error=False,
            )
            .success
        )

    def settle(self) -> int:
        """Run what is asked for now; returns how many runs that were."""
        requests = self.asked()
        for request in requests:
            self.lake.session.execute("orders", request)
        return len(requests)

    def seen(self) -> list[str]:
        """What a reader sees: each row's order and amount, in order."""
        return [f"{row['order_id'].lstrip('O0')}:{row['amount']}" for row in self.rows()]

    def rows(self) -> list[dict[str, Any]]:
        catalog = CatalogResource.of(self.lake.settings).catalog()
        scan = catalog.scan(self.lake.contract, partition=self.partition)
        return sorted(
            (row for batch in scan for row in batch.to_pylist()), key=lambda r: r["order_id"]
        )

    def span(self) -> dict[str, str]:
        """The day as a replay's selector has it."""
        return {"from": self.partition, "to": self.partition}

    def entry(self, object_id: str) -> Entry:
        return self.lake.ledger().entries([object_id])[object_id]

    def without_key(self) -> tuple[Column, ...]:
        """The contract's columns, of which none is a key."""
        return tuple(replace(c, primary_key=None) for c in self.lake.contract.columns)

    def under(self, *, landing: dict[str, Any] | None = None, **changes: Any) -> Day:
        """The same day as another version of the contract treats it."""
        before = self.lake.contract
        changes["landing"] = replace(before.landing, **(landing or {}))
        changed = replace(before, version="2.0.0", hash=f"{next(_DAYS):016x}", **changes)
        return replace(self, lake=_lake([changed], self.lake.settings, self.lake))


def _lake(contracts: list[Contract], settings: Settings, beside: Lake | None = None) -> Lake:
    s3 = clients(settings)("s3") if beside is None else beside.s3
    instance = private_instance() if beside is None else beside.session.instance
    return Lake(Session(contracts, settings, instance), contracts[0], s3)


@pytest.fixture(scope="module")
def settings_of_all(
    embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Settings]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAKEGATE_NAME_PREFIX", "overwrites")
        patch.setenv("LAKEGATE_SCRATCH", str(tmp_path_factory.mktemp("scratch")))
        settings = Settings.from_environment(os.environ)
        bootstrap(settings, clients(settings))
        yield settings


@pytest.fixture(scope="module")
def lake_of_all(settings_of_all: Settings) -> Iterator[Lake]:
    """Orders as they ship, but for the rules, which have no part in this; late files are taken."""
    shipped = load_contract(ROOT / "contracts" / "orders.yaml")
    contract = replace(
        shipped,
        row_rules=(),
        set_rules=(),
        landing=replace(shipped.landing, late=FilePolicy.ALLOW),
        hash="0" * 16,
    )
    lake = _lake([contract], settings_of_all)
    yield lake
    lake.session.instance.dispose()


@pytest.fixture
def day(lake_of_all: Lake) -> Day:
    """A day of the test's own, long past."""
    return Day(lake_of_all, f"{datetime.now(UTC) - timedelta(days=next(_DAYS)):%Y-%m-%d}")


# --- Overwritten ----------------------------------------------------------------------------------


def test_a_key_overwritten_before_it_is_noticed_shows_the_new_rows_once(day: Day) -> None:
    old = day.put("orders_1.csv", 1, 2)
    new = day.put("orders_1.csv", 2, 3, amount="20.00")
    assert day.settle() == 2, "every version is processed"
    assert day.seen() == ["2:20.00", "3:20.00"]
    assert (day.entry(old).state, day.entry(new).state) == (State.SUPERSEDED, State.PUBLISHED)


def test_a_key_overwritten_before_it_is_validated_shows_the_new_rows_once(day: Day) -> None:
    old = day.put("orders_1.csv", 1, 2)
    (first,) = day.asked()
    assert day.run(first, "raw")
    day.put("orders_1.csv", 2, 3, amount="20.00")
    (second,) = day.asked()
    assert day.run(second)
    assert day.seen() == ["2:20.00", "3:20.00"]
    assert day.run(first, "validated", "curated", "published")
    assert day.seen() == ["2:20.00", "3:20.00"], "the older version came last and changed nothing"
    assert day.entry(old).state is State.SUPERSEDED


def test_a_key_overwritten_between_curation_and_publication_shows_the_new_rows_once(
    day: Day,
) -> None:
    old = day.put("orders_1.csv", 1, 2)
    day.put("orders_2.csv", 7)
    (first,) = day.asked()
    assert day.run(first, "raw", "validated", "curated")
    new = day.put("orders_1.csv", 2, 3, amount="20.00")
    (second,) = day.asked()
    assert day.run(second)
    assert day.run(first, "published")
    assert day.seen() == ["2:20.00", "3:20.00", "7:10.50"], "the rest of the older batch is shown"
    assert (day.entry(old).state, day.entry(new).state) == (State.SUPERSEDED, State.PUBLISHED)


def test_a_key_overwritten_while_it_is_processed_shows_the_old_rows_until_the_new_are_there(
    day: Day,
) -> None:
    day.put("orders_1.csv", 1, 2)
    (first,) = day.asked()
    assert day.run(first, "raw", "validated", "curated")
    day.put("orders_1.csv", 2, 3, amount="20.00")
    assert day.run(first, "published")
    assert day.seen() == ["1:10.50", "2:10.50"]
    day.settle()
    assert day.seen() == ["2:20.00", "3:20.00"]


def test_a_key_overwritten_by_a_file_that_is_refused_still_shows_the_old_rows(day: Day) -> None:
    day.put("orders_1.csv", 1, 2)
    day.settle()
    refused = day.put_body("orders_1.csv", b"what nobody agreed to\n")
    day.settle()
    assert day.seen() == ["1:10.50", "2:10.50"]
    assert day.entry(refused).state is State.QUARANTINED


def test_a_key_overwritten_with_the_same_content_shows_its_rows_once(day: Day) -> None:
    old = day.put("orders_1.csv", 1, 2)
    day.settle()
    new = day.put("orders_1.csv", 1, 2)
    day.settle()
    assert day.seen() == ["1:10.50", "2:10.50"]
    assert {row["_source_object_id"] for row in day.rows()} == {new}
    assert (day.entry(old).state, day.entry(new).state) == (State.SUPERSEDED, State.PUBLISHED)


def test_two_versions_of_one_key_in_one_replay_show_the_newer_one(day: Day) -> None:
    """Nobody has noticed either; a person names both, the newer one first."""
    day.put("orders_1.csv", 1, 2)
    day.put("orders_1.csv", 2, 3, amount="20.00")
    replays = ReplayLake(day.lake)
    files = [day.named("orders_1.csv", 1), day.named("orders_1.csv", 0)]
    end = replays.replay("both-versions", files=files)
    assert day.seen() == ["2:20.00", "3:20.00"]
    assert end.outcomes == {"published": 1, "superseded": 1}
    assert day.settle() == 0, "the sensor has nothing left to ask for"


# --- Deleted and restored -------------------------------------------------------------------------


def test_a_key_deleted_before_it_is_processed_is_shown_while_its_version_is_kept(day: Day) -> None:
    day.put("orders_1.csv", 1)
    gone = day.put("orders_2.csv", 2)
    (request,) = day.asked()
    day.delete("orders_1.csv")
    day.delete("orders_2.csv", version=0)
    assert day.run(request)
    assert day.seen() == ["1:10.50"]
    assert day.entry(gone).reason is ReasonCode.OBJECT_MISSING, "a deletion for ever is told"


def test_a_key_deleted_after_it_was_published_is_still_shown(day: Day) -> None:
    day.put("orders_1.csv", 1)
    day.put("orders_2.csv", 2)
    day.settle()
    day.delete("orders_1.csv")
    assert day.settle() == 0
    assert day.seen() == ["1:10.50", "2:10.50"]
    assert day.run(None), "a backfill takes what lies there"
    assert day.seen() == ["1:10.50", "2:10.50"]


def test_a_key_restored_by_removing_its_delete_marker_is_shown_as_before(day: Day) -> None:
    day.put("orders_1.csv", 1)
    day.settle()
    marker = day.delete("orders_1.csv")
    day.settle()
    day.take_away("orders_1.csv", marker)
    assert day.settle() == 0, "it is the same version, and has been processed"
    assert day.seen() == ["1:10.50"]


def test_a_key_restored_by_a_copy_of_its_older_version_shows_the_older_rows(day: Day) -> None:
    day.put("orders_1.csv", 1, 2)
    day.settle()
    day.put("orders_1.csv", 3)
    day.settle()
    assert day.seen() == ["3:10.50"]
    restored = day.copy_back("orders_1.csv", 0)
    day.settle()
    assert day.seen() == ["1:10.50", "2:10.50"]
    assert day.entry(restored).state is State.PUBLISHED


# --- The same content under two keys --------------------------------------------------------------


def test_the_same_content_under_two_keys_is_shown_once(day: Day) -> None:
    day.put("orders_1.csv", 1)
    day.put("orders_2.csv", 1)
    day.settle()
    day.put("orders_3.csv", 1)
    day.settle()
    assert day.seen() == ["1:10.50"]
    assert {row["_source_key"] for row in day.rows()} == {
        day.lake.key("orders_1.csv", day.partition)
    }


def test_content_that_moved_to_another_key_is_shown_when_its_old_key_holds_something_else(
    day: Day,
) -> None:
    """What is not in the table any more is no reason to refuse the same content."""
    day.put("orders_1.csv", 1)
    day.settle()
    day.put("orders_1.csv", 2)
    day.settle()
    day.put("orders_2.csv", 1)
    day.settle()
    assert day.seen() == ["1:10.50", "2:10.50"]


def test_content_that_moves_in_the_batch_that_overwrites_its_old_key_is_shown_once_released(
    day: Day,
) -> None:
    """While they are validated together, its old rows are still in the table."""
    day.put("orders_1.csv", 1)
    day.settle()
    day.put("orders_1.csv", 2)
    moved = day.put("orders_2.csv", 1)
    day.settle()
    assert day.seen() == ["2:10.50"]
    assert day.entry(moved).reason is ReasonCode.DUPLICATE_CONTENT
    selector = {"reasonCodes": ["DUPLICATE_CONTENT"], "partitions": day.span()}
    ReplayLake(day.lake).replay("moved", selector=selector, options={"force": True})
    assert day.seen() == ["1:10.50", "2:10.50"]


def test_the_same_content_under_two_keys_is_shown_twice_where_the_contract_allows_it(
    day: Day,
) -> None:
    allowing = day.under(landing={"duplicates": FilePolicy.ALLOW}, columns=day.without_key())
    allowing.put("orders_1.csv", 1)
    allowing.put("orders_2.csv", 1)
    allowing.settle()
    assert allowing.seen() == ["1:10.50", "1:10.50"]


def test_the_same_content_under_two_keys_is_shown_once_where_rows_have_a_key_of_their_own(
    day: Day,
) -> None:
    allowing = day.under(landing={"duplicates": FilePolicy.ALLOW}, tolerated_share=1.0)
    allowing.put("orders_1.csv", 1)
    twice = allowing.put("orders_2.csv", 1)
    allowing.settle()
    assert allowing.seen() == ["1:10.50"]
    assert (allowing.entry(twice).rows_read, allowing.entry(twice).rows_quarantined) == (1, 1)


# --- Late -----------------------------------------------------------------------------------------


def test_a_late_correction_of_a_closed_partition_is_shown_in_it_where_late_files_are_taken(
    day: Day,
) -> None:
    day.put("orders_1.csv", 1, 2)
    day.settle()
    late = day.put("orders_1.csv", 1, amount="20.00")
    day.settle()
    assert day.seen() == ["1:20.00"]
    assert day.entry(late).late and day.entry(late).state is State.PUBLISHED


def test_a_late_correction_is_kept_out_where_late_files_are_refused_until_it_is_released(
    day: Day,
) -> None:
    day.put("orders_1.csv", 1, 2)
    day.settle()
    refusing = day.under(landing={"late": FilePolicy.QUARANTINE_FILE})
    late = refusing.put("orders_1.csv", 1, amount="20.00")
    refusing.settle()
    assert day.seen() == ["1:10.50", "2:10.50"]
    assert day.entry(late).reason is ReasonCode.LATE
    replays = ReplayLake(day.lake)
    asked = {
        "selector": {"reasonCodes": ["LATE"], "partitions": day.span()},
        "options": {"force": True},
    }
    replays.replay(f"late-{day.partition}", **asked)
    assert day.seen() == ["1:20.00"]
    assert day.entry(late).state is State.PUBLISHED


# --- Versions beside each other -------------------------------------------------------------------


def test_an_overwritten_key_shows_the_rows_of_both_versions_where_versions_are_appended(
    day: Day,
) -> None:
    appending = day.under(publication=PublicationMode.APPEND, columns=day.without_key())
    appending.put("orders_1.csv", 1)
    appending.settle()
    appending.put("orders_1.csv", 1, amount="20.00")
    appending.settle()
    assert sorted(appending.seen()) == ["1:10.50", "1:20.00"]
