"""Nothing of a personal value is ever shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service_core.contract.model import PERSONAL_CLASSIFICATIONS, LogicalType
from service_core.curation.block_tally import arrived_samples
from service_core.masking import mask
from tests.canonical_batches import canonical, column, landed, orders


@given(st.one_of(st.text(), st.integers(), st.binary()))
def test_a_mask_does_not_depend_on_what_is_under_it(value: object) -> None:
    assert mask(value) == "***"


def test_absence_is_no_ones_data() -> None:
    assert mask(None) is None


@pytest.mark.parametrize("classification", sorted(PERSONAL_CLASSIFICATIONS))
def test_every_personal_classification_is_masked_in_samples(classification: str) -> None:
    contract = orders(
        columns=(
            column("name", LogicalType.STRING, classification=classification.upper()),
            column("city", LogicalType.STRING, classification="public"),
        ),
        row_rules=(),
    )
    given_row = {"name": "A. Person", "city": "Utrecht"}
    (sample,) = arrived_samples(contract, canonical(contract, {landed("a.csv"): [given_row]}))
    assert (sample["name"], sample["city"]) == ("***", "Utrecht")


def test_long_text_is_cut_in_samples() -> None:
    contract = orders(columns=(column("note", LogicalType.STRING),), row_rules=())
    rows = canonical(contract, {landed("a.csv"): [{"note": "x" * 500}]})
    (sample,) = arrived_samples(contract, rows)
    assert len(sample["note"]) == 200
