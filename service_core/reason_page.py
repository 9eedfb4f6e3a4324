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

_READING = """
## How files are read

What counts as a record decides what is malformed, so it is fixed here.

- **Delimited text.** A record ends at LF, CRLF or a lone CR outside of quotes; blank lines are
  none. A field that begins with a quote ends with one, quotes inside it are doubled, and no other
  field holds a quote. A record that breaks this is one line: reading goes on at the next, so an
  unclosed quote costs one row. A record has as many fields as the header. Header names are
  compared exactly. For what concerns every row alike (columns missing, renamed, unexpected or
  reordered), `quarantine_rows` takes the file.
- **JSON Lines.** A record is a line that is not blank. A key that stands twice in one object,
  `NaN`, and half a surrogate pair are malformed. Numbers keep their spelling. A column is missing
  when it is required and no object of the file has its key; under `quarantine_rows` its rows then
  go for `REQUIRED`. An optional key that is absent is null, unless a new key is much like it,
  which is a rename.
- **JSON arrays.** As lines, element by element; but an array that is broken anywhere goes whole.
- **Parquet.** Values are spelled as `types.md` says; binary columns have no spelling (`TYPE`).
- **Text** is decoded strictly, a byte order mark is taken off, NUL is refused in delimited text.
  A line or element of more than 32 MiB is refused.
- **Compression.** gzip members and zstd frames may follow each other; an end that is missing is
  `TRUNCATED`, a wrong checksum or anything after the end is `COMPRESSION`. More than 250 times
  the landed size, beyond 64 MiB, is `DECOMPRESSION_BOMB` whatever the contract's bound.
- **Duplicates** are told by the SHA-256 of the landed bytes, for files that nothing else refuses.
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
    parts.append(_READING)
    return "".join(parts)


def _line(reason: Reason) -> str:
    takes = "the file" if reason.scope is Scope.FILE else "the row"
    cells = (f"`{reason.code.value}`", takes, reason.severity.value, reason.meaning, reason.remedy)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


if __name__ == "__main__":
    sys.stdout.write(reason_page())
