"""The place in the graph for files that no contract claims."""

from __future__ import annotations

from dagster import AssetSpec

from assets.keys import UNCLAIMED_FILES


def unclaimed_spec() -> AssetSpec:
    """An external asset: the sensor that finds such files records them here."""
    return AssetSpec(
        UNCLAIMED_FILES,
        description="Landed files that lie under no contract's prefix, each reported once.",
        group_name="unclaimed",
        kinds={"s3", "json"},
        tags={"zone": "quarantine"},
    )
