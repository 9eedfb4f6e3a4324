"""Tables that nobody thought of, under contracts that nobody wrote, by every engine."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings

from tests.engines.bench import Batch, Bench, Published
from tests.engines.made_up import MadeUp, batches

pytestmark = pytest.mark.slow

_PROFILE = settings.get_profile(
    "engines-further" if "ENGINES_EXAMPLES" in os.environ else "engines"
)


def landed(bench: Bench, made: MadeUp) -> Batch:
    contract = made.load(bench.folder())
    published = None
    if made.published:
        before = bench.land(contract, made.published)
        outcome = bench.judged(before, "in_process", keep=True)
        published = Published(outcome.verdict.staged if outcome.verdict.passed else ())
    return bench.land(
        contract,
        made.files,
        published=published,
        part_rows=made.part_rows,
        group_rows=made.group_rows,
    )


@settings(_PROFILE)
@given(made=batches())
def test_every_engine_makes_the_same_of_whatever_is_landed(bench: Bench, made: MadeUp) -> None:
    batch = landed(bench, made)
    bench.as_written(batch, bench.agreed(batch, ("in_process", made.engine)))


@settings(_PROFILE, max_examples=3 * _PROFILE.max_examples)
@given(made=batches())
def test_rows_end_where_a_plain_reading_of_them_says(bench: Bench, made: MadeUp) -> None:
    """More tables than all engines have time for."""
    batch = landed(bench, made)
    bench.as_written(batch, bench.judged(batch, "in_process"))
