"""The demo's data must be the published rows and nothing else, or its figures are not true."""

from __future__ import annotations

import zipfile
from datetime import date
from pathlib import Path

import pytest

from dagster_project import flights

HEADER = b"year,month,day,dep_time\n"


def archive_of(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "flights.csv.zip"
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("flights.csv", content)
    return path


def test_the_year_is_cut_into_one_file_a_day_and_no_row_is_lost(tmp_path: Path) -> None:
    files = flights.cut_days(tmp_path / "landing")

    assert len(files) == 365
    assert sum(f.rows for f in files) == 336_776
    assert [f.day for f in files] == sorted(f.day for f in files)
    assert files[0].path.name == "flights_2013-01-01.csv"
    first = files[0].path.read_bytes().splitlines()
    assert first[0].startswith(b"year,month,day,dep_time,")
    assert len(first) == files[0].rows + 1 == 843
    assert all(row.startswith(b"2013,1,1,") for row in first[1:])


def test_a_month_holds_its_days_alone(tmp_path: Path) -> None:
    files = flights.cut_days(tmp_path, month=2)

    assert [f.day for f in files] == [date(2013, 2, d) for d in range(1, 29)]
    assert sorted(tmp_path.iterdir()) == [f.path for f in files]


def test_rows_are_kept_byte_for_byte(tmp_path: Path) -> None:
    source = HEADER + b'2013,10,2,"odd, \xff"\r\n2013,1,1,\n2013,1,1,5\n'

    late, early = flights.cut_days(tmp_path / "landing", archive=archive_of(tmp_path, source))[::-1]

    assert early.path.read_bytes() == HEADER + b"2013,1,1,\n2013,1,1,5\n"
    assert late.path.read_bytes() == HEADER + b'2013,10,2,"odd, \xff"\r\n'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"day,month\n", "expected the columns"),
        (HEADER + b"2013,1,1,5\n2013,1,2,5\n2013,1,1,6\n", "in two places"),
    ],
)
def test_data_of_another_shape_is_refused_rather_than_cut_wrongly(
    tmp_path: Path, content: bytes, message: str
) -> None:
    with pytest.raises(flights.FlightsMissing, match=message):
        flights.cut_days(tmp_path / "landing", archive=archive_of(tmp_path, content))


def test_without_the_package_the_message_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flights, "_PACKAGE", "a_package_that_is_not_there")

    with pytest.raises(flights.FlightsMissing, match="make demo"):
        flights.flights_archive()
