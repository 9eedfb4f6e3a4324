"""Rows against rows: what a publication would take out of a table against what it would put in.

Rows that are alike in everything but their origin are the same row, as many of them as both sides
hold; which file or batch brought them makes no difference. Of the rest, two are one row changed
where they have the same key, or, where the contract has no key or the key is not complete, where
they come from the very same row of the same source object. What is left was removed or added.

DuckDB works on hashes of rows in a database in scratch and spills there too, so memory stays
bounded for any number of rows; the rows themselves are read again for the samples alone, and for
counting which columns changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service_core.canonical import (
    BATCH_ID,
    CONTRACT_VERSION,
    INGESTED_AT,
    PARTITION,
    SOURCE_KEY,
    SOURCE_LINE,
    SOURCE_OBJECT_ID,
    SOURCE_ROW,
)

#: Columns that say where a row comes from and who judged it when, and nothing of the row itself.
ORIGIN = frozenset(
    {
        SOURCE_OBJECT_ID,
        SOURCE_KEY,
        SOURCE_ROW,
        SOURCE_LINE,
        BATCH_ID,
        CONTRACT_VERSION,
        INGESTED_AT,
        PARTITION,
    }
)

_MEMORY = "512MB"
#: Rows of one file; more than any Parquet file holds.
_FILE_ROWS = 1 << 40
_BEFORE, _AFTER = 0, 1
_OURS = ("_side", "_place")


@dataclass(frozen=True, slots=True)
class RowPair:
    """A row as it is published and as it would be; None on the side that does not have it.

    Both hold every column of either side, origin too.
    """

    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class RowDifference:
    """What changes.

    Attributes:
        before, after: Rows of either side; `before == unchanged + changed + removed`, and
            `after == unchanged + changed + added`.
        unchanged, changed, added, removed: Rows.
        changed_columns: In how many of the changed rows each column differs, most often first.
        samples: The first rows that were added, removed and changed, some of each.
    """

    before: int = 0
    after: int = 0
    unchanged: int = 0
    changed: int = 0
    added: int = 0
    removed: int = 0
    changed_columns: Mapping[str, int] | None = None
    samples: tuple[RowPair, ...] = ()


def compare_rows(
    before: Sequence[Path],
    after: Sequence[Path],
    *,
    key: Sequence[str],
    scratch: Path,
    samples: int = 20,
) -> RowDifference:
    """Compare the rows of Parquet files.

    Args:
        before, after: The files of either side, which may hold different columns; a column that a
            side lacks is null there. Types of one name must have a common type.
        key: The columns of a key; empty where there is none. A key of which a side lacks a column
            is none either.
        scratch: An existing folder.
        samples: How many rows of each kind of difference to give.
    """
    import duckdb

    if not before and not after:
        return RowDifference()
    spill = scratch / "spill"
    spill.mkdir(exist_ok=True)
    database = scratch / "difference.duckdb"
    db = duckdb.connect(
        str(database),
        config={
            "memory_limit": _MEMORY,
            "temp_directory": str(spill),
            "threads": 2,
            "preserve_insertion_order": False,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        },
    )
    try:
        db.execute("SET TimeZone = 'UTC'")
        # It would go to where a command's own output goes.
        db.execute("SET enable_progress_bar = false")
        return _Comparison(db, before, after, key).made(samples)
    finally:
        db.close()
        database.unlink(missing_ok=True)


class _Comparison:
    """One comparison, in a database of its own."""

    def __init__(
        self, db: Any, before: Sequence[Path], after: Sequence[Path], key: Sequence[str]
    ) -> None:
        self._db = db
        sides = [
            self._side(side, files) for side, files in ((_BEFORE, before), (_AFTER, after)) if files
        ]
        db.execute(
            "CREATE VIEW given AS " + " UNION ALL BY NAME ".join(f"({side})" for side in sides)
        )
        names = [row[0] for row in db.execute("DESCRIBE given").fetchall()]
        self._columns = [n for n in names if n not in ORIGIN and n not in _OURS]
        self._key = self._complete(key, [list(before), list(after)])

    def made(self, samples: int) -> RowDifference:
        """The difference."""
        self._digest()
        self._cancel()
        self._pair()
        before, after = self._one(
            f"SELECT count(*) FILTER (_side = {_BEFORE}), count(*) FILTER (_side = {_AFTER})"
            " FROM digests"
        )
        changed, added, removed = self._one(
            "SELECT count(*) FILTER (was IS NOT NULL AND now IS NOT NULL),"
            " count(*) FILTER (was IS NULL), count(*) FILTER (now IS NULL) FROM pairs"
        )
        return RowDifference(
            before=before,
            after=after,
            unchanged=before - changed - removed,
            changed=changed,
            added=added,
            removed=removed,
            changed_columns=self._changed_columns() if changed else {},
            samples=self._samples(samples),
        )

    def _side(self, side: int, files: Sequence[Path]) -> str:
        """One side's rows with the place of each: its file's number and its row in it."""
        names = [str(path) for path in files]
        self._db.execute(
            f"CREATE TABLE files_{side} AS SELECT unnest(?) AS name, unnest(range(?)) AS number",
            [names, len(names)],
        )
        return (
            f"SELECT {side}::TINYINT AS _side,"
            f" f.number * {_FILE_ROWS} + p.file_row_number AS _place,"
            " p.* EXCLUDE (filename, file_row_number)"
            f" FROM read_parquet({_strings(names)}, union_by_name = true, filename = true,"
            f" file_row_number = true) p JOIN files_{side} f ON f.name = p.filename"
        )

    def _complete(self, key: Sequence[str], sides: Sequence[list[Path]]) -> list[str]:
        """The key, if both sides have its columns."""
        for files in sides:
            if not files:
                continue
            found = self._db.execute(
                f"DESCRIBE SELECT * FROM read_parquet({_strings(map(str, files))},"
                " union_by_name = true)"
            ).fetchall()
            if set(key) - {row[0] for row in found}:
                return []
        return list(key)

    def _digest(self) -> None:
        """Each row as two hashes: of what it is known by, and of all it holds."""
        known_by = f"md5_number('origin ' || {_text([SOURCE_OBJECT_ID, SOURCE_ROW])})"
        if self._key:
            complete = " AND ".join(f"{_quoted(name)} IS NOT NULL" for name in self._key)
            by_key = f"md5_number('key ' || {_text(self._key)})"
            known_by = f"CASE WHEN {complete} THEN {by_key} ELSE {known_by} END"
        self._db.execute(
            f"CREATE TABLE digests AS SELECT _side, _place, {known_by} AS known_by,"
            f" md5_number({_text(self._columns)}) AS content FROM given"
        )

    def _cancel(self) -> None:
        """Leave only rows that the other side does not hold.

        Rows that are alike in key and content go first, so that of several rows of one content
        those are left whose own row of the file has changed.
        """
        self._db.execute(
            "CREATE TABLE surplus AS SELECT known_by, content,"
            f" count(*) FILTER (_side = {_BEFORE}) - count(*) FILTER (_side = {_AFTER}) AS excess"
            " FROM digests GROUP BY ALL HAVING excess <> 0"
        )
        # Of one content, as many of either side cancel as both have left; in a fixed order, so
        # that the same rows give the same report.
        self._db.execute(
            "CREATE TABLE left_over AS WITH counted AS ("
            " SELECT known_by, content, excess, abs(excess) AS n,"
            " coalesce(sum(abs(excess)) OVER (PARTITION BY content, excess > 0 ORDER BY known_by"
            "  ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS earlier,"
            " least(sum(greatest(excess, 0)) OVER (PARTITION BY content),"
            "  sum(greatest(-excess, 0)) OVER (PARTITION BY content)) AS shared"
            " FROM surplus)"
            f" SELECT known_by, content, (CASE WHEN excess > 0 THEN {_BEFORE} ELSE {_AFTER} END)"
            "  ::TINYINT AS _side, n - least(greatest(shared - earlier, 0), n) AS n"
            " FROM counted WHERE least(greatest(shared - earlier, 0), n) < n"
        )
        self._db.execute("DROP TABLE surplus")

    def _pair(self) -> None:
        """Pair what is left by what it is known by; `pairs` holds the places of both."""
        self._db.execute(
            "CREATE TABLE pairs AS WITH rows_left AS ("
            " SELECT d._side, d._place, d.known_by FROM digests d"
            " JOIN left_over USING (known_by, content, _side)"
            " QUALIFY row_number() OVER (PARTITION BY d._side, d.known_by, d.content"
            "  ORDER BY d._place) <= n),"
            " ranked AS (SELECT *, row_number() OVER (PARTITION BY _side, known_by"
            "  ORDER BY _place) AS rank FROM rows_left),"
            f" was AS (SELECT * FROM ranked WHERE _side = {_BEFORE}),"
            f" now AS (SELECT * FROM ranked WHERE _side = {_AFTER})"
            " SELECT was._place AS was, now._place AS now"
            " FROM was FULL JOIN now ON was.known_by = now.known_by AND was.rank = now.rank"
        )

    def _changed_columns(self) -> dict[str, int]:
        counts = ", ".join(
            f"count(*) FILTER (b.{_quoted(name)} IS DISTINCT FROM a.{_quoted(name)})"
            for name in self._columns
        )
        found = self._one(
            f"SELECT {counts} FROM pairs"
            f" JOIN given b ON b._side = {_BEFORE} AND b._place = pairs.was"
            f" JOIN given a ON a._side = {_AFTER} AND a._place = pairs.now"
        )
        counted = zip(self._columns, found, strict=True)
        return dict(sorted((c for c in counted if c[1]), key=lambda c: (-c[1], c[0])))

    def _samples(self, limit: int) -> tuple[RowPair, ...]:
        kinds = ("was IS NULL", "now IS NULL", "was IS NOT NULL AND now IS NOT NULL")
        chosen: list[tuple[int | None, int | None]] = []
        for kind in kinds:
            chosen += self._db.execute(
                f"SELECT was, now FROM pairs WHERE {kind} ORDER BY was, now LIMIT ?", [limit]
            ).fetchall()
        before = self._rows(_BEFORE, [was for was, _ in chosen if was is not None])
        after = self._rows(_AFTER, [now for _, now in chosen if now is not None])
        return tuple(
            RowPair(None if was is None else before[was], None if now is None else after[now])
            for was, now in chosen
        )

    def _rows(self, side: int, places: Sequence[int]) -> dict[int, dict[str, Any]]:
        if not places:
            return {}
        found = self._db.execute(
            f"SELECT * EXCLUDE (_side) FROM given WHERE _side = {side} AND _place IN"
            f" ({', '.join(map(str, places))})"
        )
        names = [column[0] for column in found.description]
        rows = (dict(zip(names, row, strict=True)) for row in found.fetchall())
        return {row.pop("_place"): row for row in rows}

    def _one(self, query: str) -> tuple[int, ...]:
        return tuple(self._db.execute(query).fetchone())


def _text(columns: Sequence[str]) -> str:
    """An expression for the columns' values as one text that no other values give: each with its
    length before it."""
    if not columns:
        return "''"
    texts = (f"{_quoted(name)}::VARCHAR" for name in columns)
    told = (f"coalesce(strlen({text})::VARCHAR || ':' || {text}, '~')" for text in texts)
    return f"concat({', '.join(told)})"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _strings(values: Any) -> str:
    return "[" + ", ".join("'" + str(v).replace("'", "''") + "'" for v in values) + "]"
