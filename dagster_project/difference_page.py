"""A rehearsal's report as a page for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service_core.replay.difference import CheckState, Difference, Report, Rows, SampleKind

_PARTITIONS = 40
_ROWS = 20
_SAMPLES = 5

_FIGURES = ("published", "would be", "added", "removed", "changed")
_STATES = {
    CheckState.PASSED: "[green]passed[/]",
    CheckState.FAILED: "[yellow]fails[/]",
    CheckState.BLOCKS: "[red]blocks[/]",
    None: "[dim]none[/]",
}
_KINDS = {
    SampleKind.REMOVED: "[red]removed[/]",
    SampleKind.ADDED: "[green]added[/]",
    SampleKind.CHANGED: "[yellow]changed[/]",
}


def print_report(report: Report, console: Console) -> None:
    """Print a report for a person; what would be empty is left out."""
    total = report.total
    console.print(
        f"[bold]{escape(report.dataset)}[/] under contract {escape(report.contract_version)} "
        f"[dim]({report.contract_hash})[/]: {total.source_objects:,} files in "
        f"{total.partitions:,} partitions, against what is published"
    )
    if not report.partitions:
        console.print("Nothing lies there.")
        return
    _print_partitions(report, console)
    if total.changed_columns:
        shown = ", ".join(
            f"{escape(_printable(name))} {rows:,}"
            for name, rows in list(total.changed_columns.items())[:_ROWS]
        )
        console.print(f"\n[bold]changed columns[/] {shown}", soft_wrap=True)
    _section(
        console,
        "reasons",
        ("code", "scope", "before", "after", "gained", "lost"),
        [
            (c.code.value, c.scope.value, *_counts(c.before, c.after, c.gained, c.lost))
            for c in total.codes
        ],
    )
    _section(
        console,
        "checks",
        ("check", "before", "after", "rows before", "rows", "partitions", "found"),
        [
            (
                c.name,
                _Marked(_STATES[c.before]),
                _Marked(_STATES[c.after]),
                *_counts(c.rows_failed_before, c.rows_failed, c.partitions),
                c.detail,
            )
            for c in total.checks
        ],
    )
    _section(
        console,
        "drift",
        ("kind", "column", "files before", "files"),
        [
            (d.kind.value, d.column or "", *_counts(d.files_before, d.files_after))
            for d in total.drift
        ],
    )
    _print_samples(report, console)
    if report.refusal is not None:
        console.print(f"\n[red]table[/] {escape(report.refusal)}", soft_wrap=True)
    colour = "red" if report.loses or report.blocked else "green"
    console.print(f"\n[{colour}]{escape(report.outcome)}[/]", soft_wrap=True)


class _Marked(str):
    """Text that holds markup of our own."""

    __slots__ = ()


def _print_partitions(report: Report, console: Console) -> None:
    table = _table(("partition", *_FIGURES, "blocked by"))
    # Where there are many, those without a difference are only counted.
    shown: Sequence[Difference] = report.partitions
    if len(shown) > _PARTITIONS:
        shown = [one for one in report.partitions if _differs(one)][:_PARTITIONS]
    for one in shown:
        blocked = dict.fromkeys(name for batch in one.batches for name in batch.blocked_by)
        table.add_row(one.partition, *_of(one.rows), escape(", ".join(blocked)))
    if len(report.partitions) > 1:
        table.add_row("[bold]total[/]", *_of(report.total.rows), "")
    console.print(table)
    if len(shown) < len(report.partitions):
        console.print(f"{len(report.partitions) - len(shown):,} more partitions are not shown.")


def _differs(one: Difference) -> bool:
    rows = one.rows
    return bool(
        rows.added or rows.removed or rows.changed or any(not b.passed for b in one.batches)
    )


def _of(rows: Rows) -> tuple[str, ...]:
    return _counts(rows.published, rows.would_be, rows.added, rows.removed, rows.changed)


def _counts(*counts: int) -> tuple[str, ...]:
    return tuple(f"{count:,}" for count in counts)


def _section(
    console: Console, title: str, columns: Sequence[str], rows: Sequence[Iterable[str]]
) -> None:
    if not rows:
        return
    console.print(f"\n[bold]{title}[/]")
    table = _table(columns)
    for row in rows[:_ROWS]:
        table.add_row(*(c if isinstance(c, _Marked) else escape(_printable(c)) for c in row))
    console.print(table)
    if len(rows) > _ROWS:
        console.print(f"{len(rows) - _ROWS:,} more; --json shows them.")


def _print_samples(report: Report, console: Console) -> None:
    for kind, title in _KINDS.items():
        samples = [s for one in report.partitions for s in one.samples if s.kind is kind]
        if not samples:
            continue
        console.print(f"\n[bold]rows {title}[/], such as")
        for sample in samples[:_SAMPLES]:
            place = sample.file if sample.row is None else f"{sample.file}, row {sample.row:,}"
            values = ", ".join(
                f"{name} {_said(value)}" for name, value in sample.values.items()
                if value is not None
            )  # fmt: skip
            console.print(
                f"  [dim]{escape(_printable(place))}[/]  {escape(_printable(values))}",
                soft_wrap=True,
            )


def _table(columns: Sequence[str]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    words = ("partition", "code", "scope", "check", "kind", "column", "found", "blocked by")
    states = columns[:1] == ("check",)
    for name in columns:
        text = name in words or (states and name in ("before", "after"))
        table.add_column(name, justify="left" if text else "right", overflow="fold")
    return table


def _said(value: Any) -> str:
    return repr(value) if isinstance(value, str) and " → " not in value else str(value)


def _printable(text: str) -> str:
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")
