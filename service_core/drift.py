"""Drift: the ways in which a file differs from its contract, each by a name of its own."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from service_core.contract.model import DriftPolicy


class DriftKind(StrEnum):
    ADDITIVE = "additive"
    TYPE = "type"
    MISSING = "missing"
    RENAMED = "renamed"
    ORDER = "order"
    NESTED_SHAPE = "nested_shape"


class Drift(BaseModel):
    """One difference between one file, or many files of a batch, and the contract.

    Attributes:
        kind: Which kind.
        column: The column or path it concerns; None for `order`.
        detail: A sentence for a person.
        policy: What the contract says is to happen.
        rows: How many rows it touches, where rows are concerned.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: DriftKind
    column: str | None = None
    detail: str
    policy: DriftPolicy
    rows: int | None = None
