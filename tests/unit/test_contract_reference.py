"""The contract reference names every key, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from service_core.contract import keys, load_contract
from service_core.contract.model import (
    PERSONAL_CLASSIFICATIONS,
    Case,
    Compression,
    DriftPolicy,
    Engine,
    FileFormat,
    FilePolicy,
    Processing,
    PublicationMode,
    SetScope,
)
from service_core.reasons import Severity

PAGE = (Path(__file__).parents[2] / "docs" / "contract-reference.md").read_text(encoding="utf-8")
WORDS = set(re.findall(r"[A-Za-z_]+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))

KNOWN = {
    *keys.CONTRACT_PROPERTIES,
    *(key for inner in keys.CONTRACT_PROPERTIES.values() for key in inner),
    *keys.COLUMN_PROPERTIES,
    *(key for inner in keys.COLUMN_PROPERTIES.values() for key in inner),
    *keys.RULE_PROPERTIES,
    *keys.OPERATORS,
    *keys.EXPRESSION_KEYS,
    *keys.METRIC_KEYS,
    *keys.ARGUMENTS,
    *(key for inner in keys.ARGUMENTS.values() for key in inner),
    *keys.STANDARD_KEYS,
    *keys.COLUMN_KEYS,
    *keys.OPTION_KEYS,
    *keys.RULE_KEYS,
}
VALUES = {
    str(word)
    for words in (
        Case,
        Compression,
        DriftPolicy,
        Engine,
        FileFormat,
        FilePolicy,
        Processing,
        PublicationMode,
        SetScope,
        Severity,
        PERSONAL_CLASSIFICATIONS,
        ("distinctCount", "sum", "freshness"),
    )
    for word in words
}


@pytest.mark.parametrize("word", sorted(KNOWN | VALUES))
def test_every_key_and_word_is_in_the_reference(word: str) -> None:
    assert word in WORDS


def test_the_reference_begins_with_a_contract_that_loads(tmp_path: Path) -> None:
    [example] = [
        block
        for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
        if "apiVersion" in block
    ]
    path = tmp_path / "parcels.yaml"
    path.write_text(example, encoding="utf-8")
    contract = load_contract(path)
    assert contract.column("service").source == "Service Level"
    assert contract.column("grams").derived == "weight * 1000"


def test_the_rules_shown_in_the_reference_load(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    rules = [block for block in blocks if block.startswith("quality:")]
    assert len(rules) == 2
    base = next(block for block in blocks if "apiVersion" in block)
    for rule in rules:
        indented = "".join(f"        {line}\n" for line in rule.splitlines())
        text = base.replace(
            "        transformLogic: weight * 1000\n",
            (
                "        transformLogic: weight * 1000\n"
                + indented.replace("column: total", "column: grams")
            ),
        )
        path = tmp_path / "parcels.yaml"
        path.write_text(text, encoding="utf-8")
        assert len(load_contract(path).set_rules) == 1
