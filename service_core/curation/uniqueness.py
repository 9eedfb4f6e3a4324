"""Uniqueness: which rows repeat a key, of the batch or of what its partition has published.

The first row keeps its key: the manifest's order of objects, then the order in the file; a row that
is already published comes before all. A key with a null in it is no key. Keys are judged one after
the other, the primary key first, among the rows that those before have left.

What hashes leave open (`service_core.curation.key_watch`) is settled here by DuckDB over Parquet
files of the rows under suspicion. It spills to scratch, so that memory stays bounded for any number
of keys. Wherever rows are worked on, this is done once, and here.
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service_core.contract.model import Contract
from service_core.curation.key_watch import Key, Suspects
from service_core.curation.losers import LOSERS, Losers, same_key
from service_core.platform_columns import SOURCE_KEY, SOURCE_OBJECT_ID, SOURCE_ROW

if TYPE_CHECKING:
    import pyarrow as pa

_MEMORY = "512MB"


@dataclass(frozen=True, slots=True)
class Repeated:
    """Rows of one source object that repeat one key; `row` and `message` are the first's."""

    owner: str
    key: Key
    count: int
    row: int
    message: str


class Duplicates:
    """The accepted rows that repeat a key, for whichever objects are still in.

    Args:
        contract: Whose keys.
        objects: Id and key of the batch's source objects, in the manifest's order.
        scratch: Where DuckDB may spill.
    """

    def __init__(
        self, contract: Contract, objects: Sequence[tuple[str, str]], scratch: Path
    ) -> None:
        self._contract = contract
        self._objects = objects
        self._ordinals = {owner: ordinal for ordinal, (owner, _) in enumerate(objects)}
        self._owners = [owner for owner, _ in objects]
        self._scratch = scratch
        self._open: list[int] = []
        self._alive: list[int] = []
        self._any = False

    @cached_property
    def _db(self) -> Any:
        """DuckDB, once it is needed; nearly every batch repeats nothing and never asks."""
        import duckdb
        import pyarrow as pa

        spill = self._scratch / "duckdb"
        spill.mkdir(exist_ok=True)
        db = duckdb.connect(
            ":memory:",
            config={
                "memory_limit": _MEMORY,
                "temp_directory": str(spill),
                "threads": 2,
                "preserve_insertion_order": False,
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            },
        )
        objects = pa.table(
            {
                "ordinal": pa.array(range(len(self._objects)), pa.int64()),
                "id": pa.array([owner for owner, _ in self._objects], pa.string()),
                "source_key": pa.array([key for _, key in self._objects], pa.string()),
            }
        )
        db.register("given", objects)
        db.execute("CREATE TABLE objects AS SELECT * FROM given")
        db.unregister("given")
        db.execute("CREATE TABLE alive (ordinal BIGINT)")
        db.execute(f"CREATE TABLE {LOSERS}")
        return db

    def close(self) -> None:
        """Free memory and scratch."""
        if "_db" in self.__dict__:
            self._db.close()

    @property
    def alive(self) -> list[str]:
        """Ids of the objects that were in when it was last settled."""
        return [self._owners[ordinal] for ordinal in self._alive]

    @property
    def losers(self) -> Losers:
        """The rows that lost their key when it was last settled."""
        return Losers(self._contract, self._owners, self._db if self._any else None)

    @property
    def any(self) -> bool:
        """Whether there are such rows."""
        return self._any

    def find(self, suspects: Callable[[Key], Suspects]) -> None:
        """Look for keys that stand more than once, whoever holds them.

        Args:
            suspects: Tells of a key which rows to look at.
        """
        self._open = []
        for index, key in enumerate(self._contract.unique_keys):
            under = suspects(key)
            if not under.staged:
                continue
            held = self._hold_published(index, under.published)
            if held or under.repeats:
                self._candidates(index, _files(under.staged), held=held, repeats=under.repeats)
                self._open.append(index)

    def settle(self, alive: Iterable[str]) -> tuple[Repeated, ...]:
        """Decide which rows lose their key while exactly the objects `alive` are in."""
        import pyarrow as pa

        self._alive = [self._ordinals[owner] for owner in alive]
        self._any = False
        if not self._open:
            return ()
        self._let_in(pa.array(self._alive, pa.int64()))
        self._db.execute("DELETE FROM losers")
        for index in self._open:
            self._lose(index)
        repeated = self._db.execute(
            "SELECT ordinal, key_index, count(*), min(row_number),"
            " arg_min(kept_key, row_number), arg_min(kept_row, row_number),"
            " arg_min(coalesce(kept_ordinal, -1), row_number)"
            " FROM losers GROUP BY ordinal, key_index ORDER BY ordinal, key_index"
        ).fetchall()
        self._any = bool(repeated)
        return tuple(
            Repeated(
                owner=self._owners[ordinal],
                key=self._contract.unique_keys[index],
                count=count,
                row=row,
                message=same_key(
                    self._contract.unique_keys[index],
                    kept_key,
                    kept_row,
                    published=kept_ordinal < 0,
                ),
            )
            for ordinal, index, count, row, kept_key, kept_row, kept_ordinal in repeated
        )

    def _let_in(self, ordinals: pa.Array) -> None:
        import pyarrow as pa

        self._db.execute("DELETE FROM alive")
        self._db.register("given", pa.table({"ordinal": ordinals}))
        self._db.execute("INSERT INTO alive SELECT ordinal FROM given")
        self._db.unregister("given")

    def lost_to(self) -> dict[str, frozenset[str]]:
        """By source object: the others of the batch whose rows its rows gave way to."""
        pairs = self._db.execute(
            "SELECT DISTINCT ordinal, kept_ordinal FROM losers"
            " WHERE kept_ordinal IS NOT NULL AND kept_ordinal <> ordinal"
        ).fetchall()
        lost: dict[str, set[str]] = {}
        for ordinal, kept in pairs:
            lost.setdefault(self._owners[ordinal], set()).add(self._owners[kept])
        return {owner: frozenset(others) for owner, others in lost.items()}

    def distinct(
        self, columns: Key, staged: Sequence[Path], *, by_object: bool
    ) -> dict[str | None, tuple[int, int]]:
        """How many rows that are left have a value of all `columns`, and how many values.

        By source object, or for the batch under None.

        Args:
            staged: Files of all accepted rows.
        """
        import pyarrow as pa

        if not staged:
            return {}
        self._let_in(pa.array(self._alive, pa.int64()))
        names = [_quoted(name) for name in columns]
        ours = [f"k{place}" for place in range(len(names))]
        renamed = ", ".join(f"s.{name} AS {k}" for name, k in zip(names, ours, strict=True))
        left = (
            f"SELECT o.ordinal, {renamed}"
            f" FROM {_files(staged)} s JOIN objects o ON o.id = s.{SOURCE_OBJECT_ID}"
            " SEMI JOIN alive a ON a.ordinal = o.ordinal"
        )
        if self._any:
            left += (
                f" ANTI JOIN losers l ON l.ordinal = o.ordinal AND l.row_number = s.{SOURCE_ROW}"
            )
        left += f" WHERE {' AND '.join(f's.{n} IS NOT NULL' for n in names)}"
        group = "ordinal" if by_object else "NULL::BIGINT"
        counted = self._db.execute(
            f"SELECT owner, sum(n)::BIGINT, count(*) FROM"
            f" (SELECT {group} AS owner, {', '.join(ours)}, count(*) AS n"
            f" FROM ({left}) GROUP BY ALL) GROUP BY owner"
        ).fetchall()
        return {
            None if ordinal is None else self._owners[ordinal]: (rows, values)
            for ordinal, rows, values in counted
        }

    def _hold_published(self, index: int, published: Iterable[pa.Table]) -> bool:
        """Keep published rows; whether there are any."""
        held = False
        for rows in published:
            self._db.register("given", rows)
            self._db.execute(
                f"INSERT INTO published_{index} SELECT * FROM given"
                if held
                else f"CREATE OR REPLACE TABLE published_{index} AS SELECT * FROM given"
            )
            self._db.unregister("given")
            held = True
        if not held and "_db" in self.__dict__:
            self._db.execute(f"DROP TABLE IF EXISTS published_{index}")
        return held

    def _candidates(self, index: int, staged: str, *, held: bool, repeats: bool) -> None:
        """Every staged row whose key stands more than once."""
        names = [_quoted(name) for name in self._contract.unique_keys[index]]
        # Under names of ours, because a key's column may be called as one of this table's.
        ours = [f"k{place}" for place in range(len(names))]
        renamed = ", ".join(f"{name} AS {k}" for name, k in zip(names, ours, strict=True))
        sources = [f"SELECT {renamed} FROM published_{index}"] if held else []
        if repeats:
            present = " AND ".join(f"{name} IS NOT NULL" for name in names)
            sources.append(
                f"SELECT {renamed} FROM {staged} WHERE {present}"
                f" GROUP BY {', '.join(names)} HAVING count(*) > 1"
            )
        pairs = list(zip(names, ours, strict=True))
        self._db.execute(
            f"CREATE OR REPLACE TABLE candidates_{index} AS"
            f" SELECT o.ordinal, s.{SOURCE_ROW} AS row_number,"
            f" {', '.join(f's.{name} AS {k}' for name, k in pairs)}"
            f" FROM {staged} s JOIN objects o ON o.id = s.{SOURCE_OBJECT_ID}"
            f" SEMI JOIN ({' UNION '.join(sources)}) r"
            f" ON {' AND '.join(f's.{name} = r.{k}' for name, k in pairs)}"
        )

    def _lose(self, index: int) -> None:
        names = [_quoted(name) for name in self._contract.unique_keys[index]]
        ours = [f"k{place}" for place in range(len(names))]
        join, kept_key, kept_row = "", "NULL::VARCHAR", "NULL::BIGINT"
        if self._is_published(index):
            renamed = ", ".join(f"{name} AS {k}" for name, k in zip(names, ours, strict=True))
            join = (
                f"LEFT JOIN (SELECT {renamed}, min({SOURCE_KEY}) AS kept_key,"
                f" arg_min({SOURCE_ROW}, {SOURCE_KEY}) AS kept_row"
                f" FROM published_{index} GROUP BY {', '.join(names)}) p"
                f" ON {' AND '.join(f'p.{k} = r.{k}' for k in ours)}"
            )
            kept_key, kept_row = "p.kept_key", "p.kept_row"
        self._db.execute(
            f"INSERT INTO losers WITH ranked AS ("
            f"SELECT c.*, row_number() OVER w AS place,"
            f" first_value(c.ordinal) OVER w AS first_ordinal,"
            f" first_value(c.row_number) OVER w AS first_row"
            f" FROM candidates_{index} c SEMI JOIN alive a ON a.ordinal = c.ordinal"
            f" ANTI JOIN losers l ON l.ordinal = c.ordinal AND l.row_number = c.row_number"
            f" WINDOW w AS (PARTITION BY {', '.join(f'c.{k}' for k in ours)}"
            f" ORDER BY c.ordinal, c.row_number))"
            f" SELECT r.ordinal, r.row_number, {index},"
            f" CASE WHEN {kept_key} IS NULL THEN r.first_ordinal END,"
            f" coalesce({kept_key}, o.source_key),"
            f" coalesce({kept_row}, r.first_row)"
            f" FROM ranked r JOIN objects o ON o.ordinal = r.first_ordinal {join}"
            f" WHERE r.place > 1 OR {kept_key} IS NOT NULL"
        )

    def _is_published(self, index: int) -> bool:
        tables = self._db.execute(
            "SELECT 1 FROM duckdb_tables() WHERE table_name = ?", [f"published_{index}"]
        )
        return bool(tables.fetchall())


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _files(paths: Sequence[Path]) -> str:
    """The staged files as a table function; empty where there are none."""
    if not paths:
        return ""
    # Escaped, because brackets and stars in a path are a pattern of names to DuckDB.
    listed = ", ".join("'" + glob.escape(str(path)).replace("'", "''") + "'" for path in paths)
    return f"read_parquet([{listed}])"
