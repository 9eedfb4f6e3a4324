"""A code location describes assets and works on none, so it loads nothing that works on data or
speaks to AWS: what it costs to start is paid by every run, and what it holds by every host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HEAVY = (
    *("pyspark", "pandera", "polars", "duckdb", "pyiceberg", "pyarrow", "numpy", "pandas"),
    *("openpyxl", "zstandard", "fsspec", "moto", "boto3", "botocore.session", "requests"),
)
LOAD = f"""
import json, sys
from dagster_project.definitions import defs
defs().get_repository_def()
print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))
"""


#: Patterns and expressions that cannot be executed are refused when their contract is loaded, so
#: that they are tried there; it is NumPy that Polars tries some of them with.
TRIED_WITH = {"polars", "numpy"}


def test_loading_the_code_location_loads_nothing_heavy() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOAD],
        cwd=ROOT,
        env={**os.environ, "LAKEGATE_CONTRACTS": str(ROOT / "contracts")},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert set(json.loads(done.stdout.splitlines()[-1])) <= TRIED_WITH
