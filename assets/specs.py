"""What Dagster knows of a data set's assets before any of them is materialised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from dagster import AssetKey, AssetSpec, FreshnessPolicy

from assets import keys
from assets.metadata import definition_metadata
from service_core.contract.model import Contract, Processing


def asset_specs(contract: Contract) -> dict[str, AssetSpec]:
    """What Dagster knows about each asset of a data set, by name."""
    dataset = contract.dataset
    raw, validated, curated = keys.raw(dataset), keys.validated(dataset), keys.curated(dataset)
    as_text, typed = definition_metadata(contract, text=True), definition_metadata(contract)
    into_table = {"iceberg"} if contract.processing is Processing.ELT else set()
    return {
        "raw": _spec(
            contract, "raw", raw, {"s3", contract.format.type.value},
            "Files as their producer landed them. Never written, moved or deleted.", as_text,
            skippable=True,
        ),
        "validated": _spec(
            contract, "validated", validated, {"parquet"} | into_table,
            "Files that can be read, as canonical text: every column as it arrived.", as_text,
            deps=[raw],
        ),
        "quarantined_files": _spec(
            contract, "quarantine", keys.quarantined_files(dataset), {"s3"},
            "Files that were refused, untouched, each with its reason.", typed,
            deps=[raw], skippable=True,
        ),
        "curated": _spec(
            contract, "curated", curated, {"polars", "pandera"},
            "Typed rows that keep the contract's rules, staged behind the gate.", typed,
            deps=[validated],
        ),
        "quarantined_rows": _spec(
            contract, "quarantine", keys.quarantined_rows(dataset), {"parquet"},
            "Rows that were diverted, with all their text and their reasons.", typed,
            deps=[validated], skippable=True,
        ),
        "published": _spec(
            contract, "published", keys.published(dataset), {"iceberg"},
            "The table that readers query. A batch enters it in one commit, or not at all.", typed,
            deps=[curated], freshness=contract.freshness,
        ),
    }  # fmt: skip


def _spec(
    contract: Contract,
    zone: str,
    key: AssetKey,
    kinds: set[str],
    what: str,
    metadata: Mapping[str, Any],
    *,
    deps: Sequence[AssetKey] = (),
    skippable: bool = False,
    freshness: timedelta | None = None,
) -> AssetSpec:
    """The zone is one of the kinds: the UI's boxes show a key's last part, the data set, alone."""
    return AssetSpec(
        key,
        deps=deps,
        skippable=skippable,
        freshness_policy=FreshnessPolicy.time_window(freshness) if freshness else None,
        description=f"{what}\n\n{contract.description}".strip(),
        group_name=contract.dataset,
        kinds={zone, *kinds},
        owners=[contract.owner] if contract.owner else None,
        tags={
            "dataset": contract.dataset,
            "zone": zone,
            **{tag.replace(" ", "-"): "" for tag in contract.tags},
        },
        code_version=contract.hash,
        metadata=metadata,
    )
