"""What became of files that were ingested: one object for scripts, one page for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service_core.reasons import REASONS
from service_core.validation.record import Finding
from service_core.verdict import FileOutcome, FileStatus, Verdict


def wide_console() -> Console:
    """The terminal; or, for a file or a pipe, lines long enough that no table is folded."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_WIDTH)


@dataclass(frozen=True, slots=True)
class IngestReport:
    """The outcome of an ingest.

    Attributes:
        files: Each given path with its source object's outcome, in the order given.
        verdicts: One for each batch.
    """

    files: tuple[tuple[str, FileOutcome], ...]
    verdicts: tuple[Verdict, ...]

    @classmethod
    def of(cls, verdicts: Iterable[Verdict], paths: Mapping[str, str]) -> IngestReport:
        """Arrange verdicts by the files' own names; `paths` maps keys to them, in order."""
        verdicts = tuple(verdicts)
        outcomes = {f.source_object.key: f for v in verdicts for f in v.files}
        return cls(
            files=tuple((path, outcomes[key]) for key, path in paths.items()),
            verdicts=verdicts,
        )

    @property
    def all_published(self) -> bool:
        """Whether every row of every file is in the table."""
        return all(outcome.status is FileStatus.PUBLISHED for _, outcome in self.files)

    def to_json(self) -> dict[str, Any]:
        """The object that `lakegate ingest --json` prints; docs/cli.md describes it."""
        return {
            "files": [
                {
                    "path": path,
                    "status": outcome.status.value,
                    "rows_read": outcome.rows_read,
                    "rows_published": outcome.rows_accepted,
                    "rows_quarantined": outcome.rows_quarantined,
                    "reasons": [_reason(finding) for finding in outcome.findings],
                }
                for path, outcome in self.files
            ],
            "batches": [
                {
                    "batch_id": verdict.batch_id,
                    "verdict": "passed" if verdict.passed else "failed",
                    "checks": [
                        {
                            "name": check.name,
                            "severity": check.severity.value,
                            "passed": check.passed,
                            "blocking": check.blocking,
                        }
                        for check in verdict.checks
                    ],
                }
                for verdict in self.verdicts
            ],
        }

    def print(self, console: Console) -> None:
        """The same for a person. Where files are many, those without trouble are only counted."""
        troubled = [f for f in self.files if f[1].status is not FileStatus.PUBLISHED]
        shown = self.files if len(self.files) <= _FILES_SHOWN else troubled[:_FILES_SHOWN]
        table = Table(box=None, pad_edge=False, header_style="bold")
        table.add_column("file", overflow="fold")
        table.add_column("status")
        for name in ("read", "published", "quarantined"):
            table.add_column(name, justify="right")
        for path, outcome in shown:
            table.add_row(
                escape(path),
                _STATUS[outcome.status],
                f"{outcome.rows_read:,}",
                f"{outcome.rows_accepted:,}",
                f"{outcome.rows_quarantined:,}",
            )
        if shown:
            console.print(table)
        if len(shown) < len(self.files):
            console.print(
                f"{len(self.files):,} files in all, {len(self.files) - len(troubled):,} of them "
                "published whole."
            )
        for path, outcome in troubled[:_FILES_SHOWN]:
            console.print(f"\n[bold]{escape(path)}[/]")
            for finding in outcome.findings:
                console.print(_sentence(finding), soft_wrap=True)
        _print_checks(self.verdicts, console)


_FILES_SHOWN = 40
_PIPE_WIDTH = 200
_STATUS = {
    FileStatus.PUBLISHED: "[green]published[/]",
    FileStatus.PARTIAL: "[yellow]partly published[/]",
    FileStatus.QUARANTINED: "[red]quarantined[/]",
}


def _reason(finding: Finding) -> dict[str, Any]:
    return {
        "code": finding.code.value,
        "scope": finding.scope.value,
        "message": finding.message,
        "line": finding.line,
        "column": finding.column,
        "sample": finding.sample,
        "count": finding.count,
    }


def _sentence(finding: Finding) -> str:
    where = ", ".join(
        part
        for part in (
            f"line {finding.line}" if finding.line is not None else "",
            f"column {finding.column}" if finding.column else "",
            f"{finding.count:,} rows" if finding.scope == "row" and finding.count > 1 else "",
        )
        if part
    )
    sample = f"  [dim]found[/] {escape(repr(finding.sample))}" if finding.sample else ""
    place = f" [dim]({escape(where)})[/]" if where else ""
    remedy = REASONS[finding.code].remedy
    return (
        f"  [bold]{finding.code.value}[/]{place} {escape(finding.message)}{sample}\n"
        f"    [dim]{escape(remedy)}[/]"
    )


def _print_checks(verdicts: Sequence[Verdict], console: Console) -> None:
    for verdict in verdicts[:_FILES_SHOWN]:
        failed = [c for c in verdict.checks if not c.passed]
        word = "[green]passed[/]" if verdict.passed else "[red]failed[/]"
        console.print(
            f"\nBatch {verdict.batch_id} ({escape(verdict.dataset)} {verdict.partition}): "
            f"verdict {word}, {len(verdict.checks) - len(failed)} of {len(verdict.checks)} "
            "checks passed"
        )
        for check in failed:
            mark = "[red]blocks[/]" if check.blocking else "[yellow]noted[/]"
            console.print(f"  {mark} {check.name}: {escape(check.detail)}", soft_wrap=True)
