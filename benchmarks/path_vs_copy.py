"""What the whole path costs, against the least that reading the same file can cost.

The path is landed file -> sensor tick -> run of the ingest job -> published, as `lakegate ingest`
takes it. The yardstick is DuckDB copying the same file, read as text, to Parquet: no check, no
type, no verdict. Both run in processes of their own, warmed up on a tiny file, on the same
machine in turns, and the medians are compared.

What is counted, for both, is the CPU (user and system, all threads) and the wall time of that one
process; for the path from the moment the file has landed until it is published, for the copy the
statement. The embedded AWS is a process of its own and stands for a service that is not ours: its
CPU is reported apart and is not in the ratio, though it competes for the same cores, which the
wall time shows. `peak_mb` is the largest resident size of the path's process, in MiB, from its
start to its end, landing included.

    python benchmarks/path_vs_copy.py
    python benchmarks/path_vs_copy.py --rows 200000 --repeats 1
    python benchmarks/path_vs_copy.py --format jsonl

The same for gzip CSV (`csv.gz`) and JSON Lines (`jsonl`), each against its own bare copy.

Progress goes to stderr. The last line of stdout is one JSON object:
{"cpu_ratio", "wall_ratio", "peak_mb"}.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from _measuring import CACHE, ROOT, Cost, Meter, in_a_process, progress, tell_cost

CONTRACT = ROOT / "contracts" / "orders.yaml"
#: Part of the cached files' names: raise it when `_ORDERS` changes.
_GENERATION = 1
#: The warm-up's orders are others than the big file's: an order may be published only once.
_TINY_FIRST, _TINY_ROWS = 900_000_000, 1_000

# Made of hashes of the row number, so that the file is the same on every machine and every time.
_ORDERS = """
CREATE TEMP MACRO draw(i, seed, n) AS (hash(i, seed) % n)::INTEGER;
COPY (
    SELECT
        printf('O%09d', i) AS order_id,
        printf('C%06d', draw(i, 1, 200000)) AS customer_id,
        printf('%d.%02d', 1 + draw(i, 2, 998), draw(i, 3, 100)) AS amount,
        ['USD', 'EUR', 'GBP', 'INR', 'JPY'][1 + draw(i, 4, 5)] AS currency,
        printf('2026-11-%02dT%02d:%02d:00Z', 1 + draw(i, 5, 28), draw(i, 6, 24), draw(i, 7, 60))
            AS event_ts,
        ['placed', 'paid', 'shipped', 'delivered', 'returned'][1 + draw(i, 8, 5)] AS status,
        ['US', 'DE', 'GB', 'IN', 'JP'][1 + draw(i, 9, 5)] AS country,
        1 + draw(i, 10, 49) AS quantity,
        CASE WHEN i % 7 = 0 THEN printf('note, %d', i) END AS note
    FROM range({first}, {first} + {rows}) AS numbers(i)
) TO '{path}' ({options})
"""


@dataclass(frozen=True, slots=True)
class Form:
    """A format that orders land in.

    Attributes:
        options: How DuckDB writes it.
        read: How DuckDB reads it as text; `{path}` stands for the file.
        contract: What of the shipped contract is written otherwise, by what it says.
    """

    options: str
    read: str
    contract: Mapping[str, str] = field(default_factory=dict)


_TEXTS = ", ".join(
    f"{name}: 'VARCHAR'"
    for name in (
        *("order_id", "customer_id", "amount", "currency", "event_ts", "status", "country"),
        *("quantity", "note"),
    )
)
FORMS = {
    "csv": Form("FORMAT csv, HEADER", "read_csv('{path}', all_varchar = true)"),
    "csv.gz": Form(
        "FORMAT csv, HEADER, COMPRESSION gzip", "read_csv('{path}', all_varchar = true)"
    ),
    "jsonl": Form(
        "FORMAT json",
        f"read_json('{{path}}', format = 'newline_delimited', columns = {{{{{_TEXTS}}}}})",
        {
            "type: csv\n": "type: jsonl\n",
            r"\.csv(": r"\.jsonl(",
            '      delimiter: ","\n': "",
            "      header: true\n": "",
        },
    ),
}


# --- The two contestants, each in a process of its own --------------------------------------------


def cost_of_path(
    form: str, tiny: Path, big: Path, *, durable: Path | None = None, **landing: Any
) -> Cost:
    """Take a file all the way, after a warm-up.

    Args:
        form: One of `FORMS`.
        tiny: A file to warm up on.
        big: The file.
        durable: Where the embedded AWS keeps its objects; in memory where None.
        landing: What the contract's landing says otherwise.
    """
    import logging

    logging.disable(logging.ERROR)
    from dagster_project.ingest import Progress, ingest_files
    from dagster_project.session import embedded_session
    from service_core.contract import load_contract

    contract = load_contract(contract_of(form))
    contract = replace(contract, landing=replace(contract.landing, **landing))
    with embedded_session([contract], durable=durable) as session:
        ingest_files(session, contract, [tiny])
        meter = Meter()
        costs: list[Cost] = []
        # The look after the last batch, which finds that there is nothing more, is no part of it.
        told = Progress(landed=lambda _: meter.start(), judged=lambda _: costs.append(meter.read()))
        report = ingest_files(session, contract, [big], progress=told)
    rows = sum(outcome.rows_accepted for _, outcome in report.files)
    if not report.all_published:
        raise SystemExit(f"The path did not publish {big.name} whole: {report.to_json()}")
    progress(f"published {rows:,} rows")
    return costs[-1]


def contract_of(form: str) -> Path:
    """The shipped contract, for files of a format."""
    text = CONTRACT.read_text()
    for said, instead in FORMS[form].contract.items():
        if text.count(said) != 1:
            raise SystemExit(f"{CONTRACT} no longer says {said!r} once; adapt FORMS.")
        text = text.replace(said, instead)
    path = CACHE / form / CONTRACT.name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def cost_of_copy(form: str, tiny: Path, big: Path) -> Cost:
    """Copy a file to Parquet as text, after a warm-up."""
    import duckdb

    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:

        def copy(path: Path) -> None:
            connection.execute(
                f"COPY (SELECT * FROM {FORMS[form].read.format(path=path)}) "
                f"TO '{folder}/{path.stem}.parquet' (FORMAT parquet)"
            )

        copy(tiny)
        meter = Meter()
        copy(big)
        return meter.read()


CONTESTANTS = {"path": cost_of_path, "copy": cost_of_copy}


# --- The contest ----------------------------------------------------------------------------------


def orders_file(rows: int, first: int = 0, form: str = "csv") -> Path:
    """A file of valid orders, numbered from `first`; made once and kept."""
    import duckdb

    path = CACHE / f"orders_{first}_{rows}_{_GENERATION}.{form}"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{path.name}.unfinished")
        with duckdb.connect() as connection:
            options = FORMS[form].options
            connection.execute(
                _ORDERS.format(first=first, rows=rows, path=unfinished, options=options)
            )
        unfinished.rename(path)
    return path


def measured(contestant: str, form: str, tiny: Path, big: Path) -> Cost:
    """One run of a contestant in a fresh process."""
    asked = ("--contestant", contestant, "--format", form, str(tiny), str(big))
    return Cost(**in_a_process(__file__, *asked))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--format", choices=FORMS, default="csv")
    parser.add_argument("--contestant", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("files", nargs="*", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contestant:
        tell_cost(CONTESTANTS[options.contestant](options.format, *options.files))
        return
    if options.rows < 1 or options.repeats < 1:
        parser.error("--rows and --repeats are at least 1")

    form = options.format
    big = orders_file(options.rows, form=form)
    tiny = orders_file(_TINY_ROWS, _TINY_FIRST, form)
    progress(f"{options.rows:,} rows, {big.stat().st_size / 2**20:.0f} MiB")
    costs: dict[str, list[Cost]] = {name: [] for name in CONTESTANTS}
    for turn in range(1, options.repeats + 1):
        for name, its in costs.items():
            cost = measured(name, form, tiny, big)
            its.append(cost)
            progress(
                f"{turn}/{options.repeats} {name}: cpu {cost.cpu:.2f} s, wall {cost.wall:.2f} s, "
                f"peak {cost.peak_mb:.0f} MiB"
                + (f", embedded AWS {cost.services_cpu:.2f} s" if cost.services_cpu else "")
            )

    def ratio(figure: str) -> float:
        path, copy = (
            statistics.median(getattr(cost, figure) for cost in costs[name])
            for name in ("path", "copy")
        )
        return round(path / copy, 2)

    print(
        json.dumps(
            {
                "cpu_ratio": ratio("cpu"),
                "wall_ratio": ratio("wall"),
                "peak_mb": round(statistics.median(cost.peak_mb for cost in costs["path"])),
            }
        )
    )


if __name__ == "__main__":
    main()
