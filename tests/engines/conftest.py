"""A bench on which every engine judges the same batch, and one Spark for all tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from deploy.local import EmbeddedAws
from resources.ledger import DynamoLedger
from service_core.s3_store import S3ObjectStore
from service_core.spark.session import local_session
from tests.engines.bench import Bench

# Each example judges a batch by every engine, which takes about a second.
_QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "engines", max_examples=6, deadline=None, derandomize=True, suppress_health_check=_QUIET,
    database=None,
)  # fmt: skip
#: `ENGINES_EXAMPLES=500 pytest tests/engines` looks further, at other examples each time.
settings.register_profile(
    "engines-further", max_examples=int(os.environ.get("ENGINES_EXAMPLES", "0")) or 1,
    deadline=None, suppress_health_check=_QUIET,
)  # fmt: skip

#: Settings that a Spark may have and that must change nothing.
_CONTRARY = {
    "spark.sql.session.timeZone": "America/St_Johns",
    "spark.sql.ansi.enabled": "true",
    "spark.sql.caseSensitive": "true",
    "spark.sql.execution.arrow.maxRecordsPerBatch": "3",
    "spark.sql.legacy.charVarcharAsString": "true",
}


@pytest.fixture(scope="session")
def spark_session(
    embedded_aws: EmbeddedAws, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Any]:
    """One Spark for the worker's tests, of two threads; it ends with them."""
    session = local_session(tmp_path_factory.mktemp("spark"), configuration=_CONTRARY)
    yield session
    session.stop()


@pytest.fixture
def bench(
    request: pytest.FixtureRequest,
    object_store: S3ObjectStore,
    ledger: DynamoLedger,
    aws: Callable[[str], Any],
    tmp_path: Path,
) -> Bench:
    def spark() -> Any:
        # Started by the first test that needs it.
        return request.getfixturevalue("spark_session")

    return Bench(object_store, ledger, aws("s3"), tmp_path / "bench", spark)
