"""Refusals: how a reason against a file or a row is put, so that no personal value leaks.

A message speaks of names and places, never of values; a value appears only as a sample, which is
cut short, and masked where the contract calls its column personal.
"""

from __future__ import annotations

from collections.abc import Iterable

from service_core.contract.model import Contract
from service_core.drift import Drift
from service_core.masking import mask
from service_core.reasons import ReasonCode, Scope
from service_core.validation.record import Finding

SAMPLE_CHARACTERS = 200


class FileRefused(Exception):
    """The file does not go on. A data error: it ends in quarantine and is never retried.

    Attributes:
        findings: Why, the first being the reason that the ledger shows.
        drift: How the file differs from its contract, as far as was seen.
    """

    def __init__(self, findings: Iterable[Finding], drift: Iterable[Drift] = ()) -> None:
        self.findings = tuple(findings)
        self.drift = tuple(drift)
        super().__init__("; ".join(f"{f.code}: {f.message}" for f in self.findings))


def against_file(
    code: ReasonCode,
    message: str,
    *,
    line: int | None = None,
    column: str | None = None,
    sample: str | None = None,
) -> Finding:
    """A finding that takes the whole file."""
    return Finding(
        code=code,
        scope=Scope.FILE,
        message=message,
        line=line,
        column=column,
        sample=None if sample is None else cut(sample),
    )


def refuse(
    code: ReasonCode,
    message: str,
    *,
    line: int | None = None,
    column: str | None = None,
    sample: str | None = None,
) -> FileRefused:
    """The exception for a single reason against a file."""
    return FileRefused([against_file(code, message, line=line, column=column, sample=sample)])


def cut(text: str) -> str:
    """At most 200 characters of a text, the cut marked."""
    return text if len(text) <= SAMPLE_CHARACTERS else text[: SAMPLE_CHARACTERS - 1] + "…"


class Tally:
    """Counts the reasons against single rows of one file: one finding for each code and column,
    about its first occurrence."""

    def __init__(self, contract: Contract) -> None:
        self._row_hidden = any(c.personal for c in contract.columns)
        self._findings: dict[tuple[ReasonCode, str | None], Finding] = {}
        self._counts: dict[tuple[ReasonCode, str | None], int] = {}

    def add(
        self, code: ReasonCode, message: str, *, line: int | None, column: str | None, raw: str
    ) -> None:
        """Count one row; `raw` is its whole text and masked where any column is personal."""
        place = (code, column)
        self._counts[place] = self._counts.get(place, 0) + 1
        if place not in self._findings:
            self._findings[place] = Finding(
                code=code,
                scope=Scope.ROW,
                message=message,
                line=line,
                column=column,
                sample=mask(raw) if self._row_hidden else cut(raw),
            )

    @property
    def findings(self) -> tuple[Finding, ...]:
        """In the order of their first lines."""
        counted = [
            finding.model_copy(update={"count": self._counts[place]})
            for place, finding in self._findings.items()
        ]
        return tuple(sorted(counted, key=lambda finding: finding.line or 0))
