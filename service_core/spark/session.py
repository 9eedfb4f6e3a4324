"""A Spark on this machine, for development, tests and whoever has no cluster.

Everything that it listens on is bound to this machine alone, and its Python workers run the
interpreter that runs this.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from service_core.spark.java import java_home

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def local_settings(
    scratch: Path, *, name: str = "lakegate", cores: int = 2, memory: str = "1g"
) -> dict[str, str]:
    """Spark's settings for a session on this machine.

    Args:
        scratch: Where it may spill; made if it is not there.
        name: Shown in its logs.
        cores: Tasks at a time.
        memory: The JVM's heap. Rows are in the Python workers, outside of it.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    return {
        "spark.master": f"local[{cores}]",
        "spark.app.name": name,
        "spark.driver.memory": memory,
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        # Two hundred tasks for a shuffle, which is the default, are for clusters.
        "spark.sql.shuffle.partitions": str(2 * cores),
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }


def local_session(
    scratch: Path,
    *,
    name: str = "lakegate",
    cores: int = 2,
    memory: str = "1g",
    configuration: Mapping[str, str] | None = None,
) -> SparkSession:
    """The session of this process's own Spark; the one that runs already, if there is one.

    Args:
        scratch, name, cores, memory: As in `local_settings`.
        configuration: Spark's own settings, over those.

    Raises:
        JavaMissingError: there is no Java that runs Spark.
    """
    from pyspark.sql import SparkSession

    settings = local_settings(scratch, name=name, cores=cores, memory=memory)
    with spark_environment():
        builder = SparkSession.builder
        for key, value in {**settings, **(configuration or {})}.items():
            builder = builder.config(key, value)
        session = builder.getOrCreate()
    session.sparkContext.setLogLevel("ERROR")
    return session


#: Any of these says that somebody has set up a Spark, or has started this process by one.
_SET_UP = ("PYSPARK_GATEWAY_PORT", "PYSPARK_SUBMIT_ARGS", "SPARK_CONF_DIR", "SPARK_HOME")


def job_session(scratch: Path) -> SparkSession:
    """The session of a script that is all that this process does: of the Spark that started it
    (Glue, `spark-submit`) or is set up in its environment, else one on this machine.

    Raises:
        JavaMissingError: there is none, and no Java that runs one.
    """
    from pyspark.sql import SparkSession

    if any(os.environ.get(name) for name in _SET_UP):
        return SparkSession.builder.getOrCreate()
    return local_session(scratch / "spark", cores=os.cpu_count() or 2)


@contextmanager
def spark_environment() -> Iterator[None]:
    """The variables that Spark reads while it starts.

    Raises:
        JavaMissingError: there is no Java that runs Spark.
    """
    variables = {
        "JAVA_HOME": str(java_home()),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
