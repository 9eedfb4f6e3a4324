"""The page on verdicts says what the models say."""

from __future__ import annotations

from pathlib import Path

from service_core.verdict import CheckOutcome, FileOutcome, Verdict
from service_core.verdict_page import verdict_page

PAGE = Path(__file__).parents[2] / "docs" / "verdict-schema.md"


def test_the_page_on_verdicts_is_current() -> None:
    assert PAGE.read_text() == verdict_page(), (
        "run: python -m service_core.verdict_page > docs/verdict-schema.md"
    )


def test_the_page_explains_every_field() -> None:
    for model in (Verdict, FileOutcome, CheckOutcome):
        for name in model.model_fields:
            assert f"| `{name}` |" in verdict_page()
