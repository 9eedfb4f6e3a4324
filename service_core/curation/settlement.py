"""Settlement: which files of a batch go whole, which rows give way, and what the rest amounts to.

A file that goes takes its rows with it, and with them the keys that they held: rows of other files
that had given way come back, and everything that depends on them is judged again. Files are taken
out only for what would be so without any other file that is to go: what a file loses depends on
those before it alone, so the first is always certain, and the rounds end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from service_core.contract.checks import said
from service_core.contract.model import (
    Contract,
    DriftPolicy,
    Metric,
    PublicationMode,
    SetRule,
    SetScope,
)
from service_core.curation.set_rules import (
    BY_KEYS,
    Figure,
    figure_of,
    holds,
    measures,
    merge_figures,
)
from service_core.curation.tally import Tally
from service_core.curation.uniqueness import Duplicates, Repeated
from service_core.curation.workbench import Workbench
from service_core.reasons import ReasonCode, Scope, Severity
from service_core.validation.record import FileValidation, Finding


@dataclass(frozen=True, slots=True)
class JudgedFigure:
    """A set rule's figure of some rows, and whether it is as expected."""

    figure: float | None
    held: bool


@dataclass(frozen=True, slots=True)
class Settlement:
    """What was decided.

    Attributes:
        gone: Files that go whole, by source object id, with the reason.
        repeated: Rows that give way to others, of the files that stay.
        rows: Accepted rows of each file that stays.
        of_objects: Set rules' figures of single files, by rule, then by source object; those of
            files that went for one of them are among them.
        of_batch: Set rules' figures of the files that stay together, by rule.
    """

    gone: Mapping[str, Finding]
    repeated: tuple[Repeated, ...]
    rows: Mapping[str, int]
    of_objects: Mapping[str, Mapping[str, JudgedFigure]]
    of_batch: Mapping[str, JudgedFigure]


@dataclass(slots=True)
class Settling:
    """The judgement of a batch's files, once their rows have been judged one by one.

    Attributes:
        contract: The contract.
        files: Files that validation accepted, in the manifest's order.
        tallies: What the kernel counted, by source object id.
        bench: Where their rows are.
        duplicates: Decides about their keys.
        published: Whether the table holds anything.
        now: When the batch is judged.
        gone: Files that are out from the beginning.
    """

    contract: Contract
    files: Sequence[FileValidation]
    tallies: Mapping[str, Tally]
    bench: Workbench
    duplicates: Duplicates
    published: bool
    now: datetime
    gone: dict[str, Finding] = field(default_factory=dict)
    _of_objects: dict[str, dict[str, JudgedFigure]] = field(default_factory=dict)
    _replacing: frozenset[str] | None = None

    def settle(self) -> Settlement:
        """Decide; see the module's docstring."""
        for file in self.files:
            finding = self._by_itself(file)
            if finding is not None:
                self.gone.setdefault(file.source_object.id, finding)
        while True:
            alive = [f for f in self.files if f.source_object.id not in self.gone]
            repeated, rows = self._round(alive)
            figures = self._figures(alive, repeated, rows)
            failing = self._failing(alive, repeated, rows, figures)
            if not failing:
                break
            lost_to = self.duplicates.lost_to() if repeated else {}
            for owner, finding in failing.items():
                if not lost_to.get(owner, frozenset()) & failing.keys():
                    self.gone[owner] = finding
        return Settlement(
            self.gone, repeated, rows, self._of_objects, self._of_batch(alive, rows, figures)
        )

    def _round(
        self, alive: Sequence[FileValidation]
    ) -> tuple[tuple[Repeated, ...], dict[str, int]]:
        """Which rows give way while exactly these files are in, and what is left of each file."""
        owners = [f.source_object.id for f in alive]
        accepted = {owner: self._tally(owner).accepted for owner in owners}
        rows = accepted
        emptied: set[str] = set()
        while True:
            # A file of which nothing is left replaces nothing, and its older version stays.
            emptied |= {
                f.source_object.key for f in alive if f.rows_read and not rows[f.source_object.id]
            }
            replacing = frozenset(f.source_object.key for f in alive) - emptied
            if self._replacing is None or (self.published and replacing != self._replacing):
                self._replacing = replacing
                self._find(sorted(replacing))
            repeated = self.duplicates.settle(owners)
            rows = dict(accepted)
            for one in repeated:
                rows[one.owner] -= one.count
            if not self.published or all(
                rows[f.source_object.id] or f.source_object.key not in replacing or not f.rows_read
                for f in alive
            ):
                return repeated, rows

    def _find(self, replacing: Sequence[str]) -> None:
        replaced = replacing if self.contract.publication is PublicationMode.REPLACE else ()
        self.duplicates.find(lambda key: self.bench.suspects(key, replaced))

    def _tally(self, owner: str) -> Tally:
        return self.tallies.get(owner, Tally())

    def _by_itself(self, file: FileValidation) -> Finding | None:
        """Why a file goes for what its own rows show, whatever other files hold."""
        tally = self._tally(file.source_object.id)
        if self.contract.drift.type is DriftPolicy.QUARANTINE_FILE and tally.drifted:
            places = {column.name: place for place, column in enumerate(self.contract.columns)}
            column, drift = min(
                tally.drifted.items(), key=lambda item: (item[1].row, places[item[0]])
            )
            return Finding(
                code=ReasonCode.TYPE,
                scope=Scope.FILE,
                message=f"{drift.message}, and drift.type is quarantine_file",
                line=drift.line,
                column=column,
                sample=drift.sample,
            )
        return intolerable(self.contract, file, tally.diverted + file.rows_malformed)

    def _figures(
        self,
        alive: Sequence[FileValidation],
        repeated: Sequence[Repeated],
        rows: Mapping[str, int],
    ) -> dict[str, Mapping[str, Figure]]:
        """Partial figures of the rows that are left, by source object."""
        figures = {f.source_object.id: self._tally(f.source_object.id).figures for f in alive}
        touched = {one.owner for one in repeated}
        if touched and measures(self.contract):
            figures |= {owner: {} for owner in touched}
            figures |= self.bench.measure(touched, self.duplicates)
        for rule in self.contract.set_rules:
            if rule.metric in BY_KEYS and SetScope.SOURCE_OBJECT in rule.scopes:
                counted = self.bench.distinct(rule.columns, self.duplicates, by_object=True)
                for owner in figures:
                    partial = _of_keys(rule, *counted.get(owner, (0, 0)))
                    figures[owner] = {**figures[owner], rule.name: partial}
        return figures

    def _failing(
        self,
        alive: Sequence[FileValidation],
        repeated: Sequence[Repeated],
        rows: Mapping[str, int],
        figures: Mapping[str, Mapping[str, Figure]],
    ) -> dict[str, Finding]:
        """Files that go, as things stand, each with its first reason."""
        lost: dict[str, int] = {}
        for one in repeated:
            lost[one.owner] = lost.get(one.owner, 0) + one.count
        failing: dict[str, Finding] = {}
        for file in alive:
            owner = file.source_object.id
            diverted = self._tally(owner).diverted + file.rows_malformed + lost.get(owner, 0)
            findings = [intolerable(self.contract, file, diverted)] if owner in lost else []
            findings += [
                self._set_rule(rule, owner, figures, rows)
                for rule in self.contract.set_rules
                if SetScope.SOURCE_OBJECT in rule.scopes
            ]
            first = next((finding for finding in findings if finding is not None), None)
            if first is not None:
                failing[owner] = first
        return failing

    def _set_rule(
        self,
        rule: SetRule,
        owner: str,
        figures: Mapping[str, Mapping[str, Figure]],
        rows: Mapping[str, int],
    ) -> Finding | None:
        """Judge one file by one set rule; the finding that takes it, if any."""
        partial = figures[owner].get(rule.name, Figure())
        figure = figure_of(self.contract, rule, partial, rows[owner], self.now)
        judged = JudgedFigure(figure, holds(rule, figure))
        self._of_objects.setdefault(rule.name, {})[owner] = judged
        if judged.held or rule.severity is not Severity.ERROR:
            return None
        return Finding(
            code=ReasonCode.SET_RULE,
            scope=Scope.FILE,
            message=f"{rule.name}: {said(rule)} It is {shown(figure)}.",
            column=rule.columns[0] if rule.columns else None,
        )

    def _of_batch(
        self,
        alive: Sequence[FileValidation],
        rows: Mapping[str, int],
        figures: Mapping[str, Mapping[str, Figure]],
    ) -> dict[str, JudgedFigure]:
        merged: Mapping[str, Figure] = {}
        for file in alive:
            merged = merge_figures(merged, figures[file.source_object.id])
        total = sum(rows.values())
        judged: dict[str, JudgedFigure] = {}
        for rule in self.contract.set_rules:
            partial = merged.get(rule.name, Figure())
            if rule.metric in BY_KEYS:
                if SetScope.BATCH not in rule.scopes:
                    continue
                counted = self.bench.distinct(rule.columns, self.duplicates, by_object=False)
                partial = _of_keys(rule, *counted.get(None, (0, 0)))
            figure = figure_of(self.contract, rule, partial, total, self.now)
            judged[rule.name] = JudgedFigure(figure, holds(rule, figure))
        return judged


def intolerable(contract: Contract, file: FileValidation, diverted: int) -> Finding | None:
    """The finding that takes a file of which more rows were diverted than is tolerated."""
    if not file.rows_read or diverted / file.rows_read <= contract.tolerated_share:
        return None
    return Finding(
        code=ReasonCode.TOO_MANY_DIVERTED,
        scope=Scope.FILE,
        message=(
            f"{diverted} of {file.rows_read} rows were diverted, "
            f"and the contract tolerates {contract.tolerated_share:.4g} of them"
        ),
    )


def shown(figure: float | None) -> str:
    """A figure as a sentence names it."""
    if figure is None:
        return "not known, because there is no value"
    return f"{figure:.15g}"


def _of_keys(rule: SetRule, rows: int, values: int) -> Figure:
    """Distinct values, or the rows beyond the first of each value."""
    return Figure(count=values if rule.metric is Metric.DISTINCT_COUNT else rows - values)
