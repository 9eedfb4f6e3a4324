"""Too little disk or memory is no bad data: the run says so, and passes when there is room."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pytest

from service_core.validation import parquet_rows
from tests.faults.house import House, orders
from tests.faults.processes import at_once

MEGABYTE = 1 << 20


@pytest.mark.soak
def test_a_run_without_room_passes_when_there_is_some(make_house: Callable[..., House]) -> None:
    house = make_house()
    house.land("orders_1.csv", orders(range(40_000), bad=7))
    (request,) = house.arrivals()

    (full,) = at_once([request], file_bytes=2_000)
    assert not full["success"]
    assert full["said"].startswith("There is no room for the files in hand: "), full
    assert full["retried"] == ["orders_validated"]
    assert set(house.states()) == {"received"}

    for more in (24, 96):
        (little,) = at_once([request], more_memory=more * MEGABYTE)
        assert "quarantined" not in house.states(), little
    (done,) = at_once([request])
    assert done["success"], done
    assert house.problems() == ""


def test_arrow_s_want_of_memory_is_not_the_file_s_fault() -> None:
    """Its error is an ArrowException too, as all that a broken file is told by."""

    def read() -> None:
        raise pa.ArrowMemoryError("malloc of size 1 failed")

    with pytest.raises(MemoryError):
        parquet_rows._readable(read)
