"""The list of reasons is closed, complete, and says the same in the docs as in the code."""

from __future__ import annotations

from pathlib import Path

from service_core.reason_page import reason_page
from service_core.reasons import REASONS, ReasonCode

PAGE = Path(__file__).parents[2] / "docs" / "reason-codes.md"


def test_every_code_has_its_reason_and_stands_for_itself() -> None:
    assert set(REASONS) == set(ReasonCode)
    assert all(reason.code is code for code, reason in REASONS.items())
    assert all(code.name == code.value for code in ReasonCode)


def test_every_reason_says_what_it_means_and_what_to_do() -> None:
    for reason in REASONS.values():
        assert reason.meaning.endswith("."), reason.code
        assert reason.remedy.endswith("."), reason.code


def test_no_two_reasons_mean_the_same() -> None:
    assert len({reason.meaning for reason in REASONS.values()}) == len(REASONS)


def test_the_page_of_reason_codes_is_current() -> None:
    assert PAGE.read_text() == reason_page(), (
        "run: python -m service_core.reason_page > docs/reason-codes.md"
    )


def test_the_page_names_every_code() -> None:
    for code in ReasonCode:
        assert f"| `{code.value}` |" in reason_page()
