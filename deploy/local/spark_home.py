"""A Spark configuration under which an unmodified Glue script runs on this machine.

`SparkSession.builder.getOrCreate()` gets what it gets on Glue: `s3://` paths that are S3, UTC, a
Python that is the one of the driver. What differs is size and place: two threads, loopback only.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from deploy.local.hadoop_jars import HadoopJarsMissingError, s3_jars, s3_settings


def write_spark_configuration(
    directory: Path, *, endpoint: str, asked: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Write `spark-defaults.conf` and say what else a process needs to find it.

    Args:
        directory: The job run's own; what Spark spills goes there too.
        endpoint: Where S3 answers.
        asked: Settings of the job's own, which win.

    Returns:
        Environment variables, and what is missing, each in one sentence that names the remedy.
    """
    # Not before a job runs: what it imports would make the server's start slower.
    from service_core.spark.java import JavaMissingError

    missing: list[str] = []
    settings = {
        "spark.master": "local[2]",
        "spark.driver.memory": "1g",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.extraJavaOptions": "-Duser.timezone=UTC",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.warehouse.dir": str(directory / "warehouse"),
        "spark.hadoop.hadoop.tmp.dir": str(directory / "hadoop"),
        # A rename is a copy on S3; the second version of the algorithm renames once.
        "spark.hadoop.mapreduce.fileoutputcommitter.algorithm.version": "2",
        **s3_settings(endpoint),
    }
    try:
        settings["spark.driver.extraClassPath"] = os.pathsep.join(map(str, s3_jars()))
    except HadoopJarsMissingError as error:
        missing.append(str(error))
    environment = {
        "SPARK_CONF_DIR": str(directory / "spark-conf"),
        "SPARK_LOCAL_DIRS": str(directory / "spill"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_DRIVER_PYTHON": sys.executable,
    }
    try:
        environment["JAVA_HOME"] = _java_home()
    except JavaMissingError as error:
        missing.append(str(error))
        # Spark would take the next best Java from the path and fail in its own words.
        environment["JAVA_HOME"] = str(directory / "no-java")
    conf = directory / "spark-conf"
    conf.mkdir()
    lines = [f"{name} {value}\n" for name, value in {**settings, **asked}.items()]
    (conf / "spark-defaults.conf").write_text("".join(lines))
    return environment, tuple(missing)


@functools.cache
def _java_home() -> str:
    """Asked once: a Java takes a tenth of a second to say which it is. Not finding one is not
    remembered."""
    from service_core.spark.java import java_home

    return str(java_home())
