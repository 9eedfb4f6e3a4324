"""The Spark of `engine: spark`: whatever dagster-pyspark's resource is pointed at.

Spark is optional: nothing here imports it before a session is asked for, and who has not installed
it is told how.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from resources.settings import SettingsResource

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


class SparkUnavailableError(Exception):
    """There is no Spark that could be started from here; the message says what to do."""


class SparkResource(SettingsResource):
    """A Spark session: `SparkResource.of(settings)`.

    Attributes:
        spark_config: Spark's own settings, over those that are made here. `spark.master` names a
            cluster; `settings.spark_master` does the same from the environment. A cluster's Python
            needs service_core and what it imports: docs/engines.md.
    """

    spark_config: dict[str, str] = Field(default_factory=dict)

    def session(self) -> SparkSession:
        """The session of this process, started where there is none yet.

        Raises:
            SparkUnavailableError: Spark is not installed, or there is no Java that runs it.
        """
        try:
            from dagster_pyspark import LazyPySparkResource
        except ImportError as missing:
            raise SparkUnavailableError(
                "The engine spark needs the packages dagster-pyspark and pyspark, which are not "
                "installed: `make setup-spark`, or install lakegate with its extra `spark`."
            ) from missing
        from service_core.spark.java import JavaMissingError
        from service_core.spark.session import local_settings, spark_environment

        settings = self.settings()
        master = settings.spark_master
        named = {**({"spark.master": master} if master else {}), **self.spark_config}
        local = named.get("spark.master", "local").startswith("local")
        try:
            with spark_environment():
                config = (
                    {**local_settings(_spill_folder(settings.scratch)), **named} if local else named
                )
                return LazyPySparkResource(spark_config=config).spark_session
        except JavaMissingError as missing:
            raise SparkUnavailableError(str(missing)) from missing


@lru_cache(maxsize=1)
def _spill_folder(scratch: Path | None) -> Path:
    """Where a Spark of this process may spill: it outlives the step that started it, and so must
    the folder."""
    if scratch is not None:
        scratch.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="lakegate-spark-", dir=scratch))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
