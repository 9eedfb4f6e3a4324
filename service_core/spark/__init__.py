"""Spark: the kernel on as many machines as a batch needs, in a Glue job or on any other Spark.

Nothing outside this folder knows of pyspark, and nothing in it imports pyspark before it is called.
"""

from service_core.spark.job import curate_on_spark, judge_on_spark, requested_batch

__all__ = ["curate_on_spark", "judge_on_spark", "requested_batch"]
