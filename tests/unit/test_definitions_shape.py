"""The shape of the definitions, held still: a change of it shows up in review as a change of the
snapshot beside this test.

`LAKEGATE_UPDATE_SNAPSHOTS=1 pytest tests/unit/test_definitions_shape.py` writes it anew.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import dagster as dg

from dagster_project.definitions import build_definitions
from service_core.contract import load_contracts
from service_core.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SNAPSHOT = Path(__file__).parent / "snapshots" / "definitions.json"


def shape_of(definitions: dg.Definitions) -> dict[str, Any]:
    repository = definitions.get_repository_def()
    graph = definitions.resolve_asset_graph()
    return {
        "assets": {
            key.to_user_string(): {
                "deps": sorted(k.to_user_string() for k in graph.get(key).parent_keys),
                "group": graph.get(key).group_name,
                "kinds": sorted(k for k in graph.get(key).tags if k.startswith("dagster/kind/")),
                "owners": sorted(graph.get(key).owners),
                "freshness": str(graph.get(key).freshness_policy),
                "partitions": type(graph.get(key).partitions_def).__name__,
                "checks": {
                    check.name: "blocking" if graph.get(check).blocking else "not blocking"
                    for check in sorted(graph.get(key).check_keys)
                },
            }
            for key in sorted(graph.get_all_asset_keys())
        },
        "jobs": {
            job.name: sorted(node for node in job.graph.node_dict)
            for job in sorted(repository.get_all_jobs(), key=lambda job: job.name)
            if not job.name.startswith("__")
        },
        "sensors": {
            sensor.name: sorted(target.job_name for target in sensor.targets)
            for sensor in sorted(repository.sensor_defs, key=lambda sensor: sensor.name)
        },
    }


def test_the_shape_of_the_definitions_is_as_reviewed() -> None:
    definitions = build_definitions(load_contracts(ROOT / "contracts"), Settings())
    shape = shape_of(definitions)
    if os.environ.get("LAKEGATE_UPDATE_SNAPSHOTS"):
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(json.dumps(shape, indent=2, sort_keys=True) + "\n")
    assert shape == json.loads(SNAPSHOT.read_text())


def test_the_code_location_loads_without_any_service() -> None:
    """Its settings name services; none of them is called before a run or a tick."""
    dg.Definitions.validate_loadable(
        build_definitions(load_contracts(ROOT / "contracts"), Settings())
    )
