"""The orders contract as a data engineer would write it by hand in Spark SQL, and as well.

The work is that of `contracts/orders.yaml`: normalise, cast behind guards, derive, check, keep one
row of each order, split into accepted and quarantined with reasons, count. It is what
`spark_vs_hand.py` measures ours against, so it was written in three ways, of which the fastest
counts; the codes and counts that it comes to must be ours, or the two did not do the same work.

What it leaves out, and ours does: samples and first occurrences of faults, tolerance and figures of
single files, keys already published, quarantine of whole files, repeating an attempt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, DataFrameWriter, SparkSession

_WHITE_SPACE = " \t\n\r\x0b\f"
_DATE = "[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])"
_TIME = "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,6})?"
_INSTANT = rf"\A{_DATE}[ T]{_TIME}(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])\z"
_LANDED = (
    "order_id", "customer_id", "amount", "currency", "event_ts", "status", "country", "quantity",
    "note",
)  # fmt: skip
_PUBLISHED = (*_LANDED, "total", "order_date")


def judged(text: DataFrame) -> DataFrame:
    """Canonical text with typed columns (`t_...`) and whether a row is at fault (`_bad`)."""
    from pyspark.sql import functions as f

    def given(name: str) -> Column:
        return f.when(f.col(name) != "", f.col(name))

    def stripped(name: str) -> Column:
        return f.expr(f"nullif(trim(BOTH '{_WHITE_SPACE}' FROM {name}), '')")

    def guarded(name: str, pattern: str, kind: str) -> Column:
        return f.when(f.col(name).rlike(pattern), f.col(name)).cast(kind)

    typed = text.select(
        "*",
        *(given(n).alias(f"t_{n}") for n in ("order_id", "customer_id", "country", "note")),
        f.upper(stripped("currency")).alias("t_currency"),
        f.lower(stripped("status")).alias("t_status"),
        guarded("amount", r"\A[+-]?[0-9]{1,10}(?:[.][0-9]{1,2})?\z", "decimal(12,2)").alias(
            "t_amount"
        ),
        guarded("event_ts", _INSTANT, "timestamp").alias("t_event_ts"),
        guarded("quantity", r"\A[+-]?[0-9]{1,19}\z", "bigint").alias("t_quantity"),
    )
    typed = typed.withColumns(
        {
            "t_total": (f.col("t_amount") * f.col("t_quantity")).cast("decimal(18,2)"),
            "t_order_date": f.to_date("t_event_ts"),
        }
    )
    bad = f.lit(False)
    for broken, code, _, _ in _rules():
        if code != "DUPLICATE_KEY":
            bad = bad | f.coalesce(broken, f.lit(False))
    return typed.withColumn("_bad", bad)


def _rules() -> list[tuple[Column, str, str, str]]:
    """What a row at fault is told: whether it is, code, column, message."""
    from pyspark.sql import functions as f

    def blank(name: str) -> Column:
        return f.col(name).isNull() | (f.col(name) == "")

    t = {name: f.col(f"t_{name}") for name in _PUBLISHED}
    typed = ("amount", "event_ts", "quantity")
    required = ("order_id", "customer_id", *typed[:1], "currency", "event_ts", "status", "quantity")
    return [
        *((~blank(n) & t[n].isNull(), "TYPE", n, f"{n} is no spelling of its type") for n in typed),
        *(
            (blank(n) if n in typed else t[n].isNull(), "REQUIRED", n, f"{n} is required and null")
            for n in required
        ),
        (~t["order_id"].rlike(r"\AO[0-9]{9}\z"), "PATTERN", "order_id", "order_id is no number"),
        (~t["amount"].between(0, 1_000_000), "RANGE", "amount", "amount is out of range"),
        (
            ~t["currency"].isin("USD", "EUR", "GBP", "INR", "JPY"),
            "NOT_ALLOWED", "currency", "currency is not known",
        ),
        (
            ~t["status"].isin("placed", "paid", "shipped", "delivered", "returned"),
            "NOT_ALLOWED", "status", "status is not known",
        ),
        (~t["country"].rlike(r"\A[A-Z]{2}\z"), "PATTERN", "country", "country is no code"),
        (~t["quantity"].between(1, 1000), "RANGE", "quantity", "quantity is out of range"),
        (f.length(t["note"]) > 500, "LENGTH", "note", "note is too long"),
        (
            (t["amount"] <= 0) & (t["quantity"] != 1),
            "RULE", "amount", "free_orders_are_single does not hold",
        ),
        (
            f.col("_repeats").isNotNull(),
            "DUPLICATE_KEY", "order_id", "another row has the same order_id",
        ),
    ]  # fmt: skip


def _figures() -> list[Column]:
    """What the verdict counts beside reasons."""
    from pyspark.sql import functions as f

    kept = ~f.col("_bad")
    gone_without = f.col("t_status").isin("shipped", "delivered") & f.col("t_country").isNull()
    return [
        f.count("*").alias("rows"),
        f.count_if(kept).alias("accepted"),
        f.count_if(kept & f.col("t_country").isNull()).alias("countries_missing"),
        f.count_if(gone_without).alias("delivered_orders_have_a_country"),
        f.sum(f.when(kept, f.col("t_total"))).alias("revenue"),
    ]


def _repeats(rows: DataFrame) -> DataFrame:
    """Orders that stand more than once among good rows, and where each stands first.

    Bad rows are counted out rather than filtered out: a filter is pushed below the projection,
    where it works all patterns out a second time.
    """
    from pyspark.sql import functions as f

    good = ~f.col("_bad")
    return (
        rows.groupBy(f.col("t_order_id").alias("_repeated"))
        .agg(
            f.count_if(good).alias("_times"),
            f.min(f.when(good, f.col("_source_row"))).alias("_first"),
        )
        .where("_times > 1")
        .drop("_times")
    )


def _without_repeats(rows: DataFrame, repeats: DataFrame) -> DataFrame:
    """Rows that repeat an order are bad too; `repeats` fit into memory."""
    from pyspark.sql import functions as f

    joined = rows.join(f.broadcast(repeats), f.col("t_order_id") == f.col("_repeated"), "left")
    lost = ~f.col("_bad") & (f.col("_source_row") > f.col("_first"))
    return (
        joined.withColumn("_repeats", f.when(lost, f.col("_first")))
        .withColumn("_bad", f.col("_bad") | f.col("_repeats").isNotNull())
        .drop("_repeated", "_first")
    )


def _origin(batch: Mapping[str, str]) -> list[Column]:
    from pyspark.sql import functions as f

    return [
        f.lit(batch["key"]).alias("_source_key"),
        f.lit(batch["id"]).alias("_batch_id"),
        f.lit("1.0.0").alias("_contract_version"),
        f.lit("2026-11-21T12:00:00Z").cast("timestamp").alias("_ingested_at"),
        f.lit("2026-11-21").alias("_partition"),
    ]


def _reasons() -> Column:
    """Only few rows are bad, and only for these is it worked out why."""
    from pyspark.sql import functions as f

    told = [
        f.when(
            broken,
            f.struct(
                f.lit(code).alias("code"),
                f.lit(column).alias("column"),
                f.lit(message).alias("message"),
            ),
        )
        for broken, code, column, message in _rules()
    ]
    return f.array_compact(f.array(*told))


def _accepted(rows: DataFrame, batch: Mapping[str, str]) -> DataFrame:
    from pyspark.sql import functions as f

    return rows.where(~f.col("_bad")).select(
        *(f.col(f"t_{name}").alias(name) for name in _PUBLISHED),
        "_extra",
        "_source_object_id",
        "_source_row",
        *_origin(batch),
    )


def _quarantined(rows: DataFrame, batch: Mapping[str, str]) -> DataFrame:
    return rows.where("_bad").select(
        *_LANDED, "_extra", "_source_object_id", "_source_row", "_source_line",
        _reasons().alias("_reasons"), *_origin(batch),
    )  # fmt: skip


def _counted(rows: DataFrame) -> dict[str, int]:
    """Quarantined rows by code and column."""
    from pyspark.sql import functions as f

    told = rows.select(f.explode("_reasons").alias("r"))
    counts = told.groupBy("r.code", "r.column").count().collect()
    return {f"{row[0]} {row[1]}": row[2] for row in counts}


def _zstd(frame: DataFrame) -> DataFrameWriter:
    """As ours writes; Spark's own level, 3, takes longer."""
    options = {"compression": "zstd", "parquet.compression.codec.zstd.level": "1"}
    return frame.write.mode("overwrite").options(**options)


def _write(frame: DataFrame, place: str) -> None:
    _zstd(frame).parquet(place)


def cached(spark: SparkSession, text: str, out: str, batch: Mapping[str, str]) -> dict[str, Any]:
    """Judge once, keep it in memory, and take repeats, counts and both outputs from there."""
    rows = judged(spark.read.parquet(text)).persist()
    repeats = _repeats(rows).persist()
    try:
        told = _without_repeats(rows, repeats)
        figures = told.agg(*_figures()).first()
        _write(_accepted(told, batch), f"{out}/accepted")
        _write(_quarantined(told, batch), f"{out}/quarantined")
    finally:
        repeats.unpersist()
        rows.unpersist()
    return {**figures.asDict(), "reasons": _counted(spark.read.parquet(f"{out}/quarantined"))}


def scanned_twice(
    spark: SparkSession, text: str, out: str, batch: Mapping[str, str]
) -> dict[str, Any]:
    """Judge for repeats, keep these alone, and judge again to write both outputs at once."""
    rows = judged(spark.read.parquet(text))
    return _split(rows, _repeats(rows), out, batch)


def keys_first(
    spark: SparkSession, text: str, out: str, batch: Mapping[str, str]
) -> dict[str, Any]:
    """Look at the orders' numbers alone; judge first the few rows that share theirs, and then all
    to write both outputs at once."""
    from pyspark.sql import functions as f

    given = spark.read.parquet(text)
    twice = given.groupBy("order_id").agg(f.count("*").alias("n")).where("n > 1").drop("n")
    few = given.join(f.broadcast(twice), "order_id", "left_semi")
    return _split(judged(given), _repeats(judged(few)), out, batch)


def _split(
    rows: DataFrame, repeats: DataFrame, out: str, batch: Mapping[str, str]
) -> dict[str, Any]:
    """Both outputs as the partitions of one folder, each with the other's columns null."""
    from pyspark.sql import Observation
    from pyspark.sql import functions as f

    spark = rows.sparkSession
    # Two files are open at a time; otherwise rows are sorted by outcome before they are written.
    spark.conf.set("spark.sql.maxConcurrentOutputFileWriters", "4")
    repeats = repeats.persist()
    try:
        seen = Observation("figures")
        told = _without_repeats(rows, repeats).observe(seen, *_figures())
        bad = f.col("_bad")
        frame = told.select(
            f.when(bad, "quarantined").otherwise("accepted").alias("outcome"),
            *(f.when(~bad, f.col(f"t_{name}")).alias(name) for name in _PUBLISHED),
            *(f.when(bad, f.col(name)).alias(f"raw_{name}") for name in _LANDED),
            "_extra", "_source_object_id", "_source_row",
            f.when(bad, f.col("_source_line")).alias("_source_line"),
            f.when(bad, _reasons()).alias("_reasons"),
            *_origin(batch),
        )  # fmt: skip
        _zstd(frame).partitionBy("outcome").parquet(out)
    finally:
        repeats.unpersist()
    return {**seen.get, "reasons": _counted(spark.read.parquet(f"{out}/outcome=quarantined"))}


#: The ways in which it was written.
WAYS: Mapping[str, Callable[..., dict[str, Any]]] = {
    "cached": cached,
    "scanned twice": scanned_twice,
    "keys first": keys_first,
}


def curate_by_hand(
    spark: SparkSession, way: str, text: str, out: str, batch: Mapping[str, str]
) -> dict[str, Any]:
    """Canonical text to accepted rows, quarantined rows and a verdict.

    Args:
        way: One of `WAYS`.
        text: Where the canonical text lies, as Spark names places.
        out: A folder to write to.
        batch: The batch's `id` and the source object's `key`.

    Returns:
        The verdict, as it was written.
    """
    counted = WAYS[way](spark, text, out, batch)
    verdict = {
        **counted,
        "revenue": str(counted["revenue"]),
        "passed": counted["rows"] > 0 and counted["accepted"] > 0,
        "quarantined": counted["rows"] - counted["accepted"],
    }
    Path(f"{out}-verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    return verdict
