"""How Spark on this machine reads and writes `s3://` as Spark on Glue does.

The two jars that it takes come out of the Python package `sagemaker_pyspark`, of which nothing else
is used: hadoop-aws 3.3.1 with the SDK bundle that belongs to it, which work with Spark 3.5.6.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

_PACKAGE = "sagemaker_pyspark"
_JARS = ("hadoop-aws-*.jar", "aws-java-sdk-bundle-*.jar")


class HadoopJarsMissingError(Exception):
    """The jars that open `s3://` paths are not installed."""


def s3_jars() -> tuple[Path, ...]:
    """hadoop-aws and its SDK bundle.

    They belong on `spark.driver.extraClassPath`: `spark.jars` would copy their 190 MB at each
    start.

    Raises:
        HadoopJarsMissingError: in one sentence, with the remedy.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    folder = Path(next(iter(places))) / "jars" if places else None
    found = [path for name in _JARS for path in sorted(folder.glob(name))] if folder else []
    if len(found) != len(_JARS):
        raise HadoopJarsMissingError(
            "Spark cannot open s3:// paths here, because the jars of hadoop-aws are not installed: "
            "run `make setup-spark`."
        )
    return tuple(found)


def s3_settings(endpoint: str) -> dict[str, str]:
    """Spark settings under which `s3://` and `s3a://` paths are objects of this server.

    Credentials come from the environment, as `AWS_ACCESS_KEY_ID` and its like.

    Args:
        endpoint: Where it answers.
    """
    return {
        "spark.hadoop.fs.s3.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.s3a.impl": "org.apache.hadoop.fs.s3a.S3AFileSystem",
        "spark.hadoop.fs.s3a.endpoint": endpoint,
        "spark.hadoop.fs.s3a.path.style.access": "true",
        "spark.hadoop.fs.s3a.connection.ssl.enabled": "false",
        "spark.hadoop.fs.s3a.aws.credentials.provider": (
            "com.amazonaws.auth.EnvironmentVariableCredentialsProvider"
        ),
    }
