"""Spark: the kernel on as many machines as a batch needs, in a Glue job or on any other Spark.

Nothing outside this folder knows of pyspark, and nothing in it imports pyspark before it is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service_core.spark.job import curate_on_spark, judge_on_spark, requested_batch

__all__ = ["curate_on_spark", "judge_on_spark", "requested_batch"]


def __getattr__(name: str) -> Any:
    # The job brings Arrow with it: whoever only looks for a Java need not wait for that.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from service_core.spark import job

    return getattr(job, name)
