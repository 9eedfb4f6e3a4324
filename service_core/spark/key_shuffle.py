"""Keys that are compared by a shuffle: which hashes repeat, and how many values are distinct.

What is shuffled is a number or a text that tells keys apart as the engine in process does, so that
Spark's own types, time zone and collation have no say. Both are grouped before they are shuffled,
on the machine where they are found: a key that stands a million times is sent once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from service_core.curation.key_watch import Key
from service_core.spark.crew import Crew
from service_core.spark.errand import Errand
from service_core.spark.key_tasks import Held, Values, hash_rows, value_rows
from service_core.spark.spans import Piece

if TYPE_CHECKING:
    import numpy
    import pyarrow as pa


def repeated_hashes(
    crew: Crew, errand: Errand, key: Key, files: Sequence[Held], limit: int
) -> numpy.ndarray[Any, Any] | None:
    """Hashes that two rows of the batch have, or one of them and a published one.

    Args:
        files: Of both kinds.
        limit: The most that the driver is to be given.

    Returns:
        Ascending; None where there are more.
    """
    import numpy
    from pyspark.sql import functions as F

    rows = crew.rows(partial(hash_rows, errand, key=key), files, "hash bigint, ours bigint")
    counted = rows.groupBy("hash").agg(F.sum("ours").alias("ours"), F.count("*").alias("all"))
    repeated = counted.where((F.col("ours") > 0) & (F.col("all") > 1)).select("hash")
    packed = repeated.limit(limit + 1).mapInArrow(_packed, "hashes binary")
    found = [numpy.frombuffer(row[0], numpy.uint64) for row in crew.collect("compare keys", packed)]
    hashes = numpy.sort(numpy.concatenate([numpy.empty(0, numpy.uint64), *found]))
    return hashes if len(hashes) <= limit else None


def _packed(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """A column of numbers as one value for each batch: a row for each would cost the driver more
    than a hundred bytes."""
    import pyarrow as pa

    for batch in batches:
        if batch.num_rows:
            yield pa.RecordBatch.from_pydict({"hashes": [batch.column(0).to_numpy().tobytes()]})


def counted_values(
    crew: Crew, errand: Errand, pieces: Sequence[Piece], values: Values
) -> Mapping[str | None, tuple[int, int]]:
    """Rows and distinct values, by source object or for the batch under None."""
    from pyspark.sql import functions as F

    shape = "owner bigint, value string, n bigint"
    rows = crew.rows(partial(value_rows, errand, values=values), pieces, shape)
    apart = rows.groupBy("owner", "value").agg(F.sum("n").alias("n"))
    counted = apart.groupBy("owner").agg(F.sum("n").alias("rows"), F.count("*").alias("values"))
    owners = errand.batch.owners
    return {
        None if owner < 0 else owners[owner]: (rows, values)
        for owner, rows, values in crew.collect("count distinct values", counted)
    }
