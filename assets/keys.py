"""Asset keys: the zone first, then the data set."""

from __future__ import annotations

from dagster import AssetKey

from service_core.naming import LEFTOVERS, TABLES, UNCLAIMED


def raw(dataset: str) -> AssetKey:
    return AssetKey(["raw", dataset])


def validated(dataset: str) -> AssetKey:
    return AssetKey(["validated", dataset])


def curated(dataset: str) -> AssetKey:
    return AssetKey(["curated", dataset])


def published(dataset: str) -> AssetKey:
    return AssetKey(["published", dataset])


def quarantined_files(dataset: str) -> AssetKey:
    return AssetKey(["quarantine", dataset, "files"])


def quarantined_rows(dataset: str) -> AssetKey:
    return AssetKey(["quarantine", dataset, "rows"])


#: Where files under no contract's prefix are filed.
UNCLAIMED_FILES = quarantined_files(UNCLAIMED)

#: The clean-up of the whole platform.
MAINTENANCE_LEFTOVERS = AssetKey(["maintenance", LEFTOVERS])

#: The upkeep of all published tables.
MAINTENANCE_TABLES = AssetKey(["maintenance", TABLES])
