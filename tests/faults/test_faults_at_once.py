"""Many at once on one table, each through the whole job in a process of its own: nothing is lost,
nothing doubled, and whoever comes second waits or yields."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.house import House, orders
from tests.faults.processes import at_once

DONE = {"success": True, "retried": [], "said": ""}


@pytest.mark.soak
def test_eight_batches_of_one_partition_are_published_at_once(
    make_house: Callable[..., House],
) -> None:
    house = make_house(max_batch_files=1)
    for number in range(8):
        house.land(f"orders_{number}.csv", orders(range(10 * number, 10 * number + 10)))
    requests = house.arrivals()
    assert len(requests) == 8

    assert at_once(requests) == [DONE] * 8

    assert house.problems() == ""
    assert len(set(house.snapshots())) == len(house.snapshots()) == 8


@pytest.mark.soak
def test_two_runs_of_one_batch_leave_what_one_would(make_house: Callable[..., House]) -> None:
    """A person materialises what the sensor's run works on; thrice, since each race is another:
    into no table, into one with rows, and with a version to replace."""
    house = make_house(max_batch_files=2)
    for name, numbers in [("a", range(20)), ("b", range(20, 40)), ("a", range(50, 70))]:
        house.land(f"orders_{name}.csv", orders(numbers))
        (request,) = house.arrivals()

        assert at_once([request, request]) == [DONE] * 2

        assert house.problems() == ""
    assert len(set(house.snapshots())) == len(house.snapshots()) == 3
