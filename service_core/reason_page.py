"""The page of reason codes in `docs/`, made from the one list so that it cannot say otherwise.

`python -m service_core.reason_page > docs/reason-codes.md` renews it.
"""

from __future__ import annotations

import sys

from service_core.reasons import REASONS, Reason, Scope, Stage

_INTRODUCTION = """\
# Reason codes

Every file and every row that is refused carries at least one of these codes: in its quarantine
record, in the verdict, in the ledger, in events and in the Dagster UI. The list is closed.

This page is generated from `service_core/reasons.py`:
`python -m service_core.reason_page > docs/reason-codes.md`.

A code takes either the whole file or only the rows at fault. The scope below is what happens where
the contract says nothing; its drift policies can move `COLUMN_UNEXPECTED`, `NESTED_SHAPE` and
`TYPE` from one to the other. A code of severity `error` takes its file or row out of publication.
"""

_STAGES = {
    Stage.ARRIVAL: "Before any contract applies.",
    Stage.VALIDATION: "The file is opened once: name, bytes, header, shape of its rows.",
    Stage.CURATION: "Text becomes typed values, and rules are judged.",
}


def reason_page() -> str:
    """The page, as Markdown."""
    parts = [_INTRODUCTION]
    for stage, about in _STAGES.items():
        parts.append(f"\n## {stage.value.capitalize()}\n\n{about}\n\n")
        parts.append("| code | takes | severity | meaning | what to do |\n|---|---|---|---|---|\n")
        parts += [_line(reason) for reason in REASONS.values() if reason.stage is stage]
    return "".join(parts)


def _line(reason: Reason) -> str:
    takes = "the file" if reason.scope is Scope.FILE else "the row"
    cells = (f"`{reason.code.value}`", takes, reason.severity.value, reason.meaning, reason.remedy)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    sys.stdout.write(reason_page())
