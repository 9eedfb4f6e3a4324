"""A tenth of all calls fail, and nothing is lost and nothing doubled."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.house import House, story
from tests.faults.plan import Plan


@pytest.mark.soak
def test_a_tenth_of_all_calls_fails_and_no_row_is_lost_or_doubled(
    make_house: Callable[..., House],
) -> None:
    """For other seeds, and for this one alone: `python -m tests.faults --seed 1`."""
    house = make_house(attempts=3, max_batch_files=2)
    with house.proxy.failing(Plan(1, 0.1)) as plan:
        story(house)
    assert house.problems() == "", plan.said()
    assert sum(plan.injected.values()) > 30, plan.said()
