"""What a published table is called, and what is said where it cannot be as a contract wants it."""

from __future__ import annotations

from service_core.contract.model import Contract, Processing


class TableSchemaError(Exception):
    """The contract asks for a change that the table's format cannot make, or the table is not
    laid out as a published table is."""


def table_name(contract: Contract) -> str:
    """The data set's name; an ELT data set publishes text, and says so in the table's name."""
    text = contract.processing is Processing.ELT
    return f"{contract.dataset}_text" if text else contract.dataset
